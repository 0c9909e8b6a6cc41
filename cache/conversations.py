"""Conversations in Redis: their turns, and the line of those that run and wait. One method per script.

The line is what keeps order: a turn stands in it under a lease, the first runs, and what it leaves behind is
written in the step in which it leaves. Raises StoreDown or StoreRefused, and nothing else but cancellation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cache.errors import StoreDown
from cache.link import Link
from cache.names import conversation_keys, whereabouts_key
from cache.scripts import Script
from cache.wire import Word

#: How long a turn stands in line without a word of its process.
LEASE_S: Final = 10.0

_ENTER = Script.of("conversation_enter", "conversation")
_BEAT = Script.of("conversation_beat", "conversation")
_FINISH = Script.of("conversation_finish", "conversation")
_VIEW, _FORGET = (
    Script.of("conversation_view", "conversation"),
    Script.of("conversation_forget", "conversation"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn stands: 0 is first, and then `turns` are those before it. `number`: its place for ever.

    `forgotten`: how often the conversation had been deleted by then.
    """

    position: int
    number: int
    forgotten: str
    turns: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """`line`: the ids that stand in it, the first is the one that runs."""

    left_ms: int
    line: tuple[str, ...]
    turns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one conversation. `waiting` turns beside the one that runs."""

    ttl_s: float
    waiting: int
    turns: int
    bytes: int


class ConversationStore(Protocol):
    """`name` is that of a conversation: `names.conversation`."""

    async def enter(self, name: str, id: str, about: bytes) -> Place | None: ...

    async def beat(self, name: str, id: str, place: Place, *, runs: bool) -> Place | None: ...

    async def finish(self, name: str, id: str, place: Place | None, turn: bytes) -> tuple[bool, str]: ...

    async def view(self, name: str, *, turns: bool = True) -> View | None: ...

    async def forget(self, name: str) -> bool: ...

    async def whereabouts(self, id: str) -> tuple[str, bytes] | None: ...


class SharedConversations:
    """`link` gives the line to Redis, `proc` is this process, `dead` are those that are known to be gone."""

    def __init__(
        self,
        link: Callable[[], Awaitable[Link]],
        proc: str,
        bounds: Bounds,
        *,
        known_s: float,
        dead: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._link = link
        self._proc = proc
        self._bounds = bounds
        self._known_ms = round(known_s * 1000)
        self._dead = dead

    async def enter(self, name: str, id: str, about: bytes) -> Place | None:
        """A place in line; None if too many wait already. `about` is for whoever asks in another process."""
        said: tuple[Word, ...] = (
            id,
            self._bounds.waiting,
            self._proc.encode() + b"|" + about,
            self._known_ms,
        )
        reply = await self._run(_ENTER, name, said, id=id)
        return None if reply[:1] == [b"BUSY"] else _place(reply)

    async def beat(self, name: str, id: str, place: Place, *, runs: bool) -> Place | None:
        """Say that it is still there; where it stands by now. None if it has left."""
        reply = await self._run(_BEAT, name, (id, place.number, int(runs)))
        return None if reply[:1] == [b"GONE"] else _place(reply)

    async def finish(self, name: str, id: str, place: Place | None, turn: bytes) -> tuple[bool, str]:
        """Leave, and keep `turn` (b"" for nothing): was it kept, and who is next ("" for nobody).

        `place` is None if it is not known whether it ever stood there.
        """
        number, forgotten = (place.number, place.forgotten) if place else (0, "")
        said: tuple[Word, ...] = (id, number, forgotten, turn, self._bounds.turns, self._bounds.bytes)
        reply = await self._run(_FINISH, name, said, id=id)
        try:
            return reply[0] == 1, reply[1].decode()
        except (IndexError, AttributeError, UnicodeDecodeError):
            raise _nonsense() from None

    async def view(self, name: str, *, turns: bool = True) -> View | None:
        """None if there is nothing of it."""
        reply = await self._run(_VIEW, name, ("1" if turns else "",))
        if not reply:
            return None
        try:
            left, ids, kept = reply
            return View(int(left), tuple(id.decode() for id in ids), tuple(kept))
        except (ValueError, TypeError, AttributeError):
            raise _nonsense() from None

    async def forget(self, name: str) -> bool:
        """False if there was nothing."""
        return bool(await self._run(_FORGET, name, ()))

    async def whereabouts(self, id: str) -> tuple[str, bytes] | None:
        """The process of a turn that has not left yet, and what that process said about it."""
        raw = await (await self._link()).do("GET", whereabouts_key(id))
        if not isinstance(raw, bytes):
            return None
        proc, _, about = raw.partition(b"|")
        return proc.decode("latin-1"), about

    async def _run(self, script: Script, name: str, said: Sequence[Word], id: str = "") -> Any:
        link = await self._link()
        head: tuple[Word, ...] = (
            self._proc,
            round(LEASE_S * 1000),
            round(self._bounds.ttl_s * 1000),
            ",".join(self._dead()),
        )
        return await link.run(script, conversation_keys(name, id), (*head, *said))


def _place(reply: Any) -> Place:
    try:
        _, position, number, forgotten, *turns = reply
        return Place(int(position), int(number), forgotten.decode(), tuple(turns[0]) if turns else ())
    except (ValueError, TypeError, AttributeError):
        raise _nonsense() from None


def _nonsense() -> StoreDown:
    return StoreDown("conversation: a reply that makes no sense")
