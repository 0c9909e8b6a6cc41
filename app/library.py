"""The operator's tools and workflows, read once, before anything is served.

What reads files is loaded only where there are any: schemas and templates are a tenth of a plain start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from config.loading import SettingsError
from config.settings import Settings
from processing.files.problems import BadFile
from processing.files.timers import Outer
from processing.tools import Tool
from processing.tools.module import tools_of
from processing.workflows.naming import PREFIX
from upstream.endpoints import Endpoints

if TYPE_CHECKING:
    from processing.tools.endpoint import HttpCalls
    from processing.workflows.graph import Workflow


@dataclass(frozen=True)
class Library:
    """`workflows` are by name."""

    tools: list[Tool] = field(default_factory=list)
    workflows: dict[str, Workflow] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        """Whether an answer may be meant for one user alone, so that it can't be shared between tenants."""
        return any(tool.options.user_bound for tool in self.tools)


def read_library(settings: Settings, http: HttpCalls) -> Library:
    """Raises SettingsError with everything that is wrong, each with its file and line.

    The headers of endpoints come from this process's environment.
    """
    problems: list[str] = []
    functions = _module_tools(settings, problems)
    tools = [*functions, *_file_tools(settings, http, os.environ, problems)]
    names = [tool.name for tool in tools]
    known = None if problems else names
    problems += [f"There are two tools with the name {name!r}." for name in _repeated(names)]
    problems += _too_slow(functions, _preparing(settings))
    problems += _no_models(settings)
    stateful = {tool.name for tool in tools if tool.options.stateful}
    workflows = _workflows(settings, known, stateful, problems)
    if problems:
        raise SettingsError(problems)
    return Library(tools, workflows)


def check_library(settings: Settings) -> Library:
    """The same for a process that serves nothing."""
    return read_library(settings, Endpoints(1))


def _module_tools(settings: Settings, problems: list[str]) -> list[Tool]:
    if settings.tools is None:
        return []
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as other servers do: an operator's module lies beside them
    try:
        return tools_of(settings.tools)
    except ValueError as error:
        problems.append(f"REFRAIN_TOOLS: {error}.")
        return []


def _file_tools(
    settings: Settings, http: HttpCalls, environ: Mapping[str, str], problems: list[str]
) -> list[Tool]:
    path = settings.tools_file
    if path is None:
        return []
    from processing.tools.loading import load

    try:
        return load(path.name, path.read_text(), environ, http, _preparing(settings))
    except BadFile as bad:
        problems += [f"REFRAIN_TOOLS_FILE: {problem}" for problem in bad.problems]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"REFRAIN_TOOLS_FILE cannot be read ({path}): {_why(error)}.")
    return []


def _workflows(
    settings: Settings, tools: list[str] | None, stateful: set[str], problems: list[str]
) -> dict[str, Workflow]:
    folder = settings.workflows
    if folder is None:
        return {}
    from processing.workflows.around import Around
    from processing.workflows.loading import read_folder

    streaming = Outer("REFRAIN_STREAM_TIMEOUT_S", settings.stream_timeout_s)
    around = Around(_preparing(settings), streaming, stateful)
    try:
        found = read_folder(folder, model=settings.workflow_model, tools=tools, around=around)
        if not found:
            problems.append(f"REFRAIN_WORKFLOWS: there is no .yaml or .yml file in {folder}.")
        return found
    except BadFile as bad:
        problems += [f"REFRAIN_WORKFLOWS: {problem}" for problem in bad.problems]
    except OSError as error:
        problems.append(f"REFRAIN_WORKFLOWS cannot be read ({folder}): {_why(error)}.")
    return {}


def _no_models(settings: Settings) -> Iterator[str]:
    """Both are asked for as they stand: the upstream knows no workflow."""
    for name in ("workflow_model", "prepare_model"):
        if (getattr(settings, name) or "").startswith(PREFIX):
            yield f"REFRAIN_{name.upper()} must be a model, and {getattr(settings, name)!r} is a workflow."


def _preparing(settings: Settings) -> Outer:
    return Outer("REFRAIN_PREPARE_TIMEOUT_S", settings.prepare_timeout_s)


def _too_slow(functions: list[Tool], prepare: Outer) -> Iterator[str]:
    """Of what stands in no file: there is no line to say."""
    for tool in functions:
        if not tool.options.direct_stream and (what := prepare.hides(tool.options.timeout_s)):
            yield f"The tool {tool.name!r}: {what}."


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "it failed") if isinstance(error, OSError) else "it is not UTF-8"
