"""A token bucket: so many beginnings per second, and a few at once after a rest.

    async with bucket.ask(ticket) as token:   # waits for a token, in the order of the tickets
        ...                                   # and for whatever else the beginning needs
        token.spend()                         # synchronous: it begins now

A token that is in hand is still in the bucket until it is spent, so nothing is saved up behind whoever waits
elsewhere with it: in any t seconds at most `burst + rate * t` are spent. One that is not spent is not lost.

State: `_full_at` and `_in_hand`; changed only by `ask`, `withdraw`, `spend` and the timer, none of which
awaits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from types import TracebackType

from admission.queue import WaitingRoom
from admission.stage import Ticket

#: Timers fire that much early, and sums of seconds are not exact.
_SLACK_S = 1e-6


@dataclass(frozen=True, slots=True)
class RateStats:
    """One reading. `asked == spent + given_back + in_hand + waiting`, always."""

    rate: float
    burst: int
    waiting: int
    in_hand: int
    asked: int
    spent: int
    given_back: int


class Token:
    """One asking: waits in the room, has a token in hand, and is over once that is spent or given back."""

    __slots__ = ("_bucket", "_granted", "_over", "in_hand", "rank", "ticket")

    def __init__(self, bucket: TokenBucket, ticket: Ticket, rank: tuple[float, int]) -> None:
        self._bucket = bucket
        self._granted: asyncio.Future[None] | None = None
        self._over = False
        self.ticket = ticket
        self.rank = rank
        self.in_hand = False

    @property
    def position(self) -> int:
        """1 is next; 0 once it is in hand."""
        return 0 if self.in_hand or self._over else self._bucket.position(self)

    async def __aenter__(self) -> Token:
        if not self.in_hand:
            self._granted = asyncio.get_running_loop().create_future()
            try:
                await self._granted
            except BaseException:
                # The token may have come in the same turn as the cancel: it goes back either way.
                self.withdraw()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.withdraw()

    def spend(self) -> None:
        """What was waited for begins. Once, while it is in hand."""
        if not self.in_hand:
            raise RuntimeError("a token is spent once, and only while it is in hand")
        self.in_hand = False
        self._over = True
        self._bucket.spent(self)

    def withdraw(self) -> None:
        """Give back the place, or the token if it is not spent. Idempotent."""
        if not self._over:
            self._over = True
            in_hand, self.in_hand = self.in_hand, False
            self._bucket.withdrawn(self, in_hand=in_hand)

    def reorder(self) -> None:
        """The ticket's order has changed: the place in the queue follows."""
        self._bucket.reorder(self)

    def grant(self) -> None:
        """Called by the bucket alone."""
        self.in_hand = True
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)


class TokenBucket:
    """`rate` tokens come per second, `burst` of them fit in. It begins full."""

    def __init__(self, rate: float, burst: int = 1) -> None:
        if not (rate > 0 and rate != float("inf") and burst >= 1):
            raise ValueError("a rate is a number above 0, a burst at least 1")
        self.rate = rate
        self.burst = burst
        self._interval_s = 1 / rate
        self._full_at = float("-inf")
        self._in_hand = 0
        self._room: WaitingRoom[Token] = WaitingRoom()
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = count()
        self._asked = self._spent = self._given_back = 0

    def __repr__(self) -> str:
        waiting = f"{self._in_hand} in hand, {len(self._room)} waiting"
        return f"<TokenBucket [{self.rate:g}/s, burst {self.burst}, {waiting}]>"

    def ask(self, ticket: Ticket) -> Token:
        """Take a token, or a place in the queue. The queue is bounded by whoever asks."""
        token = Token(self, ticket, (ticket.order, next(self._numbers)))
        self._asked += 1
        self._room.add(token)
        self._grant()
        return token

    def position(self, token: Token) -> int:
        return self._room.ahead_of(token) + 1

    def reorder(self, token: Token) -> None:
        self._room.move(token, (token.ticket.order, token.rank[1]))

    def spent(self, token: Token) -> None:
        """See `Token.spend`."""
        self._in_hand -= 1
        self._spent += 1
        now = asyncio.get_running_loop().time()
        self._full_at = max(now, self._full_at) + self._interval_s
        self._grant()

    def withdrawn(self, token: Token, *, in_hand: bool) -> None:
        """See `Token.withdraw`."""
        self._given_back += 1
        if in_hand:
            self._in_hand -= 1
        else:
            self._room.discard(token)
        self._grant()

    def stats(self) -> RateStats:
        return RateStats(
            self.rate,
            self.burst,
            len(self._room),
            self._in_hand,
            self._asked,
            self._spent,
            self._given_back,
        )

    def _grant(self) -> None:
        """Hand out what is there; then look again when the next one comes."""
        now = asyncio.get_running_loop().time()
        while self._room and self._in_hand < self.burst and self._next_at() <= now + _SLACK_S:
            self._in_hand += 1
            self._room.pop().grant()
        self._arm()

    def _next_at(self) -> float:
        """When there is one more in the bucket than in hands."""
        return self._full_at - (self.burst - self._in_hand - 1) * self._interval_s

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._room and self._in_hand < self.burst:
            self._timer = asyncio.get_running_loop().call_at(self._next_at(), self._look)

    def _look(self) -> None:
        self._timer = None
        self._grant()
