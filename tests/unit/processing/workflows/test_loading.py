"""Files: what is wrong is said with its line, everything at once, and nothing half right is taken."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from processing.files.problems import BadFile
from processing.workflows.loading import read, read_folder
from tests.fakes.workflows import workflows

EXAMPLES = Path(__file__).parents[4] / "examples/review"


def problems(*files: str, model: str | None = "m") -> list[str]:
    """What is said about them, without the words after the first colon of each."""
    with pytest.raises(BadFile) as bad:
        workflows(*files, model=model)
    assert str(bad.value) == "\n".join(map(str, bad.value.problems))
    return [str(problem) for problem in bad.value.problems]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Who has to start the gateway ten times to find ten errors gives up after three."""
    found = problems("""\
        name: bad
        modell: x
        steps:
          - name: a
            prompt: |
              hello
              {{ nobody }}
            depends_on: [c]
          - name: b
            prompt: "{{ results.zzz }}"
            depends_on: [a, q]
            timout_s: 4
          - name: c
            depends_on: [b]
            prompt: "{% if %}"
          - name: c
            prompt: x
            prompt: y
            timeout_s: "5"
            parameters: {model: x}
          - name: D
            prompt: x
            workflow: other
            retries: 1
    """)
    said = [(int(line.split(":")[1]), line.split(": ", 1)[1]) for line in found]
    expected = [
        (2, "unknown field 'modell'"),
        (7, "step 'a': template: there is no variable 'nobody'"),
        (8, "a cycle: a needs c needs b needs a"),
        (10, "template: results has no 'zzz'"),
        (11, "step 'b' needs 'q', which there is not"),
        (12, "step 'b': unknown field 'timout_s'"),
        (15, "step 'c': template: Expected an expression"),
        (16, "two steps are called 'c'"),
        (18, "the key 'prompt' is here twice"),
        (19, "step 'c': timeout_s: Input should be a valid number"),
        (20, "step 'c': parameters: a step cannot set model"),
        (21, "step 'D': name: a name is a-z, 0-9 and hyphens, 1 to 64 of them"),
        (23, "there is no workflow 'other'"),
        (24, "step 'D' runs a workflow: 'retries' is for the steps of that one"),
    ]
    assert [line for line, _ in said] == [line for line, _ in expected]
    for (_, what), (_, words) in zip(said, expected, strict=True):
        assert what.startswith(words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "1.yaml:1: not YAML: expected the node content"),
        ("name: x\n  y: z", "1.yaml:2: not YAML: mapping values are not allowed here"),
        ("name: x\nsteps: [{prompt: {{ question }}}]", "1.yaml:2: not YAML: found unhashable key; a text"),
        ("", "1.yaml:1: not YAML: the file is empty"),
        ("- a", "1.yaml:1: the file must be a mapping"),
        ("name: x\nsteps: []\nwhen: 2020-99-99", "1.yaml:1: not YAML that can be read"),
        ("name: x\npattern: star\nsteps: []", "1.yaml:2: there is no pattern 'star'; there are"),
        ("name: x\npattern: [graph]", "1.yaml:2: there is no pattern ['graph']"),
        ("name: x", "1.yaml:1: 'steps' is missing"),
        ("name: x\nsteps: []", "1.yaml:2: 'steps' needs at least 1"),
        ("name: x\nsteps: [1]", "1.yaml:2: 'steps': a mapping is wanted here"),
        ("name: x\nsteps: [{name: a}]", "1.yaml:2: step 'a': 'prompt' is missing"),
        ("name: x\nsteps: [{name: a, prompt: 7}]", "1.yaml:2: step 'a': a template is a text"),
        ("name: Ä\nsteps: [{name: a, prompt: x}]", "1.yaml:1: name: a name is a-z, 0-9 and hyphens"),
        ('name: "x\\n"\nsteps: [{name: a, prompt: x}]', "1.yaml:1: name: a name is a-z, 0-9"),
        ("name: x\nsteps: [{name: a, prompt: x, tools: [a b]}]", "1.yaml:2: step 'a': tools: a tool's name"),
        ("name: x\nlimits: 3\nsteps: [{name: a, prompt: x}]", "1.yaml:2: 'limits': a mapping is wanted"),
        (
            "name: x\npattern: debate\nrounds: 1\ndebaters: [{name: a, prompt: x}]\nanswer: 3",
            "1.yaml:4: 'debaters' needs at least 2",
        ),
        (
            "name: x\npattern: publish_subscribe\nrounds: 1\nagents:\n"
            "  - {name: a, prompt: x, topics: []}\nanswer: {name: b, prompt: x}",
            "1.yaml:5: step 'a': 'topics' needs at least 1",
        ),
        ("name: x\nlimits: {calls: 0}\nsteps: [{name: a, prompt: x}]", "1.yaml:2: calls: Input should"),
        ("name: x\nsteps: [{name: a, prompt: x, retries: yes}]", "1.yaml:2: step 'a': retries: Input"),
        ("name: x\nsteps: &a [*a]", "1.yaml:1: not YAML: its aliases make it too large"),
        ("!!python/object:os.system {}", "1.yaml:1: not YAML: could not determine a constructor"),
    ],
)  # fmt: skip
def test_one_thing_that_is_wrong(text: str, said: str) -> None:
    """Each has its own words, on its own line."""
    assert any(line.startswith(said) for line in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            "[{name: a, prompt: x}, {name: b, prompt: x}]",
            ":2: no last step: 'a', 'b' are needed by none; one step must need all the others",
        ),
        ("[{name: a, depends_on: [a], prompt: x}]", ":2: a cycle: a needs a"),
        (
            '[{name: a, prompt: "{{ results.b }}"}, {name: b, depends_on: [a], prompt: x}]',
            ":2: template: 'b' is not over when 'a' starts: it must need it",
        ),
        ("[{name: a, prompt: x, fatal: false}]", ":2: the last step is the answer: its failure is always"),
        ("[{name: a, prompt: x, tools: [t]}]", ":2: step 'a' uses the tool 't', which there is not"),
        (
            '[{name: a-b, prompt: x}, {name: c, depends_on: [a-b], prompt: "{{ results.a-b }}"}]',
            "a name with a hyphen is written results['a-b']",
        ),
        ("[{name: a, workflow: w, prompt: x}]", ":2: a cycle: w nests w"),
    ],
)
def test_a_graph_that_cannot_be_run(steps: str, said: str) -> None:
    """Found when the file is read: no user's request finds it."""
    assert any(said in line for line in problems(f"name: w\nsteps: {steps}"))


