"""The answer cache from outside: what hits, what misses, and that a hit waits for nobody."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any

import pytest

from tests.fakes.real_redis import real_redis, supervised
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import workers
from tests.system.prompts import answer_to, prompt, saying
from tests.system.scene import (
    SOON_S,
    Simulate,
    Start,
    accepted,
    at_rest,
    calls_of,
    filled,
    held,
    hook_of,
    over,
    together,
)

pytestmark = pytest.mark.anyio


async def test_a_hit_passes_by_full_pools(simulate: Simulate, start: Start) -> None:
    """Row 7: with every leader and stream slot held and both queues in use, a cached question is answered."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(
        simulator,
        PREPARE_URL=hook_of(simulator),
        LOCAL_CACHE_BYTES=0,
        MAX_CONCURRENT_LEADERS=1,
        MAX_CONCURRENT_FOLLOWERS=1,
        MAX_CONCURRENT_LLM_STREAMS=1,
        MAX_PENDING=1,
        QUEUE_SIZE=1,
    )
    async with (
        pinned(gateway, [crew(gateway)[1]]) as (door,),
        Client(gateway.url) as client,
        asyncio.TaskGroup() as group,
    ):
        known = await door.ask("known")
        await over(gateway)
        slot = await accepted(door, prompt("holds the slot", hold="slot"))
        group.create_task(client.stream(slot["stream_url"]))
        await held(simulator, "slot")
        waiting = await accepted(door, "waits for the slot")
        group.create_task(client.stream(waiting["stream_url"]))
        await filled(gateway, "llm_streams", 1, 1)
        assert (await door.submit("one too many")).status == 429
        async with asyncio.timeout(SOON_S):
            again = await door.ask("known")
            whole = await client.complete("known")
        assert again.text == known.text
        assert again.end.json["cache"] == "hit"
        assert whole.json["choices"][0]["message"]["content"] == known.text
        simulator.release("slot")
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        leader = await accepted(door, prompt("holds the leader", prepare_hold="door"))
        await held(simulator, "door")
        queued = await accepted(door, "waits for the leader")
        await filled(gateway, "leaders", 1, 1)
        async with asyncio.timeout(SOON_S):
            assert (await door.ask("known")).text == known.text
            assert (await client.ask("known")).text == known.text
        await filled(gateway, "leaders", 1, 1)
        simulator.release("door")
        for one in (leader, queued):
            assert (await client.cancel(one["id"])).status == 200
    assert calls_of(simulator, "known") == 0, "the hook has added to it"
    assert simulator.stats()["calls"] == 3


async def test_the_lane_is_bounded_by_its_workers(simulate: Simulate, start: Start) -> None:
    """Row 8: two hundred hits at once all complete, with at most the configured workers busy, and no call."""
    simulator = simulate(ttft=0, tps=0, tokens=3)
    gateway = start(simulator, LOCAL_CACHE_BYTES=0, CACHE_WORKERS=2, MAX_CONCURRENT_LEADERS=1)
    questions = [f"row 8, {number}" for number in range(10)]
    async with Client(gateway.url) as client:
        for question in questions:
            assert (await client.ask(question)).end.name == "done"
        await over(gateway)
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            scraping = group.create_task(_cache_stage(client, done))
            streams = await together(client.ask(questions[number % 10]) for number in range(200))
            done.set()
    assert [stream.text for stream in streams] == [answer_to(questions[n % 10], 3) for n in range(200)]
    assert {stream.end.json["cache"] for stream in streams} == {"hit"}
    assert scraping.result()
    for whole, *each in scraping.result():
        assert whole["capacity"] == 2 * workers()
        assert len(each) == workers()
        for stage in each:
            assert stage["capacity"] == 2
            assert stage["in_use"] <= 2
    assert simulator.stats()["calls"] == 10
    # Where a look-up may become a claim, those who ask the same at the same time make one for all.
    fewest = 200 if workers() == 1 else 10
    assert fewest <= gateway.get("/pipeline")["totals"]["cache_hits_redis"] <= 200
    await at_rest(gateway)


