"""Pages typed into terminals, as a reader would: the blocks marked `run`, and the output below them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.servers import free_port
from tests.system.processes import ROOT, workers

MARK: Final = "=== the end of this block"
#: What a block may take, a start included; reached by what hangs.
BLOCK_S: Final = 90.0
#: What the end of a server may take: its drain, and a margin.
DRAIN_S: Final = 45.0
#: What a server prints once it listens.
READY: Final = " is at http://"
#: The addresses on the pages: the gateway's, and the one of a simulated model that a reader starts.
GATEWAY: Final = "127.0.0.1:8484"
MODEL: Final = ("127.0.0.1:8485", "localhost:8485")
_FENCE = re.compile(
    r"^```(sh|python) run(?: (gateway|model))?\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """`terminal`: the one that it keeps busy, or none; `shown`: its output, with … for what may differ."""

    language: str
    terminal: str
    code: str
    shown: str | None

    @property
    def of_workers(self) -> str:
        """What several processes add to what is filtered: the instance's lines, then those of each worker."""
        return "…" if workers() > 1 and "/pipeline |" in self.code else ""

    def script(self) -> str:
        return self.code if self.language == "sh" else f"python3 - <<'PY'\n{self.code}PY\n"


def blocks(page: str) -> list[Block]:
    """The runnable blocks of a page, in order."""
    found = _FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [Block(language, terminal, code, shown or None) for language, terminal, code, shown in found]


def agrees(shown: str, output: str) -> bool:
    """Does the output say what the page shows? `…` stands for anything, also for nothing."""
    pattern = ".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def clone(folder: Path) -> None:
    """A clone that is set up: the repository's own files, and a `.venv` that runs its code."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".venv"):
            (folder / entry.name).symlink_to(entry)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name, module in (("refrain", " -m app.cli"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}"{module} "$@"\n')
        (programs / name).chmod(0o755)
    for stamp in (".made", ".run", ".dev"):
        (folder / ".venv" / stamp).touch()


def _hear_interrupts() -> None:
    """A script's background jobs are begun deaf to Ctrl-C, and so is all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """One bash in `folder`, whose output is read all the time, so that nothing in it waits for a reader."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._lines: list[str] = []
        self._seen = 0
        self._open = True
        self._news = threading.Condition()
        self._bash = subprocess.Popen(
            ["bash", "-eu"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=folder, env=environment, text=True, start_new_session=True, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        self._pump = threading.Thread(target=self._read, daemon=True)
        self._pump.start()

    def type(self, code: str) -> str:
        """The output of code that ends; AssertionError if it fails or hangs."""
        self._write(f"{{\n{code}\n}} </dev/null\nprintf '\\n{MARK}\\n'")
        return self._until(lambda line: line == MARK)

    def start(self, code: str) -> str:
        """The output of a server, up to the address that it listens on. It keeps this terminal busy."""
        self._write(code)
        return self._until(lambda line: READY in line)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it, until all that ran here has ended."""
        running = psutil.Process(self._bash.pid).children(recursive=True) if self._bash.poll() is None else []
        if running:
            os.killpg(self._bash.pid, signal.SIGINT)
        _, left = psutil.wait_procs(running, timeout=DRAIN_S)
        for process in left:
            process.kill()
        self._bash.kill()
        self._bash.wait(10)
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._pump.join(5)
        assert not left, f"Ctrl-C did not end it:\n{self._tail()}"

    def _write(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text + "\n")
        self._bash.stdin.flush()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        with self._bash.stdout as pipe:
            for line in pipe:
                with self._news:
                    self._lines.append(line.rstrip("\r\n"))
                    self._news.notify_all()
        with self._news:
            self._open = False
            self._news.notify_all()

    def _until(self, over: Callable[[str], bool]) -> str:
        """What is new, up to the line that ends it."""
        with self._news:
            begun = self._seen
            while not (self._seen > begun and over(self._lines[self._seen - 1])):
                if self._seen == len(self._lines):
                    assert self._open, f"a command failed:\n{self._tail()}"
                    assert self._news.wait(BLOCK_S), f"nothing more came:\n{self._tail()}"
                else:
                    self._seen += 1
            return "\n".join(self._lines[begun : self._seen]).removesuffix(MARK)

    def _tail(self) -> str:
        return "\n".join(self._lines)[-3000:]


class Desk:
    """A reader's terminals: a shell, and one for each server that the page has started."""

    def __init__(self, folder: Path, **settings: object) -> None:
        clone(folder)
        gateway, model = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self._addresses = {GATEWAY: gateway, **dict.fromkeys(MODEL, model)}
        self._folder = folder
        self._environment = {
            "PATH": f"{folder / '.venv/bin'}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/nonexistent"),
            "PORT": gateway.rpartition(":")[2],
            **{name: str(value) for name, value in settings.items()},
        }
        self._servers: dict[str, Terminal] = {}

    def __enter__(self) -> Desk:
        self._shell = Terminal(self._folder, self._environment)
        return self

    def __exit__(self, *error: object) -> None:
        self._shell.interrupt()
        for server in self._servers.values():
            server.interrupt()

    def type(self, block: Block) -> str:
        """What is printed; a server takes the place of the one that ran in its terminal."""
        code = block.script()
        for shown, real in self._addresses.items():
            code = code.replace(shown, real).replace(
                f"--port {shown[-4:]}", f"--port {real.rpartition(':')[2]}"
            )
        output = self._shell.type(code) if not block.terminal else self._serve(block.terminal, code)
        for shown, real in self._addresses.items():
            output = output.replace(real, shown)
        return output

    def _serve(self, terminal: str, code: str) -> str:
        if terminal in self._servers:
            self._servers.pop(terminal).interrupt()
        server = self._servers[terminal] = Terminal(self._folder, self._environment)
        return server.start(code)


def wrong(page: Sequence[Block], outputs: Sequence[str]) -> list[str]:
    """The blocks that print something else than what the page shows."""
    return [
        f"{block.code}--- shown\n{block.shown}--- got\n{output[:1500]}"
        for block, output in zip(page, outputs, strict=True)
        if block.shown is not None and not agrees(block.shown + block.of_workers, output)
    ]
