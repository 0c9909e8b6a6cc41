"""The client over real sockets: a call that goes well, and what it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.errors import InvalidRequest, UpstreamUnreachable
from runtime.supervisor import Supervisor
from tests.fakes.permit import FakePermit
from tests.fakes.upstream import (
    CLOSE,
    END,
    RESET,
    STREAM_HEAD,
    Gate,
    Script,
    ScriptedUpstream,
    answer,
    delta,
    event,
    head,
    piece,
)
from upstream.chunk import Chunk
from upstream.client import ClientStats, ModelClient
from upstream.errors import PermitRequired

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def client_of(upstream: ScriptedUpstream, **options: Any) -> AsyncIterator[ModelClient]:
    client = ModelClient(upstream.base_url, supervisor=Supervisor(), **options)
    try:
        yield client
    finally:
        await client.close()


async def collect(client: ModelClient, body: dict[str, Any] | None = None) -> list[Chunk]:
    async with client.stream(FakePermit(), body or {"messages": []}) as batches:
        return [chunk async for batch in batches for chunk in batch]


async def stream_of(*script: Any, **options: Any) -> list[Chunk]:
    async with ScriptedUpstream([script]) as upstream, client_of(upstream, **options) as client:
        return await collect(client)


async def test_the_chunks_of_an_answer_come_out_in_order() -> None:
    """A stream from its head to its `[DONE]`."""
    chunks = await stream_of(*answer("Hel", "lo"))
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    "ending",
    [
        event(delta(finish="stop")) + END,
        event(delta(finish="stop")) + event(b"[DONE]") + END,
        event(delta(finish="stop")) + piece(b"data: [DONE]") + END,
        event(delta(finish="stop")) + event({"choices": [], "usage": {"n": 1}}) + event(b"[DONE]") + END,
        piece(b": ping\n\ndata:\n\n")
        + event(delta(finish="stop"))
        + event(b"[DONE]")
        + event(b"nonsense")
        + END,
    ],
)
async def test_each_orderly_end_completes_an_answer(ending: bytes) -> None:
    """`[DONE]` is one, the end of the body after the finish reason is another."""
    assert (await stream_of(STREAM_HEAD, event(delta("x")), ending))[0].text == "x"


async def test_a_body_without_length_ends_with_its_connection() -> None:
    """As HTTP/1.0 servers do it."""
    body = b"data: " + json.dumps(delta("x", finish="stop")).encode() + b"\n\n"
    assert len(await stream_of(head(Connection="close"), body, CLOSE)) == 1


async def test_chunks_that_arrive_together_come_in_one_batch() -> None:
    """One list per read of the socket, so that a reader behind pays once."""
    gate = Gate()
    script: Script = [
        STREAM_HEAD + event(delta("a")) + event(delta("b")),
        gate,
        event(delta("c", finish="stop")) + END,
    ]
    async with (
        ScriptedUpstream([script]) as upstream,
        client_of(upstream) as client,
        client.stream(FakePermit(), {}) as batches,
    ):
        assert [chunk.text for chunk in await anext(batches)] == ["a", "b"]
        gate.open()
        assert [chunk.text for chunk in await anext(batches)] == ["c"]


async def test_the_iterator_ends_with_done_and_does_not_wait_for_the_body() -> None:
    """The reader gets its end at once, whatever the upstream does with its connection."""
    gate = Gate()
    script: Script = [STREAM_HEAD, event(delta("a", finish="stop")), event(b"[DONE]"), gate, END]
    async with (
        ScriptedUpstream([script]) as upstream,
        client_of(upstream) as client,
        client.stream(FakePermit(), {}) as batches,
    ):
        assert [len(batch) async for batch in batches] == [1]
        assert client.stats().in_flight == 1
        gate.open()


async def test_a_connection_is_kept_for_the_next_call() -> None:
    """Also when the end of the body comes a little after `[DONE]`."""
    gate = Gate()
    late: Script = [STREAM_HEAD, event(delta("a", finish="stop")), event(b"[DONE]"), gate, END]
    async with ScriptedUpstream([late, answer("b"), answer("c")]) as upstream, client_of(upstream) as client:
        async with client.stream(FakePermit(), {}) as batches:
            assert [len(batch) async for batch in batches] == [1]
            gate.open()
        await collect(client)
        await collect(client)
        assert upstream.connections == 1


async def test_a_connection_that_does_not_end_after_done_is_cut() -> None:
    """It is waited for a moment, and then it is not worth keeping."""
    script: Script = [STREAM_HEAD, event(delta("a", finish="stop")), event(b"[DONE]"), Gate()]
    async with ScriptedUpstream([script]) as upstream, client_of(upstream) as client:
        assert len(await collect(client)) == 1
        await upstream.until(lambda: upstream.aborted == 1)


async def test_the_request_is_the_body_plus_streaming() -> None:
    """Unknown fields go through untouched; `stream` and its options are ours."""
    body = {"model": "m", "messages": [{"role": "user", "content": "é"}], "stream": False, "x": [1, None]}
    async with ScriptedUpstream([answer("x")]) as upstream, client_of(upstream, api_key="sk-test") as client:
        await collect(client, body | {"stream_options": {"include_usage": False}})
    request = upstream.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert json.loads(request.body) == body | {"stream": True, "stream_options": {"include_usage": True}}
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"


async def test_without_a_key_nothing_is_sent_in_its_place() -> None:
    """And no cookie that an earlier answer set."""
    cookie = head(Transfer_Encoding="chunked", Set_Cookie="tenant=1")
    async with ScriptedUpstream([[cookie, *answer("x")[1:]]]) as upstream, client_of(upstream) as client:
        await collect(client)
        await collect(client)
    assert not {"authorization", "cookie"} & upstream.requests[1].headers.keys()


@pytest.mark.parametrize("permit", [FakePermit(held=False), FakePermit("leaders")])
async def test_without_a_permit_nothing_is_sent(permit: FakePermit) -> None:
    """The one door to a model has one key."""
    async with ScriptedUpstream([answer("x")]) as upstream, client_of(upstream) as client:
        with pytest.raises(PermitRequired):
            async with client.stream(permit, {}):
                pass
    assert upstream.connections == 0


async def test_a_body_that_json_cannot_carry_is_refused_before_the_call() -> None:
    """Half a surrogate pair, or an endless nesting."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with ScriptedUpstream([answer("x")]) as upstream, client_of(upstream) as client:
        for value in ("\ud800", deep):
            with pytest.raises(InvalidRequest):
                await collect(client, {"x": value})
    assert upstream.connections == 0


