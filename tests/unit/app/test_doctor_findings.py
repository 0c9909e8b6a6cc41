"""The report of `refrain doctor`: its levels, its two forms, and the page that lists what it looks at."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from app.doctor import examine
from app.doctor.finding import (
    CHECKS,
    Finding,
    Level,
    as_json,
    as_text,
    failed,
    ok,
    plain,
    skipped,
    verdict,
    warning,
)
from app.doctor.rights import BY_CHANNEL, CLUSTER_COMMANDS, COMMANDS
from tests.architecture.pages import section, table
from tests.architecture.tree import ROOT, sources
from tests.virtual_time import virtual

GOOD = ok("redis.reach", "It answers.")
BAD = failed("redis.role", "A replica.", "Use the primary.")
ODD = warning("redis.memory", "No limit.", "Set one.")
UNSEEN = skipped("redis.version", "Not seen.")


@pytest.mark.parametrize(
    ("findings", "worst"),
    [
        ([], Level.OK),
        ([UNSEEN], Level.OK),
        ([GOOD, UNSEEN], Level.OK),
        ([ODD, GOOD], Level.WARNING),
        ([BAD, ODD, UNSEEN], Level.FAILED),
    ],
)
def test_the_verdict_is_the_worst_of_all(findings: list[Finding], worst: Level) -> None:
    """A script goes by it; what was not looked at is no fault."""
    assert verdict(findings) is worst


def test_each_finding_is_one_line_with_what_to_do() -> None:
    """It can be grepped, and counted at the end."""
    first, second, blank, told = as_text([GOOD, BAD]).splitlines()
    assert first.split(maxsplit=2) == ["ok", "redis.reach", "It answers."]
    assert second.split(maxsplit=2) == ["failed", "redis.role", "A replica. Use the primary."]
    assert (blank, told) == ("", "1 ok, 1 failed.")


def test_json_holds_the_same() -> None:
    """For a program: names and levels, and null where there is nothing to do."""
    told = json.loads(as_json([GOOD, BAD]))
    assert told["verdict"] == "failed"
    assert told["findings"][0] == {"check": "redis.reach", "level": "ok", "says": "It answers.", "do": None}
    assert told["findings"][1]["do"] == "Use the primary."


def test_a_stranger_cannot_write_on_the_terminal() -> None:
    """A model's name comes from another machine: no escape sequences, no new lines, no end without an end."""
    assert plain("a\x1b[2Jb\nc") == "a?[2Jb?c"
    assert len(plain("x" * 10_000)) <= 120


def test_a_finding_needs_a_check_that_is_listed() -> None:
    """Else the page would lack it."""
    with pytest.raises(AssertionError):
        ok("redis.mood", "Fine.")


def test_the_page_lists_every_check_as_it_is() -> None:
    """docs/doctor.md: each name with what it looks at, in this order, none missing and none too many."""
    rows = table(section("docs/doctor.md", "What is looked at"))
    assert [(name.strip("`"), what) for name, what in rows] == list(CHECKS.items())


def test_every_check_is_made_somewhere() -> None:
    """A name that nothing reports any more must leave the list."""
    code = "".join(p.read_text() for p in sources(["app/doctor"]) if p.name != "finding.py")
    assert {name for name in CHECKS if f'"{name}"' not in code} == set()


def test_the_commands_tried_are_those_of_the_documented_user() -> None:
    """docs/operations.md is the one list: the doctor tries neither more nor less than it allows."""
    page = (ROOT / "docs/operations.md").read_text()
    (user,) = re.findall(r"^user refrain on >PASSWORD (.*)$", page, re.MULTILINE)
    (more,) = re.findall(r"^A cluster needs `(\+cluster.*)` as well", page, re.MULTILINE)
    allowed = {word[1:] for word in user.split() if word.startswith("+")}
    assert {*COMMANDS, *BY_CHANNEL} == allowed
    assert set(CLUSTER_COMMANDS) == {word[1:] for word in more.split()}


@virtual
async def test_a_part_that_hangs_is_given_up() -> None:
    """Twenty seconds in all, whatever hangs: an operator waits for the answer."""

    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    began = asyncio.get_running_loop().time()
    [finding] = await examine._part("redis.reach", hang())
    assert finding.level is Level.FAILED
    assert asyncio.get_running_loop().time() - began == examine.PART_S < 20
