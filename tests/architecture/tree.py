"""Where things are: the repository's root, its packages and their modules."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "app", "chatbot", "broadcast", "processing", "cache", "config", "admission", "upstream", "runtime",
)  # fmt: skip
CODE = (*PACKAGES, "tests", "bench", "scripts")


def sources(folders: Iterable[str]) -> Iterator[Path]:
    """Every Python file in these folders of the repository."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def modules(packages: Iterable[str]) -> Iterator[str]:
    """The dotted name of every module in these packages, but those that are programs (`__main__`)."""
    for path in sources(packages):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
