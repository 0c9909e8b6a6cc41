"""Another leads our key, or has answered: with nothing shown theirs will do, with text ours goes on alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broadcast.broadcast import Broadcast
from broadcast.log import Log
from broadcast.overruled import Overruled
from cache.codec import encode
from cache.errors import StoreDown
from cache.flights import Hit
from runtime.supervisor import Supervisor
from tests.fakes.answers import answer, key
from tests.fakes.claims import RecordingDriver
from tests.fakes.flights import FakeFlights, chunk, raw, view
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.chunk import Chunk

KEY = key(1)
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


class Leading:
    """As much of one as is looked at."""

    def __init__(self) -> None:
        self.key = KEY
        self.broadcast: Broadcast[Chunk] = Broadcast(KEY, Log(5), RecordingDriver())
        self.registered = True
        self.detached = False
        self.touched = 0

    def touch(self) -> None:
        self.touched += 1


class Relay:
    """Relay and manager in one; `done` is what was asked of them, in order."""

    def __init__(self) -> None:
        self.played = FakeFlights()
        self.flights = self.played.real
        self.manager: Any = self
        self.leading = Leading()
        self.running = {self.leading.broadcast: self}
        self.body = self.question = {"q": 1}
        self.done: list[str] = []
        self.mirrored: list[tuple[Any, Any]] = []
        self.on_moved = lambda broadcast: self.done.append("moved")

    def detach(self, leading: Any) -> None:
        leading.detached = True
        self.done.append("detach")

    def claim(self, key: str, broadcast: Broadcast[Chunk]) -> None:
        self.done.append("claim")

    def promote(self, broadcast: Broadcast[Chunk], sealed: Log[Chunk]) -> None:
        self.done.append(f"promote {sealed.epoch}")

    def let_go(self, broadcast: Broadcast[Chunk], epoch: int) -> None:
        self.done.append(f"let go {epoch}")

    def mirror(self, broadcast: Broadcast[Chunk], view: Any, body: Any) -> Any:
        self.mirrored.append((view, body))
        self.done.append("mirror")
        return self

    def attended(self) -> None:
        self.done.append("attended")

    def act(self, found: Any) -> None:
        Overruled(self, self, Supervisor()).act(self.leading, found)  # type: ignore[arg-type]


FOLLOWS = ["detach", "let go 9", "claim", "mirror", "attended", "moved"]


@pytest.mark.parametrize("found", [view(epoch=9), Hit(b"v"), None])
def test_with_text_shown_ours_goes_on_for_its_own_readers(found: object) -> None:
    """Two generations are never spliced; nobody new joins it, and nothing of it is kept."""

    @virtual
    async def alone() -> None:
        relay = Relay()
        relay.leading.broadcast.append([chunk("a")])
        relay.act(found)
        await settle()
        assert relay.done == ["detach"]
        assert relay.leading.broadcast.running

    alone()


@virtual
async def test_with_nothing_shown_the_other_is_followed() -> None:
    """Its place in the queue is given back, its question is kept for a takeover."""
    relay = Relay()
    other = view(epoch=9)
    relay.act(other)
    assert relay.done == FOLLOWS
    assert relay.mirrored == [(other, {"q": 1})]


@virtual
async def test_an_answer_that_is_there_already_is_served() -> None:
    """Row 56: the waiting flight is served from the cache, and is found by who asks meanwhile."""
    relay = Relay()
    relay.act(Hit(encode(replace(answer(1), chunks=(raw("a"), STOP)))))
    assert relay.done == ["detach", "claim", f"promote {answer(1).epoch}"]


@virtual
async def test_an_answer_that_cannot_be_read_promotes_nobody() -> None:
    """Row 57: it is no answer; ours goes on, and reaches its end by itself."""
    relay = Relay()
    relay.act(Hit(b"junk"))
    assert relay.done == ["detach"]
    assert relay.leading.broadcast.running


@pytest.mark.parametrize(
    ("found", "done", "touched"),
    [
        (view(epoch=9, owner="other"), FOLLOWS, 0),
        (view(epoch=9, owner="me"), [], 1),
        (view(epoch=9, owner="other", state="completed"), [], 1),
        (None, [], 1),
        (StoreDown("away"), [], 0),
    ],
)
def test_who_does_not_know_by_whom_looks(found: Any, done: list[str], touched: int) -> None:
    """Somebody who lives is followed; nobody, and it is registered again; no Redis, and a beat asks again."""

    @virtual
    async def looks() -> None:
        relay = Relay()
        relay.played.replies["attach"] = [found]
        relay.act(None)
        await settle()
        assert (relay.done, relay.leading.touched) == (done, touched)
        assert relay.leading.registered is (not touched)

    looks()


@virtual
async def test_text_that_came_while_it_looked_decides() -> None:
    """It has been shown by now: it can no longer be let go."""
    relay = Relay()
    relay.played.replies["attach"] = [view(epoch=9, owner="other")]
    relay.act(None)
    relay.leading.broadcast.append([chunk("a")])
    await settle()
    assert relay.done == []
