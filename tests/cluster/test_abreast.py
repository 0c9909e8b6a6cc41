"""Two processes are asked of one request in turn, and one of them is late: both say the same, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Cluster
from tests.faults import Mode
from tests.system.client import Client
from tests.system.prompts import answer_to, prompt
from tests.system.scene import together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio
#: Each way between the late one and Redis: so much later it hears of an end, and is heard.
LATE_S = 0.025
RUNS = 6


def slow_second(launch: Launch, late_s: float = LATE_S) -> Cluster:
    cluster = launch(2, faults=True)
    faults = cluster.nodes[1].faults
    assert faults is not None
    faults.delay_s, faults.mode = late_s, Mode.DELAY
    return cluster


async def led_here_owned_there(clients: list[Client], question: str, release: Callable[[], object]) -> str:
    """Its answer is made and read at the first process, the request is the second's: the id, after `done`."""
    leader = (await clients[0].submit(question)).json
    owned = (await clients[1].submit(question)).json
    assert (leader["role"], owned["role"]) == ("leader", "follower")
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(clients[0].stream(owned["stream_url"]))
        await clients[0].until_status(owned["id"], "streaming")
        release()
    assert (reading.result().end.name, reading.result().text) == ("done", answer_to(question, 8))
    return str(owned["id"])


async def test_a_cancel_after_the_end_is_too_late_everywhere(launch: Launch) -> None:
    """Row 38: `done` was read where it is made; the process that has the request is late, and refuses."""
    cluster = slow_second(launch)
    async with cluster.clients_of_all() as clients:
        for run in range(RUNS):
            gate = f"late{run}"
            question = prompt(f"Too late {run}?", hold=gate, hold_after=4, tps=0, tokens=8)
            id = await led_here_owned_there(clients, question, lambda g=gate: cluster.simulator.release(g))  # type: ignore[misc]
            answers = [(await clients[at].cancel(id)).status for at in (1, 0, 1)]
            assert answers == [409, 409, 409], run
            assert {(await client.record(id))["status"] for client in clients} == {"completed"}
    await cluster.until_rest()


async def test_a_status_never_goes_back_whoever_is_asked(launch: Launch) -> None:
    """Row 3: after `done` the late process says `completed` too; it does not stream again."""
    cluster = slow_second(launch)
    async with cluster.clients_of_all() as clients:
        for run in range(RUNS):
            gate = f"walk{run}"
            question = prompt(f"Backwards {run}?", hold=gate, hold_after=4, tps=0, tokens=8)
            id = await led_here_owned_there(clients, question, lambda g=gate: cluster.simulator.release(g))  # type: ignore[misc]
            seen = [(await clients[at].record(id))["status"] for at in (1, 0, 1)]
            assert seen == ["completed"] * 3, run
    await cluster.until_rest()


async def test_done_is_told_when_those_who_follow_can_know_it(launch: Launch) -> None:
    """Row 3: the process that makes the answer is a little late: its reader is told `done` when Redis has
    been, so that the other, asked next, does not say `streaming`."""
    cluster = slow_second(launch, LATE_S / 5)
    async with cluster.clients_of_all() as (other, maker):
        for run in range(RUNS // 2):
            gate = f"made{run}"
            question = prompt(f"Made there {run}?", hold=gate, hold_after=4, tps=100, tokens=40)
            made = (await maker.submit(question)).json
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(maker.stream(made["stream_url"]))
                await other.until_status(made["id"], "streaming")
                await asyncio.to_thread(cluster.simulator.release, gate)
            assert (reading.result().end.name, reading.result().text) == ("done", answer_to(question, 40))
            seen = [(await client.record(made["id"]))["status"] for client in (other, maker, other)]
            assert seen == ["completed"] * 3, run
    await cluster.until_rest()


async def test_a_cancel_and_an_end_at_once_are_one_end_for_all(launch: Launch) -> None:
    """Rows 38 and 39: accepted means that its reader is told `cancelled`; refused means `done`."""
    cluster = slow_second(launch)
    async with cluster.clients_of_all() as clients:

        async def race(run: int) -> None:
            question = prompt(f"At once {run}?", tps=50, tokens=10)
            await clients[0].submit(question)
            owned = (await clients[1].submit(question)).json
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(clients[0].stream(owned["stream_url"]))
                await clients[0].until_status(owned["id"], "streaming")
                await asyncio.sleep(0.14 + 0.01 * run)  # the model needs 0.18 s from its first token
                reply = await clients[run % 2].cancel(owned["id"])
            ended = reading.result().end.name
            assert (reply.status, ended) in {(200, "cancelled"), (409, "done")}, run
            for client in clients:
                again = await client.cancel(owned["id"])
                assert again.status == reply.status, run

        await together(race(run) for run in range(RUNS))
    await cluster.until_rest()
