"""A process dies, or freezes: what its clients and everybody else's see."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable

import aiohttp
import pytest

from tests.cluster.conftest import LEASE_S, Cluster
from tests.system.client import Client, text_of
from tests.system.prompts import answer_to, digest_of, prompt
from tests.system.scene import calls_of
from tests.system.sse import Reader

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio


async def read_what_comes(client: Client, question: str) -> list[object]:
    """A streamed OpenAI call's frames, however it ends."""
    body = {"messages": [{"role": "user", "content": question}], "stream": True}
    reader, frames = Reader(), []
    async with client.http.post("/v1/chat/completions", json=body) as reply:
        try:
            async for piece in reply.content.iter_any():
                frames += [event.data for event in reader.feed(piece)]
        except aiohttp.ClientError:
            frames.append("cut")
    return [frame if frame in ("[DONE]", "cut") else json.loads(frame) for frame in frames]


async def test_a_leader_killed_before_its_first_token_is_replaced_unseen(launch: Launch) -> None:
    """Cell: leader kill -9, n = 0: two followers elsewhere, one new call, both wires get the whole answer."""
    cluster = launch(3)
    question = prompt("Silent?", hold="gate", tps=0, tokens=12)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        native = (await clients[1].submit(question)).json
        assert (leader["role"], native["role"]) == ("leader", "follower")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[1].stream(native["stream_url"]))
            second = group.create_task(clients[2].chunks(question))
            await clients[1].until_status(native["id"], "streaming")
            cluster.nodes[0].kill()
            async with asyncio.timeout(20):
                while calls_of(cluster.simulator, question) < 2:
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(cluster.simulator.release, "gate")
        stream = first.result()
        assert stream.text == answer_to(question, 12)
        assert stream.end.name == "done"
        assert not [event for event in stream.events if event.name == "reset"]
        _, frames = second.result()
        assert text_of(frames) == answer_to(question, 12)
        assert frames[-1] == "[DONE]"
    assert calls_of(cluster.simulator, question) == 2
    await cluster.until_rest()


async def test_a_leader_killed_in_the_middle_is_replaced_by_a_reset(launch: Launch) -> None:
    """Cell: leader kill -9, mid-stream: native readers get `reset` and the whole new text, OpenAI readers who
    have seen text an error frame and no [DONE]; never a splice."""
    cluster = launch(3)
    question = prompt("Middle?", tps=20, tokens=60)
    async with cluster.clients_of_all() as clients:
        await clients[0].submit(question)
        native = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[1].stream(native["stream_url"]))
            second = group.create_task(read_what_comes(clients[2], question))
            third = group.create_task(clients[2].complete(question))
            async with asyncio.timeout(10):
                while len((await clients[1].record(native["id"]))["text"]) < 20:
                    await asyncio.sleep(0.02)
            cluster.nodes[0].kill()
        stream = first.result()
        assert [event.name for event in stream.events if event.name == "reset"] == ["reset"]
        assert stream.text == answer_to(question, 60)
        assert stream.end.name == "done"
        frames = second.result()
        assert "[DONE]" not in frames
        assert frames[-1]["error"]["code"] == "leader_lost"  # type: ignore[index]
        assert third.result().status == 200
        content = third.result().json["choices"][0]["message"]["content"]
        assert content == answer_to(question, 60)
    assert calls_of(cluster.simulator, question) == 2
    await cluster.until_rest()


async def test_a_lone_client_of_a_killed_process_is_told_the_truth(launch: Launch) -> None:
    """Rows 88 and the cell "no surviving process holds it": one failed{worker_lost}, on every node."""
    cluster = launch(2)
    question = prompt("Alone?", tps=20, tokens=100)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        async with clients[0].listening(made["stream_url"]) as (_reply, events, _reader):
            async for event in events:
                if event.name == "delta":
                    break
            cluster.nodes[0].kill()
        async with asyncio.timeout(3 * LEASE_S + 5):
            stream = await clients[1].stream(made["stream_url"], last_event_id=event.id)
        assert stream.end.name == "failed"
        assert stream.end.json["code"] == "worker_lost"
        assert stream.end.json["retryable"] is True
        record = await clients[1].record(made["id"])
        assert record["status"] == "failed"
        again = await clients[1].ask(question)
        assert again.text == answer_to(question, 100)
    await cluster.until_rest()


