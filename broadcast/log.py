"""The log: append-only, shared by all readers, each event encoded once per wire form.

A reader is a cursor into it, so appending never waits for anybody and nothing is dropped from the
middle. Generic in the event: all that the log asks is `raw` (its weight in bytes) and `content`
(does it count in the sequence numbers that clients see).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Event(Protocol):
    @property
    def raw(self) -> bytes: ...

    @property
    def content(self) -> bool: ...


E = TypeVar("E", bound=Event)
#: Writes one event in a wire form: (event, epoch, seq) → bytes; b"" where the form does not show it.
Form = Callable[[E, int, int], bytes]

#: What an event costs in memory beside its bytes, which are there raw and in an encoded form.
_OVERHEAD = 300


class Log(Generic[E]):
    """`epoch` and `seq` make the ids that clients resume by; a cursor is an index into `events`."""

    def __init__(self, epoch: int, max_bytes: int | None = None) -> None:
        self.epoch = epoch
        self.events: list[E] = []
        self.size = 0
        self.ended = False
        self.contested = False  #: a later one is made, or may be, under its key: readers may have seen it
        self.made_s = 0.0  #: how long the model took for it, once it is complete
        self._max_bytes = max_bytes
        self._content_at: list[int] = []  # seq - 1 → index of that event
        self._forms: dict[Form[E], list[bytes]] = {}
        self._whole: bytes | None = None

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        state = "ended" if self.ended else "open"
        return f"<Log {self.epoch} [{state}, {len(self.events)} events, seq {self.seq}, {self.size} bytes]>"

    @property
    def seq(self) -> int:
        """The number of the last event that carries content."""
        return len(self._content_at)

    @property
    def weight(self) -> int:
        """What it takes of our memory, roughly."""
        return 2 * self.size + _OVERHEAD * len(self.events)

    @property
    def overflowed(self) -> bool:
        """Too large for new readers and for the cache; those who read it read on."""
        return self._max_bytes is not None and self.size > self._max_bytes

    def extend(self, events: Sequence[E]) -> None:
        for event in events:
            if event.content:
                self._content_at.append(len(self.events))
            self.events.append(event)
            self.size += len(event.raw)

    def end(self) -> None:
        self.ended = True

    def restart(self, epoch: int) -> None:
        """What it held is void: its maker is gone, and another answer begins. Readers see `epoch` change."""
        # New lists: whoever has kept the old ones, for a request that ended with them, keeps its text.
        self.events, self._content_at, self._forms = [], [], {}
        self.epoch, self.size, self.ended, self._whole, self.made_s = epoch, 0, False, None, 0.0
        self.contested = False

    def index_after(self, seq: int) -> int:
        """The cursor of a reader that has seen everything up to `seq` (0 ≤ seq ≤ self.seq)."""
        return 0 if seq == 0 else self._content_at[seq - 1] + 1

    def encoded(self, form: Form[E]) -> list[bytes]:
        """All events in one wire form, index for index. Shared by all readers: never to be changed."""
        lines = self._forms.get(form)
        if lines is None:
            lines = self._forms[form] = []
        for index in range(len(lines), len(self.events)):
            lines.append(form(self.events[index], self.epoch, bisect_left(self._content_at, index + 1)))
        return lines

    def whole(self, fold: Callable[[Sequence[E]], bytes]) -> bytes:
        """All events of an ended log folded into one body: once, for all who want it so."""
        assert self.ended
        if self._whole is None:
            self._whole = fold(self.events)
        return self._whole

    def preset(self, whole: bytes) -> None:
        """That body is known already: it came with the log from the cache."""
        self._whole = whole

    def since(self, cursor: int, form: Form[E]) -> bytes:
        """Everything from `cursor` on, as one piece for one write."""
        lines = self.encoded(form)
        if len(lines) - cursor == 1:
            return lines[cursor]
        return b"".join(lines[cursor:])
