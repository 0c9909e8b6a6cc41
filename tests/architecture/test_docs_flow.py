"""docs/flow.md is the code's map: no module off it, its state table and its list of tasks as they are."""

from __future__ import annotations

import re

from broadcast.lifecycle import RUNNING, TRANSITIONS, Phase, Signal
from tests.architecture.pages import definitions, quoted, section, table, text_of
from tests.architecture.tree import PACKAGES, ROOT, sources

PAGE = "docs/flow.md"


def test_every_module_is_on_the_map() -> None:
    """A newcomer finds each file by the question that it answers; the simulator has a page of its own."""
    actual = {
        str(path.relative_to(ROOT))
        for path in sources(PACKAGES)
        if path.name != "__init__.py" and "upstream/simulator/" not in str(path)
    }
    mapped = set(re.findall(r"\[([\w/]+\.py)\]", section(PAGE, "Which file for which question")))
    assert mapped & set(definitions(ROOT / PAGE)) == actual


def test_the_state_table_is_the_one_in_the_code() -> None:
    """Row by row and column by column: what is blank is a bug there, and impossible here."""
    rows = [
        line.strip("|").split("|")
        for line in section(PAGE, "Phases of a broadcast").splitlines()
        if "|" in line
    ]
    signals = [Signal(cell.strip()) for cell in rows[0][1:]]
    assert set(signals) == set(Signal)
    documented = {
        Phase(phase): {
            signal: Phase(cell.strip()) for signal, cell in zip(signals, row[1:], strict=True) if cell.strip()
        }
        for row in rows[2:]
        if len(row) == len(rows[0])
        for phase in row[0].strip().split(", ")
    }
    assert documented == TRANSITIONS


def test_every_running_phase_says_what_it_holds() -> None:
    """The second table has a row for each phase in which something can be held."""
    named = set(re.findall(r"^\| (\w+) \|", section(PAGE, "Phases of a broadcast"), re.MULTILINE))
    assert {*RUNNING, Phase.SEALED} <= named


def test_every_task_is_listed_with_its_kind() -> None:
    """Tasks have owners, and a reader finds them all in one table."""
    code = [(path, path.read_text(encoding="utf-8")) for path in sources(PACKAGES)]
    started = {
        (_name(name), "owned" if verb == "own" else "spawned")
        for _, text in code
        for verb, name in re.findall(
            r"\b(spawn|own|errands\.run|self\.run|self\._run)\(\s*f?\"([^\"]+)\"", text
        )
    }
    shared = [name for _, text in code for name in re.findall(r"= Twins\(spawn, \"([^\"]+)\"", text)]
    started |= {(_name(name), "spawned") for name in shared}
    loops = re.findall(r"f?\"(cache:[\w-]+)", (ROOT / "cache/fastlane.py").read_text(encoding="utf-8"))
    started |= {(_name(name), "owned") for name in loops}
    rows = [row for row in table(section(PAGE, "Who owns what")) if len(row) == 4]
    listed = {(_name(quoted(row[0])[0]), row[1]) for row in rows}
    assert listed == started


def _name(task: str) -> str:
    """Without what is numbered or named at run time: `child:redis-N` and `child:{self.name}` are one kind."""
    return re.sub(r"\{[^}]*\}|\b[A-Z]+\b", "*", re.sub(r"(cache:worker-|child:).*", r"\1", task))


def test_each_diagram_that_was_promised_is_there() -> None:
    """One for each of the ways that a request can go."""
    for heading in (
        "Hit",
        "Leader",
        "Follower",
        "Slow client",
        "Leader gone",
        "Last subscriber gone",
        "Drain",
        "Follower elsewhere",
        "Leader elsewhere gone",
    ):
        assert section(PAGE, heading).count("sequenceDiagram") == 1, heading
    assert text_of(PAGE).count("```mermaid") == 10
