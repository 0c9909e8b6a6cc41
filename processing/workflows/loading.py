"""A folder of files becomes workflows by name, or a list of everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from processing.files.problems import BadFile, Problem
from processing.files.source import Source
from processing.workflows.around import Around, around_problems, prepared_problems
from processing.workflows.checks import graph_problems, nesting_problems, raw_problems
from processing.workflows.form import FILES
from processing.workflows.graph import Workflow
from processing.workflows.naming import PREFIX
from processing.workflows.patterns import expand

SUFFIXES: Final = frozenset({".yaml", ".yml"})
_WORDS: Final = {
    "extra_forbidden": "unknown field {field!r}",
    "missing": "{field!r} is missing",
    "literal_error": "{field!r} cannot be {given!r}",
    "tuple_type": "{field!r} must be a list, as [a, b]",
    "too_short": "{field!r} needs at least {min_length}",
    "too_long": "{field!r} has at most {max_length}",
    "model_type": "{within!r}: a mapping is wanted here",
}
_NAME: Final = "a name is a-z, 0-9 and hyphens, 1 to 64 of them"
_TOOL_NAME: Final = "a tool's name is a-z, A-Z, 0-9, _ and hyphens, 1 to 64 of them"
_ALONE: Final = Around()


def read_folder(
    folder: Path, *, model: str | None = None, tools: Collection[str] | None = (), around: Around = _ALONE
) -> dict[str, Workflow]:
    """Every workflow in it, by name. `model` is for steps that name none, as their file.

    `tools` are the names of all that there are; None: that is not known, so that none is missed.
    Raises BadFile with every problem of every file, OSError if the folder cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    contents = {path.name: path.read_bytes() for path in files}
    return read(contents, model=model, tools=tools, around=around)


def read(
    files: Mapping[str, bytes],
    *,
    model: str | None = None,
    tools: Collection[str] | None = (),
    around: Around = _ALONE,
) -> dict[str, Workflow]:
    """The same of files that have been read. Raises BadFile."""
    problems: list[Problem] = []
    workflows: dict[str, Workflow] = {}
    sources: dict[str, Source] = {}
    for file, content in files.items():
        try:
            source = Source(file, _text(file, content), "a mapping with a name and steps")
        except BadFile as bad:
            problems += bad.problems
            continue
        found, workflow = _read_one(source, content, model, tools, around)
        problems += found
        name = source.value.get("name")
        if isinstance(name, str):
            if name in sources:
                what = f"the workflow {name!r} is in {sources[name].file} already"
                problems.append(source.problem(source.line(("name",)), what))
                continue
            sources[name] = source
        if workflow is not None:
            workflows[workflow.name] = workflow
    problems += nesting_problems(workflows, sources)
    problems += prepared_problems(workflows, sources, around.prepare)
    if problems:
        raise BadFile(problems)
    return {
        name: replace(workflow, version=_version(name, workflows)) for name, workflow in workflows.items()
    }


def _text(file: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadFile([Problem(file, 1, "not UTF-8")]) from None


def _read_one(
    source: Source, content: bytes, model: str | None, tools: Collection[str] | None, around: Around
) -> tuple[list[Problem], Workflow | None]:
    problems = list(raw_problems(source))
    fitting = around_problems(source, around)
    try:
        file = _shape(source)
    except ValidationError as error:
        return [*problems, *fitting, *_shape_problems(source, error)], None
    except BadFile as bad:
        return [*problems, *bad.problems], None
    if problems:
        return [*problems, *fitting], None
    graph = expand(file)
    model = file.model or model
    version = blake2b(content, digest_size=16).hexdigest()
    workflow = Workflow(file.name, file.description, file.pattern, model, file.limits, graph, version)
    problems += [*_own_model(source, file.model), *graph_problems(source, graph, model, tools), *fitting]
    return problems, workflow


def _own_model(source: Source, model: str | None) -> Iterator[Problem]:
    if model is not None and model.startswith(PREFIX):
        what = "model names no model but a workflow, which a step runs by its field 'workflow'"
        yield source.problem(source.line(("model",)), what)


def _shape(source: Source) -> Any:
    pattern = source.value.get("pattern", "graph")
    if not isinstance(pattern, str) or pattern not in FILES:
        known = ", ".join(FILES)
        what = f"there is no pattern {pattern!r}; there are {known}"
        raise BadFile([source.problem(source.line(("pattern",)), what)])
    return FILES[pattern].model_validate(source.value)


def _shape_problems(source: Source, error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_url=False):
        path = each["loc"]
        if each["type"] == "too_short" and len(each["input"]) >= each["ctx"]["min_length"]:
            continue  # counted without those that have problems of their own
        context = each.get("ctx", {})
        line = source.text_line(path, context["line"]) if "line" in context else source.line(path)
        yield source.problem(line, _step(source, path) + _said(each, path, context))


def _said(error: ErrorDetails, path: tuple[int | str, ...], context: Mapping[str, Any]) -> str:
    kind, message = error["type"], error["msg"]
    field = next((part for part in reversed(path) if isinstance(part, str)), "")
    if kind in _WORDS:
        return _WORDS[kind].format(field=path[-1], within=field, given=error["input"], **context)
    if kind == "string_pattern_mismatch":
        message = _TOOL_NAME if field == "tools" else _NAME
    return f"{field}: {message}" if field and kind != "template" else message


def _step(source: Source, path: tuple[int | str, ...]) -> str:
    """Which step it is, if it is one that has a name."""
    value: Any = source.value
    name = None
    for part in path[:-1]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(value, dict):
            name = value.get("name", name)
    return f"step {name!r}: " if isinstance(name, str) else ""


def _version(name: str, workflows: Mapping[str, Workflow]) -> str:
    """Of the file and of all that it nests: an edit below makes other answers above."""
    found, todo = {name}, [name]
    while todo:
        children = set(workflows[todo.pop()].nested) - found
        found |= children
        todo += children
    versions = sorted((each, workflows[each].version) for each in found)
    return blake2b(repr(versions).encode(), digest_size=16).hexdigest()
