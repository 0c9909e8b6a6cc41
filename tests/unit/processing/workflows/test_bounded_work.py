"""What users and models write cannot stop the loop, and what a file says cannot fill the memory."""

from __future__ import annotations

import time

import pytest

from processing.files.problems import BadFile
from processing.files.source import MAX_ALIASES, MAX_CHARACTERS, Source
from processing.workflows.replies import assignments
from processing.workflows.template import MAX_TURNS, Template, TemplateFailed
from tests.fakes.workflows import workflows

MESSAGES = [{"role": "user", "content": "x"}]


def test_a_reply_of_empty_lines_is_read_in_no_time() -> None:
    """A user can make a model say it. Of this process's own time, which no neighbour can lengthen: it takes
    a millisecond, and would take seconds if every line were a new beginning.
    """
    began = time.process_time()
    assert assignments("```" + "\n" * 20_000, ["w1"]) is None
    assert assignments("```\n" * 10_000, ["w1"]) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \t\n"])
def test_a_fence_may_end_its_line_as_it_likes(ending: str) -> None:
    """Models on other systems write other line ends."""
    said = f'```json{ending}[{{"worker": "w1", "task": "add"}}]{ending}```'
    assert assignments(said, ["w1"]) == {"w1": "add"}


COUNTED = [
    "{{ messages | rejectattr('role', 'equalto', 'system') | list | length }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{% if messages | join %}x{% endif %}",
    "{{ messages | list | length }}",
    "{% if messages | reject('none') | join %}x{% endif %}",
    "{% if messages | select('defined') | join %}x{% endif %}",
    "{{ messages | max(attribute='content') }}",
    "{{ messages | min(attribute='content') }}",
    "{{ messages | sort(attribute='content') | length }}",
    "{% if messages | unique(attribute='content') | join %}x{% endif %}",
]


@pytest.mark.parametrize("each", COUNTED)
def test_a_filter_that_goes_through_a_list_counts_like_a_loop(each: str) -> None:
    """A long conversation makes its square of one that stands in a loop: the client says how long it is."""
    template = Template("{% for m in messages %}" + each + "{% endfor %}")
    assert template.fill({"messages": MESSAGES * 90})
    with pytest.raises(TemplateFailed, match=f"more than {MAX_TURNS} turns"):
        template.fill({"messages": MESSAGES * 400})


def bomb(levels: int, width: int) -> str:
    """A value of `width` ** `levels` texts, in a few lines."""
    lines = ["l0: &l0 x"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [bomb(10, 10), bomb(7, 9), "a: &a {b: *a}", "a: &a [*a, *a]", "a: &a {x: 1}\nb: &b {<<: *b}"]
)
def test_a_small_file_cannot_be_a_large_value(text: str) -> None:
    """Whoever writes it out, to send or to hash it, would never end: it is refused when it is read."""
    assert text.count("*") <= MAX_ALIASES
    with pytest.raises(BadFile, match=r"^f\.yaml:1: not YAML: its aliases make it too large"):
        Source("f.yaml", text, "a mapping")


def test_aliases_that_save_some_writing_are_taken() -> None:
    """Also those of a file that is as long as a file may be."""
    assert Source("f.yaml", bomb(3, 10), "a mapping").value["l1"] == ["x"] * 10
    Source("f.yaml", "a: &a {x: 1}\nb: {<<: *a, y: 2}", "a mapping")
    long = f"a: &a {'x' * (MAX_CHARACTERS - 20)}\nb: [*a, *a]"
    assert len(Source("f.yaml", long, "a mapping").value["b"]) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: g\nsteps:\n  - {name: a, prompt: x, model: 'workflow:other'}",
            ["1.yaml:3: step 'a': model names no model but a workflow: its field is 'workflow'"],
        ),
        (
            "name: g\npattern: pipeline\nsteps:\n  - {name: a, prompt: x, fallback: 'workflow:g'}\n"
            "  - {name: b, prompt: y}",
            ["1.yaml:4: step 'a': fallback names no model but a workflow: its field is 'workflow'"],
        ),
        (
            "name: g\nmodel: workflow:g\nsteps: [{name: a, prompt: x}]",
            ["1.yaml:2: model names no model but a workflow, which a step runs by its field 'workflow'"],
        ),
        (
            "name: g\npattern: debate\nrounds: 2\ndebaters:\n  - {name: a, prompt: x, model: 'workflow:g'}\n"
            "  - {name: b, prompt: x}\nanswer: {name: c, prompt: x}",
            ["1.yaml:5: step 'a': model names no model but a workflow: its field is 'workflow'"],
        ),
    ],
)
def test_a_workflow_is_no_model(text: str, said: list[str]) -> None:
    """The upstream would be asked for a model of that name, at every request."""
    with pytest.raises(BadFile) as bad:
        workflows(text)
    assert [str(problem) for problem in bad.value.problems] == said