async def _cache_stage(client: Client, until: asyncio.Event) -> list[list[Any]]:
    """Of each look: the stage as a whole, then that of each worker."""
    seen = []
    while not until.is_set():
        now = (await client.call("GET", "/pipeline")).json
        stages = [*now["stages"], *(stage for worker in now["workers"] for stage in worker["stages"])]
        seen.append([stage for stage in stages if stage["name"] == "cache"])
    return seen


@pytest.mark.parametrize("local_bytes", [0, 1 << 20])
async def test_a_hit_is_the_same_answer(simulate: Simulate, start: Start, local_bytes: int) -> None:
    """Row 9: the second identical question costs no call, says so, and is equal to the byte."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, LOCAL_CACHE_BYTES=local_bytes)
    words = 'two\nlines, "quotes", 漢字, \u2028, 🎵\r\n'
    question = prompt("row 9", text=saying(words), cut=1, reasoning=1)
    async with Client(gateway.url) as client:
        first = await client.ask(question)
        await over(gateway)
        again = await accepted(client, question)
        assert (again["role"], again["status"], again["queue_position"]) == ("cached", "completed", None)
        second = await client.stream(again["stream_url"])
        record = await client.record(again["id"])
    assert first.text == second.text == record["text"] == words
    assert (record["role"], record["status"], record["stage"]) == ("cached", "completed", "ended")
    deltas = [[event for event in stream.events if event.name == "delta"] for stream in (first, second)]
    assert deltas[0] == deltas[1], "the same pieces, reasoning and ids"
    assert (first.end.json["cache"], second.end.json["cache"]) == ("miss", "hit")
    assert first.end.json["usage"] == second.end.json["usage"] == record["usage"]
    assert second.headers["cache-status"].startswith("refrain; hit; ttl=")
    assert simulator.stats()["calls"] == 1
    await at_rest(gateway)


async def test_a_hit_waits_for_its_reader(simulate: Simulate, start: Start) -> None:
    """Row 10: bound to its answer at the submit: the cache may lose it before the stream is opened."""
    simulator = simulate(ttft=0, tps=0)
    async with supervised() as supervisor, real_redis(supervisor) as redis:
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, REDIS_URL=f"unix://{redis.socket_path}")
        async with pinned(gateway, [crew(gateway)[1]]) as (client,):
            first = await client.ask("row 10")
            await over(gateway)
            again = await accepted(client, "row 10")
            assert again["role"] == "cached"
            await redis.stop()
            assert (await client.stream(again["stream_url"])).text == first.text
            assert (await client.stream(again["stream_url"])).text == first.text
    assert simulator.stats()["calls"] == 1


async def test_only_what_cannot_change_the_answer_is_left_out_of_the_key(
    simulate: Simulate, start: Start
) -> None:
    """Row 11: exact by default: whatever differs misses; the order of keys and white space do not differ."""
    simulator = simulate(ttft=0, tps=0, tokens=2)
    gateway = start(simulator)
    text = "Où est le refrain?"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "temperature": 0.5}
    spaced = '{ "temperature" : 0.5,\n"messages":[ {"content":"Où est le refrain?" ,"role":"user"}] }'
    inert: dict[str, Any] = {"priority": "batch", "request_id": "r", "stream": True, "metadata": {"a": "b"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

    def asking(content: Any) -> dict[str, Any]:
        return {**body, "messages": [{"role": "user", "content": content}]}

    others: list[dict[str, Any]] = [
        asking(text.lower()),
        asking(text + " "),
        asking(text.rstrip("?")),
        asking(unicodedata.normalize("NFD", text)),
        asking([{"type": "text", "text": text}]),
        asking([{"type": "text", "text": text}, image]),
        {**body, "messages": [{"role": "system", "content": "Sing."}, *body["messages"]]},
        {**body, "messages": [{**body["messages"][0], "name": "ann"}]},
        {**body, "temperature": 0.6},
        {"messages": body["messages"]},
        {**body, "user": "ann"},
        {**body, "model": "another"},
        {**body, "seed": 1},
        {**body, "a_field_nobody_knows": 1},
    ]
    async with Client(gateway.url) as client:

        async def cache_of(**request: Any) -> str:
            reply = await client.call(
                "POST", "/chat", headers={"content-type": "application/json"}, **request
            )
            assert reply.status == 202, reply.body
            stream = await client.stream(reply.json["stream_url"])
            await over(gateway)
            return str(stream.end.json["cache"])

        assert await cache_of(json=body) == "miss"
        assert await cache_of(data=spaced.encode()) == "hit"
        assert await cache_of(json={"message": text, "temperature": 0.5}) == "hit"
        assert await cache_of(json={**body, "model": "refrain-sim"}) == "hit", "the model it would have had"
        assert await cache_of(json={**body, **inert}) == "hit"
        for other in others:
            assert await cache_of(json=other) == "miss", other
            assert await cache_of(json=other) == "hit", other
    assert simulator.stats()["calls"] == 1 + len(others)


async def test_loose_keys_see_letters_and_digits_only(simulate: Simulate, start: Start) -> None:
    """Row 11: if the operator says so, case and punctuation do not matter; words and parameters do."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, KEY_NORMALIZATION="loose")
    async with Client(gateway.url) as client:
        first = await client.ask("What's a Refrain, in 1 word?")
        await over(gateway)
        for variant in (
            "whats a refrain in 1 word",
            "WHAT'S A REFRAIN -- in 1 word!!",
            "What's a Refrain,in 1 word",
        ):
            again = await client.ask(variant)
            assert (again.end.json["cache"], again.text) == ("hit", first.text), variant
        for other in ("What's a Refrain, in 2 words?", "What's a chorus, in 1 word?"):
            assert (await client.ask(other)).end.json["cache"] == "miss"
        assert (await client.ask("What's a Refrain, in 1 word?", seed=1)).end.json["cache"] == "miss"
    assert simulator.stats()["calls"] == 4


