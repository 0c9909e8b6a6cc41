"""What comes of a call: never nothing. A result is a text for the model, and a mark of how it came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic_core import to_json

#: What one call may put into the prompt. The rest is cut off, and marked.
MAX_TEXT: Final = 65_536


class Status(StrEnum):
    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"  #: not run: no such tool, or arguments that it does not take
    CANCELLED = "cancelled"  #: cut off with its request or step: told and counted, read by no model


class ToolFailed(Exception):
    """Raised by a tool: the message is for the model, so it holds no secret. `final`: another try is
    useless.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Enough(Exception):
    """The output has all that is taken: whoever puts it out may stop."""


class Output:
    """What a tool has put out so far. Appended to by its one thread or task, read by another."""

    def __init__(self, limit: int = MAX_TEXT) -> None:
        self._room = limit
        self._pieces: list[str] = []
        self.cut = False

    def add(self, piece: object) -> str:
        """What is taken of a piece. Raises Enough when there is no room for the rest of it."""
        text = as_text(piece)
        taken = text[: self._room]
        self._room -= len(taken)
        self._pieces.append(taken)
        if len(taken) < len(text):
            self.cut = True
            raise Enough
        return taken

    @property
    def text(self) -> str:
        return "".join(self._pieces)


@dataclass(frozen=True, slots=True)
class Result:
    """`text` is what was put out, `note` what is to be known about it; `ran_s` is of the last try.

    `final`: a failure that another try would not mend. `tries` is 0 for what was refused.
    """

    tool: str
    status: Status
    text: str = ""
    note: str = ""
    tries: int = 0
    waited_s: float = 0.0
    ran_s: float = 0.0
    final: bool = True

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @property
    def content(self) -> str:
        """As the model reads it: what is not a full result is marked as such."""
        return (
            "\n".join(part for part in (self.text, self.note and f"[{self.note}]") if part) or "[no output]"
        )

    def summary(self) -> dict[str, Any]:
        """For whoever asks what was done. `seconds` are the last try's."""
        said: dict[str, Any] = {"tool": self.tool, "status": str(self.status), "tries": self.tries}
        said |= {"seconds": round(self.ran_s, 3), "waited_s": round(self.waited_s, 3)}
        return said | ({"why": self.note} if self.note else {})


def refused(tool: str, why: str) -> Result:
    return Result(tool, Status.REFUSED, note=f"{tool} was not run: {why}")


def as_text(value: object) -> str:
    """A text as it is, anything else as JSON. Raises ValueError for what has no JSON."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    return "" if value is None else to_json(value).decode()
