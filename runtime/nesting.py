"""How deep decoded JSON is nested: what a decoder follows in C, Python code may not follow after it."""

from __future__ import annotations

from typing import Any, Final

#: Deeper than any honest request or answer, shallower than any recursion limit.
MAX_DEPTH: Final = 64
_CONTAINERS: Final = (dict, list)


def may_be_too_deep(raw: bytes) -> bool:
    """False for nearly everything, at the speed of memchr: depth needs as many brackets."""
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH


def too_deep(value: Any, depth: int = 1) -> bool:
    """Is there anything nested deeper than allowed in this value, itself at `depth`?"""
    if type(value) not in _CONTAINERS:
        return False
    if depth > MAX_DEPTH:
        return True
    children = value.values() if type(value) is dict else value
    return any(too_deep(child, depth + 1) for child in children if type(child) in _CONTAINERS)
