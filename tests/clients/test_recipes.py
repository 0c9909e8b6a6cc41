"""The recipes of docs/clients.md, run as they stand: what a reader copies works."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest
import yaml
from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients import litellm_proxy
from tests.clients.scripts import HERE, environment
from tests.fakes.eventually import eventually
from tests.system.processes import ROOT, GatewayProcess
from tests.system.typed import agrees

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^```(\w+ \w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8484"
BLOCKS: list[tuple[str, str, str]] = _FENCE.findall(PAGE)
PROGRAMS = {
    "sh run": ("bash", "-euc"),
    "python run": (sys.executable, "-c"),
    "js run": (shutil.which("node") or "node", "--input-type=module", "-e"),
}


def test_every_kind_of_recipe_is_found() -> None:
    """A pattern that finds nothing would run nothing."""
    kinds = [kind for kind, _, _ in BLOCKS]
    assert {*kinds} == {*PROGRAMS, "js browser", "yaml litellm"}
    assert all(shown for kind, _, shown in BLOCKS if kind != "yaml litellm")


@pytest.mark.parametrize(
    ("kind", "code", "shown"),
    [
        pytest.param(*block, id=f"{block[0]} {number}")
        for number, block in enumerate(BLOCKS)
        if block[0] in PROGRAMS
    ],
)
async def test_a_recipe_prints_what_the_page_shows(
    gateway: GatewayProcess, kind: str, code: str, shown: str
) -> None:
    """Row 86: the code of the page, with the address alone replaced."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[kind],
        code.replace(ADDRESS, gateway.url),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=environment(),
        cwd=HERE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        printed = (await process.stdout.read()).decode()
        status = await process.wait()
    assert status == 0, printed
    assert agrees(shown, printed), printed


async def test_the_recipe_for_a_page_runs_in_one(gateway: GatewayProcess, browser: Browser) -> None:
    """Rows 1 and 2: pasted into a page of the same origin, it shows the answer and the server closes it."""
    ((_, code, shown),) = [block for block in BLOCKS if block[0] == "js browser"]
    printed: list[str] = []
    page = await browser.new_page()
    page.on("console", lambda said: printed.extend([said.text] if said.type == "log" else []))
    await page.goto(gateway.url + "/healthz")
    await page.evaluate(f"async () => {{ {code} }}")
    await eventually(lambda: "closed" in printed, within=30)
    assert agrees(shown, "\n".join(printed)), printed
    await page.close()


def test_the_recipe_for_litellm_is_what_the_tests_run() -> None:
    """Row 86: its switches are those that tests/clients/test_litellm.py has been run with."""
    ((_, text, _),) = [block for block in BLOCKS if block[0] == "yaml litellm"]
    recipe = yaml.safe_load(text)
    (deployment,) = recipe.pop("model_list")
    assert recipe == litellm_proxy.SWITCHES
    assert (
        deployment["litellm_params"]
        == litellm_proxy.deployment("refrain-sim", ADDRESS + "/v1")["litellm_params"]
    )
