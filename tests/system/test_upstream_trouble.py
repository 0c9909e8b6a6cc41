"""A model in trouble: what each party to one flight sees, on each wire; nothing is kept, nothing leaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.chat_upstream import ChatUpstream
from tests.fakes.eventually import eventually
from tests.fakes.upstream import HANG, STREAM_HEAD, Script, answer, event, piece, reply
from tests.fakes.upstream import delta as chunk
from tests.fakes.upstream import head as upstream_head
from tests.system.client import Client, Reply, Stream, text_of
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, digest_of, prompt
from tests.system.scene import Simulate, Start, at_rest, calls_of, together

pytestmark = pytest.mark.anyio

FIRST_S, IDLE_S = 2.0, 1.0


@dataclass(frozen=True)
class Trouble:
    """One way to fail: what clients are told, the tokens that came before, the calls made for it."""

    directive: dict[str, object]
    code: str
    status: int
    tokens: int = 0
    calls: int = 1
    retryable: bool = True


TROUBLES = [
    Trouble({"hang": 1}, "first_token_timeout", 504),
    Trouble({"stall": 0}, "first_token_timeout", 504),
    Trouble({"stall": 2}, "stream_idle_timeout", 504, tokens=2),
    Trouble({"garbage": 1}, "upstream_bad_response", 502),
    Trouble({"truncate": 0}, "upstream_truncated", 502),
    Trouble({"truncate": 2}, "upstream_truncated", 502, tokens=2),
    Trouble({"reset": 0}, "upstream_truncated", 502),
    Trouble({"reset": 2}, "upstream_truncated", 502, tokens=2),
    Trouble({"error_frame": 0}, "upstream_error", 502),
    Trouble({"error_frame": 2}, "upstream_error", 502, tokens=2),
    Trouble({"status": 500}, "upstream_error", 502),
    Trouble({"status": 503}, "upstream_error", 502, calls=3),
    Trouble({"status": 401}, "upstream_auth", 502, retryable=False),
    Trouble({"status": 403}, "upstream_auth", 502, retryable=False),
    Trouble({"status": 404}, "upstream_rejected", 404, retryable=False),
    Trouble({"status": 404, "code": "model_not_found"}, "model_not_found", 404, retryable=False),
    Trouble(
        {"status": 400, "code": "context_length_exceeded"}, "context_length_exceeded", 400, retryable=False
    ),
    Trouble({"status": 400, "code": "secret_reason"}, "upstream_rejected", 400, retryable=False),
    Trouble({"status": 422}, "upstream_rejected", 422, retryable=False),
    # Last: a rate limit stops all grants for a while.
    Trouble({"status": 429, "retry_after": 500}, "upstream_rate_limited", 503),
]


async def _company(
    simulator: SimulatorProcess, gateway: GatewayProcess, question: str, hold: str | None
) -> tuple[Any, Stream, Reply, Reply]:
    """One flight with a native leader and two OpenAI followers: record, native, streamed and whole answer.

    With a `hold` the model says nothing before all three are listening.
    """
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        accepted = (await client.submit(question)).json
        assert accepted["role"] == "leader"
        streamed = group.create_task(client.complete(question, stream=True))
        whole = group.create_task(client.complete(question))
        native = group.create_task(client.stream(accepted["stream_url"]))
        if hold is not None:
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 3)
            simulator.release(hold)
        stream = await native
        record = await client.record(accepted["id"])
    return record, stream, streamed.result(), whole.result()


def _told(trouble: Trouble, seen: Reply) -> None:
    """An HTTP status of its own, in the one error shape."""
    assert (seen.status, seen.error["code"]) == (trouble.status, trouble.code)
    assert ("x-should-retry" in seen.headers) is not trouble.retryable
    assert ("retry-after" in seen.headers) is (trouble.status in (429, 503))
    assert b"secret" not in seen.body


async def test_everybody_is_told_of_a_failure_in_the_form_of_their_wire(
    simulate: Simulate, start: Start
) -> None:
    """Rows 13, 47, 48: the text is kept, one end for each, nothing is cached, the next twin starts fresh."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(
        simulator, FIRST_TOKEN_TIMEOUT_S=FIRST_S, STREAM_IDLE_TIMEOUT_S=IDLE_S, SEND_TIMEOUT_S=0.9
    )
    for number, trouble in enumerate(TROUBLES):
        # What never says anything cannot be held back: its timer runs.
        hold = None if trouble.code == "first_token_timeout" else f"company-{number}"
        question = prompt("trouble", **trouble.directive, **({"hold": hold} if hold else {}))
        text = answer_to(question, trouble.tokens)
        record, native, streamed, whole = await _company(simulator, gateway, question, hold)

        assert native.text == text, trouble
        assert native.end.name == "failed", trouble
        assert (native.end.json["code"], native.end.json["retryable"]) == (trouble.code, trouble.retryable)
        assert (record["status"], record["text"], record["finish_reason"]) == ("failed", text, None)
        _told(trouble, whole)
        if trouble.tokens:
            assert streamed.status == 200, trouble
            assert b"[DONE]" not in streamed.body
            assert streamed.body.rstrip().rsplit(b"\n\n", 1)[-1].startswith(b'data: {"error":'), trouble
        else:
            _told(trouble, streamed)
        assert hold is None or calls_of(simulator, question) == trouble.calls, trouble

        await at_rest(gateway)
        if trouble.status != 503:
            asked = calls_of(simulator, question)
            async with Client(gateway.url) as client:
                again = await client.ask(question)
            assert (again.end.name, again.end.json["code"]) == ("failed", trouble.code)
            assert calls_of(simulator, question) > asked, "a failure was kept"
    await at_rest(gateway)
    assert not [line for line in gateway.log if "exception" in line]


