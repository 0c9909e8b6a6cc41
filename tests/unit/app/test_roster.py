"""The parent's end of the lines: who answers, who is shown as it was, and what the departed leave."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from app.framing import framed
from app.history import EVERY_S, FIELDS
from app.readings import Reading, packed, unpacked
from app.roster import PATIENCE_S, Line, Roster
from runtime.supervisor import Supervisor
from tests.fakes.readings import counter, every_stage, reading, stage
from tests.fakes.turns import settle
from tests.virtual_time import virtual


class Wire:
    """What a roster sends to a worker. Stands in for an asyncio.StreamWriter."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(msgspec.msgpack.decode(data[4:]))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Worker:
    """A worker as its parent sees it: it says what the test has it say."""

    def __init__(self, roster: Roster, number: int) -> None:
        self.number = number
        self.wire = Wire()
        self.reader = asyncio.StreamReader()
        self.line = Line(number, self.wire)  # type: ignore[arg-type]
        roster.enter(self.line, self.reader)

    def say(self, **message: Any) -> None:
        self.reader.feed_data(framed(message))

    def show(self, admitted: int, answering: int = 0) -> None:
        shown = reading(self.number, stage(admitted=admitted), families=[counter(admitted)])
        self.say(t="reading", r=packed(shown), id=answering)

    @property
    def asked(self) -> list[int]:
        return [message["id"] for message in self.wire.sent if message["t"] == "read"]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [message for message in self.wire.sent if message["t"] == "instance"]


def shown(instance: dict[str, Any]) -> list[Reading]:
    return [unpacked(data) for data in instance["readings"]]


async def ended(*workers: Worker) -> None:
    for worker in workers:
        worker.reader.feed_eof()
    await settle()


@virtual
async def test_who_asks_is_told_what_all_answer() -> None:
    """Everybody is asked anew, the asker too, and nothing is sent before all have answered."""
    roster = Roster(Supervisor())
    first, second = Worker(roster, 1), Worker(roster, 2)
    second.show(1)
    first.say(t="ask", n=1)
    await settle()
    assert (first.asked, second.asked) == ([1], [1])
    first.show(5, answering=1)
    await settle()
    assert first.told == []
    second.show(7, answering=1)
    await settle()
    (instance,) = first.told
    assert [(one.worker, one.stages[0].admitted, one.stale) for one in shown(instance)] == [
        (1, 5, False),
        (2, 7, False),
    ]
    assert second.told == []
    await ended(first, second)


@virtual
async def test_who_does_not_answer_is_shown_as_it_was() -> None:
    """A frozen worker delays a scrape by a quarter of a second, and its last numbers still count."""
    roster, loop = Roster(Supervisor()), asyncio.get_running_loop()
    first, frozen = Worker(roster, 1), Worker(roster, 2)
    frozen.show(3)
    asked_at = loop.time()
    first.say(t="ask", n=1)
    await settle()
    first.show(5, answering=1)
    await asyncio.sleep(PATIENCE_S)
    await settle()
    assert loop.time() - asked_at == PATIENCE_S
    assert [(one.stages[0].admitted, one.stale) for one in shown(first.told[0])] == [(5, False), (3, True)]
    await ended(first, frozen)


@virtual
async def test_a_worker_that_has_shown_nothing_yet_is_left_out() -> None:
    """One that is just starting has no numbers: zeros would be wrong of its predecessor."""
    roster = Roster(Supervisor())
    first, starting = Worker(roster, 1), Worker(roster, 2)
    first.say(t="ask", n=1)
    await settle()
    first.show(5, answering=1)
    await asyncio.sleep(PATIENCE_S)
    await settle()
    assert [one.worker for one in shown(first.told[0])] == [1]
    await ended(first, starting)


@virtual
async def test_a_death_answers_for_the_dead_and_is_counted_once() -> None:
    """Row 99: a question under way does not wait for it, and its last reading moves to the departed."""
    roster, loop = Roster(Supervisor()), asyncio.get_running_loop()
    first, dying = Worker(roster, 1), Worker(roster, 2)
    dying.show(3)
    asked_at = loop.time()
    first.say(t="ask", n=1)
    await settle()
    first.show(5, answering=1)
    await settle()
    roster.leave(2)
    assert dying.wire.closed
    await settle()
    assert loop.time() == asked_at
    departed = unpacked(first.told[0]["departed"])
    assert [one.worker for one in shown(first.told[0])] == [1]
    assert (departed.stages[0].admitted, departed.stages[0].reclaimed) == (3, 3)
    counted = first.told[0]["departed"]
    roster.leave(2)  # it has left already
    first.say(t="ask", n=2)
    await settle()
    first.show(5, answering=2)
    await settle()
    assert unpacked(first.told[1]["departed"]) == unpacked(counted), "once"
    await ended(first, dying)


@virtual
async def test_a_worker_is_ready_when_it_says_so() -> None:
    """Until then the instance does not greet; a line in pieces or of nonsense is no such word."""
    roster = Roster(Supervisor())
    worker, broken = Worker(roster, 1), Worker(roster, 2)
    message = framed({"t": "ready"})
    worker.reader.feed_data(message[:5])
    broken.reader.feed_data(b"\x00\x00\x00\x01\xc1")
    await settle()
    assert not worker.line.ready.is_set()
    worker.reader.feed_data(message[5:])
    await settle()
    assert worker.line.ready.is_set()
    assert not broken.line.ready.is_set()
    assert roster.line(1) is worker.line
    await ended(worker, broken)


@virtual
async def test_a_second_is_a_row_for_the_instance_and_for_each_worker() -> None:
    """What a killed worker had counted stays in the sums, and no row goes back."""
    supervisor = Supervisor()
    roster = Roster(supervisor)
    first, second = Worker(roster, 1), Worker(roster, 2)
    supervisor.own("history", roster.remember())
    for worker in (first, second):
        worker.say(t="reading", r=packed(reading(worker.number, *every_stage(), totals={"requests": 4})))
    await asyncio.sleep(EVERY_S)
    roster.leave(2)
    await asyncio.sleep(EVERY_S)
    first.say(t="recall", n=9, worker=None)
    first.say(t="recall", n=10, worker=1)
    await settle()
    everybody, one = (message for message in first.wire.sent if message["t"] == "history")
    requests = FIELDS.index("requests")
    assert (everybody["n"], [row[requests] for row in everybody["history"]["rows"][-2:]]) == (9, [8, 8])
    assert (one["n"], [row[requests] for row in one["history"]["rows"][-2:]]) == (10, [4, 4])
    await ended(first, second)
    await supervisor.close()
