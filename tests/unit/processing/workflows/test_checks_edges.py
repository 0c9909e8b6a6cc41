"""Files with one thing wrong: each problem on its own line, and no second one that only follows from it."""

from __future__ import annotations

import pytest

from processing.workflows.form import MAX_STEPS
from tests.fakes.workflows import workflows
from tests.unit.processing.workflows.test_loading import nest, problems


def steps(*lines: str, head: str = "") -> str:
    """A file whose first step is on line 3 if there is no `head`."""
    return "\n".join(["name: w", *([head] if head else []), "steps:", *(f"  - {line}" for line in lines)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            steps("{name: a, prompt: x, workflow: v, model: m, system: s, tools: [t]}"),
            [
                ":3: there is no workflow 'v'",
                *(f":3: step 'a' runs a workflow: {f!r} is for" for f in ("model", "system", "tools")),
            ],
        ),
        (
            steps("{name: a, prompt: x}", "{name: a, prompt: x, depends_on: [a]}"),
            ["two steps are called", "a cycle"],
        ),
        (
            steps("{name: a, depends_on: [b, c], prompt: x}"),
            [":3: step 'a' needs 'b'", ":3: step 'a' needs 'c'"],
        ),
        (steps("{name: a, prompt: '{{ results.a }}'}"), [":3: template: 'a' is not over when 'a' starts"]),
        (
            steps(
                "{name: a, prompt: x}",
                "{name: b, depends_on: [a], prompt: '{{ results.z }}', system: '{{ results.y }}'}",
            ),
            [":4: template: results has no 'y'", ":4: template: results has no 'z'"],
        ),
        (
            steps("{name: a, prompt: x, tools: [t, u]}", "{name: b, depends_on: [a], prompt: x}"),
            ["uses the tool 't', which there is not", "uses the tool 'u', which there is not"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once(text: str, said: list[str]) -> None:
    """All of it, and nothing else: a list of ten for one slip is not read."""
    found = problems(text)
    assert len(found) == len(said), found
    for words in said:
        assert any(words in line for line in found), (words, found)


def test_needs_are_for_graphs() -> None:
    """In another pattern the field is unknown, and is not judged by the rules of graphs."""
    text = "name: w\npattern: pipeline\nsteps: [{name: a, prompt: x, depends_on: [zzz]}]"
    assert problems(text) == ["1.yaml:3: step 'a': unknown field 'depends_on'"]


def test_a_step_reads_what_its_needs_need() -> None:
    """Not only whom it names itself; and in rounds what was said a round before, also by itself."""
    text = steps(
        "{name: a, prompt: x}",
        "{name: b, depends_on: [a], prompt: x}",
        "{name: c, depends_on: [b], prompt: '{{ results.a }}'}",
    )
    assert "w" in workflows(text)
    debate = """
        name: d
        pattern: debate
        rounds: ROUNDS
        debaters:
          - {name: pro, prompt: "{% if round > 1 %}{{ results.pro }}{{ results.con }}{% endif %}"}
          - {name: con, prompt: x}
        answer: {name: end, prompt: "{{ results.pro }}"}
    """
    assert "d" in workflows(debate.replace("ROUNDS", "2"))
    found = problems(debate.replace("ROUNDS", "1"))
    assert sorted(line.split("template: ")[1].split(" ")[0] for line in found) == ["'con'", "'pro'"]


def test_a_model_is_not_needed_where_none_is_asked() -> None:
    """A step that runs a workflow asks none itself."""
    inner = "name: v\nsteps: [{name: a, model: own, prompt: x}]"
    assert set(workflows("name: w\nsteps: [{name: a, workflow: v, prompt: x}]", inner, model=None)) == {
        "w",
        "v",
    }


def test_nesting_goes_as_deep_as_the_limit_says() -> None:
    """By the longest way down, and each file by its own limit."""
    leaf = "name: leaf\nsteps: [{name: a, prompt: x}]"
    two = """
        name: two
        limits: {depth: 1}
        pattern: parallel
        steps: [{name: a, workflow: leaf, prompt: x}, {name: b, workflow: mid, prompt: x}]
    """
    found = problems(two, nest("mid", "leaf", 1), leaf)
    assert found == ["1.yaml:5: nested 2 deep (two nests mid nests leaf), and its limit is 1"]
    assert "two" in workflows(two.replace("depth: 1", "depth: 2"), nest("mid", "leaf", 1), leaf)
    assert problems(nest("w", "leaf", 0), leaf) == [
        "1.yaml:3: nested 1 deep (w nests leaf), and its limit is 0"
    ]
    assert "leaf" in workflows(leaf.replace("\n", "\nlimits: {depth: 0}\n", 1))


def test_the_longest_way_down_is_found_in_a_lattice() -> None:
    """Every way is longer than the last, and each workflow is looked at once."""
    head = "\n".join(["name: l{0}", "limits: {{depth: 5}}", "pattern: parallel", "steps: "])
    both = "[{{name: a, workflow: l{1}, prompt: x}}, {{name: b, workflow: l{2}, prompt: x}}]"
    levels = [(head + both).format(number, number + 1, min(number + 2, 6)) for number in range(6)]
    leaf = "name: l6\nsteps: [{name: a, prompt: x}]"
    way = " nests ".join(f"l{number}" for number in range(7))
    assert problems(*levels, leaf) == [f"1.yaml:4: nested 6 deep ({way}), and its limit is 5"]


def test_a_file_has_as_many_steps_as_are_allowed() -> None:
    """One more is one too many."""
    lines = [
        f"{{name: s{n}, prompt: x, depends_on: [{f's{n - 1}' if n else ''}]}}" for n in range(MAX_STEPS + 1)
    ]
    assert len(workflows(steps(*lines[:-1]))["w"].graph.nodes) == MAX_STEPS
    assert problems(steps(*lines))[0] == f"1.yaml:2: 'steps' has at most {MAX_STEPS}"


@pytest.mark.parametrize(
    "name", ["model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"]
)
def test_what_is_the_requests_own_is_no_parameter(name: str) -> None:
    """A step that sets it would answer another question, or in a form that nobody reads."""
    text = steps(f"{{name: a, prompt: x, parameters: {{{name}: 1}}}}")
    assert problems(text) == [f"1.yaml:3: step 'a': parameters: a step cannot set {name}"]


@pytest.mark.parametrize("parameters", ["3", "[x]", "{1: x}"])
def test_parameters_are_a_mapping_of_names(parameters: str) -> None:
    """They go into a body of JSON."""
    [said] = problems(steps(f"{{name: a, prompt: x, parameters: {parameters}}}"))
    assert "parameters are a mapping, as in a request's body" in said


def test_a_version_is_of_the_file() -> None:
    """The same text is the same version, whatever else is in the folder."""
    text, other = steps("{name: a, prompt: x}"), "name: o\nsteps: [{name: a, prompt: x}]"
    alone, beside = workflows(text)["w"], workflows(text, other)["w"]
    assert alone.version == beside.version
    assert len(alone.version) == 32
    assert alone.version != workflows(text + " # note")["w"].version


def test_a_cycle_is_the_only_thing_said_of_the_needs() -> None:
    """Who is the last cannot be said of what goes in a circle."""
    lines = ("{name: a, depends_on: [a], prompt: x}", "{name: b, prompt: x}", "{name: c, prompt: x}")
    assert problems(steps(*lines)) == ["1.yaml:3: a cycle: a needs a"]


def test_two_mentions_on_one_line_are_one_problem() -> None:
    """And of a step that there is not, it is only said that there is not."""
    lines = (
        '{name: a, prompt: "{{ results.b }}{{ results.b }}{{ results.c }}"}',
        "{name: b, depends_on: [a], prompt: x}",
    )
    assert problems(steps(*lines)) == ["1.yaml:3: template: results has no 'c': no step is called so"]
    text = steps(lines[0].replace("{{ results.c }}", ""), lines[1])
    [said] = problems(text)
    assert said.startswith("1.yaml:3: template: 'b' is not over when 'a' starts")


@pytest.mark.parametrize(
    "field",
    ["system: s", "model: m", "fallback: m", "tools: [t]", "timeout_s: 1", "retries: 1", "parameters: {}"],
)
def test_what_is_of_a_call_is_not_for_a_step_that_runs_a_workflow(field: str) -> None:
    """It would be silently without effect."""
    inner = "name: v\nsteps: [{name: a, prompt: x}]"
    lines = (f"{{name: a, prompt: x, workflow: v, {field}}}", "{name: b, depends_on: [a], prompt: x}")
    found = problems(steps(*lines), inner)
    assert (
        f"1.yaml:3: step 'a' runs a workflow: {field.split(':')[0]!r} is for the steps of that one" in found
    )


@pytest.mark.parametrize("field", ["fallback: m", "tools: [t]", "timeout_s: 1", "retries: 1", "fatal: true"])
def test_the_last_step_may_have_what_any_may_have(field: str) -> None:
    """Issue 5, part 4: a step names its tools, timeout, retries, fallback, and whether it is fatal."""
    (node,) = workflows(steps(f"{{name: a, prompt: x, {field}}}"), tools=["t"])["w"].graph.nodes
    assert getattr(node.step, field.split(":")[0])


def test_a_last_step_that_is_not_to_be_fatal_is_an_error() -> None:
    """There is no answer without it."""
    (found,) = problems(steps("{name: a, prompt: x, fatal: false}"))
    assert found.startswith("1.yaml:3: the last step is the answer")
