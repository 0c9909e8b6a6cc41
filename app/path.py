"""How an error names a field: `messages[0].content`, as the OpenAI API does."""

from __future__ import annotations

from collections.abc import Sequence


def dotted(path: Sequence[str | int]) -> str:
    """A readable, bounded name. Field names come from the client, so only plain ones are repeated."""
    name = ""
    for part in path[:8]:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            plain = part if part.isprintable() and len(part) <= 64 else "?"
            name += f".{plain}" if name else plain
    return name
