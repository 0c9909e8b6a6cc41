"""The documents say what the code does, and no file tells on which machine it was written."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import describe, load
from runtime.errors import GatewayError
from tests.architecture.tree import PACKAGES, ROOT, modules


def table_rows(page: str) -> Iterator[list[str]]:
    """The cells of every table row whose first cell is a `name` in code quotes."""
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            yield cells


def test_the_settings_page_lists_every_setting_as_it_is() -> None:
    """Name, default, scope and meaning, in the table's order, none missing and none too many."""
    documented = [tuple(cell.strip() for cell in row) for row in table_rows("settings.md")]
    actual = [(line.name, line.value, line.scope, line.what) for line in describe(load({}), {})]
    assert [(name.strip("`"), default.strip("`"), *rest) for name, default, *rest in documented] == actual


def all_errors() -> set[type[GatewayError]]:
    """Every error class of every package, found by importing all of it."""
    for name in modules(PACKAGES):
        importlib.import_module(name)
    found, fresh = set(), {GatewayError}
    while fresh:
        found |= fresh
        fresh = {child for parent in fresh for child in parent.__subclasses__()} - found
    return {error for error in found if error.__module__.split(".")[0] in PACKAGES}


def test_every_error_code_has_a_status() -> None:
    """One table at the edge maps them all, so that no error turns into a 500 by accident."""
    status = importlib.import_module("app.errors").STATUS
    assert {error.code for error in all_errors()} <= set(status)


def test_the_errors_page_lists_every_code_with_its_status() -> None:
    """A client's author finds each code there, and none that is never sent."""
    status: dict[str, int] = importlib.import_module("app.errors").STATUS
    documented = {row[0].strip("`"): row[1] for row in table_rows("errors.md")}
    assert set(documented) == {error.code for error in all_errors()} | set(status)
    assert {code for code, cell in documented.items() if str(status[code]) not in cell} == set()


# Written so that this file does not match itself.
FOREIGN = re.compile(
    r"(?<![\w.~*}-])/(?:work|root|farm)(?![\w-])"
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com|proxy\.golang\.org|ghcr\.io"
)


def repository_files() -> list[Path]:
    """What is, or would be, in the repository: tracked files and new ones that are not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    """The repository works on any machine and behind any mirror."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FOREIGN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["cd #work/main", "in #root.", "'#farm/x'", "https:##pypi%org#simple"])
def test_the_search_finds_what_it_is_for(text: str) -> None:
    """A pattern that matches nothing would pass for ever."""
    assert FOREIGN.search(text.replace("#", "/").replace("%", "."))


@pytest.mark.parametrize("text", ["tools/workflows", "/workflow", "$(ROOT)/root-cause", "./work", "src/work"])
def test_the_search_leaves_other_words_alone(text: str) -> None:
    """Only whole first components of absolute paths count."""
    assert not FOREIGN.search(text)
