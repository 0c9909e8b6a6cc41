"""A folder in which the tools of `tests.system.toolkit` leave their traces, and the doors they wait at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.prompts import prompt, saying

TOOLS = "tests.system.toolkit:TOOLS"
SHORT = "tests.system.toolkit:SHORT"
PRIVATE = "tests.system.toolkit:PRIVATE"


class Workplace:
    """`work("look", "a", door="x")` is a call of the tool `look`, for `calling`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, tool: str, name: str, **arguments: Any) -> str:
        given = {"place": str(self._folder), "name": name, **arguments}
        return f"{tool}:{saying(json.dumps(given))}"

    @property
    def log(self) -> list[str]:
        """`+name` and `-name` of every try, in the order in which they happened."""
        path = self._folder / "log"
        return path.read_text().split() if path.exists() else []

    @property
    def begun(self) -> list[str]:
        return [line[1:] for line in self.log if line.startswith("+")]

    @property
    def ended(self) -> list[str]:
        return [line[1:] for line in self.log if line.startswith("-")]

    @property
    def inside(self) -> int:
        return len(self.begun) - len(self.ended)

    @property
    def peak(self) -> int:
        """The most that were inside at once."""
        inside = most = 0
        for line in self.log:
            inside += 1 if line.startswith("+") else -1
            most = max(most, inside)
        return most

    def open(self, door: str) -> None:
        (self._folder / door).touch()

    async def filled(self, inside: int) -> None:
        """Until exactly so many are inside."""
        await eventually(lambda: self.inside == inside)


def calling(words: str, *calls: str, **directive: object) -> str:
    """A question whose model makes these calls in one message, and then answers."""
    return prompt(words, calls=",".join(calls), **directive)


def heard(text: str) -> list[str]:
    """What the tools have said, in the order of the messages that the model got: its answer repeats it."""
    return re.findall(r" The tool said: (.*?)\.(?= |$)", text)


def statuses(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Which tools the record says have run, and how that went."""
    return [(one["tool"], one["status"]) for one in record["preparation"]["tools"]]


async def at_stage(client: Client, id: str, stage: str) -> None:
    """Until the record says that it is there."""

    async def seen() -> bool:
        return bool((await client.record(id))["stage"] == stage)

    await eventually(seen)