def test_a_step_without_a_model_is_found_at_start() -> None:
    """Row 104: `workflow:NAME` is no model that an upstream knows."""
    text = "name: w\nsteps: [{name: a, prompt: x}]"
    said = "1.yaml:2: step 'a' has no model, and neither has the workflow"
    assert problems(text, model=None) == [said]
    assert workflows(f"model: own\n{text}", model=None)["w"].model == "own"
    assert workflows(text, model="given")["w"].model == "given"


def nest(name: str, child: str, depth: int = 2) -> str:
    steps = f"[{{name: a, workflow: {child}, prompt: x}}]"
    return f"name: {name}\nlimits: {{depth: {depth}}}\nsteps: {steps}"


def test_nesting_is_bounded_and_has_no_cycle() -> None:
    """Known before anything runs, with the way there."""
    leaf = "name: leaf\nsteps: [{name: a, prompt: x}]"
    chain = [nest("a", "b"), nest("b", "c"), nest("c", "leaf"), leaf]
    deep = "1.yaml:3: nested 3 deep (a nests b nests c nests leaf), and its limit is 2"
    assert problems(*chain) == [deep]
    assert "a" in workflows(nest("a", "b", 3), *chain[1:])
    circle = "1.yaml:3: a cycle: a nests b nests c nests a"
    assert problems(nest("a", "b"), nest("b", "c"), nest("c", "a")) == [circle]


def test_two_files_of_one_name() -> None:
    """Which of them runs would depend on their order."""
    text = "name: w\nsteps: [{name: a, prompt: x}]"
    assert problems(text, text) == ["2.yaml:1: the workflow 'w' is in 1.yaml already"]


def test_the_version_is_of_all_that_makes_the_answer() -> None:
    """It is in the sharing key: an edit below must not serve what was answered before it."""
    outer, other = nest("outer", "inner"), "name: other\nsteps: [{name: a, prompt: z}]"
    before = workflows(outer, "name: inner\nsteps: [{name: a, prompt: x}]", other)
    after = workflows(outer, "name: inner\nsteps: [{name: a, prompt: y}]", other)
    same = {name for name in before if before[name].version == after[name].version}
    assert same == {"other"}


def test_what_is_no_text_is_refused() -> None:
    """Bytes of another encoding, and a file that nobody can have written by hand."""
    with pytest.raises(BadFile, match=r"x.yaml:1: not UTF-8"):
        read({"x.yaml": b"name: \xff"})
    with pytest.raises(BadFile, match=r"more than 262144 characters"):
        read({"x.yaml": b"#" * 300_000})
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 20))
    with pytest.raises(BadFile, match=r"more than 100 aliases"):
        read({"x.yaml": bomb.encode()})


def test_aliases_and_merges_are_yaml_as_always() -> None:
    """A common part is written once."""
    text = dedent("""
        name: w
        pattern: pipeline
        steps:
          - &base {name: a, prompt: x, retries: 2}
          - {<<: *base, name: b}
          - {name: c, prompt: x}
    """)
    nodes = workflows(text)["w"].graph.nodes
    assert [(node.name, node.step.retries) for node in nodes] == [("a", 2), ("b", 2), ("c", 0)]


def test_a_folder_is_read_and_the_examples_are_right(tmp_path: Path) -> None:
    """Only files that end in .yaml or .yml; and who copies our example starts without an error."""
    (tmp_path / "one.yml").write_text("name: one\nmodel: m\nsteps: [{name: a, prompt: x}]")
    (tmp_path / "notes.txt").write_text("no workflow")
    (tmp_path / "old.yaml").mkdir()
    assert list(read_folder(tmp_path)) == ["one"]
    review = read_folder(EXAMPLES, model="m")["review"]
    assert [node.name for node in review.graph.nodes] == ["correctness", "security", "clarity", "verdict"]