async def test_trouble_that_passes_is_not_seen(simulate: Simulate, start: Start) -> None:
    """503 twice, or a rate limit once, and then the answer: nobody sees more than a delay (rows 64, 65)."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator)
    for directive in ({"status": 503, "times": 2}, {"status": 429, "times": 1, "retry_after": 1}):
        question = prompt("passes", hold="together", **directive)
        record, native, streamed, whole = await _company(simulator, gateway, question, "together")
        assert record["text"] == native.text == answer_to(question, 5)
        assert native.end.name == "done"
        assert (streamed.status, whole.status) == (200, 200)
        assert calls_of(simulator, question) == int(str(directive["times"])) + 1
    await at_rest(gateway)


async def test_an_empty_answer_is_complete_but_never_kept(simulate: Simulate, start: Start) -> None:
    """Row 13: it may be what the model wanted to say, once; nobody gets it from the cache."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    question = prompt("nothing", empty=1)
    async with Client(gateway.url) as client:
        for count in (1, 2, 3):
            stream = await client.ask(question)
            assert (stream.end.name, stream.text) == ("done", "")
            await at_rest(gateway)
            assert calls_of(simulator, question) == count


# -- what the simulated model cannot do -------------------------------------------------------
_DONE = event(b"[DONE]") + b"0\r\n\r\n"

