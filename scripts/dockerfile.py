"""A Dockerfile and its .dockerignore, read: what scripts/image-rehearsal carries out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


class Wrong(Exception):
    """The Dockerfile, or what it builds, is not as it should be."""


@dataclass
class Stage:
    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        found = [rest for each, rest in self.steps if each == word]
        if not found:
            raise Wrong(f"the last stage has no {word}")
        return found[-1]

    def command(self, word: str) -> list[str]:
        """The exec form of one instruction. In shell form a signal would end at the shell."""
        text = self.last(word).rpartition("CMD ")[2] if word == "HEALTHCHECK" else self.last(word)
        try:
            return [str(part) for part in json.loads(text)]
        except ValueError:
            raise Wrong(f"{word} is not in exec form: {text}") from None


def instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    for whole in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        word, _, rest = whole.strip().partition(" ")
        yield word.upper(), rest.strip()


def stages(text: str) -> list[Stage]:
    found: list[Stage] = []
    for word, rest in instructions(text):
        if word == "FROM":
            image, _, name = re.sub(r"\s+[Aa][Ss]\s+", "\n", rest).partition("\n")
            found.append(Stage(image, name or str(len(found))))
        elif word not in KNOWN or not found:
            raise Wrong(f"{word} is no instruction that is known here")
        else:
            found[-1].steps.append((word, rest))
    if len(found) < 2:
        raise Wrong("there is one stage only: what compiles would be shipped")
    return found


def check(last: Stage) -> None:
    """What can be said without building."""
    user = last.last("USER").partition(":")[0]
    if not user.isdigit() or user == "0":
        raise Wrong(f"USER is {user}: it has to be a number, and not 0")
    for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        last.command(word)
    if "0.0.0.0" not in last.command("CMD"):  # noqa: S104 - looked for, not bound
        raise Wrong("CMD does not bind 0.0.0.0: nobody outside of the container would reach it")


def kept(context: Path) -> Iterator[Path]:
    """The files of the context, relative to it, that .dockerignore lets through."""
    rules = [line.strip() for line in (context / ".dockerignore").read_text().splitlines()]
    patterns = [
        (rule.startswith("!"), _pattern(rule.lstrip("!"))) for rule in rules if rule and rule[0] != "#"
    ]
    for folder, folders, files in os.walk(context):
        # As an engine would; and none of them can come back by a rule that begins with "!".
        folders[:] = [each for each in folders if each not in (".git", ".venv", "__pycache__")]
        for name in files:
            path = Path(folder, name).relative_to(context)
            verdicts = [back for back, rule in patterns if any(map(rule.fullmatch, _with_parents(path)))]
            if not verdicts or verdicts[-1]:
                yield path


def _with_parents(path: Path) -> list[str]:
    return [str(path), *(str(parent) for parent in path.parents if parent.name)]


def _pattern(rule: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*|\?)", rule.strip("/"))
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part) or re.escape(part) for part in parts))
