"""Reachability: from traffic if there was any, else by one connect."""

from __future__ import annotations

import asyncio

import pytest

from runtime.errors import UpstreamUnreachable
from runtime.supervisor import Supervisor
from tests.fakes.permit import FakePermit
from tests.fakes.upstream import RESET, ScriptedUpstream, answer
from upstream.client import ModelClient
from upstream.reach import Reach

pytestmark = pytest.mark.anyio


async def test_a_listening_port_is_reachable_and_asked_once() -> None:
    """Many who ask at once, or soon after, cost one connect."""
    async with ScriptedUpstream([[RESET]]) as upstream:
        reach = Reach("127.0.0.1", upstream.port)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(reach.reachable()) for _ in range(5)]
        assert all(task.result() for task in asking)
        assert await reach.reachable()
        await upstream.until(lambda: upstream.connections == 1 and upstream.open == 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "x" * 70 + ".invalid"])
async def test_a_closed_port_or_an_impossible_name_is_not(host: str) -> None:
    """It says so, it does not raise."""
    assert not await Reach(host, 1).reachable()


async def test_traffic_speaks_for_itself() -> None:
    """A call that got an answer, or none, saves the connect."""
    async with ScriptedUpstream([answer("x"), [RESET]]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor())
        async with client.stream(FakePermit(), {}) as batches:
            assert [len(batch) async for batch in batches]
        assert await client.reachable()
        with pytest.raises(UpstreamUnreachable):
            async with client.stream(FakePermit(), {}):
                pass
        assert not await client.reachable()
        assert upstream.connections == 1
        await client.close()


async def test_a_cancelled_asker_leaves_the_others_an_answer() -> None:
    """The next in line asks instead."""
    async with ScriptedUpstream([[RESET]]) as upstream:
        reach = Reach("127.0.0.1", upstream.port)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(reach.reachable())
            second = group.create_task(reach.reachable())
            await asyncio.sleep(0)
            first.cancel()
        assert second.result()
        await upstream.until(lambda: upstream.open == 0)
