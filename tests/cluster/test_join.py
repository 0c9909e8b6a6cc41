"""One question, many machines: one upstream call, any stream readable anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import Cluster
from tests.system.client import Client
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio


async def test_identical_questions_anywhere_are_one_call(launch: Launch) -> None:
    """Row 93: two hundred submits over three nodes, streams read on other nodes: one call, equal texts."""
    cluster = launch(3)
    question = prompt("Together?", ttft=0.3, tps=100, tokens=30)
    async with cluster.clients_of_all() as clients:
        accepted = await together(clients[i % 3].submit(question) for i in range(200))
        assert {reply.status for reply in accepted} == {202}
        streams = await together(
            clients[(i + 1 + i // 3) % 3].stream(reply.json["stream_url"]) for i, reply in enumerate(accepted)
        )
    assert {stream.text for stream in streams} == {answer_to(question, 30)}
    assert {stream.end.name for stream in streams} == {"done"}
    roles = [reply.json["role"] for reply in accepted]
    assert roles.count("leader") == 1
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_openai_calls_anywhere_are_one_call(launch: Launch) -> None:
    """Row 89: streamed and not, on every node at once."""
    cluster = launch(3)
    question = prompt("Which wire?", ttft=0.3, tps=100, tokens=20)
    async with cluster.clients_of_all() as clients:
        whole = [clients[i % 3].complete(question) for i in range(15)]
        chunks = [clients[i % 3].chunks(question) for i in range(15)]
        async with asyncio.TaskGroup() as group:
            replies = [group.create_task(one) for one in whole]
            streams = [group.create_task(one) for one in chunks]
    texts = {task.result().json["choices"][0]["message"]["content"] for task in replies}
    assert texts == {answer_to(question, 20)}
    for task in streams:
        _, frames = task.result()
        assert frames[-1] == "[DONE]"
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_the_end_of_an_answer_is_never_a_gap(launch: Launch) -> None:
    """Row 58: requests fired around the end of a stream, on all nodes: the model is asked once."""
    cluster = launch(3)
    question = prompt("Around the end?", ttft=0.0, tps=50, tokens=10)
    async with cluster.clients_of_all() as clients:

        async def ask(index: int) -> str:
            await asyncio.sleep(index * 0.002)
            reply = await clients[index % 3].complete(question)
            content: str = reply.json["choices"][0]["message"]["content"]
            return content

        texts = await together(ask(index) for index in range(200))
    assert set(texts) == {answer_to(question, 10)}
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_a_stream_goes_on_from_any_event_on_another_node(launch: Launch) -> None:
    """Rows 43 and 94: cut after every event, resumed elsewhere: exactly the rest."""
    cluster = launch(3)
    question = prompt("Cut everywhere?", ttft=0.0, tps=40, tokens=24)
    expected = answer_to(question, 24)
    async with cluster.clients_of_all() as clients:
        url = (await clients[0].submit(question)).json["stream_url"]
        text, last = "", None
        for node in range(1, 61):
            done = False
            async with clients[node % 3].listening(url, last_event_id=last) as (reply, events, _reader):
                assert reply.status == 200
                async for event in events:
                    assert event.name != "reset"
                    if event.name == "delta":
                        text, last = text + event.json["text"], event.id
                        break
                    if event.name in ("done", "failed", "cancelled"):
                        done = True
            if done:
                break
        assert text == expected
        assert calls_of(cluster.simulator, question) == 1
        finished = await clients[2].stream(url)
        assert finished.text == expected
    await cluster.until_rest()


async def test_status_is_the_same_everywhere_while_it_runs_and_after(launch: Launch) -> None:
    cluster = launch(3)
    question = prompt("Where are you?", hold="gate", hold_after=5, tps=0, tokens=9)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        reading = asyncio.get_running_loop().create_task(clients[1].stream(made["stream_url"]))
        for client in clients:
            record = await client.until_status(made["id"], "streaming")
            assert record["role"] == "leader"
        async with asyncio.timeout(5):
            while len((await clients[2].record(made["id"]))["text"]) < len(answer_to(question, 5)):
                await asyncio.sleep(0.02)
        await asyncio.to_thread(cluster.simulator.release, "gate")
        stream = await reading
        assert stream.text == answer_to(question, 9)
        for client in clients:
            record = await client.until_status(made["id"], "completed")
            assert record["text"] == stream.text
            assert record["usage"] == stream.end.json["usage"]
    await cluster.until_rest()


async def test_a_request_id_is_one_execution_wherever_it_is_repeated(launch: Launch) -> None:
    """Row 41: same id and body on every node at once: one execution; another body: 409."""
    cluster = launch(3)
    question = prompt("Once?", ttft=0.2, tps=0, tokens=5)
    async with cluster.clients_of_all() as clients:
        replies = await together(clients[i % 3].submit(question, request_id="r-1") for i in range(9))
        ids = {reply.json["id"] for reply in replies}
        assert len(ids) == 1, [reply.json for reply in replies]
        assert sorted(reply.status for reply in replies) == [200] * 8 + [202]
        assert (await clients[2].submit("Another?", request_id="r-1")).status == 409
        url = replies[0].json["stream_url"]
        streams = await together(client.stream(url) for client in clients)
        assert {stream.text for stream in streams} == {answer_to(question, 5)}
        assert (await clients[1].submit(question, request_id="r-1")).json["id"] in ids
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_foreign_and_unknown_ids_are_the_same_404_everywhere(launch: Launch) -> None:
    cluster = launch(2, API_KEYS="a:key-of-tenant-a-1,b:key-of-tenant-b-1")
    async with cluster.clients_of_all() as clients:
        a = {"authorization": "Bearer key-of-tenant-a-1"}
        b = {"authorization": "Bearer key-of-tenant-b-1"}
        made = (await clients[0].submit("Whose?", headers=a)).json
        unknown = "chat_" + "0" * 34
        bodies = []
        for client in clients:
            for id in (made["id"], unknown):
                reply = await client.call("GET", f"/chat/{id}", headers=b)
                assert reply.status == 404
                bodies.append(reply.body)
        assert len(set(bodies)) == 1
        # The ticket in the stream_url is good on every node.
        stream = await clients[1].stream(made["stream_url"])
        assert stream.end.name == "done"


async def test_the_queue_position_is_shown_everywhere_and_only_falls(launch: Launch) -> None:
    """Row 62: requests wait for the shared slots, and are watched on a node that did not admit them."""
    cluster = launch(2, MAX_CONCURRENT_LLM_STREAMS=1)
    async with cluster.clients_of_all() as clients:
        made = []
        for index in range(4):
            question = prompt(f"Queue {index}?", hold="turn", tps=0, tokens=8)
            made.append((await clients[index % 2].submit(question)).json)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            reading = []
            for i, one in enumerate(made):
                reading.append(group.create_task(clients[(i + 1) % 2].stream(one["stream_url"])))
                # One after the other: whoever is older and comes later would move ahead.
                await _until_placed(clients, made[: i + 1])
            while not all(task.done() for task in reading):
                await asyncio.to_thread(cluster.simulator.release, "turn")
        streams = [task.result() for task in reading]
    assert {stream.end.name for stream in streams} == {"done"}
    for stream in streams:
        shown = [
            event.json["queue_position"]
            for event in stream.events
            if event.name == "status"
            and event.json["stage"] == "llm_streams"
            and event.json["queue_position"]
        ]
        assert shown == sorted(shown, reverse=True)
    assert cluster.simulator.stats()["peak"] == 1
    await cluster.until_rest()


async def _until_placed(clients: list[Client], made: list[Any]) -> None:
    """Until each request is shown in its place on the node that did not admit it; the first has the slot.

    Or further ahead: its process may not have heard of all others at first, and a shown place never rises.
    """
    while True:
        seen = [await clients[(i + 1) % 2].record(one["id"]) for i, one in enumerate(made)]
        held = seen[0]["stage"] == "streaming" and seen[0]["queue_position"] is None
        if held and all(1 <= (one["queue_position"] or 0) <= i for i, one in enumerate(seen) if i):
            return
        await asyncio.sleep(0.05)