async def test_a_cumulative_upstream_is_turned_into_growth() -> None:
    """Only where the operator said so."""
    script: Script = [
        STREAM_HEAD,
        event(delta("ha")),
        event(delta("ha ha")),
        event(delta("ha ha", finish="stop")),
        END,
    ]
    plain = await stream_of(*script)
    grown = await stream_of(*script, cumulative=True)
    assert "".join(chunk.text for chunk in plain) == "haha haha ha"
    assert "".join(chunk.text for chunk in grown) == "ha ha"


async def test_a_stale_connection_of_the_pool_fails_as_unreachable() -> None:
    """The server closed it while it was being used again: no response byte came, so a retry is safe."""
    async with (
        ScriptedUpstream([answer("x"), [RESET], answer("y")]) as upstream,
        client_of(upstream) as client,
    ):
        await collect(client)
        with pytest.raises(UpstreamUnreachable):
            await collect(client)
        assert (await collect(client))[0].text == "y"
        assert upstream.connections == 2


async def test_no_more_connections_than_the_pool_has() -> None:
    """The calls beyond it wait; none is lost."""
    gate = Gate()
    script: Script = [gate, *answer("x")]
    async with ScriptedUpstream([script]) as upstream, client_of(upstream, connections=2) as client:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(collect(client)) for _ in range(6)]
            await upstream.until(lambda: len(upstream.requests) == 2)
            assert client.stats() == ClientStats(connections=2, in_flight=6)
            gate.open()
        assert all(len(call.result()) == 2 for call in calls)
        assert upstream.connections == 2
        assert client.stats().in_flight == 0


async def test_a_closed_client_has_no_connection_and_makes_none() -> None:
    """Closing twice is as good as once."""
    async with ScriptedUpstream([answer("x")]) as upstream, client_of(upstream) as client:
        await collect(client)
        await client.close()
        await client.close()
        await upstream.until(lambda: upstream.open == 0)
        with pytest.raises(UpstreamUnreachable):
            await collect(client)


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http:///v1", "http://user:secret@host/v1"])
def test_an_address_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    """At start, without repeating the secret in it."""
    with pytest.raises(ValueError, match="base URL") as caught:
        ModelClient(url, supervisor=Supervisor())
    assert "secret" not in str(caught.value)


def test_a_key_that_would_break_the_header_is_refused_at_once() -> None:
    """A line end in a key would be a second header."""
    with pytest.raises(ValueError, match="API key") as caught:
        ModelClient("http://host/v1", "sk-1\r\nx: y", supervisor=Supervisor())
    assert "sk-1" not in str(caught.value)
