"""Every command on a page is run by a test, or is on a short list that says why it cannot be."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from app import cli
from app.gateway import Addresses
from app.main import create_app
from cache.targets import RedisTarget
from config import load
from tests.architecture.pages import pages, prose, quoted, text_of
from tests.architecture.tree import ROOT

#: Page → the test that runs its blocks marked `run`.
RUN_BY = {
    "README.md": "tests/system/test_readme.py",
    "docs/tutorial.md": "tests/system/test_docs_commands.py",
    "docs/conversations.md": "tests/system/test_docs_commands.py",
    "docs/doctor.md": "tests/system/test_docs_commands.py",
    "docs/simulator.md": "tests/system/test_docs_commands.py",
    "docs/tools.md": "tests/system/test_docs_commands.py",
    "docs/workflows.md": "tests/system/test_docs_commands.py",
    "docs/clients.md": "tests/clients/test_recipes.py",
}
INTERFACE = (
    "the shape of an interface, not a program; tests/architecture/test_docs_contracts.py holds its names"
)
#: (page, how the block begins) → why nothing can run it here.
CANNOT = {
    ("README.md", "OPENAI_BASE_URL=http://127.0.0.1:11434/v1 make run"): "a real model, and its key",
    ("README.md", 'make run ARGS="--workers 4"'): "a Redis on another machine; the tutorial runs two workers",
    ("docs/doctor.md", "REDIS_URL=redis://admin:PASSWORD@redis:6379"): "an administrator's password",
    (
        "docs/tracing.md",
        "pip install '.[otel]'",
    ): "an installation; tests/system/test_tracing.py runs what follows it",
    ("docs/design/permits.md", "admission = stage.admit(ticket)"): INTERFACE,
    ("docs/design/contracts.md", "raise QueueFull("): INTERFACE,
    ("docs/design/contracts.md", 'stage = Stage("leaders"'): INTERFACE,
    ("docs/design/contracts.md", "client = ModelClient("): INTERFACE,
    ("docs/design/contracts.md", "lane = FastLane("): INTERFACE,
    ("docs/design/contracts.md", "flights.find(key)"): INTERFACE,
    ("docs/design/contracts.md", "broadcast = broadcasts.open("): INTERFACE,
    ("docs/design/contracts.md", "record, new = await manager.submit("): INTERFACE,
}
SHELLS = ("sh", "bash")
#: What a command calls an argument that is anybody's word.
NAMES = {"name"}
_FENCE = re.compile(r"^ *```(\S*)(?: ([^\n]+))?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[|(]|bin/|=\S+ )\s*refrain((?: [\w=.:/\[\]-]+)+)")
_ADDRESS = re.compile(r"(?:\$R|http://127\.0\.0\.1:8484)(/[\w/.-]*)")


@dataclass(frozen=True)
class Fence:
    """One fenced block; `marks` is what stands behind its language."""

    page: str
    language: str
    marks: tuple[str, ...]
    code: str

    @property
    def runs(self) -> bool:
        return "run" in self.marks

    @property
    def excuse(self) -> str | None:
        reasons = [
            why for (page, start), why in CANNOT.items() if page == self.page and self.code.startswith(start)
        ]
        return reasons[0] if reasons else None


def manuals() -> list[str]:
    """The pages that this is about: the README, and all of docs/."""
    names = [str(path.relative_to(ROOT)) for path in pages()]
    return [name for name in names if name == "README.md" or name.startswith("docs/")]


def fences(page: str) -> list[Fence]:
    found = _FENCE.findall(text_of(page))
    return [Fence(page, language, tuple(marks.split()), code) for language, marks, code in found]


FENCES = [fence for page in manuals() for fence in fences(page)]
COMMANDS = [fence for fence in FENCES if fence.language in (*SHELLS, "python")]


def test_every_block_says_its_language() -> None:
    """One without would be left out of everything below."""
    assert [(fence.page, fence.code[:60]) for fence in FENCES if not fence.language] == []


def test_every_command_is_run_or_on_the_list() -> None:
    """A command that nobody runs is wrong one day, and a reader is the first to know."""
    assert [(one.page, one.code[:60]) for one in COMMANDS if not one.runs and one.excuse is None] == []


def test_the_list_is_as_short_as_it_can_be() -> None:
    """An excuse for a block that is gone, or that runs by now, would cover the next one."""
    listed = {(one.page, start) for one in COMMANDS for page, start in CANNOT if _is(one, page, start)}
    assert listed == set(CANNOT)
    assert [one.code for one in COMMANDS if one.runs and one.excuse] == []


def _is(fence: Fence, page: str, start: str) -> bool:
    return fence.page == page and fence.code.startswith(start)


def test_every_page_with_runnable_blocks_has_a_test_that_runs_them() -> None:
    """The mark alone runs nothing."""
    assert {one.page for one in COMMANDS if one.runs} == set(RUN_BY)
    silent = [page for page, test in RUN_BY.items() if page not in text_of(test)]
    assert silent == []


@pytest.mark.parametrize("fence", COMMANDS, ids=lambda fence: f"{fence.page}: {fence.code[:30].strip()}")
def test_every_block_is_understood(fence: Fence) -> None:
    """Also of those that cannot run here, each can be read by what would run it."""
    if fence.language == "python":
        ast.parse(fence.code)
        return
    check = subprocess.run(["bash", "-n"], input=fence.code, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stderr) == (0, "")


def subcommands(parser: argparse.ArgumentParser, name: str = "refrain") -> Iterator[tuple[str, set[str]]]:
    """Each command as it is typed, with its flags; those that have commands of their own as well."""
    given = {action.dest for action in parser._get_positional_actions()}
    yield name, {*parser._option_string_actions, *given}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from subcommands(inner, f"{name} {word}")


def typed(page: str) -> Iterator[str]:
    """Each line of a shell block, and each quote in the text."""
    for fence in fences(page):
        if fence.language in SHELLS:
            yield from fence.code.splitlines()
    yield from quoted(prose(page))


def unknown(line: str) -> list[str]:
    """The commands of `refrain` in it that there are not, and those with flags that they do not have."""
    known = dict(subcommands(cli._parser()))
    wrong = []
    for words in _COMMAND.findall(line.partition(" #")[0]):
        plain = re.sub(r"[\[\]]", "", words)
        command = "refrain" + re.match(r"(?: [a-z]+)*", plain).group()  # type: ignore[union-attr]
        parent, _, word = command.rpartition(" ")
        if word and parent in known and NAMES & known[parent]:
            command = parent  # its last word is a name of the reader's own
        if command not in known or not set(re.findall(r"--[a-z-]+", plain)) <= known[command]:
            wrong.append(f"refrain{words}")
    return wrong


@pytest.mark.parametrize("page", manuals())
def test_every_refrain_command_and_flag_exists(page: str) -> None:
    """`refrain doctor --call` on a page is a promise that there is such a thing."""
    assert [wrong for line in typed(page) for wrong in unknown(line)] == []


@pytest.mark.parametrize("page", manuals())
def test_every_route_that_a_command_asks_exists(page: str) -> None:
    """Of the gateway's; `/v1` alone is the base address of SDKs."""
    asked = {
        path
        for fence in fences(page)
        for path in _ADDRESS.findall(re.sub(r"\$\([^)]*\)", "x", fence.code))
        if path != "/v1"
    }
    assert {path for path in asked if not any(re.fullmatch(route, path) for route in routes())} == set()


@cache
def routes() -> list[str]:
    """As patterns; the document has all of them."""
    nowhere = Addresses("http://127.0.0.1:9/v1", RedisTarget("unix:///nonexistent/refrain.sock"))
    paths = create_app(load({}), nowhere).openapi()["paths"]
    return [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]


@pytest.mark.parametrize(
    "line",
    [
        "refrain workflow shew brief",
        "refrain doctr",
        "  refrain serve --prot 1",
        ".venv/bin/refrain cache prge",
        "x=1 refrain sim --tls",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    """A search that finds nothing would pass for ever."""
    assert unknown(line)


@pytest.mark.parametrize(
    "line",
    [
        "refrain doctor --call 4 --json",
        "refrain serve --workers 4",
        "PORT=1 refrain check",
        "refrain cache purge",
        "refrain workflow show brief --mermaid",
    ],
)
def test_a_command_that_exists_is_left_alone(line: str) -> None:
    """With and without flags, values, and an environment before it."""
    assert unknown(line) == []