async def test_with_durable_answers_a_lone_client_goes_on_elsewhere(launch: Launch) -> None:
    """Cell: REFRAIN_DURABLE=1, owner killed: the text so far is there, then `reset` and the whole answer."""
    cluster = launch(2, DURABLE=1)
    question = prompt("Durable?", tps=20, tokens=60)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        seen = ""
        async with clients[0].listening(made["stream_url"]) as (_reply, events, _reader):
            async for event in events:
                if event.name == "delta":
                    seen += event.json["text"]
                    if len(seen) > 40:
                        break
            cluster.nodes[0].kill()
        record = await clients[1].record(made["id"])
        assert len(record["text"]) > 20
        assert answer_to(question, 60).startswith(record["text"])
        async with asyncio.timeout(3 * LEASE_S + 15):
            stream = await clients[1].stream(made["stream_url"], last_event_id=event.id)
        assert stream.end.name == "done", stream.events
        assert [event.name for event in stream.events if event.name == "reset"] == ["reset"]
        assert stream.text == answer_to(question, 60)
    await cluster.until_rest()


async def test_a_finished_answer_outlives_its_process(launch: Launch) -> None:
    """Row 88: ended before the kill: read elsewhere, from the cache."""
    cluster = launch(2)
    question = prompt("Finished?", tps=0, tokens=20)
    async with cluster.clients_of_all() as clients:
        made = (await clients[0].submit(question)).json
        first = await clients[0].stream(made["stream_url"])
        await clients[1].until_status(made["id"], "completed")
        cluster.nodes[0].kill()
        stream = await clients[1].stream(made["stream_url"])
        assert stream.text == first.text
        assert stream.end.json["usage"] == first.end.json["usage"]
        assert (await clients[1].cancel(made["id"])).status == 409


async def test_a_frozen_leader_is_fenced_when_it_wakes(launch: Launch) -> None:
    """Cell: leader SIGSTOP for two leases, SIGCONT: another has taken over; the old tokens reach neither new
    readers nor the cache."""
    cluster = launch(3)
    question = prompt("Frozen?", tps=20, tokens=60)
    async with cluster.clients_of_all() as clients:
        await clients[0].submit(question)
        native = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[1].stream(native["stream_url"]))
            async with asyncio.timeout(10):
                while len((await clients[1].record(native["id"]))["text"]) < 20:
                    await asyncio.sleep(0.02)
            cluster.nodes[0].stop()
            async with asyncio.timeout(20):
                while calls_of(cluster.simulator, question) < 2:
                    await asyncio.sleep(0.05)
            cluster.nodes[0].go_on()
            late = group.create_task(clients[0].ask(question))
        stream = first.result()
        assert stream.text == answer_to(question, 60)
        assert stream.end.name == "done"
        epoch = stream.events[-1].id.partition("-")[0]
        assert late.result().text == answer_to(question, 60)
        assert late.result().events[-1].id.partition("-")[0] == epoch
        hits = [await client.ask(question) for client in clients]
        assert {hit.events[-1].id.partition("-")[0] for hit in hits} == {epoch}
    await cluster.until_rest()


async def test_a_follower_process_that_dies_costs_nobody_else_anything(launch: Launch) -> None:
    """Cell: follower kill -9: the leader's client goes on; its own client resumes elsewhere by its id."""
    cluster = launch(3)
    question = prompt("Follower?", tps=20, tokens=50)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[0].stream(leader["stream_url"]))
            text, last = "", ""
            async with clients[1].listening(follower["stream_url"]) as (_reply, events, _reader):
                async for event in events:
                    if event.name == "delta":
                        text, last = text + event.json["text"], event.id
                        if len(text) > 30:
                            break
                cluster.nodes[1].kill()
            rest = await clients[2].stream(follower["stream_url"], last_event_id=last)
            assert text + rest.text == answer_to(question, 50)
            assert rest.end.name == "done"
        assert first.result().text == answer_to(question, 50)
    assert calls_of(cluster.simulator, question) == 1
    await cluster.until_rest()


