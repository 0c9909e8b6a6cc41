"""The Markdown pages as tests read them: tables, code quotes, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.test_documents import repository_files
from tests.architecture.tree import ROOT

_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CELLS = re.compile(r"(?<!\\)\|")


def pages() -> list[Path]:
    """Every Markdown file that is, or would be, in the repository."""
    return sorted(path for path in repository_files() if path.suffix == ".md")


def text_of(page: str | Path) -> str:
    """A page by its path from the repository's root."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str | Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def section(page: str, heading: str) -> str:
    """What stands below one heading, up to the next of the same level or a higher one."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}$\n(.*?)(?=^#{{1,2}} |\Z)", text_of(page), re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"{page} has no heading {heading!r}"
    return found.group(2)


def table(text: str) -> Iterator[list[str]]:
    """The cells of each row whose first cell begins with a code quote."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in _CELLS.split(line.strip())[1:-1]]


def quoted(text: str) -> list[str]:
    """What stands in `code quotes`."""
    return re.findall(r"`([^`\n]+)`", text)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get on GitHub."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    """The targets of all links, written in place or defined at the end of the page; images included."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [*re.findall(r"\]\(([^)\s]+)\)", text), *definitions(page).values()]


def definitions(page: Path) -> dict[str, str]:
    """The links defined at the end of the page: what they are called, and their targets."""
    return dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", prose(page), re.MULTILINE))


def references(page: Path) -> set[str]:
    """The names in brackets that look like a file: each needs a definition."""
    text = re.sub(r"`[^`\n]*`|^\[[^\]]+\]: \S+$", "", prose(page), flags=re.MULTILINE)
    return set(re.findall(r"\[([\w/.-]+\.(?:py|md))\](?!\()", text))
