"""A tool as the toolbox has it, wherever it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from processing.tools.options import Options

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: Longer arguments are not read: no honest call has them, and reading takes the loop's time.
MAX_ARGUMENTS: Final = 65_536


class Kind(Enum):
    """How its function runs. The blocking ones run in a thread, the streams put out pieces of text."""

    ASYNC = auto()
    ASYNC_STREAM = auto()
    BLOCKING = auto()
    BLOCKING_STREAM = auto()


class ArgumentsRefused(Exception):
    """What the model wants to hand over is not what the tool takes. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Read and checked. Two calls with the same `canonical` form ask for the same."""

    values: Mapping[str, Any]
    canonical: bytes


class Reader(Protocol):
    """Says what a tool takes, and reads what a model hands over."""

    @property
    def schema(self) -> dict[str, Any]: ...

    def read(self, text: str) -> Arguments:
        """Raises ArgumentsRefused."""
        ...


Function = Callable[..., Any]  #: what it returns is as its `Kind` says


@dataclass(frozen=True, slots=True)
class Tool:
    """`function` is called with `Arguments.values`, and with the Caller as `caller_as` if that is a name."""

    name: str
    description: str
    kind: Kind
    function: Function
    reader: Reader
    options: Options
    caller_as: str | None = None
    about: Any = None  #: what else decides what it says: part of the sharing key

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} must be 1 to 64 of a-z A-Z 0-9 _ -")
        if not self.description.strip():
            raise ValueError(f"the tool {self.name!r} needs a description: the model chooses by it")
        if self.options.direct_stream and self.kind is not Kind.ASYNC_STREAM:
            raise ValueError(f"the tool {self.name!r} has direct_stream, so it must be an async generator")
        if self.caller_as is not None and not self.options.user_bound:
            raise ValueError(f"the tool {self.name!r} asks who calls, so it must be user_bound")

    @property
    def offered(self) -> dict[str, Any]:
        """As the model is told of it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.reader.schema,
        }
        return {"type": "function", "function": function}
