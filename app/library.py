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
    tools = [*_module_tools(settings, problems), *_file_tools(settings, http, os.environ, problems)]
    names = [tool.name for tool in tools]
    problems += [f"There are two tools with the name {name!r}." for name in _repeated(names)]
    workflows = {} if problems else _workflows(settings, names, problems)
    problems += _no_models(settings)
    problems += _too_slow(settings, tools, workflows)
    problems += _twice(tools, workflows)
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
        return load(path.name, path.read_text(), environ, http)
    except BadFile as bad:
        problems += [f"REFRAIN_TOOLS_FILE: {problem}" for problem in bad.problems]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"REFRAIN_TOOLS_FILE cannot be read ({path}): {_why(error)}.")
    return []


def _workflows(settings: Settings, tools: list[str], problems: list[str]) -> dict[str, Workflow]:
    if settings.workflows is None:
        return {}
    from processing.workflows.loading import read_folder

    try:
        return read_folder(settings.workflows, model=settings.workflow_model, tools=tools)
    except BadFile as bad:
        problems += [f"REFRAIN_WORKFLOWS: {problem}" for problem in bad.problems]
    except OSError as error:
        problems.append(f"REFRAIN_WORKFLOWS cannot be read ({settings.workflows}): {_why(error)}.")
    return {}


def _no_models(settings: Settings) -> Iterator[str]:
    """Both are asked for as they stand: the upstream knows no workflow."""
    for name in ("workflow_model", "prepare_model"):
        if (getattr(settings, name) or "").startswith(PREFIX):
            yield f"REFRAIN_{name.upper()} must be a model, and {getattr(settings, name)!r} is a workflow."


def _too_slow(settings: Settings, tools: list[Tool], workflows: Mapping[str, Workflow]) -> Iterator[str]:
    """An outer timer that ends first hides the inner one: every failure would carry the wrong name."""
    preparing = ("REFRAIN_PREPARE_TIMEOUT_S", settings.prepare_timeout_s)
    streaming = ("REFRAIN_STREAM_TIMEOUT_S", settings.stream_timeout_s)
    timers = [
        (f"The tool {tool.name!r}", tool.options.timeout_s, preparing)
        for tool in tools
        if not tool.options.direct_stream
    ]
    whole = _called_whole(workflows)
    for workflow in workflows.values():
        graph = workflow.graph
        called = graph.nodes if workflow.name in whole else graph.called()
        what = f"The workflow {workflow.name!r}, step "
        timers += [(f"{what}{node.name!r}", node.step.timeout_s or 0.0, preparing) for node in called]
        if graph.last is not None:
            timers.append((f"{what}{graph.last.name!r}", graph.last.step.timeout_s or 0.0, streaming))
    for what, inner, (name, outer) in timers:
        if inner >= outer:
            yield f"{what}: timeout_s ({inner:g}) must be less than {name} ({outer:g})."


def _called_whole(workflows: Mapping[str, Workflow]) -> set[str]:
    """Those that are nested before some last step: their own last step, too, is called in preparation."""
    found: set[str] = set()
    todo = [node.step.workflow for each in workflows.values() for node in each.graph.called()]
    while todo:
        name = todo.pop()
        if name is not None and name not in found:
            found.add(name)
            todo += workflows[name].nested
    return found


def _twice(tools: list[Tool], workflows: Mapping[str, Workflow]) -> Iterator[str]:
    """A further try of a step would have the effect of its tools again."""
    stateful = {tool.name for tool in tools if tool.options.stateful}
    for workflow in workflows.values():
        for node in workflow.graph.nodes:
            if (node.step.retries or node.step.fallback) and (found := stateful & set(node.step.tools)):
                yield (
                    f"The workflow {workflow.name!r}, step {node.name!r}: with the stateful"
                    f" {', '.join(sorted(found))} it is not run twice: no retries, no fallback."
                )


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "it failed") if isinstance(error, OSError) else "it is not UTF-8"
