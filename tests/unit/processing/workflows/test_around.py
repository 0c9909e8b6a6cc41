"""What a step has to fit into: each on its own line, and together with whatever else is wrong."""

from __future__ import annotations

from textwrap import dedent

import pytest

from processing.files.problems import BadFile
from processing.files.timers import Outer
from processing.workflows.around import Around
from processing.workflows.loading import read

AROUND = Around(Outer("PREPARE", 20), Outer("STREAM", 40), {"order", "pay"})
TOOLS = ["look", "order", "pay"]
WHOLE = ", since 'top' calls this workflow before its answer"


def problems(*files: str) -> list[str]:
    """Without the name of the file where there is but one."""
    named = {f"{number}.yaml": dedent(text).encode() for number, text in enumerate(files, 1)}
    try:
        read(named, model="m", tools=TOOLS, around=AROUND)
    except BadFile as bad:
        return [str(problem).removeprefix("1.yaml:") for problem in bad.problems]
    return []


def slow(line: int, name: str, time: int, outer: str = "PREPARE", why: str = "") -> str:
    return (
        f"{line}: step {name!r}: timeout_s ({time}) must be less than"
        f" {outer} ({20 if outer == 'PREPARE' else 40}){why}"
    )


PATTERNS = {
    "graph": ("steps: [{name: a, depends_on: [b], prompt: x, TIME}, {name: b, prompt: x, TIME}]", "a"),
    "pipeline": ("steps: [{name: b, prompt: x, TIME}, {name: a, prompt: x, TIME}]", "a"),
    "parallel": ("steps: [{name: b, prompt: x, TIME}]", None),
    "fork_join": ("branches: [{name: b, prompt: x, TIME}]\nanswer: {name: a, prompt: x, TIME}", "a"),
    "debate": (
        "rounds: 3\ndebaters: [{name: b, prompt: x, TIME}, {name: c, prompt: x}]\n"
        "answer: {name: a, prompt: x, TIME}",
        "a",
    ),
    "hub_and_spoke": (
        "coordinator: {name: b, prompt: x, TIME}\nworkers: [{name: c, does: d, prompt: x}]\n"
        "answer: {name: a, prompt: x, TIME}",
        "a",
    ),
    "publish_subscribe": (
        "rounds: 2\nagents: [{name: b, topics: [question], prompt: x, TIME}]\n"
        "answer: {name: a, prompt: x, TIME}",
        "a",
    ),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_only_what_streams_has_the_time_of_a_stream(pattern: str) -> None:
    """Whatever the pattern: every other step is prepared, once however often it is repeated."""
    text, last = PATTERNS[pattern]
    text = f"name: w\npattern: {pattern}\n{text}"
    assert problems(text.replace("TIME", "timeout_s: 19.9")) == []
    said = problems(text.replace("TIME", "timeout_s: 20"))
    assert [line.split(": ", 1)[1] for line in said] == [slow(0, "b", 20).split(": ", 1)[1]]
    said = problems(text.replace("TIME", "timeout_s: 40"))
    ends = [slow(0, last, 40, "STREAM")] if last else []
    assert sorted(line.split(": ", 1)[1] for line in said) == sorted(
        line.split(": ", 1)[1] for line in [slow(0, "b", 40), *ends]
    )


def test_each_is_said_on_its_own_line() -> None:
    """Of a field that comes by a merge, where the step begins."""
    assert problems("""\
        name: w
        pattern: pipeline
        steps:
          - &slow
            name: a
            prompt: x
            timeout_s: 30
          - <<: *slow
            name: b
          - name: c
            prompt: x
            tools: [look]
            timeout_s: 40
    """) == [slow(7, "a", 30), slow(8, "b", 30), slow(13, "c", 40), slow(13, "c", 40, "STREAM")]


@pytest.mark.parametrize(
    ("more", "said"), [("", []), (", timeout: 3", ["3: step 'a': unknown field 'timeout'"])]
)
def test_they_are_said_with_whatever_else_is_wrong(more: str, said: list[str]) -> None:
    """A step that there is not, or an unknown field, must not keep them back until it is mended."""
    text = """\
        name: w
        steps:
          - {name: a, prompt: x}
          - {name: b, prompt: x, depends_on: [a, z], timeout_s: 40}
          - {name: c, prompt: x, depends_on: [b], timeout_s: 40,
             tools: [order],
             retries: 1}
    """
    assert problems(text.replace("prompt: x}", f"prompt: x{more}}}")) == [
        *said,
        "4: step 'b' needs 'z', which there is not",
        slow(4, "b", 40),
        slow(5, "c", 40),
        slow(5, "c", 40, "STREAM"),
        "7: step 'c': with the stateful order it is not run twice: no retries",
    ]


@pytest.mark.parametrize(
    "steps",
    [
        "[{name: a, prompt: x, timeout_s: 40}, {name: b, prompt: x, timeout_s: 40}]",
        "[{name: a, prompt: x, depends_on: [b], timeout_s: 40}, {name: b, prompt: x, depends_on: [a]}]",
    ],
)
def test_which_time_a_step_has_is_not_guessed(steps: str) -> None:
    """Where the file does not tell which step is the last, only that is said."""
    (found,) = problems(f"name: w\nsteps: {steps}")
    assert "no last step" in found or "a cycle" in found


@pytest.mark.parametrize("pattern", ["star", "[graph]"])
def test_nothing_is_known_of_steps_without_a_pattern(pattern: str) -> None:
    """Which of them streams is the pattern's to say."""
    (found,) = problems(f"name: w\npattern: {pattern}\nsteps: [{{name: a, prompt: x, timeout_s: 40}}]")
    assert found.startswith("2: there is no pattern")


def test_times_that_are_none_are_not_compared() -> None:
    """What is no number is said to be none, once; and a step without a time has none to fit."""
    text = "name: w\npattern: pipeline\nsteps: [{name: a, prompt: x, timeout_s: TIME}, {name: b, prompt: x}]"
    (found,) = problems(text.replace("TIME", "'30'"))
    assert found.startswith("3: step 'a': timeout_s: Input should be a valid number")
    assert problems(text.replace("TIME", "null")) == []


def test_every_way_to_run_a_stateful_tool_twice_is_named() -> None:
    """Row 69: no step may have its effect once more, in whichever way."""
    text = """\
        name: w
        steps:
          - name: a
            prompt: x
            tools: [pay, look, order]
            fallback: n
            retries: 2
    """
    twice = "step 'a': with the stateful order, pay it is not run twice: no"
    assert problems(text) == [f"6: {twice} fallback", f"7: {twice} retries"]
    assert problems(text.replace("retries: 2", "retries: 0")) == [f"6: {twice} fallback"]
    assert problems(text.replace("[pay, look, order]", "[look]")) == []
    assert "order" not in " ".join(problems(text.replace("[pay, look, order]", "order")))


INNER = "name: inner\nsteps: [{name: a, prompt: x, TIME}]"
MIDDLE = "name: middle\nsteps: [{name: b, workflow: inner, prompt: x}]"
TOP = "name: top\npattern: pipeline\nsteps: [{name: c, workflow: middle, prompt: x}, {name: d, prompt: x}]"


def test_who_is_called_to_its_end_has_the_time_of_a_preparation() -> None:
    """However deep below, and with the name of who calls it: its own file shows no reason."""
    inner = INNER.replace("TIME", "timeout_s: 30")
    assert problems(inner, MIDDLE) == [], "it streams: the last of the last"
    assert problems(inner, MIDDLE, TOP) == [slow(2, "a", 30, why=WHOLE)]
    assert problems(INNER.replace("TIME", "timeout_s: 19"), MIDDLE, TOP) == []


def test_a_last_step_with_tools_is_told_once() -> None:
    """Its rounds are prepared anyhow: who nests it makes no further problem."""
    inner = INNER.replace("TIME", "timeout_s: 30, tools: [look]")
    assert problems(inner, MIDDLE, TOP) == [slow(2, "a", 30)]


def test_only_the_last_step_is_another_one_when_it_is_nested() -> None:
    """All before it are prepared in any case, and told once."""
    steps = "[{name: z, prompt: x, timeout_s: 25}, {name: a, prompt: x, timeout_s: 30}]"
    inner = f"name: inner\npattern: pipeline\nsteps: {steps}"
    assert problems(inner, MIDDLE, TOP) == [slow(3, "a", 30, why=WHOLE), slow(3, "z", 25)]


def test_nesting_that_is_wrong_itself_is_no_stumbling_block() -> None:
    """A circle, and a workflow that there is not, end the search for who is called."""
    circle = "name: middle\npattern: parallel\nsteps: [{name: b, workflow: top, prompt: x}]"
    found = problems(
        INNER.replace("TIME", "timeout_s: 30"), circle, TOP.replace("name: d", "workflow: inner, name: d")
    )
    assert [line for line in found if "timeout_s" in line] == [slow(2, "a", 30, why=WHOLE)]
    assert any("a cycle" in line for line in found)
    (missing,) = problems(MIDDLE, TOP)
    assert "there is no workflow 'inner'" in missing
