"""app/protocol.py on real sockets: leaving, silence, pipelining, and what it needs of uvicorn."""

from __future__ import annotations

import pytest
import uvicorn

import app.protocol as protocol
from tests.fakes.eventually import eventually
from tests.fakes.recorder import Recorder, serving
from tests.system.raw import Leave, Wire, exchange, get, head, post, wire

pytestmark = pytest.mark.anyio


# -- leaving --------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("path", ["/hold", "/stream"])
@pytest.mark.parametrize("pipelined", [0, 1, 3])
async def test_a_client_that_leaves_is_noticed(path: str, how: Leave, pipelined: int) -> None:
    """Before and after the first byte, by FIN and by RST, also with more requests behind it."""
    async with serving() as (recorder, url, server), wire(url) as client:
        await client.send(get(path))
        await eventually(lambda: recorder.seen == [path])
        await client.send(*[get("/echo")] * pipelined)
        await client.leave(how)
        await eventually(lambda: recorder.left == [path])
        await eventually(lambda: not server.server_state.connections)
    assert recorder.seen == [path], "what was pipelined behind a client that is gone is never begun"


async def test_a_reader_that_reads_nothing_can_be_dropped_at_once() -> None:
    """An abort does not wait for the bytes that nobody takes: a polite close would wait for ever."""
    async with serving() as (recorder, url, server), wire(url) as client:
        await client.send(get("/flood"))
        await eventually(lambda: recorder.left == ["/flood"])
        await eventually(lambda: not server.server_state.connections)


# -- patience -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sent", [b"", b"GET /echo HTT", b"GET /echo HTTP/1.1\r\nhost: x\r\nx-a: b", b"\r\n\r\n"]
)
async def test_headers_that_do_not_come_end_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-sent headers hold a socket for ever: uvicorn has no timeout for them."""
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT_S", 0.1)
    async with serving() as (recorder, url, server), wire(url) as client:
        await client.send(sent)
        assert await client.until_closed() == b""
        await eventually(lambda: not server.server_state.connections)
    assert recorder.seen == []


@pytest.mark.parametrize("more", [b"GET /ec", b"\r\n"])
async def test_a_kept_connection_that_falls_silent_again_is_closed(
    more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blank line calls uvicorn's keep-alive timer off, and nothing else would ever close the connection."""
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT_S", 0.1)
    async with serving() as (_, url, server), wire(url) as client:
        await client.send(get("/echo"))
        assert (await client.answer()).status == 200
        await client.send(more)
        assert await client.until_closed() == b""
        await eventually(lambda: not server.server_state.connections)


async def test_the_rest_of_a_body_that_was_refused_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One byte a minute behind a 415 would hold the connection as long as the client likes."""
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT_S", 0.1)
    async with serving() as (_, url, server), wire(url) as client:
        await client.send(head("POST", "/refuse", "content-length: 1000"))
        assert (await client.answer()).status == 415
        await client.send(b"x")
        assert await client.until_closed() == b""
        await eventually(lambda: not server.server_state.connections)


async def test_a_slow_body_is_the_applications_to_time() -> None:
    """The headers' timer ends with the headers: a long upload is none of its business."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(head("POST", "/echo", "content-length: 4"))
        await eventually(lambda: recorder.seen == ["/echo"])
        await client.send(b"bo")
        await client.send(b"dy")
        assert (await client.answer()).json["body"] == "body"


# -- pipelining -----------------------------------------------------------------------------
async def test_pipelined_requests_are_answered_in_order() -> None:
    """Each answer is the answer to its request, with bodies of their own."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(get("/later") + post("/echo", b"one") + post("/echo", b"two") + get("/refuse"))
        await eventually(lambda: recorder.seen == ["/later"])
        recorder.go.set()
        answers = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 415]
    assert [answer.json["body"] for answer in answers[1:3]] == ["one", "two"]


async def _flooded(recorder: Recorder, client: Wire, server: uvicorn.Server, request: bytes) -> None:
    await client.send(get("/hold"))
    await eventually(lambda: recorder.seen == ["/hold"])
    await client.send(request)
    await eventually(lambda: recorder.left == ["/hold"])
    await eventually(lambda: not server.server_state.connections)


async def test_more_pipelined_requests_than_are_sensible_end_the_connection() -> None:
    """They are read ahead, so that a leaving client is noticed: that has to have a bound."""
    async with serving() as (recorder, url, server), wire(url) as client:
        await _flooded(recorder, client, server, get("/echo") * (protocol.MAX_PIPELINED + 1))
    assert recorder.seen == ["/hold"]


async def test_a_pipelined_body_that_is_too_large_ends_the_connection() -> None:
    """Nobody reads it yet, so it would be kept in memory."""
    async with serving() as (recorder, url, server), wire(url) as client:
        await _flooded(recorder, client, server, post("/echo", b"x" * (protocol.MAX_PIPELINED_BODY + 1)))


async def test_what_follows_a_last_request_is_not_served() -> None:
    """`connection: close` is the end of what this client has to say."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(get("/echo", "connection: close") + get("/refuse"))
        got = await client.until_closed()
    assert got.count(b"HTTP/1.1 ") == 1
    assert recorder.seen == ["/echo"]


async def test_large_bodies_arrive_whole() -> None:
    """Reading pauses beyond 64 KiB and goes on as the body is taken."""
    body = b"x" * 3_000_000
    async with serving() as (_, url, _):
        assert (await exchange(url, post("/echo", body))).json["body"] == body.decode()
