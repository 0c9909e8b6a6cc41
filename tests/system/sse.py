"""A strict reader of event streams, by the WHATWG's rules, so that our frames are judged by the standard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One dispatched event; `id` is the last event id at that moment, as EventSource would have it."""

    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Reader:
    """Feed bytes, get events. Comments and what is not dispatched are kept too, for tests to look at."""

    last_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    _buffer: bytes = b""
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _id: str = ""

    def feed(self, chunk: bytes) -> list[Event]:
        self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        return [event for line in lines if (event := self._line(line.decode("utf-8"))) is not None]

    def _line(self, line: str) -> Event | None:
        assert "\r" not in line, "frames end in LF only"
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:].strip())
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id":
            assert "\0" not in value
            self._id = value
        elif name == "retry":
            assert value.isdigit()
            self.retry = int(value)
        else:
            raise AssertionError(f"unknown field {name!r}")
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        data, self._data = self._data, []
        name, self._name = self._name, ""
        if not data:
            return None
        return Event(name or "message", "\n".join(data), self.last_id)


async def events(chunks: AsyncIterator[bytes], reader: Reader | None = None) -> AsyncIterator[Event]:
    reader = reader or Reader()
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
