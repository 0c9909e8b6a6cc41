"""The waiting room: who asks, who is told, and what is left when somebody leaves."""

from __future__ import annotations

import asyncio

import pytest

from cache.answer import SealedAnswer
from cache.asks import Ask, WaitingRoom
from tests.cancellation import cancel_at_every_await
from tests.fakes.answers import answer
from tests.virtual_time import virtual


def joined(room: WaitingRoom, key: str) -> Ask:
    ask = room.join(key)
    assert ask is not None
    return ask


@virtual
async def test_identical_keys_that_wait_are_one_question() -> None:
    """The second caller joins, takes no place, and both are told the same."""
    room = WaitingRoom(1, 0.1)
    told: list[SealedAnswer | None] = []

    async def ask() -> None:
        told.append(await room.outcome(joined(room, "a")))

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(ask())
        taken = await room.take(64)
        await asyncio.sleep(0)
        assert [len(one.waiters) for one in taken] == [3]
        taken[0].settle(answer())

    assert told == [answer_ for answer_ in told if answer_ is not None]
    assert len(told) == 3


@virtual
async def test_question_that_a_worker_has_taken_is_not_joined() -> None:
    """Redis may have been read before what the newcomer has to see was stored."""
    room = WaitingRoom(8, 0.1)
    first = joined(room, "a")
    assert await room.take(64) == [first]

    second = joined(room, "a")

    assert second is not first
    first.settle(None)
    room.flush()


@virtual
async def test_full_room_turns_new_questions_away_and_counts_them() -> None:
    """A waiting key can still be joined; a new one cannot."""
    room = WaitingRoom(2, 0.1)
    first = joined(room, "a")
    joined(room, "b")

    assert room.join("c") is None
    assert room.join("a") is first
    assert (len(room), room.overflowed) == (2, 1)
    room.flush()


@virtual
async def test_oldest_are_taken_first_and_no_more_than_asked_for() -> None:
    """Order of arrival; the rest waits on."""
    room = WaitingRoom(8, 10.0)
    for name in "abc":
        joined(room, name)
        await asyncio.sleep(1)

    assert [ask.key for ask in await room.take(2)] == ["a", "b"]
    assert len(room) == 1
    assert room.oldest_wait(asyncio.get_running_loop().time()) == pytest.approx(1.0)
    room.flush()
    assert room.oldest_wait(asyncio.get_running_loop().time()) == 0.0


@virtual
async def test_nobody_waits_longer_than_the_patience() -> None:
    """Whether a worker has taken the question or not, its callers get a miss in time."""
    room = WaitingRoom(8, 0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async with asyncio.TaskGroup() as group:
        taken = group.create_task(room.outcome(joined(room, "taken")))
        await room.take(64)
        waiting = group.create_task(room.outcome(joined(room, "waiting")))

    assert (taken.result(), waiting.result(), len(room)) == (None, None, 0)
    assert loop.time() - began == pytest.approx(0.1)


@virtual
async def test_caller_that_leaves_takes_its_place_along() -> None:
    """The last caller's cancel frees the place at once; an earlier one's hurts nobody."""
    room = WaitingRoom(1, 0.1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(room.outcome(joined(room, "a")))
        second = group.create_task(room.outcome(joined(room, "a")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert len(room) == 1
        second.cancel()
        await asyncio.sleep(0)
        assert len(room) == 0


@virtual
async def test_late_leaver_does_not_remove_a_newer_question() -> None:
    """The same key may wait again by the time the caller of a taken question leaves."""
    room = WaitingRoom(8, 0.1)
    async with asyncio.TaskGroup() as group:
        old = group.create_task(room.outcome(joined(room, "a")))
        await asyncio.sleep(0)
        await room.take(64)
        newer = joined(room, "a")
        old.cancel()
        await asyncio.sleep(0)

    assert await room.take(64) == [newer]
    newer.settle(None)


@virtual
async def test_cancel_at_any_await_leaves_an_empty_room() -> None:
    """No place, no waiter and no timer stays behind."""
    room = WaitingRoom(1, 0.1)

    async def ask() -> None:
        await room.outcome(joined(room, "a"))

    def empty(n: int) -> None:
        assert len(room) == 0
        assert room.overflowed == 0

    assert await cancel_at_every_await(ask, empty) >= 1
