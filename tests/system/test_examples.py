"""The worked examples, each started by its one command, as their pages say, and tried as they say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Reply
from tests.system.example import Example
from tests.system.processes import workers
from tests.system.prompts import prompt, saying
from tests.system.scene import SOON_S, Simulate, accepted, held
from tests.system.typed import Desk, blocks, wrong

pytestmark = pytest.mark.anyio

Serve = Callable[..., Example]
PAGES = ("examples/review/README.md", "examples/chatbot/README.md")
QUESTION = "My orders, and the weather in Paris?"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve("review", OPENAI_BASE_URL=…)` types `make example-review` in a fresh clone."""
    with ExitStack() as stack:

        def start(name: str, **settings: object) -> Example:
            folder = tmp_path / name
            folder.mkdir()
            example = Example(folder, name, **settings)
            stack.callback(example.stop)
            return example

        yield start


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_prints_what_it_shows(tmp_path: Path, page: str) -> None:
    """Whoever types the page from its beginning to its end sees what it promises."""
    typed = blocks(page)
    assert len(typed) >= 4
    with Desk(tmp_path, REFRAIN_ABANDON_GRACE_S=60, WEB_CONCURRENCY=workers()) as desk:
        assert wrong(typed, [desk.type(block) for block in typed]) == []


@pytest.mark.parametrize(("name", "said"), [("review", "Simulated answer"), ("chatbot", "a kettle")])
def test_what_it_prints_can_be_pasted(serve: Serve, name: str, said: str) -> None:
    """A command that is shown and does not work is worse than none: curl's, and the SDK's lines."""
    example = serve(name)
    curl, script = _printed(example, "curl "), _printed(example, "from openai ")
    for command in (["bash", "-eu", "-c", curl], [sys.executable, "-c", script]):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert said in ran.stdout, ran.stderr


def _printed(example: Example, begin: str) -> str:
    """The paragraph that begins so."""
    found = re.search(rf"^{begin}.*?\n\n", example.printed, re.DOTALL | re.MULTILINE)
    assert found is not None, example.printed
    return found.group()