async def test_the_last_follower_process_that_dies_ends_the_call(launch: Launch) -> None:
    """Cell: last follower killed, leader's own request cancelled: its lease ends the call."""
    cluster = launch(2, ABANDON_GRACE_S=0.3)
    question = prompt("Nobody?", tps=10, tokens=400)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        async with clients[1].listening(follower["stream_url"]) as (_reply, events, _reader):
            async for event in events:
                if event.name == "delta":
                    break
            assert (await clients[0].cancel(leader["id"])).status == 200
            cluster.nodes[1].kill()
    await cluster.until_rest(4 * LEASE_S + 4)
    assert cluster.simulator.stats()["aborted"] == 1


async def test_slots_of_a_lost_machine_come_back_within_the_lease(launch: Launch) -> None:
    """Cell: kill -9 of a holder: its LLM slots are free after the lease, and the peak was never exceeded."""
    cluster = launch(2, MAX_CONCURRENT_LLM_STREAMS=2)
    async with cluster.clients_of_all() as clients:
        held = [prompt(f"Held {i}?", hold=f"h{i}", tps=0, tokens=3) for i in range(2)]
        async with asyncio.TaskGroup() as group:
            for question in held:
                group.create_task(read_until_cut(clients[0], question))
            async with asyncio.timeout(10):
                while cluster.simulator.stats()["in_flight"] < 2:
                    await asyncio.sleep(0.02)
            waiting = group.create_task(clients[1].complete(prompt("Waiting?", tps=0, tokens=3)))
            await asyncio.sleep(0.3)
            cluster.nodes[0].kill()
        assert waiting.result().status == 200
    assert cluster.simulator.stats()["peak"] == 2
    await cluster.until_rest()


async def read_until_cut(client: Client, question: str) -> None:
    try:
        await client.complete(question)
    except aiohttp.ClientError:
        return


async def test_sigterm_lets_running_answers_finish_and_followers_go_on(launch: Launch) -> None:
    """Row 87 and cell "SIGTERM deploy": the leader drains: nothing fails, nothing is asked twice."""
    cluster = launch(2, DRAIN_TIMEOUT_S=10)
    question = prompt("Deploy?", tps=20, tokens=40)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[0].stream(leader["stream_url"]))
            second = group.create_task(clients[1].stream(follower["stream_url"]))
            await clients[1].until_status(follower["id"], "streaming")
            cluster.nodes[0].process.signal(signal.SIGTERM)
        assert first.result().text == second.result().text == answer_to(question, 40)
    assert await asyncio.to_thread(cluster.nodes[0].process.wait) == 0
    assert calls_of(cluster.simulator, question) == 1


async def test_a_drain_that_runs_out_hands_over_to_followers_at_once(launch: Launch) -> None:
    """Cell: SIGTERM, the answer longer than the drain: its own client fails, the follower elsewhere
    is taken over without waiting for a lease."""
    cluster = launch(2, DRAIN_TIMEOUT_S=0.5, LEASE_S=30)
    question = prompt("Too long?", tps=20, tokens=60)
    async with cluster.clients_of_all() as clients:
        leader = (await clients[0].submit(question)).json
        follower = (await clients[1].submit(question)).json
        async with asyncio.TaskGroup() as group:
            first = group.create_task(clients[0].stream(leader["stream_url"]))
            second = group.create_task(clients[1].stream(follower["stream_url"]))
            await clients[1].until_status(follower["id"], "streaming")
            cluster.nodes[0].process.signal(signal.SIGTERM)
        assert first.result().end.json["code"] == "draining"
        assert second.result().text == answer_to(question, 60)
        assert second.result().end.name == "done"
    assert cluster.simulator.stats()["calls_by_prompt"][digest_of(question)] == 2
