"""What Redis forgets, loses in part, or goes back to; and what only one process knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.cluster.conftest import LEASE_S, Cluster
from tests.cluster.shared_answer import shared_answer
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio


def named(redis: Redis, kind: str) -> list[Any]:
    return list(redis.keys(f"g:*:{kind}:*"))


async def test_a_late_joiner_after_the_log_was_evicted_gets_all_of_it(launch: Launch) -> None:
    """Cell: eviction of s: who joins afterwards gets the whole text, never a part with `done`."""
    cluster = launch(3)
    assert cluster.redis is not None
    with cluster.redis.client as admin:
        async with shared_answer(cluster, "Log gone?", tokens=60) as shared:
            assert admin.delete(*named(admin, "s")) == 1
            late = await shared.clients[2].ask(shared.question)
            assert (late.text, late.end.name) == (shared.text, "done")
    shared.all_exact()
    assert (shared.calls, shared.resets) == (1, [0, 0])


async def test_an_answer_that_is_read_only_elsewhere_survives_a_loss_of_memory(launch: Launch) -> None:
    """Cell: Redis forgets who follows, the leader's own client has left: nobody's silence means a thing."""
    cluster = launch(2)
    assert cluster.redis is not None
    with cluster.redis.client as admin:
        for round in range(3):
            question = prompt(f"Only elsewhere {round}?", ttft=0.05, tps=20, tokens=40)
            async with cluster.clients_of_all() as (one, other):
                mine = (await one.submit(question)).json
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(other.ask(question))
                    await other.until_status(mine["id"], "streaming")
                    assert (await one.cancel(mine["id"])).status == 200
                    admin.flushall()
                assert (reading.result().text, reading.result().end.name) == (answer_to(question, 40), "done")
            assert calls_of(cluster.simulator, question) == 1


async def test_a_redis_that_went_back_in_time_is_told_again(launch: Launch) -> None:
    """Cell: failover, lost tail: an older flight of the key is back; followers neither hang nor restart."""
    cluster = launch(2)
    assert cluster.redis is not None
    question = prompt("Back in time?", ttft=0.05, tps=20, tokens=60)
    with Redis(port=cluster.redis.port) as raw:
        async with cluster.clients_of_all() as (one, other):
            first = (await one.submit(question)).json
            assert (await one.cancel(first["id"])).status == 200
            (name,) = named(raw, "m")
            old, fence = raw.dump(name), name.partition(b":m:")[0] + b":f"
            before = raw.get(fence)
            made = [(await client.submit(question)).json for client in (one, other)]
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                reading = [
                    group.create_task(client.stream(each["stream_url"]))
                    for client, each in zip((one, other), made, strict=True)
                ]
                await other.until_status(made[1]["id"], "streaming")
                assert isinstance(old, bytes)
                assert isinstance(before, bytes)
                raw.restore(name, 60_000, old, replace=True)
                raw.set(fence, before)
                raw.delete(*named(raw, "s"), *named(raw, "u"))
        for stream in reading:
            assert (stream.result().text, stream.result().end.name) == (answer_to(question, 60), "done")
    assert calls_of(cluster.simulator, question) == 1


@pytest.mark.parametrize("durable", [0, 1])
async def test_what_a_survivor_finished_stays_finished(launch: Launch, durable: int) -> None:
    """Row 88: the process that admitted it is dead, another has finished it: status, text and end stay so."""
    cluster = launch(2, DURABLE=durable)
    question = prompt(f"Finished for it {durable}?", ttft=0.05, tps=20, tokens=40)
    async with cluster.clients_of_all() as (one, other):
        await one.submit(question)
        made = (await other.submit(question)).json
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(one.stream(made["stream_url"]))
            await one.until_status(made["id"], "streaming")
            cluster.nodes[1].kill()
        stream = reading.result()
        assert (stream.text, stream.end.name) == (answer_to(question, 40), "done")
        for _ in range(3):
            record = await one.record(made["id"])
            assert (record["status"], record["text"]) == ("completed", stream.text)
            await asyncio.sleep(LEASE_S / 3)
        assert (await one.stream(made["stream_url"], last_event_id=stream.end.id)).status == 204


async def test_ids_are_known_again_after_a_loss_of_memory(launch: Launch) -> None:
    """Cell: Redis restart, EMPTY: who runs, and who has ended, is found by its id on every node again."""
    cluster = launch(2)
    assert cluster.redis is not None
    question = prompt("Known again?", hold="known", tps=0, tokens=8)
    async with cluster.clients_of_all() as (one, other):
        ended = await one.ask("Ended before?")
        done = (await one.submit("Ended before?")).json["id"]
        made = (await one.submit(question)).json
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            reading = group.create_task(one.stream(made["stream_url"]))
            await one.until_status(made["id"], "streaming")
            await asyncio.to_thread(cluster.redis.restart_empty)
            await cluster.until_linked()
            while (await other.call("GET", f"/chat/{made['id']}")).status != 200:
                await asyncio.sleep(0.05)
            while (await other.call("GET", f"/chat/{done}")).status != 200:
                await asyncio.sleep(0.05)
            assert (await other.record(done))["text"] == ended.text
            cluster.simulator.release("known")
        assert reading.result().end.name == "done"
        await other.until_status(made["id"], "completed")


async def test_a_detached_answer_is_nobodys_to_end(launch: Launch) -> None:
    """Its process was frozen, another has answered: it goes on for its own reader, whoever asks elsewhere."""
    cluster = launch(2)
    question = prompt("Detached?", ttft=0.05, tps=20, tokens=120)
    async with cluster.clients_of_all() as (one, other):
        made = (await one.submit(question)).json
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            reading = group.create_task(one.stream(made["stream_url"]))
            await one.until_status(made["id"], "streaming")
            theirs = group.create_task(other.ask(question))
            await other.until_status(made["id"], "streaming")
            cluster.nodes[0].stop()
            await asyncio.sleep(2 * LEASE_S)
            cluster.nodes[0].go_on()
            assert (await theirs).text == answer_to(question, 120)
            reply = await other.call("GET", f"/chat/{made['id']}")
            assert reply.status in (200, 503), reply.body
        assert (reading.result().text, reading.result().end.name) == (answer_to(question, 120), "done")


async def test_a_part_of_a_log_is_never_taken_for_the_whole(launch: Launch) -> None:
    """Rows 40 and 43: one of two is cancelled and read elsewhere; the other's text is whole everywhere."""
    cluster = launch(2)
    question = prompt("Two of one?", ttft=0.05, tps=40, tokens=40)
    async with cluster.clients_of_all() as (one, other):
        kept, dropped = [(await one.submit(question)).json for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(one.stream(kept["stream_url"]))
            await one.until_status(kept["id"], "streaming")
            assert (await one.cancel(dropped["id"])).status == 200
            seen = await other.stream(dropped["stream_url"])
            assert seen.end.name == "cancelled"
        whole = reading.result()
        assert whole.text == answer_to(question, 40)
        again = await other.stream(kept["stream_url"])
        assert (again.text, again.end.name) == (whole.text, "done")
        assert (await other.record(kept["id"]))["text"] == whole.text


async def test_a_drained_process_lets_its_guests_go_on_elsewhere(launch: Launch) -> None:
    """A request admitted by one node and read on another, which is drained: no end is told that is none."""
    cluster = launch(2, DRAIN_TIMEOUT_S=1)
    question = prompt("Guest?", ttft=0.05, tps=20, tokens=80)
    async with cluster.clients_of_all() as (one, other):
        made = (await one.submit(question)).json
        names, text, last = [], "", None
        async with asyncio.TaskGroup() as group:
            draining = None
            async with other.listening(made["stream_url"]) as (_, events, _):
                try:
                    async for event in events:
                        names.append(event.name)
                        text += event.json["text"] if event.name == "delta" else ""
                        last = event.id or last
                        if draining is None and len(text) > 20:
                            draining = group.create_task(asyncio.to_thread(cluster.nodes[1].process.stop))
                except OSError:
                    pass  # cut: it may resume
        assert not {"failed", "done", "cancelled"} & set(names)
        rest = await one.stream(made["stream_url"], last_event_id=last)
        assert (text + rest.text, rest.end.name) == (answer_to(question, 80), "done")
    assert calls_of(cluster.simulator, question) == 1
