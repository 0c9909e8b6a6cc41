"""A page that points somewhere points at something: files, headings, commands, settings, modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config import describe, load
from tests.architecture.pages import (
    anchors,
    definitions,
    links,
    pages,
    prose,
    quoted,
    references,
    text_of,
)
from tests.architecture.tree import PACKAGES, ROOT

EVERY_PAGE = pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
#: Kubernetes makes them; docs/settings.md warns of them.
NOT_OURS = {"REFRAIN_PORT", "REFRAIN_SERVICE_"}


@EVERY_PAGE
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """A reader who follows a link finds what was promised; addresses elsewhere are not asked."""
    broken = [link for link in links(page) if "://" not in link and not _resolves(page, link)]
    assert broken == []


@EVERY_PAGE
def test_every_name_in_brackets_is_defined_and_every_definition_is_used(page: Path) -> None:
    """A reference without its definition is shown as brackets; a definition without use is left over."""
    assert references(page) == set(definitions(page))


def _resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or ROOT not in (target, *target.parents):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


@EVERY_PAGE
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    """A name that was changed or never came would refuse the start of whoever copies it."""
    known = {line.name for line in describe(load({}), {})}
    named = set(re.findall(r"REFRAIN_[A-Z0-9_]*[A-Z0-9_]", text_of(page))) - NOT_OURS
    assert {name for name in named if name not in known and name != "REFRAIN_"} == set()


@EVERY_PAGE
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    """`app/sse.py` in the text is a promise that it is there."""
    named = {
        name
        for name in quoted(prose(page))
        if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|tests)/[\w/]+\.py", name)
    }
    assert {name for name in named if not (ROOT / name).is_file()} == set()


@EVERY_PAGE
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    """`make run` is the first thing that a new user types."""
    named = set(re.findall(r"(?:`|^|\s)make ([a-z-]+)(?=[`\s,;.]|$)", _commands(page), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert named - targets == set()


def _commands(page: Path) -> str:
    """Code quotes and fenced blocks: where `make` is a command and not a word."""
    fenced = re.findall(r"^```\w*.*?\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return "\n".join([*quoted(prose(page)), *fenced])


def test_the_readme_names_the_two_commands() -> None:
    """Without them in the text, the test above would have nothing to look for."""
    assert {"make run", "make test"} <= set(re.findall(r"make \w+", text_of("README.md")))


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "../outside.md", "Makefile#x"])
def test_a_broken_link_is_found(link: str) -> None:
    """A search that finds nothing would pass for ever."""
    assert not _resolves(ROOT / "README.md", link)


def test_a_good_link_is_left_alone() -> None:
    """Files, folders and headings, with and without the name of the page."""
    readme = ROOT / "README.md"
    assert all(
        _resolves(readme, link) for link in ("docs", "docs/settings.md#sizing-the-pools", "#five-minutes")
    )
