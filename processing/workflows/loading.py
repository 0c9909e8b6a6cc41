"""A folder of files becomes workflows by name, or a list of everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from processing.files.problems import BadFile, Problem
from processing.files.source import Source
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
}


def read_folder(
    folder: Path, *, model: str | None = None, tools: Collection[str] = ()
) -> dict[str, Workflow]:
    """Every workflow in it, by name. `model` is for steps that name none, as their file.

    Raises BadFile with every problem of every file, OSError if the folder cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    return read({path.name: path.read_bytes() for path in files}, model=model, tools=tools)


def read(
    files: Mapping[str, bytes], *, model: str | None = None, tools: Collection[str] = ()
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
        found, workflow = _read_one(source, content, model, tools)
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
    source: Source, content: bytes, model: str | None, tools: Collection[str]
) -> tuple[list[Problem], Workflow | None]:
    problems = list(raw_problems(source))
    try:
        file = _shape(source)
    except ValidationError as error:
        return [*problems, *_shape_problems(source, error)], None
    except BadFile as bad:
        return [*problems, *bad.problems], None
    if problems:
        return problems, None
    graph = expand(file)
    model = file.model or model
    version = blake2b(content, digest_size=16).hexdigest()
    workflow = Workflow(file.name, file.description, file.pattern, model, file.limits, graph, version)
    return [*_own_model(source, file.model), *graph_problems(source, graph, model, tools)], workflow


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
        yield source.problem(line, _said(source, each["type"], path, each["msg"], each["input"]))


def _said(source: Source, kind: str, path: tuple[int | str, ...], message: str, given: Any) -> str:
    field = next((part for part in reversed(path) if isinstance(part, str)), "")
    where = _step(source, path)
    if kind in _WORDS:
        return where + _WORDS[kind].format(field=path[-1], given=given)
    return f"{where}{field}: {message}" if field and kind != "template" else where + message


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
