"""The model fails, hangs, or limits the rate: what readers see on every node, and what all nodes do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Cluster
from tests.system.client import Client
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio


async def ends(cluster: Cluster, question: str) -> list[tuple[str, str, str]]:
    """Led on the first node, read there and on the second: text, last event, and its code if it failed."""
    async with cluster.clients_of_all() as clients:
        made = [(await client.submit(question)).json for client in clients]
        streams = await together(
            client.stream(each["stream_url"]) for client, each in zip(clients, made, strict=True)
        )
        for client, each in zip(clients, made, strict=True):
            assert len((await client.stream(each["stream_url"])).terminals) == 1
    return [
        (stream.text, stream.end.name, stream.end.json["code"] if stream.end.name == "failed" else "")
        for stream in streams
    ]


async def test_a_failure_before_the_first_token_is_tried_again_for_all(launch: Launch) -> None:
    """Cell: 5xx before the first byte: a longer wait on every node, one answer."""
    cluster = launch(2)
    question = prompt("Stumbles?", status=503, times=2, tokens=8, tps=0)
    assert await ends(cluster, question) == [(answer_to(question, 8), "done", "")] * 2
    assert calls_of(cluster.simulator, question) == 3
    await cluster.until_rest()


async def test_a_model_that_falls_silent_fails_for_all_alike(launch: Launch) -> None:
    """Cell: upstream hang mid-stream: the idle timer ends it on every node, with the text so far."""
    cluster = launch(2, STREAM_IDLE_TIMEOUT_S=1, SEND_TIMEOUT_S=0.9)
    question = prompt("Silent?", hold="never", hold_after=5, tokens=20, tps=0)
    assert await ends(cluster, question) == [(answer_to(question, 5), "failed", "stream_idle_timeout")] * 2
    await cluster.until_rest()


async def test_half_an_answer_is_a_failure_everywhere_and_cached_nowhere(launch: Launch) -> None:
    """Cell: upstream half stream: `failed` for all, and the next one asks anew."""
    cluster = launch(2)
    question = prompt("Half?", truncate=5, tokens=20, tps=0)
    expected = [(answer_to(question, 5), "failed", "upstream_truncated")] * 2
    assert await ends(cluster, question) == expected
    assert await ends(cluster, question) == expected
    assert calls_of(cluster.simulator, question) == 2
    await cluster.until_rest()


async def test_a_rate_limit_holds_every_node_back(launch: Launch) -> None:
    """Cell: upstream 429 with Retry-After: while it lasts, no node calls the model; then all are served."""
    cluster = launch(2, SLOT_TIMEOUT_S=30)
    limited = prompt("Limited?", status=429, retry_after=3, times=1, tokens=4, tps=0)
    others = [prompt(f"Held back {number}?", tokens=4, tps=0) for number in range(6)]
    async with cluster.clients_of_all() as (one, other), asyncio.TaskGroup() as group:
        first = group.create_task(one.ask(limited))
        async with asyncio.timeout(10):
            while calls_of(cluster.simulator, limited) == 0:
                await asyncio.sleep(0.01)
        # The news of it takes a push to the other node.
        await asyncio.sleep(0.5)
        made = [group.create_task(_asked(client, question)) for client in (one, other) for question in others]
        await asyncio.sleep(1.5)
        assert sum(calls_of(cluster.simulator, question) for question in others) == 0
    assert first.result() is not None
    assert {task.result() for task in made} == {answer_to(question, 4) for question in others}
    await cluster.until_rest()


async def _asked(client: Client, question: str) -> str:
    return (await client.ask(question)).text
