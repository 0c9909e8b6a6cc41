"""What the processes of an instance show together: sums that never go back, and permits that add up."""

from __future__ import annotations

import pytest

from app.readings import Reading, add_families, add_stages, add_totals, bury, packed, unpacked
from runtime.metrics import Metrics, StageReading
from tests.fakes.readings import counter, gauge, reading, stage


def conserves(some: StageReading) -> bool:
    return some.admitted == some.released + some.reclaimed + some.in_use


def counted(*readings: Reading) -> dict[str, float]:
    return {
        f"{name}{sorted(labels.items())}": value
        for family in add_families(readings)
        for name, labels, value in family.samples
    }


def test_a_reading_survives_the_line_to_the_parent() -> None:
    """Everything that is shown crosses a process border, labels and unknown bounds included."""
    some = reading(
        2,
        stage(admitted=5, released=2, max_waiting=None, refused={"queue_full": 3}),
        totals={"completed": 4},
        families=[counter(2.5, outcome="failed")],
        broadcasts=[{"id": "1", "phase": "live"}],
        stale=True,
    )
    assert unpacked(packed(some)) == some


def test_stages_add_up_but_a_shared_capacity_counts_once() -> None:
    """Two workers with four leaders each have eight; both see the same model's slots."""
    both = [
        reading(n, stage(admitted=3, released=1, waiting=2), stage("llm_streams", admitted=n)) for n in (1, 2)
    ]
    leaders, streams = add_stages(both)
    assert (leaders.capacity, leaders.in_use, leaders.waiting, leaders.max_waiting) == (8, 4, 4, 20)
    assert (streams.capacity, streams.in_use, streams.admitted) == (4, 3, 3)


def test_the_oldest_wait_is_that_of_whoever_waits_longest_and_refusals_add_up() -> None:
    """A sum of waits would be a wait that nobody has."""
    some = stage(oldest_wait_s=1.5, refused={"queue_full": 1})
    other = stage(oldest_wait_s=4.0, refused={"queue_full": 2, "timeout": 1})
    (both,) = add_stages([reading(1, some), reading(2, other)])
    assert both.oldest_wait_s == 4.0
    assert both.refused == {"queue_full": 3, "timeout": 1}


def test_one_room_without_bounds_makes_the_sum_boundless() -> None:
    """None is no number: adding it as 0 would show a bound that does not hold."""
    (both,) = add_stages([reading(1, stage(max_waiting=None)), reading(2, stage())])
    assert both.max_waiting is None


def test_samples_add_up_by_name_and_labels() -> None:
    """The same label of two workers is one series, another label another."""
    first, second = counter(2, outcome="completed"), counter(3, outcome="completed")
    third = counter(5, outcome="failed")
    some = [reading(1, families=[first]), reading(2, families=[second]), reading(3, families=[third])]
    assert counted(*some) == {
        "refrain_calls_total[('outcome', 'completed')]": 5,
        "refrain_calls_total[('outcome', 'failed')]": 5,
    }
    assert first.samples[0][2] == 2, "a worker's own reading is left as it was"


def test_a_step_of_a_workflow_is_one_series_of_all_workers_also_of_the_dead() -> None:
    """Row 81: whichever worker ran it; another step of the same workflow is another series."""
    several = []
    for worker in range(1, 4):
        metrics = Metrics()
        metrics.preparation.expect([], {"review": ["read", "sum-up"]})
        metrics.preparation.workflow_steps.labels("review", "read", "done").inc(worker)
        metrics.preparation.step_seconds.labels("review", "read").observe(worker)
        several.append(reading(worker, families=metrics.families()))
    alive, *dead = several
    seen = counted(alive, bury(bury(None, dead[0]), dead[1]))

    def label(step: str, **more: str) -> str:
        return str(sorted({"workflow": "review", "step": step, **more}.items()))

    assert seen["refrain_workflow_steps_total" + label("read", status="done")] == 6
    assert seen["refrain_workflow_steps_total" + label("sum-up", status="done")] == 0
    assert seen["refrain_workflow_step_seconds_count" + label("read")] == 3
    assert seen["refrain_workflow_step_seconds_bucket" + label("read", le="1.0")] == 1
    assert seen["refrain_workflow_step_seconds_sum" + label("read")] == 6


def test_what_the_dead_held_is_reclaimed_and_what_they_counted_stays() -> None:
    """Row 99: with the departed counted in, every stage is conserved and no counter goes back."""
    alive = reading(1, stage(admitted=4, released=3), totals={"completed": 3}, families=[counter(3)])
    dying = reading(
        2, stage(admitted=7, released=2), totals={"completed": 2}, families=[counter(9), gauge(5)]
    )
    before, after = [alive, dying], [alive, bury(None, dying)]
    (was,), (now,) = add_stages(before), add_stages(after)
    assert (now.admitted, now.released, now.reclaimed, now.in_use) == (11, 5, 5, 1)
    assert (was.capacity, now.capacity) == (8, 4)
    assert conserves(was)
    assert conserves(now)
    assert add_totals(after) == add_totals(before) == {"completed": 5}
    assert counted(*after)["refrain_calls_total[]"] == counted(*before)["refrain_calls_total[]"] == 12
    assert "refrain_open[]" not in counted(*after), "a gauge is of the living"


@pytest.mark.parametrize("count", [2, 5])
def test_the_departed_are_one_sum_however_many_they_are(count: int) -> None:
    """A worker that dies every hour for a year must not make each scrape longer."""
    departed = None
    for n in range(count):
        departed = bury(
            departed,
            reading(n + 1, stage(admitted=3, released=1), totals={"completed": 1}, families=[counter(2)]),
        )
    assert departed is not None
    assert departed.worker == 0
    (left,) = departed.stages
    assert (left.admitted, left.released, left.reclaimed, left.in_use) == (3 * count, count, 2 * count, 0)
    assert departed.totals == {"completed": count}
    assert counted(departed) == {"refrain_calls_total[]": 2 * count}
