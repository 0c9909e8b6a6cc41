"""The owner of every task: counted, never dead unseen, and its loops end with the process."""

from __future__ import annotations

import asyncio

import pytest

from runtime.supervisor import Supervisor
from tests.fakes.turns import settle
from tests.virtual_time import virtual


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("broken")


@virtual
async def test_a_task_is_counted_while_it_runs() -> None:
    """I4 can be asserted: at rest nobody is left."""
    supervisor = Supervisor()
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    task = supervisor.spawn("work", work())
    supervisor.own("loop", for_ever())
    assert len(supervisor) == 2
    assert repr(supervisor) == "<Supervisor [2 running: loop, work]>"
    gate.set()
    await task
    await settle()
    assert len(supervisor) == 1
    await supervisor.close()
    assert len(supervisor) == 0


@virtual
async def test_a_task_that_fails_is_logged_by_name_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It belongs to one piece of work: the process goes on."""
    crashed: list[str] = []
    supervisor = Supervisor(crashed.append)
    await asyncio.wait({supervisor.spawn("answer", fail())})
    await settle()

    (line,) = caplog.records
    assert (line.levelname, line.__dict__["task"]) == ("ERROR", "answer")
    assert line.exc_info is not None
    assert isinstance(line.exc_info[1], RuntimeError)
    assert supervisor.healthy
    assert crashed == []


@virtual
async def test_a_cancelled_task_is_no_failure() -> None:
    """An upstream call that is aborted is everyday life."""
    supervisor = Supervisor()
    task = supervisor.spawn("answer", for_ever())
    await settle()
    task.cancel()
    await asyncio.wait({task})
    await settle()
    assert len(supervisor) == 0
    assert supervisor.healthy


@pytest.mark.parametrize("way", ["fails", "returns", "is cancelled"])
def test_a_loop_that_ends_by_itself_is_a_crash(way: str) -> None:
    """However it ends: without it the process cannot do its job, so it is told, once, and must go."""

    @virtual
    async def crash() -> None:
        crashed: list[str] = []
        supervisor = Supervisor(crashed.append)
        loop = supervisor.own("cache:worker-0", fail() if way == "fails" else asyncio.sleep(0))
        if way == "is cancelled":
            loop.cancel()
        await asyncio.wait({loop})
        await settle()
        assert not supervisor.healthy
        assert supervisor.crashed == "cache:worker-0"
        assert crashed == ["cache:worker-0"]
        await supervisor.close()

    crash()


@virtual
async def test_closing_ends_everything_and_is_no_crash() -> None:
    """A second close finds nothing to do."""
    crashed: list[str] = []
    supervisor = Supervisor(crashed.append)
    tasks = [supervisor.own("loop", for_ever()), supervisor.spawn("work", for_ever())]
    await settle()
    await supervisor.close()
    await supervisor.close()
    assert all(task.cancelled() for task in tasks)
    assert supervisor.healthy
    assert crashed == []


@virtual
async def test_closing_does_not_wait_for_ever() -> None:
    """A task that will not end is named in the log and left behind."""
    supervisor = Supervisor()
    gate = asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    task = supervisor.spawn("stubborn", stubborn())
    await settle()
    began = asyncio.get_running_loop().time()
    await supervisor.close(timeout_s=2)
    assert asyncio.get_running_loop().time() - began == 2
    assert not task.done()
    gate.set()
    await task


@virtual
async def test_a_task_that_never_started_is_ended_as_well() -> None:
    """Spawned and closed in the same turn."""
    supervisor = Supervisor()
    task = supervisor.spawn("work", for_ever())
    await supervisor.close()
    assert task.cancelled()
    assert len(supervisor) == 0
