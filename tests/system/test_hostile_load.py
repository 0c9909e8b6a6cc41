"""Hostile requests that are meant to cost: large, slow, deep or many; the others must not notice (I6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import processes
from tests.system.processes import GatewayProcess, fetch
from tests.system.prompts import answer_to, digest_of
from tests.system.raw import exchange, get, head, post, wire
from tests.system.scene import SOON_S, Simulate, Start, at_rest, together

pytestmark = pytest.mark.anyio

#: "A fraction of a second", on a machine that is busy with other things.
HEALTH_S = 0.75
MIB = 1 << 20
_USER = b'{"role":"user","content":"x"}'
_OPEN, _CLOSE = b'{"messages":[', b"]}"


@contextmanager
def healthy(gateway: GatewayProcess) -> Iterator[list[float]]:
    """Ask /healthz all the time from a thread; yields how long each took, and judges the worst at the end."""
    stop, took = threading.Event(), [0.0]

    def ask() -> None:
        while not stop.is_set():
            began = time.monotonic()
            fetch(gateway.url + "/healthz")
            took.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()
    assert len(took) > 1
    assert max(took) < HEALTH_S, f"/healthz once took {max(took):.2f} s"


# what, body, status: each is either over a bound, or dear to read within all of them
DEAR: dict[str, tuple[bytes, int]] = {
    "20 MiB of empty strings": (_OPEN + b'"",' * (20 * MIB // 3 - 9) + b'""' + _CLOSE, 422),
    "20 MiB of digits": (_OPEN + b"1," * (10 * MIB - 9) + b"1" + _CLOSE, 422),
    "20 MiB of lists": (_OPEN + b"[]," * (20 * MIB // 3 - 9) + b"[]" + _CLOSE, 422),
    "20 MiB of brackets": (b"[" * (20 * MIB), 422),
    "20 MiB of escaped quotes": (b'{"message":"' + b'\\",' * (6 * MIB) + b'"}', 202),
    "20 MiB of escaped quotes without an end": (b'{"message":"' + b'\\"' * (10 * MIB - 9), 400),
    "escaped quotes without an end": (b'{"a": "' + b'\\"' * 30_000, 400),
    "pairs of braces": (b"{}" * 32_000, 400),
    "values and a NaN": (_OPEN + b"[]," * 21_000 + b"NaN" + _CLOSE, 422),
    "messages that are none": (_OPEN + b"1," * 99_000 + b"1" + _CLOSE, 422),
    "contents that are none": (_OPEN + b'{"role":"user","content":1},' * 45_000 + _USER + _CLOSE, 422),
    "parts that are none": (_OPEN + b'{"role":"user","content":[' + b"1," * 99_000 + b"1]}" + _CLOSE, 422),
    "stops that are none": (b'{"message":"x","stop":[' + b"1," * 99_000 + b"1]}", 422),
    "many messages": (_OPEN + (_USER + b",") * 45_000 + _USER + _CLOSE, 202),
}


async def test_health_answers_while_dear_bodies_are_read(simulate: Simulate, start: Start) -> None:
    """Each body is answered in time, and the event loop is never held for long, whatever it is made of."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    slow: dict[str, float] = {}
    for what, (body, status) in DEAR.items():
        with healthy(gateway):
            began = time.monotonic()
            answer = await exchange(gateway.url, post("/chat", body))
            slow[what] = time.monotonic() - began
        assert answer.status == status, (what, answer)
    assert max(slow.values()) < SOON_S, slow
    assert simulator.stats()["calls"] == 0


