"""A file of endpoints becomes tools, or a list of all that is wrong with it, each with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from processing.files.problems import BadFile, Problem
from processing.files.source import Source
from processing.files.timers import UNBOUNDED, Outer
from processing.tools.endpoint import HttpCalls, endpoint_tool
from processing.tools.form import Endpoint, entry_faults
from processing.tools.tool import Tool

_WORDS: Final = {
    "extra_forbidden": "there is no field {field!r}",
    "missing": "{field} is missing",
    "string_too_short": "{field} is empty",
    "dict_type": "{field} is a mapping",
    "model_type": "an entry is a mapping, with name, description and url",
}


def load(
    file: str, text: str, environment: Mapping[str, str], http: HttpCalls, prepare: Outer = UNBOUNDED
) -> list[Tool]:
    """The tools of one file, whose name is for the messages. `environment` is where headers come from.

    The file is a mapping with `tools`, a list of entries (see `form.Endpoint`). `prepare` is the timer around
    their runs. Raises BadFile.
    """
    source = Source(file, text, "a mapping with tools, a list")
    problems = list(source.repeated())
    tools: list[Tool] = []
    names: set[str] = set()
    for position, entry in enumerate(_entries(source, problems)):
        path = ("tools", position)
        endpoint = _endpoint(source, path, entry, prepare, problems)
        if endpoint is None:
            continue
        if endpoint.name in names:
            what = f"there are two tools with the name {endpoint.name!r}"
            problems.append(_at(source, (*path, "name"), what))
        names.add(endpoint.name)
        found, headers = _headers(source, path, endpoint, environment)
        problems += found
        if not problems:
            tools.append(endpoint_tool(endpoint, headers, http))
    if problems:
        raise BadFile(problems)
    return tools


def _entries(source: Source, problems: list[Problem]) -> Sequence[Any]:
    unknown = [name for name in source.value if name != "tools"]
    problems += [_at(source, (name,), f"there is no field {name!r}, only tools") for name in unknown]
    entries = source.value.get("tools")
    if isinstance(entries, list) and entries:
        return entries
    problems.append(_at(source, ("tools",), "tools is a list with at least one entry"))
    return []


def _endpoint(
    source: Source, path: tuple[str | int, ...], entry: Any, prepare: Outer, problems: list[Problem]
) -> Endpoint | None:
    """The entry, if nothing is wrong with it."""
    try:
        endpoint = Endpoint.model_validate(entry)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            at = (*path, *each["loc"], *_field(each.get("ctx", {})))
            problems.append(_at(source, at, _named(entry, _said(each["type"], at, each["msg"]))))
        return None
    faults = entry_faults(endpoint, prepare)
    found = [_at(source, (*path, *at), _named(entry, what)) for at, what in faults]
    problems += found
    return None if found else endpoint


def _headers(
    source: Source, path: tuple[str | int, ...], endpoint: Endpoint, environment: Mapping[str, str]
) -> tuple[list[Problem], dict[str, str]]:
    problems: list[Problem] = []
    headers: dict[str, str] = {}
    for header, variable in endpoint.headers.items():
        value = environment.get(variable, "")
        if value and value.isascii() and value.isprintable():
            headers[header] = value
        else:
            what = "holds what no header may carry" if value else "is not set"
            at = (*path, "headers", header)
            problems.append(_at(source, at, f"tool {endpoint.name!r}: the variable {variable} {what}"))
    return problems, headers


def _at(source: Source, path: Sequence[str | int], what: str) -> Problem:
    return source.problem(source.line(path), what)


def _field(context: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(context.get("field"), str):
        yield context["field"]


def _said(kind: str, path: tuple[str | int, ...], message: str) -> str:
    if kind in _WORDS:
        return _WORDS[kind].format(field=path[-1])
    return _unfit(path[2:]) if kind == "string_pattern_mismatch" else f"{path[-1]}: {message}"


def _unfit(path: tuple[str | int, ...]) -> str:
    """A text that is not what its place, within the entry, needs."""
    if path[0] == "name":
        return "name: a name is a-z, A-Z, 0-9, _ and hyphens, 1 to 64 of them"
    if path[0] == "description":
        return "description is empty"
    if len(path) > 2:
        return f"headers: no header can be called {path[1]!r}"
    return f"{path[1]}: a header's value is the name of an environment variable that holds it"


def _named(entry: Any, what: str) -> str:
    """Which tool it is, if it has a name."""
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"tool {name!r}: {what}" if isinstance(name, str) else what
