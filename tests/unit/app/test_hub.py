"""A worker's end of the line: what it says unasked, what it asks, and what it shows if nobody answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from app.framing import framed, read
from app.gateway import Gateway
from app.hub import Alone, WorkerHub
from app.readings import Instance, bury, packed, unpacked
from runtime.supervisor import Supervisor
from tests.fakes.readings import reading, stage
from tests.fakes.running_app import running_app
from tests.fakes.turns import settle

pytestmark = pytest.mark.anyio


@dataclass
class Parent:
    """The other end: reads what the worker says, answers what the test wants."""

    hub: WorkerHub
    gateway: Gateway
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def heard(self, kind: str) -> dict[str, Any]:
        """The next message of that kind."""
        async with asyncio.timeout(10):
            while (message := await read(self.reader))["t"] != kind:
                continue
        return dict(message)

    async def say(self, message: dict[str, Any]) -> None:
        self.writer.write(framed(message))
        await self.writer.drain()

    async def answer(self, asked: dict[str, Any], *admitted: int, **more: Any) -> None:
        """Answer that question with readings of so many admissions."""
        shown = [packed(reading(n + 1, stage(admitted=count))) for n, count in enumerate(admitted)]
        await self.say({**asked, "t": "instance", "readings": shown, "departed": None, "restarts": 0, **more})


@asynccontextmanager
async def lined() -> AsyncIterator[Parent]:
    """A worker's hub with its line, in front of a gateway that really runs."""
    ours, theirs = socket.socketpair()
    supervisor = Supervisor()
    async with running_app() as app:
        hub = WorkerHub(theirs, app.state.gateway)
        await hub.start(supervisor)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            yield Parent(hub, app.state.gateway, reader, writer)
        finally:
            await supervisor.close()
            writer.close()
            assert hub._writer is not None
            hub._writer.close()


def admitted(instance: Instance) -> list[int]:
    return [one.stages[0].admitted for one in instance.readings]


async def test_alone_an_instance_is_one_reading() -> None:
    """Without workers there is nobody to ask."""
    async with running_app() as app:
        instance = await Alone(app.state.gateway).gather()
    assert len(instance.readings) == 1
    assert (instance.departed, instance.restarts) == (None, 0)


async def test_a_worker_shows_itself_unasked_when_asked_and_when_ready() -> None:
    """Unasked is what the parent has of a worker that is killed; asked carries the question's number."""
    async with lined() as parent:
        unasked = await parent.heard("reading")
        assert unpacked(unasked["r"]).proc == parent.gateway.addresses.proc
        assert "id" not in unasked
        parent.hub.ready()
        await parent.heard("ready")
        await parent.say({"t": "read", "id": 17})
        async with asyncio.timeout(10):
            while "id" not in (asked := await parent.heard("reading")):
                continue
        assert asked["id"] == 17


async def test_what_the_parent_gathers_is_what_is_shown() -> None:
    """The readings of all, the sum of the departed, and how often one was restarted."""
    async with lined() as parent, asyncio.TaskGroup() as group:
        gathering = group.create_task(parent.hub.gather())
        asked = await parent.heard("ask")
        gone = bury(None, reading(3, stage(admitted=9)))
        await parent.answer(asked, 4, 6, departed=packed(gone), restarts=2)
        instance = await gathering
        assert admitted(instance) == [4, 6]
        assert instance.departed is not None
        assert (instance.departed.stages[0].reclaimed, instance.restarts) == (9, 2)


async def test_a_parent_that_knows_of_nobody_yet_leaves_the_worker_itself() -> None:
    """A scrape in the first moment shows one worker, and not an empty page."""
    async with lined() as parent, asyncio.TaskGroup() as group:
        gathering = group.create_task(parent.hub.gather())
        await parent.answer(await parent.heard("ask"))
        assert [one.proc for one in (await gathering).readings] == [parent.gateway.addresses.proc]


async def test_a_silent_parent_holds_no_scrape_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is frozen or overwhelmed: then the truth of one worker is better than none."""
    monkeypatch.setattr("app.hub.ASK_S", 0.0)
    async with lined() as parent:
        instance = await parent.hub.gather()
    assert [one.proc for one in instance.readings] == [parent.gateway.addresses.proc]


async def test_an_answer_to_an_earlier_question_answers_no_later_one() -> None:
    """Row 99: with readings from before it began, a scrape's counters could be below an earlier one's."""
    async with lined() as parent, asyncio.TaskGroup() as group:
        first = group.create_task(parent.hub.gather())
        first_question = await parent.heard("ask")
        second = group.create_task(parent.hub.gather())
        second_question = await parent.heard("ask")
        await parent.answer(first_question, 1)
        assert admitted(await first) == [1]
        await settle()
        await parent.answer(second_question, 5)
        assert admitted(await second) == [5]


async def test_the_last_minutes_are_the_parents_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one worker or of all; a parent that is silent costs the charts their past, and nothing else."""
    past = {"every_s": 1.0, "fields": ["at"], "rows": [[7.0]]}
    async with lined() as parent, asyncio.TaskGroup() as group:
        asking = group.create_task(parent.hub.history(2))
        asked = await parent.heard("recall")
        assert asked["worker"] == 2
        await parent.say({"t": "history", "n": asked["n"], "history": past})
        assert await asking == past
    monkeypatch.setattr("app.hub.ASK_S", 0.0)
    async with lined() as parent:
        assert (await parent.hub.history(None))["rows"] == []