def test_a_review_by_a_real_model_wants_to_know_which(tmp_path: Path) -> None:
    """Its name has no sensible default: said at the start, not by a failed step."""
    ran = subprocess.run(
        ["bash", "examples/review/run"],
        env={"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ran.returncode, "REFRAIN_WORKFLOW_MODEL" in ran.stderr) == (2, True)


async def test_three_reviewers_at_once_and_the_verdict_streams(simulate: Simulate, serve: Serve) -> None:
    """Issue part 7: all three run together, the last step streams, the record has the cost of each."""
    simulator = simulate(ttft=0, tps=0)
    example = serve("review", OPENAI_BASE_URL=simulator.base_url, REFRAIN_WORKFLOW_MODEL="refrain-sim")
    # What the reviewers say is in the prompt of the verdict: it says the same, and stops in the middle.
    report = "[[sim hold=verdict hold_after=3 cut=4]]"
    code = prompt("def f(): ...", hold="reviews", text=saying(report), tokens=20)
    async with Client(example.url) as client:
        chat = await accepted(client, code, model="workflow:review")
        async with client.listening(chat["stream_url"]) as (_, events, _):
            await held(simulator, "reviews", 3)
            simulator.release("reviews")
            begun = [event async for event in _until(events, "delta")]
            await held(simulator, "verdict", 1)
            assert "done" not in [event.name for event in begun]
            simulator.release("verdict")
            rest = [event async for event in events]
        record = await client.record(chat["id"])
    text = "".join(event.json["text"] for event in [*begun, *rest] if event.name == "delta")
    assert (text, rest[-1].name) == (report, "done")
    assert simulator.stats()["peak"] == 3
    steps = record["preparation"]["workflow"]["steps"]
    assert [step["step"] for step in steps] == ["correctness", "security", "clarity", "verdict"]
    assert all(step["calls"] == 1 and step["completion_tokens"] > 0 for step in steps[:3]), steps
    assert all(step["seconds"] > 0 and step["prompt_tokens"] > 0 for step in steps[:3]), steps
    assert record["usage"]["completion_tokens"] > 0


async def _until(events: Any, name: str) -> Any:
    """Up to the first of that name, itself included."""
    async for event in events:
        yield event
        if event.name == name:
            return


async def test_an_answer_with_the_weather_is_kept_for_its_minute(serve: Serve, simulate: Simulate) -> None:
    """Row 12: what is time-bound is served from the cache as long as it holds, and not a day."""
    example = serve("chatbot", OPENAI_BASE_URL=simulate(ttft=0, tps=0).base_url)
    async with Client(example.url) as client:
        first, again = await _twice(client, QUESTION)
        _, plain = await _twice(client, "Hello")
    assert again.json["choices"] == first.json["choices"]
    assert 0 <= _ttl(again) <= 60 < _ttl(plain)
    assert [tool["tool"] for tool in first.json["refrain"]["tools"]] == ["my_orders", "weather"]
    assert "°C in Paris" in _said(first)


async def _twice(client: Client, question: str) -> list[Reply]:
    """The first answer, and that of the cache: another worker may still see the first as under way."""
    replies = [await client.complete(question, user="ada")]

    async def hit() -> bool:
        replies[1:] = [await client.complete(question, user="ada")]
        return "hit" in replies[1].headers["cache-status"]

    await eventually(hit)
    return replies


async def test_the_weather_is_looked_up_again_when_it_is_old(serve: Serve, simulate: Simulate) -> None:
    """Row 12: when its time is over the tool is asked again."""
    example = serve("chatbot", OPENAI_BASE_URL=simulate(ttft=0, tps=0).base_url, SHOP_WEATHER_TTL_S=1)
    async with Client(example.url) as client:

        async def seen() -> str:
            return re.findall(r"seen at ([\d:]+)", _said(await client.complete("weather in Paris")))[0]  # type: ignore[no-any-return]

        first = await seen()

        async def later() -> bool:
            return await seen() != first

        await eventually(later)


async def test_nobody_gets_the_orders_of_somebody_else(serve: Serve, simulate: Simulate) -> None:
    """Row 12: the same question, and each user's own answer; who names no user has no orders."""
    example = serve("chatbot", OPENAI_BASE_URL=simulate(ttft=0, tps=0).base_url)
    async with Client(example.url) as client:
        ada, bob, carol = [await client.complete(QUESTION, user=name) for name in ("ada", "bob", "carol")]
        nobody = await client.complete(QUESTION)
        again = await client.complete(QUESTION, user="bob")
    assert ["kettle" in _said(reply) for reply in (ada, bob, carol, nobody)] == [True, False, False, False]
    assert ["chair" in _said(reply) for reply in (ada, bob, carol, nobody)] == [False, True, False, False]
    assert "no orders" in _said(carol)
    assert [tool["tool"] for tool in nobody.json["refrain"]["tools"]] == ["weather"]
    assert _said(again) == _said(bob)


async def test_the_chatbot_remembers_what_was_said(serve: Serve, simulate: Simulate) -> None:
    """A turn goes to the model with those before it, and what tools said in them is part of it."""
    example = serve("chatbot", OPENAI_BASE_URL=simulate(ttft=0, tps=0).base_url)
    told = {"user": "ada", "conversation_id": "tea"}
    async with Client(example.url) as client:
        first, second = [
            await client.ask(words, **told) for words in ("My orders?", "And the weather in Rome?")
        ]
        kept = (await client.call("GET", "/conversations/tea")).json
    assert [turn["answer"] for turn in kept["turns"]] == [first.text, second.text]
    assert "kettle" in first.text
    assert "°C in Rome" in second.text
    before, after = [stream.end.json["usage"]["prompt_tokens"] for stream in (first, second)]
    assert after > before + len(first.text.split()) - 1


async def test_a_slow_search_blocks_nobody(serve: Serve, simulate: Simulate) -> None:
    """Row 78: while the blocking tool runs, /healthz and a question of somebody else are answered."""
    simulator = simulate(ttft=0, tps=0)
    example = serve("chatbot", OPENAI_BASE_URL=simulator.base_url, SHOP_SEARCH_S=15)
    async with Client(example.url) as client:
        chat = await accepted(client, "Please search for returns")
        async with client.listening(chat["stream_url"]):
            await eventually(lambda: simulator.stats()["completed"] == 1)  # the model has chosen it
            for _ in range(10):
                assert (await client.call("GET", "/healthz")).status == 200
            assert (await client.complete("Hello")).status == 200
            record = await client.record(chat["id"])
            assert record["status"] == "preparing", "the search was over before it was looked at"
            await client.cancel(chat["id"])
            await client.until_status(chat["id"], "cancelled", within=SOON_S)


def _said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    text: str = reply.json["choices"][0]["message"]["content"]
    return text


def _ttl(reply: Reply) -> int:
    return int(re.findall(r"hit; ttl=(\d+)", reply.headers["cache-status"])[0])
