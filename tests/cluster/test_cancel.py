"""Cancels and departures, seen from every node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Cluster
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio


async def test_a_cancel_works_on_any_node(launch: Launch) -> None:
    """Row 89: cancelled on a third node: its stream on the second ends, the model's call is aborted."""
    cluster = launch(3)
    question = prompt("Stop me?", tps=20, tokens=400)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(clients[1].stream(made["stream_url"]))
            await clients[2].until_status(made["id"], "streaming")
            reply = await clients[2].cancel(made["id"])
            assert reply.status == 200, reply.body
            assert reply.json["status"] == "cancelled"
        assert reading.result().end.name == "cancelled"
        for client in clients:
            assert (await client.record(made["id"]))["status"] == "cancelled"
            assert (await client.cancel(made["id"])).status == 200
            late = await client.stream(made["stream_url"])
            assert late.end.name == "cancelled"
    await cluster.until_rest()
    assert cluster.simulator.stats()["aborted"] == 1


async def test_a_leaders_cancel_leaves_followers_elsewhere_their_answer(launch: Launch) -> None:
    """Rows 34 and 35 over two nodes: the leader cancels, the follower elsewhere gets all; then all leave."""
    cluster = launch(2)
    question = prompt("Share?", tps=40, tokens=40)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        assert (leader["role"], follower["role"]) == ("leader", "follower")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[0].stream(leader["stream_url"]))
            second = group.create_task(clients[1].stream(follower["stream_url"]))
            await clients[1].until_status(follower["id"], "streaming")
            assert (await clients[0].cancel(leader["id"])).status == 200
        assert first.result().end.name == "cancelled"
        assert second.result().text == answer_to(question, 40)
        # And the last one: the upstream call goes with it.
        question = prompt("And now?", tps=20, tokens=400)
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            group.create_task(clients[1].stream(follower["stream_url"]))
            await clients[1].until_status(follower["id"], "streaming")
            await clients[0].cancel(leader["id"])
            await clients[1].cancel(follower["id"])
    await cluster.until_rest(5.0)
    assert cluster.simulator.stats()["aborted"] == 1
    assert calls_of(cluster.simulator, question) == 1


async def test_no_slot_is_taken_until_somebody_listens_anywhere(launch: Launch) -> None:
    """Row 19 over two nodes: submitted here, listened to there."""
    cluster = launch(2)
    question = prompt("Anybody?", tps=0, tokens=5)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        await clients[1].until_status(made["id"], "ready")
        assert calls_of(cluster.simulator, question) == 0
        stream = await clients[1].stream(made["stream_url"])
        assert stream.text == answer_to(question, 5)
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_the_last_reader_anywhere_ends_the_call(launch: Launch) -> None:
    """Row 42: the only reader, on another node than the leader, drops: the call is aborted."""
    cluster = launch(2, ABANDON_GRACE_S=0.3)
    question = prompt("Leaving?", tps=20, tokens=400)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        async with clients[1].listening(made["stream_url"]) as (_reply, events, _reader):
            async for event in events:
                if event.name == "delta":
                    break
        await cluster.until_rest()
        assert cluster.simulator.stats()["aborted"] == 1
        for client in clients:
            assert (await client.record(made["id"]))["status"] == "cancelled"


async def test_a_reader_that_comes_back_elsewhere_keeps_it_alive(launch: Launch) -> None:
    """Row 42: dropped on one node, resumed within the grace on another: the same call goes on."""
    cluster = launch(3, ABANDON_GRACE_S=2)
    question = prompt("Back soon?", tps=20, tokens=40)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        last, text = None, ""
        async with clients[1].listening(made["stream_url"]) as (_reply, events, _reader):
            async for event in events:
                if event.name == "delta":
                    text, last = text + event.json["text"], event.id
                    if len(text) > 20:
                        break
        rest = await clients[2].stream(made["stream_url"], last_event_id=last)
        assert text + rest.text == answer_to(question, 40)
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_cancels_race_on_all_nodes_and_one_end_is_told(launch: Launch) -> None:
    """Row 39: status is cancelled, never another, over many racing runs."""
    cluster = launch(3)
    async with cluster.clients_of_all() as clients:

        async def race(index: int) -> None:
            question = prompt(f"Race {index}?", tps=100, tokens=100)
            made = (await clients[index % 3].submit(question)).json
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(clients[(index + 1) % 3].stream(made["stream_url"]))
                cancels = [group.create_task(client.cancel(made["id"])) for client in clients]
            assert {task.result().status for task in cancels} == {200}
            assert reading.result().end.name == "cancelled"
            for client in clients:
                assert (await client.record(made["id"]))["status"] == "cancelled"

        await together(race(index) for index in range(30))
    await cluster.until_rest()
