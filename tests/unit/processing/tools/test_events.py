"""What is told of a tool's life: once each, with names from the registry and nothing of a question."""

from __future__ import annotations

import logging

import pytest

from processing.tools import tool
from processing.tools.asked import Call
from tests.fakes.tools import Bench, Played, Witness, call
from tests.virtual_time import virtual


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.getMessage(), vars(record)["tool"]) for record in caplog.records]


def test_a_call_is_told_from_its_beginning_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Row 81: invoked, started with its wait, completed or failed with its time."""

    @virtual
    async def runs() -> None:
        bench = Bench(Played().sleeper(limit=1, timeout_s=1.5))
        await bench.run(call("sleep", seconds=1, say="s3cret"), call("sleep", seconds=2, say="s3cret"))

    with caplog.at_level(logging.INFO, "refrain.tools"):
        runs()
    assert told(caplog) == [
        ("tool.invoked", "sleep"),
        ("tool.invoked", "sleep"),
        ("tool.started", "sleep"),
        ("tool.started", "sleep"),
        ("tool.completed", "sleep"),
        ("tool.failed", "sleep"),
    ]
    started, failed = vars(caplog.records[3]), vars(caplog.records[-1])
    assert (started["try"], started["waited_s"]) == (1, 1)
    assert (failed["status"], failed["tries"], failed["ran_s"], failed["shared"]) == (
        "timed_out",
        1,
        1.5,
        False,
    )
    assert not any("s3cret" in str(vars(record)) for record in caplog.records)


def test_what_a_model_invents_gets_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A name that is in no registry may hold anything: it is counted under one word."""

    @virtual
    async def runs() -> None:
        witness = Witness()
        bench = Bench(Played().sleeper(), observer=witness)
        await bench.run(Call("a", "s3cret", "{}"), Call("b", "sleep", "s3cret"))
        assert witness.ends == [("unknown", "refused", False), ("sleep", "refused", False)]
        assert witness.begun == []

    with caplog.at_level(logging.INFO, "refrain.tools"):
        runs()
    assert told(caplog) == [("tool.failed", "unknown"), ("tool.failed", "sleep")]
    assert not any("s3cret" in str(vars(record)) for record in caplog.records)


def test_an_observer_that_breaks_costs_nobody_the_result(caplog: pytest.LogCaptureFixture) -> None:
    """A metric is worth less than an answer; the fault is seen in the log."""

    class Broken(Witness):
        def started(self, tool: str, waited_s: float) -> None:
            raise RuntimeError("s3cret")

    @virtual
    async def runs() -> None:
        async def quick() -> str:
            """Quick."""
            return "done"

        bench = Bench(tool(quick, cacheable=True), observer=Broken())
        assert (await bench.one("quick")).content == "[quick failed (RuntimeError)]"
        bench.assert_at_rest()

    with caplog.at_level(logging.ERROR, "refrain.tools"):
        runs()
    assert told(caplog) == [("a tool call broke", "quick")]
