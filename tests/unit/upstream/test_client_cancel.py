"""Leaving a call early: the upstream sees it at once, the pool loses nothing."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from runtime.supervisor import Supervisor
from tests.fakes.permit import FakePermit
from tests.fakes.upstream import HANG, STREAM_HEAD, Gate, ScriptedUpstream, answer, delta, event, piece
from upstream.client import ModelClient

pytestmark = pytest.mark.anyio


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/dev/fd"))


async def some_turns() -> None:
    """Let everything run that can run by now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def read_all(client: ModelClient, body: dict[str, Any] | None = None) -> str:
    async with client.stream(FakePermit(), body or {}) as batches:
        return "".join([chunk.text async for batch in batches for chunk in batch])


@pytest.mark.parametrize(
    "script",
    [
        [HANG],
        [STREAM_HEAD, HANG],
        [STREAM_HEAD, event(delta("abc")), HANG],
        [STREAM_HEAD, event(delta("abc", finish="stop")) + piece(b"data: [DO"), HANG],
        [STREAM_HEAD, event(delta("abc", finish="stop")) + event(b"[DONE]"), HANG],
    ],
)
async def test_a_cancelled_call_is_aborted_at_the_upstream(script: list[Any]) -> None:
    """Before the headers, before the first token, in the middle, before and after `[DONE]`."""
    outcomes: list[str] = []
    async with ScriptedUpstream([script, answer("next")]) as upstream:
        client = ModelClient(
            upstream.base_url, supervisor=Supervisor(), connections=1, on_call=outcomes.append
        )
        async with asyncio.TaskGroup() as group:
            call = group.create_task(read_all(client))
            await upstream.until(lambda: len(upstream.requests) == 1)
            call.cancel()
        await upstream.until(lambda: upstream.open == 0)
        assert upstream.aborted == 1
        assert outcomes[0] in ("aborted", "completed")
        assert await read_all(client) == "next"
        await client.close()


async def test_leaving_the_block_early_is_enough() -> None:
    """No cancellation is needed, and no exception."""
    outcomes: list[str] = []
    async with ScriptedUpstream([[STREAM_HEAD, event(delta("abc")), HANG]]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor(), on_call=outcomes.append)
        async with client.stream(FakePermit(), {}) as batches:
            await anext(batches)
        await upstream.until(lambda: upstream.aborted == 1)
        assert outcomes == ["aborted"]
        await client.close()


async def test_the_readers_own_failure_aborts_the_call_too() -> None:
    """It is the reader's, so it is neither swallowed nor counted against the upstream."""
    outcomes: list[str] = []
    async with ScriptedUpstream([[STREAM_HEAD, event(delta("abc")), HANG]]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor(), on_call=outcomes.append)
        with pytest.raises(ZeroDivisionError):
            async with client.stream(FakePermit(), {}):
                raise ZeroDivisionError
        await upstream.until(lambda: upstream.aborted == 1)
        assert outcomes == ["aborted"]
        await client.close()


async def test_a_call_to_a_server_that_does_not_read_is_cut_as_well() -> None:
    """What is still to be sent must not keep the connection of a call that nobody wants."""
    async with ScriptedUpstream([[HANG]], reading=False) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor(), connections=1)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(read_all(client, {"x": "y" * 30_000_000}))
            await upstream.until(lambda: upstream.open == 1)
            await some_turns()
            open_before = open_files()
            call.cancel()
        await some_turns()
        assert open_files() < open_before
        upstream.resume_reading()
        await upstream.until(lambda: upstream.open == 0)
        assert upstream.requests == []
        await client.close()


async def test_a_cancel_while_waiting_for_a_connection_takes_none() -> None:
    """The one connection goes to who still wants it."""
    gate = Gate()
    async with ScriptedUpstream([[gate, *answer("first")], answer("third")]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor(), connections=1)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(read_all(client))
            await upstream.until(lambda: len(upstream.requests) == 1)
            second = group.create_task(read_all(client))
            third = group.create_task(read_all(client))
            await asyncio.sleep(0)
            second.cancel()
            gate.open()
        assert (first.result(), third.result()) == ("first", "third")
        assert second.cancelled()
        assert len(upstream.requests) == 2
        await client.close()
