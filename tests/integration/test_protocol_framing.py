"""app/protocol.py on real sockets: heads and framings that are wrong, too large, or read in two ways."""

from __future__ import annotations

import pytest

import app.protocol as protocol
from tests.fakes.eventually import eventually
from tests.fakes.recorder import serving
from tests.system.raw import Answer, exchange, get, head, post, wire

pytestmark = pytest.mark.anyio


def _malformed(answer: Answer, status: int = 400, code: str = "malformed_request") -> None:
    assert answer.status == status
    assert answer.json["error"]["code"] == code
    assert answer.headers["connection"] == "close"


# -- framing --------------------------------------------------------------------------------
_CHUNKED = "transfer-encoding: chunked"
AMBIGUOUS = {
    "length and coding": head("POST", "/echo", "content-length: 5", _CHUNKED) + b"0\r\n\r\n",
    "coding and length": head("POST", "/echo", _CHUNKED, "content-length: 5") + b"0\r\n\r\n",
    "two lengths": head("POST", "/echo", "content-length: 1", "content-length: 2") + b"xx",
    "two equal lengths": head("POST", "/echo", "content-length: 1", "content-length: 1") + b"x",
    "two codings": head("POST", "/echo", _CHUNKED, _CHUNKED) + b"0\r\n\r\n",
    "unknown coding": head("POST", "/echo", "transfer-encoding: xchunked") + b"0\r\n\r\n",
    "coding after chunked": head("POST", "/echo", "transfer-encoding: chunked, identity") + b"0\r\n\r\n",
    "signed length": head("POST", "/echo", "content-length: +1") + b"x",
    "length beyond all": head("POST", "/echo", f"content-length: {10**24}"),
    "space before the colon": head("POST", "/echo", "content-length : 1") + b"x",
    "two hosts": head("GET", "/echo", "host: other"),
    "folded header": head("GET", "/echo", "x-a: b", " folded"),
    "bare LF": b"GET /echo HTTP/1.1\nhost: x\n\n",
    "bare CR": b"GET /echo HTTP/1.1\rhost: x\r\r",
    "NUL in a value": head("GET", "/echo", "x-a: a\0b"),
    "not HTTP": b"\x16\x03\x01\x00\xc5 TLS, perhaps\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "path that is not ASCII": "GET /é HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "address without a path": b"CONNECT other:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "address that is none": b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_request_that_two_readers_could_read_differently_is_refused(name: str) -> None:
    """Request smuggling begins with a server that guesses; ours says 400 and closes."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(AMBIGUOUS[name])
        _malformed(await client.answer())
        assert await client.until_closed() == b""
    assert recorder.seen == recorder.left, "nothing of it was answered"


@pytest.mark.parametrize("size", ["-1", "g", "fffffffffffffffff"])
async def test_a_chunk_of_no_sensible_size_ends_the_request(size: str) -> None:
    """The body's framing is broken, so is everything behind it: the connection ends."""
    async with serving() as (_, url, _), wire(url) as client:
        await client.send(head("POST", "/echo", _CHUNKED), f"{size}\r\nbody\r\n0\r\n\r\n".encode())
        got = await client.until_closed()
        assert got.count(b"HTTP/1.1") <= 1
        assert b"200 OK" not in got


@pytest.mark.parametrize("name", ["not HTTP", "two hosts", "length and coding", "address that is none"])
async def test_a_refusal_never_lands_in_another_answer(name: str) -> None:
    """Behind a running stream a 400 would be read as a part of its body."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(get("/stream"))
        await client.until(b"first")
        await client.send(AMBIGUOUS[name])
        got = await client.until_closed()
        await eventually(lambda: recorder.left == ["/stream"])
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"400" not in got


async def test_a_refusal_is_never_taken_for_another_answer() -> None:
    """Behind a request that has not been answered yet a 400 would be read as the answer to that one."""
    async with serving() as (recorder, url, _), wire(url) as client:
        await client.send(get("/hold"))
        await eventually(lambda: recorder.seen == ["/hold"])
        await client.send(AMBIGUOUS["two hosts"])
        assert await client.until_closed() == b""
        await eventually(lambda: recorder.left == ["/hold"])


# -- headers --------------------------------------------------------------------------------
async def test_headers_beyond_their_bounds_are_refused() -> None:
    """Too many, or too large in all: 431, and nothing is begun."""
    many = [f"x-{number}: y" for number in range(protocol.MAX_HEADERS + 1)]
    large = ["x-a: " + "a" * (protocol.MAX_HEADER_BYTES + 1)]
    async with serving() as (recorder, url, _):
        for headers in (many, large):
            _malformed(await exchange(url, get("/echo", *headers)), 431, "headers_too_large")
    assert recorder.seen == recorder.left, "nothing of it was answered"


@pytest.mark.parametrize(
    "start", [b"GET /echo HTTP/1.1\r\nhost: x\r\nx-a: ", b"GET /", b"GET /echo HTTP/1.1\r\n"]
)
async def test_headers_without_an_end_are_cut_off_long_before_memory_is(start: bytes) -> None:
    """One endless line, or endless lines: the parser tells of a header only when its line is over."""
    piece = b"a" * 65_536 if not start.endswith(b"\n") else b"x: y\r\n" * 10_000
    async with serving() as (recorder, url, server), wire(url) as client:
        with pytest.raises(ConnectionError):
            await client.send(start, *[piece] * 512)  # 32 MiB
        await eventually(lambda: not server.server_state.connections)
    assert recorder.seen == recorder.left, "nothing of it was answered"


async def test_a_trailer_is_never_a_header() -> None:
    """What comes after the body was never seen by the proxy that checks or strips headers."""
    request = head("POST", "/echo", _CHUNKED, "trailer: authorization")
    body = b"4\r\nbody\r\n0\r\nauthorization: Bearer stolen\r\nx-request-id: smuggled\r\n\r\n"
    async with serving() as (_, url, _):
        echo = (await exchange(url, request + body)).json
    assert echo["body"] == "body"
    assert "authorization" not in echo["headers"]
    assert "x-request-id" not in echo["headers"]


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(framing: str) -> None:
    """Java's HTTP client and `curl --http2` offer h2c with their first request, also with a POST."""
    offer = [
        "connection: upgrade, http2-settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ]
    if framing == "length":
        request = post("/echo", b"body", *offer)
    else:
        request = head("POST", "/echo", _CHUNKED, *offer) + b"4\r\nbody\r\n0\r\n\r\n"
    async with serving() as (_, url, _), wire(url) as client:
        await client.send(request + get("/echo"))
        assert (await client.answer()).json["body"] == "body"
        assert (await client.answer()).json["body"] == "", "nor is what follows on the connection lost"