SCRIPTS: dict[str, tuple[Script, int, str]] = {
    "a line of 10 MiB": (
        [STREAM_HEAD, piece(b"data: " + b"x" * (10 << 20)), HANG],
        502,
        "upstream_bad_response",
    ),
    "a web page": ([reply("200 OK", b"<html>secret</html>", "text/html")], 502, "upstream_bad_response"),
    "not HTTP": ([b"SSH-2.0-secret\r\n\r\n"], 502, "upstream_bad_response"),
    "compressed": (
        [upstream_head(Content_Encoding="gzip") + b"\x1f\x8b", HANG],
        502,
        "upstream_bad_response",
    ),
    "elsewhere": ([reply("302 Found", b"", Location="http://127.0.0.1:1/secret")], 502, "upstream_error"),
    "a secret error": ([reply("500 Oops", b'{"error":{"message":"secret"}}')], 502, "upstream_error"),
    "an error without an end": (
        [upstream_head("400 Bad Request"), b"secret" * 99, HANG],
        400,
        "upstream_rejected",
    ),
    "another code": (
        [reply("400 Bad Request", b'{"error":{"code":"secret","param":"a secret <b>","message":"secret"}}')],
        400,
        "upstream_rejected",
    ),
    "done without a finish": ([STREAM_HEAD, event(chunk("hi")), _DONE], 502, "upstream_truncated"),
    "an invalid chunk": ([STREAM_HEAD, event(b'{"choices":"secret"}'), HANG], 502, "upstream_bad_response"),
    "a chunk nested deep": (
        [STREAM_HEAD, event(b'{"choices":' + b"[" * 5000), HANG],
        502,
        "upstream_bad_response",
    ),
    "half a surrogate pair": (
        [STREAM_HEAD, event(b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'), HANG],
        502,
        "upstream_bad_response",
    ),
}


async def test_whatever_the_model_server_says_the_client_gets_a_typed_error(start: Start) -> None:
    """Nothing of its own words reaches a client or a log, and its connection is not used again."""
    scripts = [script for script, _, _ in SCRIPTS.values()]
    async with ChatUpstream(scripts) as upstream:
        gateway = start(None, OPENAI_BASE_URL=upstream.base_url)
        async with Client(gateway.url) as client:
            for what, (_, status, code) in SCRIPTS.items():
                seen = await client.complete(what, model="m")
                assert (seen.status, seen.error["code"]) == (status, code), (what, seen)
                assert b"secret" not in seen.body, what
                await at_rest(gateway)
        assert len(upstream.asked) == len(SCRIPTS), "none of these is asked again"
        await upstream.until(lambda: upstream.open <= 1)
    assert "secret" not in gateway.output


async def test_a_rate_limit_without_a_sensible_retry_after_is_retried_soon(start: Start) -> None:
    """Row 64: a bad header falls back to our own back-off: it neither stops us nor fails the call."""
    values = [None, "soon", "-5", "", "1e3", "Fri, 01 Jan 2016 00:00:00 GMT", "99999999999"]
    scripts: list[Script] = []
    for value in values:
        headers = {} if value is None else {"Retry_After": value}
        scripts += [[reply("429 Too Many Requests", b"{}", **headers)], answer("well")]
    async with ChatUpstream(scripts) as upstream:
        gateway = start(None, OPENAI_BASE_URL=upstream.base_url)
        async with Client(gateway.url) as client:
            for value in values:
                _, frames = await client.chunks(f"after {value}", model="m")
                assert text_of(frames) == "well", value
        assert len(upstream.asked) == 2 * len(values)
        await at_rest(gateway)


async def test_only_the_gateways_own_credentials_go_upstream(start: Start) -> None:
    """A tenant's key, cookies and headers end here; the model sees the gateway's key and the body."""
    async with ChatUpstream([answer("hello")]) as upstream:
        settings = {
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_API_KEY": "upstream-key",
            "API_KEYS": "acme:acme-key-1",
        }
        gateway = start(None, **settings)
        headers = {
            "cookie": "session=acme-cookie",
            "x-private": "acme-private",
            "x-request-id": "acme-request",
        }
        async with Client(gateway.url, "acme-key-1") as client:
            assert (await client.complete("hi", model="m", headers=headers)).status == 200
        (request,) = upstream.asked
    assert request.headers["authorization"] == "Bearer upstream-key"
    sent = str(request.headers) + request.body.decode()
    assert not [word for word in ("acme", "cookie", "x-private") if word in sent]


async def test_an_unreachable_model_is_a_503_and_readiness_says_so(start: Start) -> None:
    """Row 79: degraded with the component's name, alive, and every client told to come back."""
    gateway = start(None, OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    async with Client(gateway.url) as client:
        replies = await together([client.complete("hi", model="m"), client.complete("hi")])
        for seen in replies:
            assert (seen.status, seen.error["code"]) == (503, "upstream_unreachable")
            assert int(seen.headers["retry-after"]) >= 1
            assert seen.headers["x-refrain-reason"] == "upstream_unreachable"
    assert gateway.get("/healthz") == {"status": "ok"}
    ready = gateway.get("/readyz")
    assert (ready["status"], ready["components"]["upstream"]) == ("degraded", "unreachable")
    await eventually(gateway.at_rest)
    assert digest_of("hi") not in gateway.output
