"""One exchange: its headers, its whole answers, and what becomes of errors."""

from __future__ import annotations

import pytest

from app.exchange import ClientGone, Endpoint, Exchange
from runtime.errors import Draining, GatewayError
from tests.fakes.asgi import Peer
from tests.virtual_time import virtual


def exchange(peer: Peer) -> Exchange:
    return Exchange(peer.scope, peer.receive, peer.send)


def test_a_header_is_its_first_line_and_a_list_is_all_of_them() -> None:
    """A second `authorization` cannot override the first; lists may come in several lines."""
    lines = [
        ("Authorization", "one"),
        ("authorization", "two"),
        ("Cache-Control", "a"),
        ("cache-control", "b"),
    ]
    asked = exchange(Peer(headers=lines))
    assert asked.header(b"authorization") == "one"
    assert asked.list_header(b"cache-control") == "a, b"
    assert asked.header(b"absent") == ""
    assert asked.list_header(b"absent") == ""


@virtual
async def test_a_whole_answer_is_json_of_known_length() -> None:
    """One start, one body; the content type is JSON unless it was said otherwise."""
    peer = Peer()
    await exchange(peer).json(200, {"a": "ä"})
    assert peer.headers == {"content-length": "10", "content-type": "application/json"}
    assert peer.json == {"a": "ä"}
    other = Peer()
    await exchange(other).respond(200, b"x", [(b"content-type", b"text/plain")])
    assert other.headers == {"content-length": "1", "content-type": "text/plain"}


@virtual
async def test_head_gets_the_headers_of_the_answer_and_no_body() -> None:
    """RFC 9110: the length is that of the answer to GET."""
    peer = Peer("HEAD")
    await exchange(peer).json(200, {"a": 1})
    assert peer.headers["content-length"] == "7"
    assert peer.body == b""
    assert peer.complete


@virtual
async def test_an_empty_answer_says_nothing_of_a_length() -> None:
    """RFC 9110 8.6: a 204 has no Content-Length, nor has the HEAD of a stream."""
    peer = Peer()
    await exchange(peer).empty(204)
    assert (peer.status, peer.header_lines, peer.pieces) == (204, [], [b""])


@virtual
async def test_an_error_before_the_answer_is_the_answer() -> None:
    """Its status, its headers, its body: decided once, in app/errors.py."""

    async def refuse(exchange: Exchange) -> None:
        raise Draining()

    peer = await Peer().call(Endpoint(refuse))
    assert (peer.status, peer.error["code"]) == (503, "draining")
    assert peer.headers["x-refrain-reason"] == "draining"


@virtual
async def test_an_unexpected_failure_is_an_internal_error_without_details() -> None:
    """The log has the stack; the client has a code."""

    async def fail(exchange: Exchange) -> None:
        raise KeyError("/etc/secret")

    peer = await Peer().call(Endpoint(fail))
    assert (peer.status, peer.error["code"]) == (500, "internal_error")
    assert b"secret" not in peer.body


@virtual
async def test_an_unexpected_failure_in_the_middle_drops_the_connection() -> None:
    """A proper end would make half an answer look whole."""

    async def fail(exchange: Exchange) -> None:
        await exchange.send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError

    peer = await Peer().call(Endpoint(fail))
    assert peer.aborted
    assert not peer.complete


@virtual
async def test_a_server_without_abort_is_lived_with() -> None:
    """`refrain.connection` is our own server's extension: elsewhere the failure is still not an answer."""

    async def fail(exchange: Exchange) -> None:
        await exchange.send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError

    peer = Peer()
    peer.scope["extensions"] = {}
    await peer.call(Endpoint(fail))
    assert not peer.complete


@virtual
async def test_nobody_is_answered_who_is_gone() -> None:
    """There is no one to tell, and nothing to log."""

    async def gone(exchange: Exchange) -> None:
        raise ClientGone

    assert not (await Peer().call(Endpoint(gone))).started


@pytest.mark.parametrize("started", [False, True])
@virtual
async def test_an_error_never_starts_a_second_answer(started: bool) -> None:
    """A status line in the middle of a body would be read as text."""

    async def refuse(exchange: Exchange) -> None:
        if started:
            await exchange.send({"type": "http.response.start", "status": 200, "headers": []})
        raise GatewayError()

    peer = await Peer().call(Endpoint(refuse))
    assert [message["type"] for message in peer.messages].count("http.response.start") == 1
    assert peer.status == (200 if started else 500)
