"""The limits of tools on the real gateway: how many at once, how fast, how long, in whose order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import SimulatorProcess
from tests.system.scene import Simulate, Start, accepted, at_rest, shown, together
from tests.system.test_hostile_load import healthy
from tests.system.workplace import TOOLS, Workplace, at_stage, calling, heard, statuses

pytestmark = pytest.mark.anyio

#: Row 78: what a check of health may take beside what it takes while nothing runs.
HEALTH_P99_S = 0.05
#: A busy machine disturbs one measurement more than the other; what holds the loop disturbs it by seconds.
NOISE, SAMPLES = 4, 500


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=60)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


async def test_a_tools_own_limit_is_its_peak(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 70: twenty calls with limit 4: four are inside, neither more nor less, and all twenty are told."""
    gateway = start(simulator, TOOLS=TOOLS)
    names = [f"n{number}" for number in range(20)]
    question = calling("Row 70", *(work("narrow", name, door="door") for name in names))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = group.create_task(client.ask(question))
        await work.filled(4)
        work.open("door")
        stream = await reading
    assert work.peak == 4
    assert heard(stream.text) == [f"{name} was found" for name in names]
    await at_rest(gateway)


@pytest.mark.parametrize("limit", [3, 1])
async def test_all_tools_of_all_requests_have_one_limit(
    simulator: SimulatorProcess, start: Start, work: Workplace, limit: int
) -> None:
    """Part 3: three requests with four kinds of tools each: their sum peaks at the limit, also at 1."""
    gateway = start(simulator, workers=1, TOOLS=TOOLS, MAX_CONCURRENT_TOOLS=limit)
    kinds = ("look", "narrow", "block", "change")
    questions = [
        calling(f"All {n}", *(work(kind, f"{kind}-{n}", door="door") for kind in kinds)) for n in range(3)
    ]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        reading = [group.create_task(client.ask(question)) for question in questions]
        await eventually(lambda: simulator.stats()["calls"] == 3)
        await work.filled(limit)
        work.open("door")
        for number, stream in enumerate(reading):
            said = heard((await stream).text)
            assert [one.split()[0] for one in said] == [f"{kind}-{number}" for kind in kinds]
    assert (work.peak, work.inside, len(work.begun)) == (limit, 0, 12)
    await at_rest(gateway)


async def test_the_clock_of_a_tool_starts_with_its_slot(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: behind two that use up their second, the next has waited longer than its timeout and runs."""
    gateway = start(simulator, TOOLS=TOOLS)
    names = ("stuck", "stuck-too", "behind", "last")
    calls = [work("single", name, door="never" if "stuck" in name else "") for name in names]
    async with Client(gateway.url) as client:
        chat = await accepted(client, calling("Patience", *calls))
        stream = await client.stream(chat["stream_url"])
        record = await shown(client, chat["id"], "completed")
    assert [status for _, status in statuses(record)] == ["timed_out", "timed_out", "ok", "ok"]
    assert min(one["waited_s"] for one in record["preparation"]["tools"][2:]) > 1.5
    assert heard(stream.text)[2:] == ["behind was found", "last was found"]
    assert work.log == [sign + name for name in names for sign in "+-"]
    await at_rest(gateway)


async def test_a_rate_lets_its_burst_through_and_then_its_pace(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: four a second with a burst of three: the fourth and all behind it wait a quarter each."""
    gateway = start(simulator, TOOLS=TOOLS)
    calls = [work("rated", f"r{number}", door="door") for number in range(6)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chat = await accepted(client, calling("Paced", *calls))
        reading = group.create_task(client.stream(chat["stream_url"]))
        await work.filled(6)
        work.open("door")
        await reading
        record = await shown(client, chat["id"], "completed")
    waits = [one["waited_s"] for one in record["preparation"]["tools"]]
    assert work.begun == [f"r{number}" for number in range(6)]
    for late, waited in enumerate(waits[3:], start=1):
        assert waited >= late * 0.25 - 0.01, waits
    assert max(waits[:3]) < waits[3], "the burst has not waited for the pace"
    await at_rest(gateway)


async def test_the_urgent_go_first_and_who_has_many_leaves_room(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Part 3: with one slot, an interactive call overtakes a batch's, and a newcomer the last of many."""
    gateway = start(simulator, TOOLS=TOOLS, MAX_CONCURRENT_TOOLS=1)
    holding = calling("Holds", work("look", "holder", door="door"))
    many = calling("Many", *(work("look", f"many-{n}") for n in range(60)))

    async def chosen(requests: int) -> None:
        """Until so many models have chosen, so that their tools run or wait."""
        await eventually(lambda: simulator.stats()["completed"] >= requests)

    one = pinned(gateway, list(crew(gateway).values())[:1])
    async with one as (door,), Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chats = [await accepted(door, holding)]
        await work.filled(1)
        later, urgent = (calling(name, work("look", name)) for name in ("later", "urgent"))
        for question, priority in ((later, "batch"), (many, "interactive"), (urgent, "interactive")):
            chats.append(await accepted(door, question, priority=priority))
            await at_stage(client, chats[-1]["id"], "preparing:tools")
            await chosen(len(chats))
        reading = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
        work.open("door")
        for stream in reading:
            assert (await stream).end.name == "done"
    order = work.begun
    assert order.index("urgent") < order.index("many-59")
    assert order.index("urgent") < order.index("later")
    await at_rest(gateway)


async def test_thirty_that_run_out_of_time_clean_up_thirty_times(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 71: thirty timeouts, then thirty cancels: each clean-up has run, and what they had said is kept."""
    gateway = start(simulator, TOOLS=TOOLS)
    begun = [work("begin", f"b{number}") for number in range(30)]
    async with Client(gateway.url) as client:
        chat = await accepted(client, calling("Row 71", *begun))
        stream = await client.stream(chat["stream_url"])
        record = await shown(client, chat["id"], "completed")
        assert statuses(record) == [("begin", "timed_out")] * 30
        assert all(
            said.startswith(f"half of b{n} [begin timed out") for n, said in enumerate(heard(stream.text))
        )
        assert (len(work.begun), sorted(work.ended)) == (30, sorted(work.begun))

        left = await accepted(client, calling("Left", *(work("slowly", f"s{n}") for n in range(30))))
        await work.filled(30)
        assert (await client.cancel(left["id"])).status == 200
        await work.filled(0)
    assert (len(work.begun), sorted(work.ended)) == (60, sorted(work.begun))
    await at_rest(gateway)


async def test_fifty_blocking_tools_never_hold_the_loop(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 78: while fifty block their threads, /healthz takes no longer than while nothing runs."""
    gateway = start(simulator, workers=1, TOOLS=TOOLS, MAX_CONCURRENT_TOOLS=64)
    question = calling("Row 78", *(work("block", f"b{number}", door="door") for number in range(50)))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:

        async def checked(words: str) -> float:
            """What a check of health takes, but for one in a hundred, while others are answered."""
            with healthy(gateway) as took:
                replies = await together(client.complete(f"{words} {number}") for number in range(20))
                await eventually(lambda: len(took) > SAMPLES, within=30.0)
            assert {reply.status for reply in replies} == {200}
            return p99(took)

        idle = await checked("idle")
        reading = group.create_task(client.ask(question))
        await work.filled(50)
        busy = await checked("busy")
        work.open("door")
        stream = await reading
    assert busy < HEALTH_P99_S + NOISE * idle, (busy, idle)
    assert heard(stream.text) == [f"b{number} was dug out" for number in range(50)]
    await at_rest(gateway)
