"""Templates: every word that a file may use, and each bound to the last one that is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.exceptions import UndefinedError

from processing.workflows.template import (
    _FILTERS,
    MAX_RANGE,
    MAX_TURNS,
    Template,
    TemplateFailed,
    TemplateProblem,
    _sandbox,
)

VALUES: dict[str, Any] = {
    "question": "Why not",
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    "results": {"a": "A", "get": "G"},
    "missing": {"b": "timed_out"},
    "history": [{"name": "a", "round": 1, "text": "A"}],
    "round": 2,
    "task": "t",
    "inbox": [{"from": "x", "topic": "y", "text": "z"}],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ -3 | abs }}", "3"),
        ("{{ 'ab' | capitalize }}", "Ab"),
        ("{{ [1, 2] | count }}", "2"),
        ("{{ '' | d('x', true) }}", "x"),
        ("{{ '' | default('x', true) }}", "x"),
        ("{{ [3, 1] | first }}", "3"),
        ("{{ '7' | int }}", "7"),
        ("{% for k, v in missing | items %}{{ k }}{{ v }}{% endfor %}", "btimed_out"),
        ("{{ [1, 2] | join('-') }}", "1-2"),
        ("{{ [3, 1] | last }}", "1"),
        ("{{ [3, 1] | length }}", "2"),
        ("{{ 'ab' | list }}", "['a', 'b']"),
        ("{{ 'AB' | lower }}", "ab"),
        ("{{ [3, 1] | max }}", "3"),
        ("{{ [3, 1] | min }}", "1"),
        ("{{ [1, 2] | reject('odd') | list }}", "[2]"),
        ("{{ history | rejectattr('round') | list }}", "[]"),
        ("{{ 'ab' | reverse }}", "ba"),
        ("{{ 2.46 | round(1) }}", "2.5"),
        ("{{ [1, 2] | select('odd') | list }}", "[1]"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ [3, 1] | sort }}", "[1, 3]"),
        ("{{ 3 | string }}", "3"),
        ("{{ 'ab cd' | title }}", "Ab Cd"),
        ("{{ missing | tojson }}", '{"b": "timed_out"}'),
        ("{{ ' a ' | trim }}", "a"),
        ("{{ 'a' | truncate(5) }}", "a"),
        ("{{ [1, 1] | unique | list }}", "[1]"),
        ("{{ 'ab' | upper }}", "AB"),
    ],
)  # fmt: skip
def test_every_filter_that_is_promised_is_there(source: str, text: str) -> None:
    """A file that used one yesterday must not be refused today."""
    assert Template(source).fill(VALUES) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xy"),
        ("{{ question.startswith('Why') }}{{ question.endswith('not') }}", "TrueTrue"),
        ("{{ missing.get('b') }}{{ missing.get('c', 'no') }}", "timed_outno"),
        ("{% for k, v in missing.items() %}{{ k }}{{ v }}{% endfor %}", "btimed_out"),
        ("{% for k in missing.keys() %}{{ k }}{% endfor %}", "b"),
        ("{% for v in missing.values() %}{{ v }}{% endfor %}", "timed_out"),
        ("{{ question.lower() }}{{ question.upper() }}", "why notWHY NOT"),
        ("{{ question.split() | join('-') }}{{ 'a\nb'.splitlines() | join('-') }}", "Why-nota-b"),
        ("{{ ' a '.strip() }}", "a"),
        ("{{ results.get }}", "G"),
        ("{{ 7 % 4 }}{{ 2 * 3.5 }}", "37.0"),
        ("{{ task }}{{ round }}{{ history[0].text }}{{ inbox[0].topic }}", "t2Ay"),
        ("a\n", "a"),
        ("a\n\n", "a\n"),
    ],
)  # fmt: skip
def test_every_method_and_variable_that_is_promised_is_there(source: str, text: str) -> None:
    """What a step is called comes before what a mapping can do, and arithmetic is left."""
    assert Template(source).fill(VALUES) == text


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ 2 ** 3 }}", "** is not there"),
        ("{{ 'a' * 3 }}", "* is for numbers"),
        ("{{ 3 * 'a' }}", "* is for numbers"),
        ("{{ '%s' % 3 }}", "% is for numbers"),
        ("{{ question.replace('W', 'w') }}", "not safely callable"),
        ("{{ nothing.here() }}", None),
    ],
)
def test_what_is_not_there_says_so(source: str, why: str | None) -> None:
    """In words for whoever wrote the file: they stand in the record of the run."""
    with pytest.raises(
        (TemplateFailed, TemplateProblem), match=None if why is None else why.replace("*", r"\*")
    ):
        Template(source).fill(VALUES)


@pytest.mark.parametrize(
    "source",
    [
        "{% call question() %}{% endcall %}",
        "{% filter upper %}a{% endfilter %}",
        "{% from 'x' import y %}",
        "{% block a %}{% endblock %}",
    ],
)
def test_what_is_for_pages_is_not_for_prompts(source: str) -> None:
    """Each of them makes text that no bound here sees, or reads another file."""
    with pytest.raises(TemplateProblem, match="is not for prompts"):
        Template(source)


def test_a_range_and_loops_go_up_to_their_bounds() -> None:
    """The last one allowed is, one more is not."""
    assert Template(f"{{{{ range({MAX_RANGE}) | length }}}}").fill({}) == str(MAX_RANGE)
    with pytest.raises(TemplateFailed, match=f"more than {MAX_RANGE} numbers"):
        Template(f"{{{{ range({MAX_RANGE + 1}) | length }}}}").fill({})
    loop = "{% for m in messages %}{% endfor %}"
    assert Template(loop).fill({"messages": [0] * MAX_TURNS}) == ""
    with pytest.raises(TemplateFailed, match=f"more than {MAX_TURNS} turns"):
        Template(loop).fill({"messages": [0] * (MAX_TURNS + 1)})
    with pytest.raises(TemplateFailed, match="turns"):
        Template(loop + loop).fill({"messages": [0] * (MAX_TURNS // 2 + 1)})


@pytest.mark.parametrize("name", ["get", "items", "keys", "values"])
def test_what_a_mapping_can_do_is_no_step_unless_it_is_named(name: str) -> None:
    """`results.items()` reads all; `results["items"]` reads a step of that name."""
    assert Template(f"{{{{ results.{name} }}}}").mentions == ()
    assert Template(f"\n{{{{ results['{name}'] }}}}{{{{ results[0] }}}}").mentions == ((name, 2),)


def test_all_unknown_names_are_told_with_the_line_of_the_first() -> None:
    """Sorted, so a file says the same each time."""
    with pytest.raises(TemplateProblem, match=r"there is no variable 'x', 'y'; there are") as problem:
        Template("\n{{ y }}\n{{ x }}")
    assert problem.value.line == 3
    assert "hyphen" not in str(problem.value)
    with pytest.raises(TemplateProblem, match="a name with a hyphen is written"):
        Template("{{ results.a-b }}")


def test_a_template_is_its_text_in_no_log() -> None:
    """Only how long it is."""
    assert repr(Template("secret")) == "<Template 6 characters>"
    assert Template("secret").source == "secret"


def test_a_reason_is_ours_or_a_type() -> None:
    """Jinja's words name what is missing, Python's may quote a value."""
    with pytest.raises(TemplateFailed, match=r"^ZeroDivisionError$"):
        Template("{{ 1 / 0 }}").fill({})
    with pytest.raises(TemplateFailed, match="has no attribute 'nobody'"):
        Template("{{ results.nobody }}").fill(VALUES)


def test_the_sandbox_has_what_is_promised_and_nothing_else() -> None:
    """It is made once, at the start: here again, from within, for its own sake."""
    made = _sandbox()
    assert set(made.filters) == {*_FILTERS, "counted"}
    assert made.globals.keys() == {"range"}
    assert made.from_string("{{ '<&>' }}\n").render() == "<&>"
    with pytest.raises(UndefinedError):
        made.from_string("{{ nobody }}").render()


@pytest.mark.parametrize("deep", ["{{ " + "not " * 20_000 + "1 }}", "{% if 1 %}" * 20_000])
def test_a_template_that_is_nested_without_end_is_refused(deep: str) -> None:
    """At the start, on its first line: it must not take the process with it."""
    with pytest.raises(TemplateProblem, match="nested too deeply") as problem:
        Template(deep)
    assert problem.value.line == 1
