"""`/pipeline` and `/metrics` of several workers: one picture, and each worker in it."""

from __future__ import annotations

from typing import Any

from app.instance import metrics, pipeline
from app.readings import Instance, bury
from app.snapshot import LISTED
from tests.fakes.readings import counter, reading, stage


def values(instance: Instance) -> dict[str, float]:
    lines = (line for line in metrics(instance).decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def running(id: str, subscribers: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": id, "phase": "live", "subscribers": subscribers, "events": 3, "age_ms": 5, **more}


def test_the_whole_and_each_worker_are_shown() -> None:
    """Whichever worker answers: sums at the top, and every worker by itself below."""
    shown = pipeline(
        Instance(
            [
                reading(n, stage(admitted=n), totals={"completed": n}, broadcasts=[running(str(n))])
                for n in (1, 2)
            ]
        )
    )
    assert shown["totals"] == {"completed": 3}
    assert [stage["in_use"] for stage in shown["stages"]] == [3]
    assert [broadcast["id"] for broadcast in shown["broadcasts"]] == ["1", "2"]
    assert [(one["worker"], one["pid"], one["totals"]) for one in shown["workers"]] == [
        (1, 1001, {"completed": 1}),
        (2, 1002, {"completed": 2}),
    ]


def test_the_dead_count_in_what_was_and_not_in_what_is() -> None:
    """What a killed worker completed stays; its open streams and tasks are gone with it."""
    now = {"broadcasts": 1, "subscribers": 2, "upstream_in_flight": 1, "records": 3, "tasks": 9}
    now["turns_waiting"] = 4
    alive = reading(1, stage(admitted=1), totals={"completed": 5, **now})
    gone = bury(None, reading(2, stage(admitted=4), totals={"completed": 7, **now}))
    shown = pipeline(Instance([alive], gone, restarts=1))
    assert shown["totals"] == {"completed": 12, **now}
    assert [stage["in_use"] for stage in shown["stages"]] == [1]
    assert [one["worker"] for one in shown["workers"]] == [1]


def test_one_ready_worker_makes_the_instance_ready() -> None:
    """A worker that is just restarting must not take the instance out of its load balancer."""
    ready, draining = reading(1), reading(2, state="draining")
    assert pipeline(Instance([draining, ready]))["state"] == "ready"
    assert pipeline(Instance([draining]))["state"] == "draining"


def test_a_long_list_of_broadcasts_is_cut_and_counted() -> None:
    """As in one process: ten thousand answers must not make a page of megabytes."""
    many = [running(str(n)) for n in range(LISTED)]
    shown = pipeline(Instance([reading(n, broadcasts=many) for n in (1, 2)]))
    assert len(shown["broadcasts"]) == LISTED
    assert [one["broadcasts"] for one in shown["workers"]] == [LISTED, LISTED]


def test_a_scrape_counts_the_living_the_restarts_and_the_departed() -> None:
    """Row 99: reclaimed permits show, a stale worker's numbers count and it is not called alive."""
    living = reading(1, stage(admitted=3, released=1), families=[counter(1)])
    stale = reading(2, stage(admitted=2), families=[counter(2)], stale=True)
    gone = bury(None, reading(3, stage(admitted=5, released=1), families=[counter(4)]))
    seen = values(Instance([living, stale], gone, restarts=6))
    assert (seen["refrain_workers"], seen["refrain_worker_restarts_total"]) == (1, 6)
    assert seen["refrain_calls_total"] == 7
    names = ("stage_admitted_total", "stage_released_total", "permits_reclaimed_total", "stage_in_use")
    assert [seen[f'refrain_{name}{{stage="leaders"}}'] for name in names] == [10, 2, 4, 4]


def test_one_worker_alone_is_shown_without_the_departed() -> None:
    """`?worker=1` answers what that process does, not what others did before."""
    gone = bury(None, reading(3, stage(admitted=5), families=[counter(4)]))
    both = [reading(1, stage(admitted=1), families=[counter(1)]), reading(2, families=[counter(2)])]
    seen = values(Instance(both, gone, only=1))
    assert (seen["refrain_calls_total"], seen["refrain_workers"]) == (1, 1)
    assert seen['refrain_stage_admitted_total{stage="leaders"}'] == 1


def test_an_answer_that_several_workers_follow_is_one() -> None:
    """Three tabs on three workers read one broadcast: shown once, with all its readers."""
    mirror = running("7", 2, mirror=True, phase="waiting", events=0)
    shown = pipeline(
        Instance([reading(1, broadcasts=[mirror]), reading(2, broadcasts=[running("7"), running("8")])])
    )
    assert shown["broadcasts"] == [
        {**running("7", 3), "processes": 2},
        {**running("8", 1), "processes": 1},
    ]
