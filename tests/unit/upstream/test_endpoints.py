"""Endpoints that are tools: what is sent, what is read, and that every trouble is one error."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.upstream import CLOSE, HANG, RESET, Gate, Script, ScriptedUpstream, head, piece, reply
from upstream.endpoints import EndpointFailed, Endpoints

pytestmark = pytest.mark.anyio


async def ask(script: Script, limit: int = 1000) -> tuple[int, bytes]:
    async with ScriptedUpstream([script]) as server:
        endpoints = Endpoints(2)
        try:
            return await exchange(endpoints, server.port, limit)
        finally:
            await endpoints.close()


async def exchange(endpoints: Endpoints, port: int, limit: int = 1000) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{port}/a%2Fb/%2e?q=a%20b"
    async with endpoints.send("PUT", url, {"X-Key": "k"}, b"{}") as answer:
        return answer.status, b"".join([part async for part in answer.pieces(limit)])


async def test_a_request_is_sent_as_it_was_made() -> None:
    """Method, path, query, headers and body, and no cookie of anybody's."""
    async with ScriptedUpstream([[reply("200 OK", b"fine")]] * 2) as server:
        endpoints = Endpoints(2)
        assert await exchange(endpoints, server.port) == (200, b"fine")
        await endpoints.close()
    request = server.requests[0]
    assert (request.method, request.headers["x-key"], request.body) == ("PUT", "k", b"{}")
    assert request.path.endswith("?q=a%20b")
    assert request.path.startswith("/a%2Fb/")
    assert "cookie" not in request.headers


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "404 Not Found", "503 Busy"])
async def test_any_status_is_a_reply(status: str) -> None:
    """What it means is the tool's business; a redirect is not followed."""
    code, _ = await ask([reply(status, b"", Location="/elsewhere")])
    assert code == int(status[:3])


@pytest.mark.parametrize(
    ("script", "message", "again"),
    [
        ([RESET], "there was no reply", True),
        ([CLOSE], "there was no reply", True),
        ([b"garbage\r\n\r\n", CLOSE], "the reply is not HTTP", False),
        ([head(Content_Length="100"), b"short", CLOSE], "the reply broke off", True),
        ([head(Transfer_Encoding="chunked"), piece(b" " * 1001), HANG], "longer than 1000 bytes", False),
    ],
)
async def test_trouble_is_one_error(script: Script, message: str, again: bool) -> None:
    """With our own words, and whether another try may do better."""
    with pytest.raises(EndpointFailed, match=message) as failed:
        await ask(script)
    assert failed.value.again is again


async def test_pieces_come_as_they_are_sent() -> None:
    """A tool that streams shows its first words before the last are there."""
    gate = Gate()
    script: Script = [head(Transfer_Encoding="chunked"), piece(b"one"), gate, piece(b"two"), b"0\r\n\r\n"]
    async with ScriptedUpstream([script]) as server:
        endpoints = Endpoints(1)
        url = f"http://127.0.0.1:{server.port}/"
        async with asyncio.timeout(10), endpoints.send("GET", url, {}, None) as answer:
            parts = answer.pieces(1000)
            assert await anext(parts) == b"one"
            gate.open()
            assert [part async for part in parts] == [b"two"]
        await endpoints.close()


async def test_leaving_early_gives_the_connection_back() -> None:
    """One connection for all: the second exchange would hang if the first had kept it."""
    endless: Script = [head(Transfer_Encoding="chunked"), piece(b"one"), HANG]
    async with ScriptedUpstream([endless, [reply("200 OK", b"fine")]]) as server:
        endpoints = Endpoints(1)
        url = f"http://127.0.0.1:{server.port}/"
        async with asyncio.timeout(10):
            async with endpoints.send("GET", url, {}, None) as answer:
                assert await anext(answer.pieces(1000)) == b"one"
            async with endpoints.send("GET", url, {}, None) as answer:
                assert answer.status == 200
        await endpoints.close()
        assert "0 replies open" in repr(endpoints)
