"""The commands of the pages in docs/, typed as a reader would: each prints what the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.typed import Block, Desk, blocks, wrong

#: Each page whose blocks are run here, and the server that it takes for granted.
PAGES: dict[str, tuple[str, str] | None] = {
    "docs/tutorial.md": None,
    "docs/conversations.md": ("gateway", "make run"),
    "docs/doctor.md": ("gateway", "make run"),
    "docs/simulator.md": ("model", "refrain sim --port 8485"),
    "docs/tools.md": None,
    "docs/workflows.md": None,
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A clone that is set up, and a shell in it."""
    # Not five seconds of grace: on a busy machine curl may take long to come back for the rest.
    with Desk(tmp_path, REFRAIN_ABANDON_GRACE_S=60) as at_it:
        yield at_it


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_prints_what_it_shows(desk: Desk, page: str) -> None:
    """Whoever types a page from its beginning to its end sees what it promises."""
    if (needed := PAGES[page]) is not None:
        desk.type(Block("sh", *needed, shown=None))
    typed = blocks(page)
    assert typed
    assert wrong(typed, [desk.type(block) for block in typed]) == []


def test_a_command_that_fails_is_a_failure(desk: Desk) -> None:
    """Otherwise a page could promise anything."""
    with pytest.raises(AssertionError, match="a command failed"):
        desk.type(Block("sh", "", "no-such-command", shown=None))
