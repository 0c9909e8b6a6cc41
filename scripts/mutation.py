"""Runs tests against mutants, in forked children of two kinds of process.

One has collected all tests: a child changes one function where it stands and runs some of them, within
milliseconds. What is decided on import (tables, constants, defaults) needs a fresh one: there the parent has
imported all libraries but nothing of ours, and a child imports the program with one module replaced.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from scripts.mutants import Mutant

LIBRARIES = (
    "anyio.pytest_plugin", "aiohttp", "hypothesis", "hypothesis.extra", "msgspec", "openai", "orjson",
    "prometheus_client", "redis.asyncio", "starlette.applications", "uvicorn", "zstandard",
)  # fmt: skip
#: What a mutant may take beyond thrice its tests' own time; the wall is for one that only waits.
CPU_S, WALL_S, MEMORY = 3, 60, 4 << 30
Lines = dict[str, dict[str, list[int]]]  #: path → test → its lines
# The importing above is on purpose; pytest says that it comes too early.
_QUIET = [
    "-q",
    "-s",
    "-p",
    "no:cacheprovider",
    "--tb=line",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
]


def prepare(tree: Path) -> None:
    """Everything in this process that its children are to have."""
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = False
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError:
            continue  # it only saves time
    gc.collect()
    gc.freeze()


def fork(work: Callable[[], int]) -> int:
    """The pid of a child that does `work` and exits with its result."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        code = work()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        sys.stdout.flush()
        os._exit(code)


def judge(mutant: Mutant, tests: Sequence[str], own_s: float) -> int:
    """In a fresh child: pytest's exit status for `tests` with the mutant's module in place."""
    _bounded(own_s)
    _replace(mutant)
    return int(pytest.main([*_QUIET, "-x", *tests]))


class Collected:
    """A pytest plugin: instead of running the tests it does `work`, which may `judge` in children."""

    def __init__(self, work: Callable[[Collected], None]) -> None:
        self._work = work
        self._session: pytest.Session | None = None
        self._functions: list[FunctionType] = []

    def run(self, folders: Sequence[str]) -> int:
        return int(pytest.main([*_QUIET, *folders], plugins=[self]))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._session = session
        gc.collect()
        # Now: what is frozen is not found any more.
        self._functions = [one for one in gc.get_objects() if isinstance(one, FunctionType)]
        gc.freeze()
        self._work(self)
        return True

    def judge(self, mutant: Mutant, tests: Sequence[str], own_s: float) -> int:
        """In a child: 0 if all pass with the mutant's functions in place, 1 as soon as one fails."""
        assert self._session is not None
        _bounded(own_s)
        _exchange(mutant, self._functions)
        by_id = {item.nodeid: item for item in self._session.items}
        items = [by_id[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._session.testsfailed:
                return 1
        return 0


def _bounded(own_s: float) -> None:
    """From here on this process says nothing, and neither eats nor sleeps for ever."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bound = int(CPU_S + 3 * own_s)
    resource.setrlimit(resource.RLIMIT_CPU, (bound, bound))
    signal.alarm(WALL_S + 3 * bound)


def _exchange(mutant: Mutant, functions: Iterable[FunctionType]) -> None:
    """Gives the functions of the mutant's module the mutant's code."""
    path = str(Path(mutant.path).resolve())
    module = compile(mutant.source, path, "exec", dont_inherit=True)
    fresh = {(code.co_qualname, code.co_firstlineno): code for code in _codes(module)}
    changed = 0
    for function in functions:
        old = function.__code__
        if old.co_filename == path:
            function.__code__ = fresh.get((old.co_qualname, old.co_firstlineno), old)
            changed += function.__code__ != old
    assert changed, "no function differs"


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _replace(mutant: Mutant) -> None:
    original = importlib.machinery.SourceFileLoader.get_code
    path = str(Path(mutant.path).resolve())

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        if self.path == path:
            return compile(mutant.source, path, "exec", dont_inherit=True)
        return original(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def watch(folders: Sequence[str], packages: Sequence[str], into: Path) -> int:
    """In a child: which test executes which lines of `packages`, and how long it takes. Exit status."""
    watcher = _Watcher([str(Path(package).resolve()) + os.sep for package in packages])
    with redirect_stdout(io.StringIO()) as said:
        code = int(pytest.main([*_QUIET, *folders], plugins=[watcher]))
    if code:
        print(said.getvalue()[-4000:])
    here = str(Path.cwd()) + os.sep
    lines: Lines = {}
    for (path, test), numbers in watcher.lines.items():
        lines.setdefault(path.removeprefix(here), {})[test] = sorted(numbers)
    into.write_text(json.dumps({"lines": lines, "seconds": watcher.seconds}))
    return code


class _Watcher:
    """A pytest plugin. Lines outside of any test (imports) are nobody's."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self.lines: dict[tuple[str, str], set[int]] = {}
        self.seconds: dict[str, float] = {}
        self._prefixes = tuple(prefixes)
        self._test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._test = item.nodeid
        begun = time.process_time()
        sys.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.process_time() - begun

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(self._prefixes) or frame.f_code.co_name == "<module>":
            return None
        numbers = self.lines.setdefault((path, self._test), set())

        def step(frame: FrameType, event: str, arg: object) -> Any:
            if event == "line":
                numbers.add(frame.f_lineno)
            return step

        return step