async def test_slow_bodies_hold_nothing(simulate: Simulate, start: Start) -> None:
    """A hundred half-sent requests are no request yet: they take no place, and leave nothing behind."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=1)
    half = post("/chat", {"message": "slow"})[:-5]

    async def dawdle() -> None:
        async with wire(gateway.url) as client:
            await client.send(half)
            assert gateway.at_rest()

    with healthy(gateway):
        await together(dawdle() for _ in range(100))
        async with Client(gateway.url) as client:
            assert (await client.ask("quick")).end.name == "done"
    await at_rest(gateway)
    assert gateway.get("/pipeline")["totals"]["requests"] == 1
    assert simulator.stats()["calls"] == 1


async def test_headers_without_an_end_do_not_fill_the_memory(simulate: Simulate, start: Start) -> None:
    """64 MiB of one header are never there: the connection is gone long before."""
    gateway = start(simulate(ttft=0, tps=0))
    before = _resident(gateway)
    with healthy(gateway):
        async with wire(gateway.url) as client:
            with pytest.raises(ConnectionError):
                await client.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ", *[b"a" * MIB] * 64)
    assert _resident(gateway) - before < 32 * MIB


def _resident(gateway: GatewayProcess) -> int:
    """Of all processes: whichever worker reads that header is one of them."""
    everybody = [psutil.Process(gateway.pid), *processes(gateway)]
    return sum(process.memory_info().rss for process in everybody)


# -- names and numbers that a client chooses --------------------------------------------------
REQUEST_IDS = ["a b", "a\tb", "\xe9", "a;b", "a" * 65, "", "<script>", "x, y", "%0d%0aset-cookie:a=b"]


async def test_a_request_id_that_is_not_plain_is_replaced(simulate: Simulate, start: Start) -> None:
    """It goes into a header and into the logs: only a fixed alphabet may."""
    gateway = start(simulate(ttft=0, tps=0))
    for given in REQUEST_IDS:
        answer = await exchange(gateway.url, get("/chat/none", f"x-request-id: {given}"))
        assert answer.headers["x-request-id"] != given
        assert answer.headers["x-request-id"].isalnum()
        assert "set-cookie" not in answer.headers
        assert not given or all(given not in line for line in gateway.lines)
    answer = await exchange(gateway.url, get("/chat/none", "x-request-id: Plain.1_2-" + "3" * 54))
    assert answer.headers["x-request-id"] == "Plain.1_2-" + "3" * 54


HOSTILE_PATHS = [
    "/chat/",
    "/chat/%ff%00%ed%a0%80",
    "/chat/..%2f..%2fetc%2fpasswd",
    "/chat/" + "a" * 8000,
    "/chat/chat_00000000000000000000000000000000",
    "/chat/x%0d%0aset-cookie:%20a=b",
    "/chat/*",
    "//chat/x",
    "/chat/x/stream?ticket=%ff.%ff&after=1-1",
    "/chat/x/stream?" + "ticket=a.b&" * 500,
    "/v1/embeddings",
    "/.env",
]


async def test_hostile_paths_are_a_plain_404(simulate: Simulate, start: Start) -> None:
    """Whatever the id looks like, there is no such thing, and the answer repeats nothing of it."""
    gateway = start(simulate(ttft=0, tps=0))
    for path in HOSTILE_PATHS:
        answer = await exchange(gateway.url, get(path))
        assert answer.status == 404, (path, answer)
        assert answer.json["error"]["code"] == "not_found", path
        assert "set-cookie" not in answer.headers
        assert b"passwd" not in answer.body
        assert b"aaaa" not in answer.body
    assert all('"error"' not in line for line in gateway.lines), "no exception behind any of them"


CURSORS = [
    "1",
    "-1",
    "1-",
    "-1-1",
    "1-1-1",
    "1-1 ",
    "0x1-1",
    "9" * 17 + "-1",
    "1-" + "9" * 10,
    "1e3-1",
    "*",
]


async def test_hostile_cursors_are_refused_before_the_headers(simulate: Simulate, start: Start) -> None:
    """A cursor is never guessed at: 400, and never silently the whole text."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        accepted = (await client.submit("cursors")).json
        await client.stream(accepted["stream_url"])
    for cursor in (*CURSORS, "\xb2-\xb9"):
        if cursor == cursor.rstrip():  # white space behind a header's value is no part of it
            by_header = get(accepted["stream_url"].partition("?")[0], f"last-event-id: {cursor}")
            assert (await exchange(gateway.url, by_header)).status == 400, cursor
        async with Client(gateway.url) as client:
            url = accepted["stream_url"].partition("?")[0]
            reply = await client.call("GET", url, params={"after": cursor})
            assert (reply.status, reply.error["code"]) == (400, "bad_cursor"), cursor


async def test_what_is_checked_is_what_the_model_gets(simulate: Simulate, start: Start) -> None:
    """A field given twice means the same to us and to the model: the last one, and only that is sent on."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    body = b'{"message":"first","message":"last","max_tokens":1000000,"max_tokens":3,"n":7,"n":1}'
    answer = await exchange(gateway.url, post("/chat", body))
    async with Client(gateway.url) as client:
        stream = await client.stream(answer.json["stream_url"])
    assert stream.text == answer_to("last", 3)
    assert simulator.stats()["calls_by_prompt"] == {digest_of("last"): 1}


async def test_numbers_beyond_64_bits_are_kept_as_they_are(simulate: Simulate, start: Start) -> None:
    """An unknown field goes upstream untouched, and is part of the key: two numbers are two questions."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    for number in (2**70, 2**70 + 1, 2**70):
        body = b'{"messages":[{"role":"user","content":"hi"}],"seed":%d}' % number
        assert (await exchange(gateway.url, post("/v1/chat/completions", body))).status == 200
    assert simulator.stats()["calls"] == 2


async def test_other_methods_are_a_405_that_says_which_would_do(simulate: Simulate, start: Start) -> None:
    """RFC 9110: a 405 carries Allow."""
    gateway = start(simulate(ttft=0, tps=0))
    for method, path, allowed in (
        ("GET", "/chat", "POST"),
        ("DELETE", "/chat/x", "GET"),
        ("PUT", "/healthz", "GET"),
    ):
        answer = await exchange(gateway.url, head(method, path))
        assert answer.status == 405
        assert answer.json["error"]["code"] == "method_not_allowed"
        assert allowed in answer.headers["allow"]
    await eventually(gateway.at_rest)