BAD = {
    "empty": {"empty": 1},
    "failed": {"status": 400},
    "partial": {"truncate": 3},
    "cut off": {"reset": 3},
    "an error inside": {"error_frame": 3},
    "nonsense": {"garbage": 1},
    "an empty one with its end missing": {"truncate": 0},
}


async def test_only_complete_answers_are_kept(simulate: Simulate, start: Start) -> None:
    """Row 13: empty, failed, partial and cancelled answers are followed by a fresh call, never replayed."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        for kind, directive in BAD.items():
            question = prompt(kind, **directive)
            for _ in range(2):
                stream = await client.ask(question)
                assert stream.end.name == ("done" if kind == "empty" else "failed"), kind
                assert stream.headers["cache-status"] == "refrain; fwd=miss"
                await over(gateway)
            assert calls_of(simulator, question) == 2, kind
        question = prompt("cancelled", hold="gate", hold_after=4)
        one = await accepted(client, question)
        reading = group.create_task(client.stream(one["stream_url"]))
        await held(simulator, "gate")
        await client.cancel(one["id"])
        assert (await reading).end.name == "cancelled"
        await over(gateway)
        simulator.release("gate")
        assert (await client.ask(question)).text == answer_to(question, 60)
        assert calls_of(simulator, question) == 2
    await at_rest(gateway)


async def test_an_answer_too_large_for_the_cache_is_not_called_stored(
    simulate: Simulate, start: Start
) -> None:
    """Row 13: beyond REFRAIN_CACHE_MAX_ENTRY_BYTES it is served, asked for anew, and not called kept."""
    simulator = simulate(ttft=0, tps=0, tokens=40)
    gateway = start(simulator, CACHE_MAX_ENTRY_BYTES=6000)
    async with Client(gateway.url) as client:
        for _ in range(2):
            reply = await client.complete("a long one")
            assert reply.json["choices"][0]["message"]["content"] == answer_to("a long one", 40)
            assert reply.headers["cache-status"] == "refrain; fwd=miss"
            await over(gateway)
        small = await client.complete("a short one", max_tokens=3)
        assert small.headers["cache-status"] == "refrain; fwd=miss; stored"
    assert calls_of(simulator, "a long one") == 2
