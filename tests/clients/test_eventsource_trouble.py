"""EventSource when things go wrong: it resumes by itself where it was cut, and every story has an end."""

from __future__ import annotations

import pytest

from tests.clients.conftest import TOKENS
from tests.clients.listeners import Listen
from tests.fakes.eventually import eventually
from tests.faults import FaultProxy, Mode
from tests.system.client import Client
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import Start, accepted, at_rest, calls_of

pytestmark = pytest.mark.anyio

#: What breaks careless readers of event streams and of JSON, in one text.
NASTY = 'one\ntwo\r\n\r\nthree\rdata: four\n\nid: 5-5\n"quoted" \\ \u2028\u2029 漢字 👩‍🚀 é é \x00 end'


async def test_a_page_that_is_cut_before_the_first_token_comes_back_for_all_of_it(
    gateway: GatewayProcess, simulator: SimulatorProcess, faults: FaultProxy, listen: Listen, tag: str
) -> None:
    """Row 43: a cut while it waits costs nothing: the request is still its own, and begins at the start."""
    question = prompt(f"Cut me {tag}", hold=tag)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(f"http://127.0.0.1:{faults.port}{chat['stream_url']}") as listener:
            await listener.until(lambda seen: "status" in seen.names)
            faults.cut()
            await listener.until(lambda seen: seen.names.count("open") == 2)
            simulator.release(tag)
            await listener.until_closed()
    assert listener.text == answer_to(question, TOKENS)
    assert listener.end["event"] == "done"
    assert calls_of(simulator, question) == 1


@pytest.mark.parametrize("seen", [1, 5, TOKENS - 1])
async def test_a_stream_that_is_cut_in_the_middle_has_no_gap_and_no_echo(
    gateway: GatewayProcess,
    simulator: SimulatorProcess,
    faults: FaultProxy,
    listen: Listen,
    seen: int,
    tag: str,
) -> None:
    """Row 43: cut after the first, the fifth and the last token but one, while the model goes on."""
    question = prompt(f"Cut after {seen} {tag}", hold=tag, hold_after=seen)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(f"http://127.0.0.1:{faults.port}{chat['stream_url']}") as listener:
            await listener.until_text(answer_to(question, seen))
            faults.mode = Mode.REFUSE
            faults.cut()
            await listener.until(lambda listener: "lost" in listener.names)
            simulator.release(tag)
            faults.mode = Mode.PASS
            await listener.until_closed()
    assert listener.text == answer_to(question, TOKENS)
    assert "reset" not in listener.names
    assert listener.end["event"] == "done"
    assert calls_of(simulator, question) == 1


async def test_nothing_in_a_text_breaks_a_frame(
    gateway: GatewayProcess, simulator: SimulatorProcess, listen: Listen, tag: str
) -> None:
    """Row 46: line ends of all kinds, what looks like a field, quotes, emoji and NUL arrive as they were."""
    question = prompt(f"Nasty {tag}", text=saying(NASTY), cut=3)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_closed()
    assert listener.text == NASTY
    assert listener.end["event"] == "done"
    assert calls_of(simulator, question) == 1


async def test_a_broken_answer_ends_with_a_word_and_keeps_its_text(
    gateway: GatewayProcess, listen: Listen, tag: str
) -> None:
    """Row 47: the page gets a `failed` event, not a bare end, and does not come back for ever."""
    question = prompt(f"Break {tag}", truncate=4)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_closed()
        record = await client.record(chat["id"])
    assert listener.end["event"] == "failed"
    assert (listener.end["data"]["code"], listener.end["data"]["retryable"]) == ("upstream_truncated", True)
    assert listener.text == record["text"] == answer_to(question, 4)
    assert record["status"] == "failed"
    await at_rest(gateway)


async def test_a_page_that_is_closed_lets_go_of_the_model(
    simulator: SimulatorProcess, start: Start, listen: Listen, tag: str
) -> None:
    """Row 4, by leaving: whoever closes the tab and does not come back within the grace wants nothing."""
    gateway = start(simulator, ABANDON_GRACE_S=1)
    question = prompt(f"Leave {tag}", stall=2)
    before = simulator.stats()["aborted"]
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        async with listen(gateway.url + chat["stream_url"]) as listener:
            await listener.until_text(answer_to(question, 2))
        await eventually(lambda: simulator.stats()["aborted"] == before + 1)
        await at_rest(gateway)
