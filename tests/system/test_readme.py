"""The README's five minutes, as a new user types them: one shell, block after block, output compared."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.processes import GatewayProcess, workers

README = Path(__file__).resolve().parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8484"
MARK = "=== block"
_FENCE = re.compile(r"^```(sh|python) run\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block marked as runnable; `shown` is the output printed below it, with … for what may differ."""

    language: str
    code: str
    shown: str | None

    @property
    def of_workers(self) -> str:
        """What several processes add to what is filtered: the instance's lines, then those of each worker."""
        return "…" if workers() > 1 and "/pipeline |" in self.code else ""

    def script(self) -> str:
        return self.code if self.language == "sh" else f"{sys.executable} - <<'PY'\n{self.code}PY\n"


def blocks() -> list[Block]:
    """The runnable blocks of the README, in order."""
    found = _FENCE.findall(README.read_text(encoding="utf-8"))
    return [Block(language, code, shown or None) for language, code, shown in found]


def agrees(shown: str, output: str) -> bool:
    """Does the output say what the README shows? `…` stands for anything, also for nothing."""
    pattern = ".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def run_all(address: str) -> list[str]:
    """The output of each block, all of them typed into one shell."""
    marked = [f"printf '\\n{MARK} {number}\\n'\n{block.script()}" for number, block in enumerate(blocks())]
    script = "set -eu\n" + "\n".join(marked).replace(ADDRESS, address)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return re.split(rf"\n{MARK} \d+\n", done.stdout.replace("\r", ""))[1:]


@pytest.fixture(scope="module")
def outputs() -> Iterator[list[str]]:
    """What a new user sees, block by block."""
    # Not five seconds of grace: on a busy machine curl may take long to come back for the rest.
    gateway = GatewayProcess(ABANDON_GRACE_S=60)
    try:
        yield run_all(gateway.url)
    finally:
        gateway.kill()


def test_every_command_of_the_readme_shows_what_it_promises(outputs: list[str]) -> None:
    """A new user's first five minutes: no command fails, and each prints what the page prints below it."""
    assert len(outputs) == len(blocks())
    wrong = [
        f"{block.code}--- shown\n{block.shown}--- got\n{output[:1500]}"
        for block, output in zip(blocks(), outputs, strict=True)
        if block.shown is not None and not agrees(block.shown + block.of_workers, output)
    ]
    assert not wrong, "\n".join(wrong)


def test_resuming_as_the_readme_does_gives_exactly_the_rest(outputs: list[str]) -> None:
    """The page says so and its own commands prove it: the second connection goes on where the first ended."""
    [resume] = [output for block, output in zip(blocks(), outputs, strict=True) if "seen=" in block.code]
    seen = int(re.findall(r"seen up to \d+-(\d+)", resume)[0])
    ids = [int(number) for number in re.findall(r"^id: \d+-(\d+)$", resume, re.MULTILINE)]
    assert seen > 0
    assert ids == [seen, *range(seen + 1, ids[-1] + 1)]
    assert resume.rstrip().endswith(f"-{ids[-1]}")
    assert resume.count("event: done") == 1


def test_the_readme_has_its_runnable_blocks() -> None:
    """A fence that is written differently would be left out of the tests above in silence."""
    text = README.read_text(encoding="utf-8")
    assert len(blocks()) == len(re.findall(r"^```\w+ run$", text, re.MULTILINE)) >= 9
    assert {block.language for block in blocks()} == {"sh", "python"}


@pytest.mark.parametrize(
    ("shown", "output", "expected"),
    [
        ("id: …-0\n", "id: 17-0", True),
        ("a\n…c", "a\nb\nc", True),
        ("a\n…c", "a\nb", False),
        ("status", "statuses", False),
    ],
)
def test_the_comparison_can_fail(shown: str, output: str, expected: bool) -> None:
    """What is not elided has to be there, letter by letter."""
    assert agrees(shown, output) is expected
