"""Preparation on the live page: who sees it sees what an answer waits for, and what it has cost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients.test_page_load import AXE
from tests.clients.visits import DESKTOP, PHONE, Visit, tab, visitor
from tests.system.client import Client
from tests.system.flows import every_pattern, write
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import prompt
from tests.system.scene import Simulate, Start, accepted, held
from tests.system.workplace import TOOLS, Workplace, calling

pytestmark = pytest.mark.anyio

REVIEW = """
    name: review
    pattern: fork_join
    branches:
      - {name: style, prompt: "Style: {{ question }} [[sim hold=style]]"}
      - {name: errors, prompt: "Errors: {{ question }} [[sim status=400]]"}
    answer: {name: verdict, prompt: "Verdict: {{ results.style }}"}
    """


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=20)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def cells(visit: Visit, tool: str) -> list[str]:
    found = visit.page.locator(f'[data-tool="{tool}"] td')
    return [str(text) for text in await found.all_text_contents()]


async def test_without_tools_and_steps_there_is_nothing_of_it(
    browser: Browser, simulator: SimulatorProcess, start: Start
) -> None:
    """A proxy stays a proxy: no empty card, no choice of one."""
    gateway = start(simulator, workers=1)
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask("plain")
        assert await visit.answer()
        assert await visit.page.locator("#preparation").is_hidden()
        assert await visit.page.locator("#model-row").is_hidden()
        assert await visit.page.locator('[data-stage="tools"], .costs').count() == 0
        assert visit.complaints == []


async def test_turns_that_wait_are_seen(browser: Browser, simulator: SimulatorProcess, start: Start) -> None:
    """They are in no stage: without this an operator would see nothing of them."""
    gateway = start(simulator, workers=2)
    async with visitor(browser) as visiting, Client(gateway.url) as client:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        for words in ("first", "second", "third"):
            await accepted(client, prompt(words, hold="gate"), conversation_id="one")
        await visit.shows(".steps li", "behind the turn before 2")
        await client.call("POST", "/conversations/one/cancel")
        await visit.shows(".steps li", "No step is under way.")
        assert visit.complaints == []


async def test_tools_are_seen_at_work(
    browser: Browser, simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Rows 81 and 79 for the eye: which run, which wait, how often; and what each call has taken."""
    gateway = start(simulator, workers=2, TOOLS=TOOLS)
    calls = [work("narrow", name, door="door") for name in ("a", "b", "c", "d", "e", "e")]
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask(calling("Who is there?", *calls))
        await work.filled(4)
        await visit.shows('[data-tool="narrow"] .queue', "1")
        assert await cells(visit, "narrow") == ["narrow", "4 of 8", "1", "0", "0"]
        await visit.shows(".steps li", "tools 1")
        await visit.shows("#broadcasts tr.mine", "being prepared: tools")
        await visit.shows("article .status", "being prepared: tools")
        await visit.shows('[data-stage="tools"] .numbers', "4 of 64")
        work.open("door")
        assert "The tool said: e was found" in await visit.answer()
        await visit.shows('[data-tool="narrow"] td:nth-child(4)', "6")
        assert (await cells(visit, "narrow"))[-1] == "1"
        await visit.shows(".steps", "No step is under way.")
        await visit.shows("article .costs summary", "Prepared by 6 tool calls")
        assert await visit.page.locator("article .costs li").first.is_hidden()
        await visit.page.locator("article .costs summary").click()
        await visit.shows("article .costs li", "narrow")
        assert visit.complaints == []


async def test_a_workflow_is_chosen_watched_and_accounted_for(
    browser: Browser, simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Row 104 for the eye: every step under way, then each with its cost, the failed one with its reason."""
    gateway = start(simulator, workers=1, WORKFLOWS=write(tmp_path, "review", REVIEW), WORKFLOW_MODEL="m")
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.page.select_option("#model", "workflow:review")
        await visit.ask("code")
        await held(simulator, "style")
        await visit.shows(".steps li", "style 1")
        assert await visit.page.locator('[aria-label="Tools"]').is_hidden()
        simulator.release("style")
        assert await visit.answer()
        await visit.shows("article .costs summary", "Prepared by 3 steps")
        await visit.page.locator("article .costs summary").click()
        said = [str(text) for text in await visit.page.locator("article .costs li").all_text_contents()]
        assert [line.split()[0] for line in said] == ["style", "errors", "verdict"]
        assert "20 said" in said[0]
        assert "failed" in said[1]
        assert "upstream_rejected" in said[1]
        assert said[2] == "verdict this answer"
        asked = simulator.stats()["calls"]
        await visit.page.select_option("#model", "")
        await visit.page.get_by_role("button", name="Regenerate").click()
        await visit.shows("article:nth-of-type(2) .costs", "3 steps")
        assert simulator.stats()["calls"] > asked, "the same workflow again, whatever is chosen meanwhile"
        assert visit.complaints == []


async def _prepared(visit: Visit, gateway: GatewayProcess, work: Workplace) -> None:
    """An answer with costs, another one in its tools, and a row of each kind of note."""
    await visit.open(gateway.url)
    await visit.page.select_option("#model", "workflow:nested")
    await visit.ask("below")
    assert await visit.answer()
    await visit.page.locator("article .costs summary").click()
    await visit.page.select_option("#model", "")
    await visit.ask(calling("Later", *(work("narrow", f"n{number}", door="door") for number in range(9))))
    await visit.shows('[data-tool="narrow"] .queue', "5")
    await visit.shows(".steps li", "tools 1")


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nobody_is_kept_out_of_it(
    browser: Browser, simulator: SimulatorProcess, start: Start, work: Workplace,
    tmp_path: Path, size: str, scheme: str,
) -> None:  # fmt: skip
    """Contrast, names and reachability by axe-core's rules; on a phone nothing is wider than the phone."""
    folder = every_pattern(tmp_path / "flows")
    options = {**(DESKTOP if size == "desktop" else PHONE), "color_scheme": scheme, "bypass_csp": True}
    gateway = start(simulator, workers=1, TOOLS=TOOLS, WORKFLOWS=folder, WORKFLOW_MODEL="m")
    async with visitor(browser, **options) as visiting, asyncio.TaskGroup() as group:
        visit = await tab(visiting)
        group.create_task(_open(simulator))
        await _prepared(visit, gateway, work)
        assert await visit.page.evaluate("innerWidth") == options["viewport"]["width"]
        assert await visit.fits()
        await visit.page.add_script_tag(path=str(AXE))
        judged = await visit.page.evaluate("axe.run()")
        found = [(one["id"], [node["target"] for node in one["nodes"]]) for one in judged["violations"]]
        assert found == []
        work.open("door")
        assert await visit.answer()


async def _open(simulator: SimulatorProcess) -> None:
    """The last step of the nested workflow waits at `end`."""
    await held(simulator, "end")
    simulator.release("end")
