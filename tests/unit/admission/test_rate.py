"""The token bucket: so many per second and no more, in order, and nothing lost by whoever gives up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from admission.rate import RateStats, TokenBucket
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@dataclass(eq=False)
class Guest:
    order: float = 0.0


async def arrivals(bucket: TokenBucket, number: int) -> list[float]:
    """When each of so many callers begins, from now on."""
    clock = asyncio.get_running_loop().time
    began, times = clock(), []

    async def one() -> None:
        async with bucket.ask(Guest()) as token:
            token.spend()
            times.append(clock() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())
    return times


def at_rest(bucket: TokenBucket) -> None:
    stats = bucket.stats()
    assert (stats.waiting, stats.in_hand) == (0, 0)
    assert stats.asked == stats.spent + stats.given_back


@virtual
async def test_arrivals_never_exceed_burst_and_rate() -> None:
    """Row 63: two per second, three at once."""
    bucket = TokenBucket(2, 3)
    assert await arrivals(bucket, 9) == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2, 2.5, 3])
    at_rest(bucket)


@virtual
async def test_a_rest_fills_the_bucket_and_no_more() -> None:
    """After an hour there are `burst` tokens, not thousands."""
    bucket = TokenBucket(2, 3)
    await arrivals(bucket, 3)
    await asyncio.sleep(3600)
    assert await arrivals(bucket, 5) == pytest.approx([0, 0, 0, 0.5, 1])


@virtual
async def test_a_short_rest_fills_a_part_of_it() -> None:
    """A token that is half there when it is asked for is waited for half as long."""
    bucket = TokenBucket(2, 3)
    await arrivals(bucket, 3)
    await asyncio.sleep(0.75)
    assert await arrivals(bucket, 3) == pytest.approx([0, 0.25, 0.75])


@virtual
async def test_a_token_in_hand_is_still_in_the_bucket() -> None:
    """Who waits elsewhere with its token must not begin together with all that came after it."""
    bucket = TokenBucket(1, 2)
    first, second = bucket.ask(Guest()), bucket.ask(Guest())
    await asyncio.sleep(100)
    third = bucket.ask(Guest())
    assert (first.in_hand, second.in_hand, third.in_hand) == (True, True, False)
    first.spend()
    second.spend()
    assert await arrivals(bucket, 1) == pytest.approx([2])
    assert third.in_hand
    third.withdraw()
    at_rest(bucket)


@virtual
async def test_a_token_that_was_not_spent_is_the_next_ones() -> None:
    """Whoever gives up costs the others no time."""
    bucket = TokenBucket(1, 1)
    first, second = bucket.ask(Guest()), bucket.ask(Guest())
    assert (first.position, second.position) == (0, 1)
    first.withdraw()
    first.withdraw()
    assert second.in_hand
    second.spend()
    at_rest(bucket)
    assert bucket.stats() == RateStats(1, 1, 0, 0, 2, 1, 1)


@virtual
async def test_tokens_come_in_the_order_of_the_tickets() -> None:
    """Priority and aging are in that order, as in every other queue."""
    bucket = TokenBucket(1)
    bucket.ask(Guest()).spend()
    order: list[str] = []
    moved = Guest(9)

    async def one(name: str, guest: Guest) -> None:
        async with bucket.ask(guest) as token:
            token.spend()
            order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, guest in (("late", Guest(5)), ("soon", Guest(1)), ("later", Guest(5))):
            group.create_task(one(name, guest))
        waiting = bucket.ask(moved)
        await settle()
        assert waiting.position == 1 + 3
        moved.order = 0
        waiting.reorder()
        assert waiting.position == 1
        waiting.withdraw()
    assert order == ["soon", "late", "later"]


@virtual
async def test_a_token_is_spent_once_and_only_in_hand() -> None:
    """A beginning that was not paid for would break the rate unseen."""
    bucket = TokenBucket(1)
    first, second = bucket.ask(Guest()), bucket.ask(Guest())
    first.spend()
    for token in (first, second):
        with pytest.raises(RuntimeError):
            token.spend()
    second.withdraw()


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (float("inf"), 1), (float("nan"), 1), (1, 0)])
def test_an_impossible_rate_is_refused(rate: float, burst: int) -> None:
    """A bucket that never fills would hold its callers for ever."""
    with pytest.raises(ValueError, match="rate"):
        TokenBucket(rate, burst)


@pytest.mark.parametrize("rate", [0.3, 7, 1000, 3333.3])
def test_no_rounding_stops_it_or_makes_it_faster(rate: float) -> None:
    """Sums of fractions are not exact: a timer that is set for a moment ago would turn for ever."""

    @virtual
    async def many() -> None:
        times = await arrivals(TokenBucket(rate), 500)
        assert times[-1] == pytest.approx(499 / rate, rel=1e-4)

    many()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancel_loses_no_token(moment: Moment, again: bool) -> None:
    """Row 76: while waiting, in the turn of the grant, and inside."""

    @virtual
    async def cancelled_everywhere() -> None:
        bucket = TokenBucket(1)

        async def wait_and_begin() -> None:
            async with bucket.ask(Guest()) as token:
                token.spend()
            async with bucket.ask(Guest()):
                await asyncio.sleep(1)

        async def check(n: int) -> None:
            await asyncio.sleep(5)
            at_rest(bucket)
            assert await arrivals(bucket, 2) == pytest.approx([0, 1])
            await asyncio.sleep(5)

        assert await cancel_at_every_await(wait_and_begin, check, moment=moment, again=again) == 2

    cancelled_everywhere()
