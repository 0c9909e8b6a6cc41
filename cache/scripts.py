"""The Lua scripts, by name: `cache/lua/` holds one idea per file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Script:
    """`sha` is what EVALSHA asks for: SHA-1 of the body, in hex."""

    name: str
    body: str
    sha: str

    @classmethod
    @cache
    def of(cls, name: str, *parts: str) -> Script:
        """`name`.lua, after the files of `parts`, which hold what several scripts share."""
        body = "".join((_FOLDER / f"{part}.lua").read_text() for part in (*parts, name))
        return cls(name, body, sha1(body.encode(), usedforsecurity=False).hexdigest())
