"""The README's five minutes, as a new user types them: block after block, output compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import workers
from tests.system.typed import Desk, blocks, wrong
from tests.system.typed import agrees as agrees  # tests/clients takes it from here

PAGE = "README.md"
BLOCKS = blocks(PAGE)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What a new user sees, block by block."""
    folder: Path = tmp_path_factory.mktemp("clone")
    # Not five seconds of grace: on a busy machine curl may take long to come back for the rest.
    with Desk(folder, REFRAIN_ABANDON_GRACE_S=60, WEB_CONCURRENCY=workers()) as desk:
        yield [desk.type(block) for block in BLOCKS]


def test_every_command_of_the_readme_shows_what_it_promises(outputs: list[str]) -> None:
    """A new user's first five minutes: no command fails, and each prints what the page prints below it."""
    assert wrong(BLOCKS, outputs) == []


def test_resuming_as_the_readme_does_gives_exactly_the_rest(outputs: list[str]) -> None:
    """The page says so and its own commands prove it: the second connection goes on where the first ended."""
    [resume] = [output for block, output in zip(BLOCKS, outputs, strict=True) if "seen=" in block.code]
    seen = int(re.findall(r"seen up to \d+-(\d+)", resume)[0])
    ids = [int(number) for number in re.findall(r"^id: \d+-(\d+)$", resume, re.MULTILINE)]
    assert seen > 0
    assert ids == [seen, *range(seen + 1, ids[-1] + 1)]
    assert resume.rstrip().endswith(f"-{ids[-1]}")
    assert resume.count("event: done") == 1


def test_the_readme_has_its_runnable_blocks() -> None:
    """A page whose blocks were no longer marked would pass the tests above in silence."""
    assert len(BLOCKS) >= 9
    assert {block.language for block in BLOCKS} == {"sh", "python"}


@pytest.mark.parametrize(
    ("shown", "output", "expected"),
    [
        ("id: …-0\n", "id: 17-0", True),
        ("a\n…c", "a\nb\nc", True),
        ("a\n…c", "a\nb", False),
        ("status", "statuses", False),
    ],
)
def test_the_comparison_can_fail(shown: str, output: str, expected: bool) -> None:
    """What is not elided has to be there, letter by letter."""
    assert agrees(shown, output) is expected
