"""Bugs to plant: each is one that has been made somewhere, and each must be found by the state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from admission.stage import Admission, Stage
from broadcast.answering import Answering
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.lifecycle import Phase
from broadcast.manager import BroadcastManager
from broadcast.subscription import Subscription
from chatbot.manager import ChatManager
from processing.flights import Flights
from processing.preparer import Prompt

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, Callable[[Patch], None]] = {}


def mutant(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MUTANTS[plant.__name__] = plant
    return plant


@mutant
def a_permit_is_lost_when_a_cancel_meets_its_grant(patch: Patch) -> None:
    right = Admission.__aenter__

    async def wrong(self: Admission) -> Any:
        try:
            return await right(self)
        except BaseException:
            if self.permit is not None:
                self.permit.held = True
                self._stage._in_use += 1
                self._stage._released -= 1
            raise

    patch.setattr(Admission, "__aenter__", wrong)


@mutant
def a_place_in_a_queue_is_kept_after_its_end(patch: Patch) -> None:
    patch.setattr(BroadcastManager, "_give_up_place", staticmethod(lambda broadcast: None))


@mutant
def one_permit_too_many(patch: Patch) -> None:
    right = Stage.__init__

    def wrong(self: Stage, name: str, capacity: int, *rest: Any) -> None:
        right(self, name, capacity + (name == "llm_streams"), *rest)

    patch.setattr(Stage, "__init__", wrong)


@mutant
def a_chunk_is_published_twice(patch: Patch) -> None:
    right = Broadcast.append

    def wrong(self: Broadcast[Any], events: Sequence[Any]) -> None:
        right(self, [*events, *events] if self.log.seq == 1 else events)

    patch.setattr(Broadcast, "append", wrong)


@mutant
def a_wake_is_forgotten(patch: Patch) -> None:
    def wrong(self: Subscription[Any]) -> None:
        self._dirty = self._waiter is None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def append(self: Broadcast[Any], events: Sequence[Any]) -> None:
        self.log.extend(events)
        self.driver.grew(self)

    patch.setattr(Subscription, "wake", wrong)
    patch.setattr(Broadcast, "append", append)


@mutant
def a_flight_is_found_after_its_failure(patch: Patch) -> None:
    patch.setattr(Flights, "leave", lambda self, key, flight: None)


@mutant
def a_flight_leaves_before_the_cache_has_it(patch: Patch) -> None:
    """The gap in which a twin finds neither."""
    right = BroadcastManager._seal

    def wrong(self: BroadcastManager, broadcast: Broadcast[Any], prompt: Any) -> None:
        self._flights.leave(broadcast.key or "", broadcast)
        right(self, broadcast, prompt)

    patch.setattr(BroadcastManager, "_seal", wrong)


@mutant
def twins_do_not_look_again(patch: Patch) -> None:
    """Both have missed, both lead."""
    right = ChatManager._admit

    async def wrong(self: ChatManager, request: Any, ticket: Any, via: Any) -> Any:
        if request.shareable and not request.cache.only_if_cached:
            key = self._keys.key(ticket.tenant, request.body)
            if self._twin(key, request) is None and await self._lane.lookup(key) is None:
                return self._lead(key, request, ticket, via)
        return await right(self, request, ticket, via)

    patch.setattr(ChatManager, "_admit", wrong)


@mutant
def a_failed_answer_is_tried_again_in_the_middle(patch: Patch) -> None:
    """A splice of two calls."""

    def wrong(self: Answering, broadcast: Broadcast[Any], error: Any, prompt: Prompt) -> tuple[Prompt, float]:
        delay = self._retry.delay(error, broadcast.attempts)
        if broadcast.phase is not Phase.LIVE or delay is None:
            raise error
        return prompt, delay

    patch.setattr(Answering, "_next", wrong)


@mutant
def a_leader_that_leaves_takes_its_followers_along(patch: Patch) -> None:
    right = Claim.withdraw

    def wrong(self: Claim) -> None:
        broadcast = self.broadcast
        right(self)
        broadcast.abandon(expired=False)

    patch.setattr(Claim, "withdraw", wrong)


@mutant
def a_call_goes_on_for_nobody(patch: Patch) -> None:
    patch.setattr(BroadcastManager, "may_abandon", lambda self, broadcast, expired: expired)


@mutant
def a_reader_who_left_is_counted_for_ever(patch: Patch) -> None:
    patch.setattr(Claim, "_lose_interest", lambda self: None)


@mutant
def a_slot_is_taken_before_anybody_listens(patch: Patch) -> None:
    right = Claim.enter

    def wrong(self: Claim, phase: Phase) -> None:
        if phase is Phase.IDLE and not self.broadcast._connected:
            self.broadcast._connected = 1
        right(self, phase)

    patch.setattr(Claim, "enter", wrong)


@mutant
def a_cancelled_request_is_told_the_end_of_the_others(patch: Patch) -> None:
    """Two ends for one request."""

    def wrong(self: Claim, end: Any) -> None:
        self.ended = end
        self.interested = False
        if self._on_end is not None:
            self._on_end(self)

    patch.setattr(Claim, "end", wrong)
    right = Broadcast.leave

    def leave(self: Broadcast[Any], claim: Claim) -> None:
        right(self, claim)
        if claim.ended is None:
            self.claims[claim.ticket.id] = claim

    patch.setattr(Broadcast, "leave", leave)


@mutant
def the_queue_timer_starts_too_early(patch: Patch) -> None:
    right = Claim._expire_at

    def wrong(self: Claim, when: float, error: Any) -> None:
        right(self, when - 0.5, error)

    patch.setattr(Claim, "_expire_at", wrong)


@mutant
def a_partial_answer_is_taken_for_a_whole_one(patch: Patch) -> None:
    right = Broadcast.fail

    def wrong(self: Broadcast[Any], error: Any) -> None:
        if self.phase is Phase.LIVE and self.log.seq:
            self.complete()
        else:
            right(self, error)

    patch.setattr(Broadcast, "fail", wrong)
