"""A finding: what was looked at, how it is, what that means and what to do. CHECKS lists all there can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.version import VERSION

#: Seconds that one look may take.
LOOK_S: Final = 5.0
_LONGEST: Final = 120

#: Each check by its name, and what it looks at; docs/doctor.md lists the same.
CHECKS: Final[Mapping[str, str]] = {
    "settings.advice": "settings that contradict each other, and doors left open (as `refrain check`)",
    "settings.library": "tools and workflows, where there are any (as `refrain check`)",
    "settings.key": "whether `OPENAI_API_KEY` goes where it should, and not in the clear",
    "settings.files": "the limit of open files against the pools and queues",
    "gateway.port": "what listens on `PORT`, and what its `/readyz` says",
    "embedded.server": "a server for the embedded Redis, and its version",
    "embedded.folder": "whether the folder for its socket can be had",
    "embedded.instance": "whether an instance on `PORT` runs one now",
    "redis.reach": "name, connection, TLS, password: whether it answers at all",
    "redis.tls": "whether what is said to it can be read on the way",
    "redis.kind": "one server, sentinels or a cluster, and whether the address says so too",
    "redis.latency": "the median of five PINGs; above 10 ms is far",
    "redis.version": "6.2 or later",
    "redis.role": "a primary that takes writes",
    "redis.eviction": "a policy that never evicts what has no TTL",
    "redis.memory": "whether its memory has a limit",
    "redis.persistence": "whether it writes to disk, which only conversations need",
    "redis.commands": "whether this user may run every command that the gateway uses",
    "redis.scripts": "whether a script is run, kept, and found by its digest",
    "redis.pubsub": "one message through a channel of the gateway's kind and back",
    "redis.clock": "its clock against the one of this machine",
    "redis.processes": "how many gateway processes are alive on it",
    "upstream.reach": "name, connection, TLS",
    "upstream.models": "what `GET /models` says: status, key, base URL, the first models",
    "upstream.call": "one tiny streamed completion (`--call` only): whether it is complete, and how soon",
    "upstream.usage": "whether that answer came with its usage",
    "upstream.done": "whether it ended with `[DONE]`",
    "upstream.cumulative": "whether its pieces repeat the text so far",
}


class Level(StrEnum):
    """`SKIPPED`: not looked at, or it could not be seen; no verdict either way."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `check` is one of CHECKS; `says` is what is so, `do` what to do about it."""

    check: str
    level: Level
    says: str
    do: str = ""

    def __post_init__(self) -> None:
        assert self.check in CHECKS, self.check

    @property
    def line(self) -> str:
        return f"{self.level:<7}  {self.check:<19}  {self.says}{' ' + self.do if self.do else ''}"


def ok(check: str, says: str) -> Finding:
    return Finding(check, Level.OK, says)


def skipped(check: str, says: str, do: str = "") -> Finding:
    return Finding(check, Level.SKIPPED, says, do)


def warning(check: str, says: str, do: str) -> Finding:
    return Finding(check, Level.WARNING, says, do)


def failed(check: str, says: str, do: str) -> Finding:
    return Finding(check, Level.FAILED, says, do)


def verdict(findings: Iterable[Finding]) -> Level:
    """The worst of them; what was skipped is no fault."""
    order = (Level.OK, Level.WARNING, Level.FAILED)
    return max((f.level for f in findings if f.level in order), key=order.index, default=Level.OK)


def as_text(findings: Sequence[Finding]) -> str:
    counts = {level: sum(f.level is level for f in findings) for level in Level}
    told = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    return "\n".join([*(f.line for f in findings), "", f"{told}."])


def as_json(findings: Sequence[Finding]) -> str:
    listed = [{"check": f.check, "level": str(f.level), "says": f.says, "do": f.do or None} for f in findings]
    return json.dumps({"version": VERSION, "verdict": str(verdict(findings)), "findings": listed}, indent=2)


def plain(text: str) -> str:
    """What a stranger sent, fit for a terminal: one line, no control characters, not too long."""
    clean = "".join(char if char.isprintable() else "?" for char in text[: _LONGEST + 1])
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"
