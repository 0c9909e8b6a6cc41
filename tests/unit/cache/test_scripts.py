"""The scripts: found by name, put together from parts, known by their digest, and written for any server."""

from __future__ import annotations

import re
from hashlib import sha1
from pathlib import Path

import pytest

from cache import scripts
from cache.scripts import Script

FOLDER = Path(scripts.__file__).with_name("lua")
FILES = sorted(path.name for path in FOLDER.glob("*.lua"))


def test_a_script_is_its_parts_and_then_itself() -> None:
    """And its digest is that of the whole, as the server computes it."""
    script = Script.of("append", "flight")
    assert script.body == (FOLDER / "flight.lua").read_text() + (FOLDER / "append.lua").read_text()
    assert script.sha == sha1(script.body.encode(), usedforsecurity=False).hexdigest()
    assert script.name == "append"
    assert Script.of("append", "flight") is script


def test_an_unknown_name_is_found_out_at_import() -> None:
    """Not in the middle of a request."""
    with pytest.raises(FileNotFoundError):
        Script.of("no-such-script")


@pytest.mark.parametrize("file", FILES)
def test_a_script_has_the_time_from_redis_alone(file: str) -> None:
    """No two machines' clocks are the same; nor may a script be random, or a replica would differ."""
    text = (FOLDER / file).read_text()
    assert not re.search(r"\bos\.|\bmath\.random", text)


@pytest.mark.parametrize("file", FILES)
def test_a_script_names_no_key_by_itself(file: str) -> None:
    """A cluster must know every key beforehand: only channels are built in a script."""
    text = re.sub(r"--.*", "", (FOLDER / file).read_text())
    assert set(re.findall(r"'(g:[^']*)'", text)) <= {"g:i:"}


@pytest.mark.parametrize("file", FILES)
def test_a_script_blocks_nobody(file: str) -> None:
    """No command that waits, and none that walks the whole database."""
    text = (FOLDER / file).read_text()
    called = set(re.findall(r"redis\.call\('([A-Z]+)'", text))
    assert not called & {
        "KEYS",
        "SCAN",
        "BLPOP",
        "BRPOP",
        "XREAD",
        "XREADGROUP",
        "FLUSHALL",
        "FLUSHDB",
        "WAIT",
    }
