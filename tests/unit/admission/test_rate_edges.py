"""A token that is given up: not a second time, not by who has left, and not before who was there first."""

from __future__ import annotations

import asyncio

import pytest

from admission.rate import TokenBucket
from tests.fakes.turns import settle
from tests.unit.admission.test_rate import Guest, at_rest
from tests.virtual_time import virtual


@virtual
async def test_what_was_given_back_cannot_be_spent() -> None:
    """It is another's by then: spent twice it would break the rate unseen."""
    bucket = TokenBucket(1)
    token = bucket.ask(Guest())
    token.withdraw()
    with pytest.raises(RuntimeError):
        token.spend()
    at_rest(bucket)


@virtual
async def test_who_is_done_stands_in_no_queue() -> None:
    """Spent or given back from the queue: no place is shown any more."""
    bucket = TokenBucket(1)
    first, second = bucket.ask(Guest()), bucket.ask(Guest())
    assert (first.position, second.position) == (0, 1)
    first.spend()
    second.withdraw()
    assert (first.position, second.position) == (0, 0)
    at_rest(bucket)


@virtual
async def test_a_token_may_come_in_the_turn_in_which_its_caller_leaves() -> None:
    """Cancelled, and not yet gone: the grant is no error, and the token is the next one's."""
    bucket = TokenBucket(1)
    held = bucket.ask(Guest())

    async def waits() -> None:
        async with bucket.ask(Guest()):
            raise AssertionError("it has left")

    task = asyncio.get_running_loop().create_task(waits())
    await settle()
    after = bucket.ask(Guest())
    task.cancel()
    held.withdraw()
    await settle()
    assert task.cancelled()
    assert after.in_hand
    after.withdraw()
    at_rest(bucket)


@virtual
async def test_of_equal_turns_the_first_who_asked_is_first() -> None:
    """A turn that becomes worse does not keep what was better of it."""
    bucket = TokenBucket(1)
    held = bucket.ask(Guest())
    guest = Guest(0.5)
    first, second = bucket.ask(Guest(5)), bucket.ask(guest)
    assert (first.position, second.position) == (2, 1)
    guest.order = 5
    second.reorder()
    assert (first.position, second.position) == (1, 2)
    for token in (held, first, second):
        token.withdraw()
    at_rest(bucket)
