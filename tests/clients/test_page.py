"""The live page in a real browser: what a visitor does with it, and what it never does."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients.conftest import TOKENS
from tests.clients.visits import tab, visitor
from tests.fakes.eventually import eventually
from tests.faults import FaultProxy, Mode
from tests.system.processes import SimulatorProcess
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import Simulate, Start, calls_of, held

pytestmark = pytest.mark.anyio

ADMIN = "an-admin-key"
TENANT = "key-of-ada-123"


async def test_three_tabs_with_one_question_join_one_broadcast(
    browser: Browser, simulate: Simulate, start: Start
) -> None:
    """Rows 22 and 27 for the eye: each tab says how it got the answer, and how many read it now."""
    simulator = simulate(ttft=0, tps=0, tokens=9)
    gateway = start(simulator, workers=2)
    question = prompt("Who sings the refrain?", hold="tabs", hold_after=3)
    async with visitor(browser) as visiting:
        tabs = [await tab(visiting) for _ in range(3)]
        for number, visit in enumerate(tabs):
            await visit.page.bring_to_front()
            await visit.open(gateway.url)
            await visit.ask(question)
            await visit.shows("article .chip", "a new answer" if number == 0 else "joined an answer")
        await held(simulator, "tabs")
        await tabs[2].shows("article .shared", "3 read it now")
        await tabs[2].shows("#broadcasts tr.mine", "yours")
        assert await tabs[2].page.locator("#broadcasts tbody tr").count() == 1
        simulator.release("tabs")
        assert [await visit.answer() for visit in tabs] == [answer_to(question, 9)] * 3
        await tabs[2].shows('[data-total="joins"] dd', "2 (67 %)")
        assert await tabs[2].total("upstream_calls") == "1"
        assert [visit.complaints for visit in tabs] == [[], [], []]
    assert calls_of(simulator, question) == 1


async def test_stop_and_regenerate(browser: Browser, simulate: Simulate, start: Start) -> None:
    """Row 4 by Escape: the model's call is closed. Row 9: Regenerate asks it, asking again does not."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator)
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask(prompt("stopped", hold="stop", hold_after=2))
        await held(simulator, "stop")
        await visit.page.keyboard.press("Escape")
        await visit.shows("article .status", "stopped")
        await eventually(lambda: simulator.stats()["aborted"] == 1)
        for times, (act, how) in enumerate(
            [("ask", "a new answer"), ("ask", "from the cache"), ("again", "a new answer")], 2
        ):
            if act == "ask":
                await visit.ask("again")
            else:
                await visit.page.locator("article").last.get_by_role("button", name="Regenerate").click()
            await visit.shows(f"article:nth-of-type({times}) .chip", how)
            assert await visit.answer() == answer_to("again", 5)
        assert calls_of(simulator, "again") == 2
        assert visit.complaints == []


async def test_what_the_model_says_is_text(browser: Browser, simulate: Simulate, start: Start) -> None:
    """Row 46, and more: markup of a hostile model is shown, not run; so is that of the question."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    evil = (
        "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\n  & 漢字 🎵"
    )
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask(prompt("<b>bold</b>", text=saying(evil)))
        assert await visit.answer() == evil
        assert await visit.page.locator("article .answer *, article .asked *").count() == 0
        assert await visit.page.title() == "Refrain"
        assert visit.complaints == []


async def test_the_stream_is_resumed_when_the_connection_breaks(
    browser: Browser, simulator: SimulatorProcess, faults: FaultProxy, tag: str
) -> None:
    """Row 43: without a word from the visitor, and without a letter lost or doubled."""
    question = prompt("broken off", hold=tag, hold_after=4)
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(f"http://127.0.0.1:{faults.port}")
        await visit.ask(question)
        await held(simulator, tag)
        await visit.shows("article .answer", answer_to(question, 4).strip())
        faults.mode = Mode.REFUSE
        faults.cut()
        await visit.shows("#health", "connection lost")
        await visit.shows("article .status", "connection lost")
        faults.mode = Mode.PASS
        simulator.release(tag)
        assert await visit.answer() == answer_to(question, TOKENS)
        await visit.shows("#health", "ready")
    assert calls_of(simulator, question) == 1


async def test_the_admin_key_is_asked_for_and_the_tenants_too(
    browser: Browser, simulate: Simulate, start: Start
) -> None:
    """Row 84: nothing of the traffic without the key; it is kept for the tab, and not in the address."""
    gateway = start(simulate(ttft=0, tps=0), ADMIN_KEY=ADMIN, API_KEYS=f"ada:{TENANT}")
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        reply = await visit.page.goto(gateway.url)
        assert reply is not None
        assert reply.status == 401
        await visit.page.fill("#admin-key", "wrong")
        await visit.page.keyboard.press("Enter")
        await visit.shows("#unlock-error", "That is not the admin key.")
        assert await visit.page.locator("#main").is_hidden()
        await visit.page.fill("#admin-key", ADMIN)
        await visit.page.keyboard.press("Enter")
        await visit.page.wait_for_selector("#main:not([hidden])")
        await visit.page.reload()
        await visit.page.wait_for_selector("#main:not([hidden])")
        await visit.ask("whose?")
        await visit.shows("#ask-error", "key")
        await visit.page.fill("#tenant-key", TENANT)
        await visit.ask("mine")
        assert await visit.answer()
        assert ADMIN not in visit.page.url
        assert visit.complaints == []


async def test_a_refusal_says_when_to_come_back(browser: Browser, simulate: Simulate, start: Start) -> None:
    """Row 50 for people: the reason and the seconds, and the page goes on."""
    simulator = simulate(ttft=0, tps=0, tokens=3)
    gateway = start(simulator, MAX_PENDING=1, MAX_CONCURRENT_LLM_STREAMS=1, workers=1)
    async with visitor(browser) as visiting:
        visit = await tab(visiting)
        await visit.open(gateway.url)
        await visit.ask(prompt("holds the model", hold="full"))
        await held(simulator, "full")
        await visit.ask("waits")
        await visit.shows("article:nth-of-type(2) .status", "waiting for the model, place 1")
        await visit.ask("too many")
        await visit.shows("#ask-error", "Try again in")
        simulator.release("full")
        await visit.shows("article:nth-of-type(2) .answer", "Simulated answer")
        assert visit.complaints == []
