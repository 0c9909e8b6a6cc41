"""The operator's tools and workflows: read once, and refused with everything that is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.library import check_library
from config.loading import SettingsError, load

MODULE = "tests.fakes.some_tools"
ENDPOINTS = """
tools:
  - name: weather
    description: The weather.
    url: https://weather.example/now
    method: GET
    time_bound: 60
    timeout_s: {timeout}
    parameters: {{type: object, properties: {{}}}}
"""
FLOW = "name: {name}\npattern: pipeline\nsteps: [{{name: a, prompt: x{rest}}}, {{name: b, prompt: y}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    return tmp_path


def problems(folder: Path, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as wrong:
        check_library(load(environ))
    return [problem.replace(str(folder), "FOLDER") for problem in wrong.value.problems]


def test_without_any_there_is_none() -> None:
    """The default: a plain proxy."""
    library = check_library(load({}))
    assert (library.tools, library.workflows, library.private) == ([], {}, False)


def test_tools_come_from_a_module_and_from_a_file(folder: Path) -> None:
    """Both at once, in that order; one that is for a user makes all answers private."""
    (folder / "tools.yaml").write_text(ENDPOINTS.format(timeout=5))
    environ = {"REFRAIN_TOOLS": f"{MODULE}:TOOLS", "REFRAIN_TOOLS_FILE": str(folder / "tools.yaml")}
    library = check_library(load(environ))
    assert [tool.name for tool in library.tools] == ["letters", "clock", "weather"]
    assert library.private


def test_a_workflow_is_known_by_its_name(folder: Path) -> None:
    """Its steps may name the tools that there are, and take the default model."""
    (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=", tools: [clock]"))
    environ = {"REFRAIN_WORKFLOWS": str(folder / "flows"), "REFRAIN_WORKFLOW_MODEL": "m"}
    assert list(check_library(load(environ | {"REFRAIN_TOOLS": f"{MODULE}:TOOLS"})).workflows) == ["f"]
    (found,) = problems(folder, **environ)
    assert found.startswith("REFRAIN_WORKFLOWS: f.yaml:3: ")
    assert "clock" in found


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    """An operator mends a file once, not once per line."""
    (folder / "tools.yaml").write_text("tools:\n  - name: a\n  - url: 5\n")
    found = problems(
        folder, REFRAIN_TOOLS="nowhere_at_all:TOOLS", REFRAIN_TOOLS_FILE=str(folder / "tools.yaml")
    )
    assert found[0].startswith("REFRAIN_TOOLS: nowhere_at_all cannot be imported (ModuleNotFoundError")
    assert {line.split(":")[2] for line in found[1:]} == {"2", "3"}


def test_what_cannot_be_read_is_said_without_a_trace(folder: Path) -> None:
    """A path that is wrong is the commonest mistake."""
    (folder / "latin.yaml").write_bytes(b"tools: \xe9")
    assert problems(folder, REFRAIN_TOOLS_FILE=str(folder / "none.yaml")) == [
        "REFRAIN_TOOLS_FILE cannot be read (FOLDER/none.yaml): No such file or directory."
    ]
    assert problems(folder, REFRAIN_TOOLS_FILE=str(folder / "latin.yaml")) == [
        "REFRAIN_TOOLS_FILE cannot be read (FOLDER/latin.yaml): it is not UTF-8."
    ]
    assert problems(folder, REFRAIN_WORKFLOWS=str(folder / "none")) == [
        "REFRAIN_WORKFLOWS cannot be read (FOLDER/none): No such file or directory."
    ]


def test_a_folder_without_workflows_is_a_mistake(folder: Path) -> None:
    """It was given for a reason: served without, every `workflow:NAME` would be unknown."""
    (found,) = problems(folder, REFRAIN_WORKFLOWS=str(folder / "flows"))
    assert found == "REFRAIN_WORKFLOWS: there is no .yaml or .yml file in FOLDER/flows."


def test_two_tools_of_one_name_are_refused(folder: Path) -> None:
    """The model could not tell them apart, and one of them would never run."""
    (folder / "tools.yaml").write_text(ENDPOINTS.format(timeout=5).replace("weather\n", "clock\n", 1))
    environ = {"REFRAIN_TOOLS": f"{MODULE}:TOOLS", "REFRAIN_TOOLS_FILE": str(folder / "tools.yaml")}
    assert problems(folder, **environ) == ["There are two tools with the name 'clock'."]


def test_an_inner_timer_that_the_outer_one_hides_is_refused(folder: Path) -> None:
    """Rule 8: every timeout of theirs would be told as one of the preparation."""
    (folder / "tools.yaml").write_text(ENDPOINTS.format(timeout=7))
    (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=", timeout_s: 9"))
    environ = {
        "REFRAIN_TOOLS_FILE": str(folder / "tools.yaml"),
        "REFRAIN_WORKFLOWS": str(folder / "flows"),
        "REFRAIN_WORKFLOW_MODEL": "m",
    }
    check_library(load(environ | {"REFRAIN_PREPARE_TIMEOUT_S": "9.5"}))
    assert problems(folder, **environ, REFRAIN_PREPARE_TIMEOUT_S="7") == [
        "REFRAIN_TOOLS_FILE: tools.yaml:8: tool 'weather': timeout_s (7) must be less than"
        " REFRAIN_PREPARE_TIMEOUT_S (7)",
        "REFRAIN_WORKFLOWS: f.yaml:3: step 'a': timeout_s (9) must be less than"
        " REFRAIN_PREPARE_TIMEOUT_S (7)",
    ]


def test_a_function_that_is_too_slow_stands_on_no_line(folder: Path) -> None:
    """It is told by its name, and with what is wrong in the files."""
    (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=", tools: [clock], timeout: 1"))
    environ = {
        "REFRAIN_TOOLS": f"{MODULE}:TOOLS",
        "REFRAIN_WORKFLOWS": str(folder / "flows"),
        "REFRAIN_WORKFLOW_MODEL": "m",
    }
    assert problems(folder, **environ, REFRAIN_PREPARE_TIMEOUT_S="1") == [
        "The tool 'letters': timeout_s (1) must be less than REFRAIN_PREPARE_TIMEOUT_S (1).",
        "The tool 'clock': timeout_s (1) must be less than REFRAIN_PREPARE_TIMEOUT_S (1).",
        "REFRAIN_WORKFLOWS: f.yaml:3: step 'a': unknown field 'timeout'",
    ]


def test_a_function_that_is_the_answer_may_take_longer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It streams, when the preparation is over."""
    (folder / "my_terms.py").write_text(
        "from processing.tools import tool\n\n\nasync def terms():\n    'Terms.'\n    yield ''\n\n\n"
        "TOOLS = [tool(terms, cacheable=True, direct_stream=True, timeout_s=30)]\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    environ = {"REFRAIN_TOOLS": "my_terms:TOOLS", "REFRAIN_PREPARE_TIMEOUT_S": "30"}
    assert [tool.name for tool in check_library(load(environ)).tools] == ["terms"]


def test_workflows_are_read_where_the_tools_are_wrong(folder: Path) -> None:
    """All at once; but which tools there are is not known then, so that none of them is missed."""
    (folder / "tools.yaml").write_text("tools: []\n")
    (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=", tools: [weather], timeout_s: 99"))
    found = problems(
        folder,
        REFRAIN_TOOLS_FILE=str(folder / "tools.yaml"),
        REFRAIN_WORKFLOWS=str(folder / "flows"),
        REFRAIN_WORKFLOW_MODEL="m",
    )
    assert found == [
        "REFRAIN_TOOLS_FILE: tools.yaml:1: tools is a list with at least one entry",
        "REFRAIN_WORKFLOWS: f.yaml:3: step 'a': timeout_s (99) must be less than"
        " REFRAIN_PREPARE_TIMEOUT_S (60)",
    ]


