"""A reader: a cursor that misses nothing, and a wake-up that is never lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broadcast.log import Log
from broadcast.subscription import Subscription
from tests.cancellation import cancel_at_every_await
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@dataclass(frozen=True)
class Event:
    raw: bytes
    content: bool = True


def plain(event: Event, epoch: int, seq: int) -> bytes:
    return event.raw


def log_of(*raw: bytes) -> Log[Event]:
    log: Log[Event] = Log(1)
    log.extend([Event(one) for one in raw])
    return log


@virtual
async def test_a_reader_behind_takes_all_it_missed_in_one_piece() -> None:
    """Row 27: a late joiner costs one write, and the broadcast does not notice."""
    log = log_of(*(b"%d," % number for number in range(300)))
    subscription = Subscription(log)
    assert subscription.behind == 300
    assert subscription.take(plain) == b"".join(b"%d," % number for number in range(300))
    assert subscription.take(plain) == b""
    assert subscription.behind == 0


@virtual
async def test_a_reader_starts_where_it_wants() -> None:
    """A cursor is an index: everything from there on."""
    assert Subscription(log_of(b"a", b"b", b"c"), 1).take(plain) == b"bc"


@virtual
async def test_a_wake_between_two_waits_is_not_lost() -> None:
    """Level-triggered: an event that comes while the reader writes is seen by its next wait."""
    subscription = Subscription(log_of())
    await subscription.wait()
    subscription.wake()
    subscription.wake()
    await subscription.wait()

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(subscription.wait())
        await settle()
        assert not waiting.done(), "two wakes are one"
        subscription.wake()


@virtual
async def test_a_closed_reader_stops_waiting_at_once() -> None:
    """The client has gone: whoever serves it must notice, whatever it waits for."""
    subscription = Subscription(log_of())
    await subscription.wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(subscription.wait())
        await settle()
        subscription.close()
    assert subscription.closed
    assert "closed" in repr(subscription)


@virtual
async def test_one_reader_that_is_cancelled_disturbs_no_other() -> None:
    """One future per waiter: a shared one would be cancelled for all."""
    one, other = Subscription(log_of()), Subscription(log_of())
    await one.wait()
    await other.wait()
    async with asyncio.TaskGroup() as group:
        leaving, staying = group.create_task(one.wait()), group.create_task(other.wait())
        await settle()
        leaving.cancel()
        await settle()
        assert not staying.done()
        other.wake()


@virtual
async def test_a_cancelled_wait_can_be_waited_again() -> None:
    """Wherever it was cancelled, the next wake still wakes it."""
    subscription = Subscription(log_of())

    async def twice() -> None:
        await subscription.wait()
        asyncio.get_running_loop().call_later(1, subscription.wake)
        await subscription.wait()

    async def still_works(n: int) -> None:
        await asyncio.sleep(2)
        subscription.wake()
        await subscription.wait()
        subscription.wake()

    assert await cancel_at_every_await(twice, still_works) == 1
