"""Every request has an id: on its answer, on its log lines, and in no other request."""

from __future__ import annotations

import asyncio
import re

import pytest
from starlette.types import Receive, Scope, Send

from app.exchange import Exchange
from app.middleware import RequestId
from runtime.logs import request_id
from tests.fakes.asgi import Peer
from tests.virtual_time import virtual

MADE = re.compile(r"[0-9a-f]{24}")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(1)
    await Exchange(scope, receive, send).respond(200, request_id.get().encode())


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
@virtual
async def test_a_well_formed_id_is_kept(given: str) -> None:
    """The caller's own id is what it will search its logs for."""
    peer = await Peer(headers={"X-Request-Id": given}).call(RequestId(echo))
    assert peer.headers["x-request-id"] == given == peer.body.decode()


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "ä", "a;b", "<script>"])
@virtual
async def test_any_other_is_replaced(given: str) -> None:
    """It goes into logs and headers: nothing that could break a line, or fill a disk."""
    peer = await Peer(headers={"x-request-id": given}).call(RequestId(echo))
    assert MADE.fullmatch(peer.headers["x-request-id"])
    assert peer.body.decode() == peer.headers["x-request-id"]


@virtual
async def test_concurrent_requests_do_not_share_an_id() -> None:
    """The id belongs to a request's own tasks, and is gone after it."""
    peers = [Peer(headers={"x-request-id": f"id-{number}"}) for number in range(3)]
    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(peer.call(RequestId(echo)))
    assert [peer.body for peer in peers] == [b"id-0", b"id-1", b"id-2"]
    assert request_id.get() == ""


@virtual
async def test_an_unexpected_failure_is_an_answer_with_an_id() -> None:
    """The id on the reply is how the log's stack is found; the stack itself stays there."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("secret")

    peer = await Peer(headers={"x-request-id": "mine"}).call(RequestId(fail))
    assert (peer.status, peer.error["code"]) == (500, "internal_error")
    assert peer.headers["x-request-id"] == "mine"
    assert b"secret" not in peer.body


@virtual
async def test_a_failure_in_the_middle_of_an_answer_is_the_servers_to_end() -> None:
    """No second status line; the id is given back all the same."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError

    peer = Peer()
    with pytest.raises(KeyError):
        await peer.call(RequestId(fail))
    assert (peer.status, len(peer.messages)) == (200, 1)
    assert request_id.get() == ""


@virtual
async def test_what_is_no_request_passes() -> None:
    """The lifespan has no headers."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    peer = Peer()
    await RequestId(app)({"type": "lifespan"}, peer.receive, peer.send)
    assert seen == ["lifespan"]