def test_a_module_beside_the_operator_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As other servers do: the current folder counts."""
    (folder / "my_own_tools.py").write_text(
        "from processing.tools import tool\n\n\ndef now() -> str:\n    'Now.'\n    return ''\n\n\n"
        "TOOLS = [tool(now, time_bound=1, timeout_s=1)]\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [])
    library = check_library(load({"REFRAIN_TOOLS": "my_own_tools:TOOLS"}))
    assert [tool.name for tool in library.tools] == ["now"]


@pytest.mark.parametrize("again", ["retries: 1", "fallback: n"])
def test_a_step_that_may_be_tried_again_has_no_stateful_tool(folder: Path, again: str) -> None:
    """Row 69: each try would have its effect once more; docs/tools.md promises that none does."""
    (folder / "my_orders.py").write_text(
        "from processing.tools import tool\n\n\ndef order() -> str:\n    'Orders.'\n    return ''\n\n\n"
        "def look() -> str:\n    'Looks.'\n    return ''\n\n\n"
        "TOOLS = [tool(order, stateful=True, timeout_s=1), tool(look, cacheable=True, timeout_s=1)]\n"
    )
    environ = {
        "REFRAIN_TOOLS": "my_orders:TOOLS",
        "REFRAIN_WORKFLOWS": str(folder / "flows"),
        "REFRAIN_WORKFLOW_MODEL": "m",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for tools in ("tools: [look, order]", f"tools: [look], {again}"):
            (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=f", {tools}"))
            check_library(load(environ))
        rest = f", tools: [look, order], {again}"
        (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=rest))
        assert problems(folder, **environ) == [
            "REFRAIN_WORKFLOWS: f.yaml:3: step 'a': with the stateful order it is not run twice:"
            f" no {again.split(':')[0]}"
        ]
        patch.delitem(sys.modules, "my_orders")


@pytest.mark.parametrize("name", ["REFRAIN_WORKFLOW_MODEL", "REFRAIN_PREPARE_MODEL"])
def test_a_workflow_is_no_model_of_steps_or_plans(folder: Path, name: str) -> None:
    """The upstream would be asked for a model of that name."""
    (folder / "flows" / "f.yaml").write_text(FLOW.format(name="f", rest=""))
    environ = {"REFRAIN_WORKFLOW_MODEL": "m", "REFRAIN_WORKFLOWS": str(folder / "flows")}
    assert problems(folder, **(environ | {name: "workflow:f"})) == [
        f"{name} must be a model, and 'workflow:f' is a workflow."
    ]
    check_library(load(environ | {name: "workflow"}))


TIMERS = {
    "REFRAIN_WORKFLOW_MODEL": "m",
    "REFRAIN_TOOLS": f"{MODULE}:TOOLS",
    "REFRAIN_PREPARE_TIMEOUT_S": "20",
    "REFRAIN_STREAM_TIMEOUT_S": "40",
    "REFRAIN_FIRST_TOKEN_TIMEOUT_S": "30",
    "REFRAIN_STREAM_IDLE_TIMEOUT_S": "30",
    "REFRAIN_SEND_TIMEOUT_S": "20",
}


@pytest.mark.parametrize(
    ("rest", "outer"),
    [
        ("timeout_s: 40", ["STREAM"]),
        ("timeout_s: 20, tools: [clock]", ["PREPARE"]),
        ("timeout_s: 50, tools: [clock]", ["PREPARE", "STREAM"]),
    ],
)
def test_the_time_of_a_last_step_is_less_than_that_around_it(
    folder: Path, rest: str, outer: list[str]
) -> None:
    """It bounds the rounds of its tools, in preparation, and the stream: either timer may hide it."""
    (folder / "flows" / "f.yaml").write_text(f"name: f\nsteps: [{{name: a, prompt: x, {rest}}}]\n")
    found = problems(folder, REFRAIN_WORKFLOWS=str(folder / "flows"), **TIMERS)
    assert [each.rpartition("REFRAIN_")[2].split("_")[0] for each in found] == outer


def test_the_last_step_of_a_workflow_that_is_called_whole_is_prepared(folder: Path) -> None:
    """However deep it is nested before the end of another."""
    flows = {
        "f": "[{name: a, prompt: x, timeout_s: 25}]",
        "g": "[{name: b, workflow: f, prompt: x}]",
        "h": "[{name: c, workflow: g, prompt: x}, {name: d, depends_on: [c], prompt: y}]",
    }
    for name, steps in flows.items():
        (folder / "flows" / f"{name}.yaml").write_text(f"name: {name}\nsteps: {steps}\n")
    (found,) = problems(folder, REFRAIN_WORKFLOWS=str(folder / "flows"), **TIMERS)
    assert found == (
        "REFRAIN_WORKFLOWS: f.yaml:2: step 'a': timeout_s (25) must be less than"
        " REFRAIN_PREPARE_TIMEOUT_S (20), since 'h' calls this workflow before its answer"
    )
