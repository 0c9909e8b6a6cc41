"""A conversation over two gateways, on Sentinel and on Cluster: one order, whoever takes its turns."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.test_acl import documented
from tests.cluster.test_topologies import TOPOLOGIES, Launch, Topology
from tests.fakes.eventually import eventually
from tests.system.prompts import prompt
from tests.system.scene import held
from tests.system.talk import TOKENS, answered, answers, history, say

pytestmark = pytest.mark.anyio


@TOPOLOGIES
async def test_turns_keep_their_order_over_gateways(topology: Topology, launch: Launch) -> None:
    """Its scripts each stay in one slot, though a turn has its id before it has its key."""
    with topology() as (url, _):
        gateways = launch(2, url=url)
        quick = {"tokens": TOKENS, "ttft": 0, "tps": 0}
        questions = [prompt("turn 0", hold="gate", **quick)]
        questions += [prompt(f"turn {n}", **quick) for n in range(1, 4)]
        async with gateways.clients_of_all() as (one, other), asyncio.TaskGroup() as group:
            turns = [await say((one, other)[n % 2], question) for n, question in enumerate(questions)]
            reading = [
                group.create_task((other, one)[n % 2].stream(turn["stream_url"]))
                for n, turn in enumerate(turns)
            ]
            await held(gateways.simulator, "gate")
            gateways.simulator.release("gate")
            assert [(await stream).text for stream in reading] == answers(*questions)

            async def all_kept() -> bool:
                return [turn["id"] for turn in (await history(one))["turns"]] == [
                    turn["id"] for turn in turns
                ]

            await eventually(all_kept)
        await gateways.until_rest()


async def test_the_documented_user_of_redis_may_do_all_of_it(launch: Launch) -> None:
    """Two turns, shown, cancelled and forgotten, with exactly the commands that docs/operations.md names."""
    with documented() as (url, _):
        gateways = launch(2, url=url)
        quick = {"tokens": TOKENS, "ttft": 0, "tps": 0}
        questions = [prompt(f"turn {n}", **quick) for n in range(2)]
        async with gateways.clients_of_all() as (one, other):
            texts = [
                (await answered(client, q)).text for client, q in zip((one, other), questions, strict=True)
            ]
            assert texts == answers(*questions)
            assert (await other.call("POST", "/conversations/c/cancel")).json == {"cancelled": []}
            assert (await one.call("DELETE", "/conversations/c")).status == 204
            assert (await other.call("GET", "/conversations/c")).status == 404
        await gateways.until_rest()
