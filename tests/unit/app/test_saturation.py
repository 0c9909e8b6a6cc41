"""One warning when a stage stays nearly full, and no storm of them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from admission import Admission, Priority, Stage
from app.saturation import CALM_READINGS, INTERVAL_S, READINGS, SaturationWatch
from chatbot.ticket import Ticket
from runtime.supervisor import Supervisor
from tests.fakes.tools import Bench, Played, call
from tests.virtual_time import virtual


def fill(stage: Stage, number: int) -> list[Admission]:
    return [stage.admit(Ticket.issue("t", Priority.INTERACTIVE)) for _ in range(number)]


def look(watch: SaturationWatch, times: int) -> None:
    for _ in range(times):
        watch.look()


@virtual
async def test_a_stage_that_stays_nearly_full_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Row 82: eight of ten for a while is one warning, however long it lasts."""
    full, calm = Stage("leaders", 10), Stage("followers", 10)
    watch = SaturationWatch([full, calm])
    fill(full, 8)
    fill(calm, 7)
    look(watch, READINGS - 1)
    assert caplog.records == []
    look(watch, 1000)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    fields = vars(warning)
    assert (fields["stage"], fields["in_use"], fields["capacity"], fields["waiting"]) == ("leaders", 8, 10, 0)


@virtual
async def test_a_burst_warns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Full for less than the readings in a row: that is what pools are for."""
    stage = Stage("leaders", 1)
    watch = SaturationWatch([stage])
    for _ in range(20):
        (admission,) = fill(stage, 1)
        look(watch, READINGS - 1)
        admission.withdraw()
        look(watch, 1)
    assert caplog.records == []


@virtual
async def test_only_recovery_arms_it_again(caplog: pytest.LogCaptureFixture) -> None:
    """Wavering around the threshold is one state; half empty and nobody waiting is another."""
    stage = Stage("leaders", 10)
    watch = SaturationWatch([stage])
    inside = fill(stage, 8)
    look(watch, READINGS)
    for _ in range(10):
        inside.pop().withdraw()
        look(watch, READINGS)
        inside += fill(stage, 1)
        look(watch, READINGS)
    assert len(caplog.records) == 1
    for admission in inside[5:]:
        admission.withdraw()
    look(watch, 1)
    again = fill(stage, 3)
    look(watch, READINGS)
    assert len(caplog.records) == 1, "a moment of calm is no recovery: a stage of one has it between requests"
    for admission in again:
        admission.withdraw()
    look(watch, CALM_READINGS)
    fill(stage, 3)
    look(watch, READINGS)
    assert len(caplog.records) == 2


@virtual
async def test_the_slots_of_a_tool_are_a_limit_too(caplog: pytest.LogCaptureFixture) -> None:
    """Row 82: the slots of all tools and those of each; the busy one is named, and nobody else."""
    bench = Bench(Played().sleeper("busy", limit=5), Played().sleeper("idle", limit=5), slots=10)
    watch = SaturationWatch(bench.toolbox.stages)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.run(*(call("busy", seconds=9, say=f"{n}") for n in range(4))))
        await asyncio.sleep(1)
        look(watch, 1000)
    bench.assert_at_rest()
    warned = [vars(record) for record in caplog.records if record.name == "refrain.saturation"]
    assert [(one["stage"], one["in_use"], one["capacity"]) for one in warned] == [("tool:busy", 4, 5)]


@virtual
async def test_the_loop_looks_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    """The supervisor owns it; a second of saturation is enough."""
    supervisor, stage = Supervisor(), Stage("llm_streams", 1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(supervisor.close)
        supervisor.own("saturation", SaturationWatch([stage]).run())
        fill(stage, 2)
        await asyncio.sleep(INTERVAL_S * (READINGS - 0.5))
        assert caplog.records == []
        await asyncio.sleep(INTERVAL_S)
        assert [vars(record)["waiting"] for record in caplog.records] == [1]
