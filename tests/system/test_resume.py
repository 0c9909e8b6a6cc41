"""Resuming: a stream that broke goes on exactly where it stopped, or says plainly that it cannot."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess, SimulatorProcess, workers
from tests.system.prompts import answer_to, prompt, tokens_of
from tests.system.scene import Simulate, Start, accepted, at_rest, together
from tests.system.sse import Event

pytestmark = pytest.mark.anyio

TOKENS = 24


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def gateway(simulator: SimulatorProcess, start: Start) -> GatewayProcess:
    return start(simulator, ABANDON_GRACE_S=60)


def after(url: str, cursor: str) -> str:
    return f"{url}&after={cursor}"


def told(end: Event) -> tuple[str, str, Any]:
    """All that a terminal event says. While it runs, each worker that shows it measures times of its own."""
    alone = workers() == 1
    return end.name, end.id, end.json if alone else {**end.json, "timings": None}


def epoch_of(stream: Stream) -> int:
    return int(stream.end.id.partition("-")[0])


async def read_until(client: Client, url: str, text: str) -> str:
    """Read until exactly `text` has come, drop the connection, and return the cursor."""
    got = ""
    async with client.listening(url) as (_, events, reader), aclosing(events):  # type: ignore[type-var]
        while got != text or not reader.last_id:
            event = await anext(events)
            got += event.json["text"] if event.name == "delta" else ""
            assert text.startswith(got)
        return reader.last_id


async def test_after_the_end_every_cut_resumes_with_exactly_the_rest(gateway: GatewayProcess) -> None:
    """Row 43: whatever a reader had seen when it was cut, by either form of cursor it gets the rest, once."""
    question = prompt("An ended song")
    tokens = tokens_of(question, TOKENS)
    async with Client(gateway.url) as client:
        url = (await accepted(client, question))["stream_url"]
        whole = await client.stream(url)
        assert whole.text == "".join(tokens)
        epoch = epoch_of(whole)
        assert whole.end.id == f"{epoch}-{TOKENS + 1}"
        for seen in range(TOKENS + 1):
            cursor = f"{epoch}-{seen}"
            for rest in (
                await client.stream(url, last_event_id=cursor),
                await client.stream(after(url, cursor)),
                await client.stream(after(url, f"{epoch}-0"), last_event_id=cursor),
            ):
                assert rest.text == "".join(tokens[seen:])
                assert told(rest.end) == told(whole.end)
                assert [event.name for event in rest.events].count("reset") == 0


async def test_while_live_every_cut_resumes_with_exactly_the_rest(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 43: readers cut before the live edge replay up to it at once, then follow it to the end."""
    edge = 15
    question = prompt("A live song", hold="edge", hold_after=edge)
    tokens = tokens_of(question, TOKENS)
    caught_up = asyncio.Barrier(2 * (edge + 1) + 1)

    async def resume(client: Client, url: str, cursor: str | None, seen: int) -> None:
        text, ends = "", 0
        async with client.listening(url, last_event_id=cursor) as (reply, events, reader):
            assert reply.status == 200
            if seen == edge:
                await caught_up.wait()
            async for event in events:
                text += event.json["text"] if event.name == "delta" else ""
                ends += event.name == "done"
                if event.name == "delta" and text == "".join(tokens[seen:edge]):
                    await caught_up.wait()
        assert text == "".join(tokens[seen:])
        assert ends == 1
        assert reader.last_id.endswith(f"-{TOKENS + 1}")

    async with Client(gateway.url) as client, asyncio.timeout(60), asyncio.TaskGroup() as group:
        url = (await accepted(client, question))["stream_url"]
        cursor = await read_until(client, url, "".join(tokens[:edge]))
        epoch, _, seq = cursor.partition("-")
        assert int(seq) == edge
        for seen in range(edge + 1):
            group.create_task(resume(client, url, f"{epoch}-{seen}", seen))
            group.create_task(resume(client, after(url, f"{epoch}-{seen}"), None, seen))
        await caught_up.wait()
        simulator.release("edge")
    assert simulator.stats()["calls"] == 1


async def test_a_reader_cut_at_every_token_of_its_own_stream_loses_and_repeats_nothing(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 43: the cursor that a connection itself showed last is the one that continues it."""

    async def cut_at(client: Client, seen: int) -> None:
        question = prompt(f"Cut {seen}", hold=f"cut-{seen}", hold_after=seen)
        tokens = tokens_of(question, TOKENS)
        url = (await accepted(client, question))["stream_url"]
        cursor = await read_until(client, url, "".join(tokens[:seen]))
        simulator.release(f"cut-{seen}")
        rest = await client.stream(url, last_event_id=cursor)
        assert rest.text == "".join(tokens[seen:])
        assert rest.end.name == "done"

    async with Client(gateway.url) as client:
        await together(cut_at(client, seen) for seen in range(TOKENS + 1))
    assert simulator.stats()["aborted"] == 0


MALFORMED = ("x", "-", "1", "1-", "-1", "1-2-3", "1--2", "1-1e1", "0x1-1", "1.0-1")
QUOTED = ("", "%201-1", "1-1%20", "%2B1-1", "1%00-1", "%EF%BC%91-%EF%BC%91")
TOO_LONG = ("12345678901234567-1", "1-1234567890")


async def test_a_bad_cursor_is_refused_and_never_a_silent_full_replay(gateway: GatewayProcess) -> None:
    """Row 43: malformed, or beyond the end: 400 instead of the stream."""
    async with Client(gateway.url) as client:
        url = (await accepted(client, "Where am I?"))["stream_url"]
        whole = await client.stream(url)
        epoch = epoch_of(whole)
        beyond = (f"{epoch}-{TOKENS + 2}", f"{epoch}-999999999", f"{epoch + 1}-0", f"{epoch + 1}-1")
        for cursor in (*MALFORMED, *QUOTED, *TOO_LONG, *beyond):
            refused = await client.call("GET", after(url, cursor))
            assert (refused.status, refused.error["code"]) == (400, "bad_cursor"), cursor
            assert refused.headers["content-type"] == "application/json"
        for cursor in (*MALFORMED, *TOO_LONG, *beyond):
            refused = await client.call("GET", url, headers={"last-event-id": cursor})
            assert (refused.status, refused.error["code"]) == (400, "bad_cursor"), cursor


async def test_a_cursor_of_an_older_epoch_gets_reset_and_the_whole_text(gateway: GatewayProcess) -> None:
    """Row 43: what it has is void, and its cursor with it, from the `reset` on and not before."""
    async with Client(gateway.url) as client:
        url = (await accepted(client, "Once more"))["stream_url"]
        whole = await client.stream(url)
        epoch = epoch_of(whole)
        for seq in (0, 3, TOKENS + 500):
            old = f"{epoch - 1}-{seq}"
            again = await client.stream(url, last_event_id=old)
            names = [event.name for event in again.events if event.name != "status"]
            assert names[0] == "reset"
            assert names.count("reset") == 1
            reset = next(event for event in again.events if event.name == "reset")
            assert reset.json == {"epoch": epoch}
            # With the old cursor it would be glued to the old answer, where that still goes on.
            assert reset.id == f"{epoch}-0"
            assert again.text == whole.text
            assert told(again.end) == told(whole.end)


async def test_the_id_of_a_terminal_event_gets_204(gateway: GatewayProcess) -> None:
    """Row 43: nothing follows an end, of whatever kind; 204 is what stops an EventSource."""
    async with Client(gateway.url) as client:
        for question, name in (("Sing", "done"), (prompt("Break", truncate=3), "failed")):
            url = (await accepted(client, question))["stream_url"]
            end = (await client.stream(url)).end
            assert end.name == name
            await expect_204(client, url, end.id)
        chat = await accepted(client, "Never mind")
        await client.cancel(chat["id"])
        end = (await client.stream(chat["stream_url"])).end
        assert end.name == "cancelled"
        assert end.id.endswith("-999999999")
        await expect_204(client, chat["stream_url"], end.id)


async def expect_204(client: Client, url: str, cursor: str) -> None:
    for path, headers in ((url, {"last-event-id": cursor}), (after(url, cursor), {})):
        reply = await client.call("GET", path, headers=headers)
        assert (reply.status, reply.body) == (204, b"")


async def test_evicted_history_is_gone_and_said_so(simulator: SimulatorProcess, start: Start) -> None:
    """Row 43: the oldest answers make room; their ids say 410 with any cursor; after retention, 404."""
    gateway = start(simulator, RETENTION_BYTES=100_000, RETENTION_S=3600)
    async with pinned(gateway, [crew(gateway)[1]]) as (door,), Client(gateway.url) as client:
        url = (await accepted(door, "Verse 0"))["stream_url"]
        first = await door.stream(url)
        private = (await accepted(door, "Verse 0", headers={"cache-control": "no-store"}))["stream_url"]
        await client.stream(private)
        for number in range(1, 20):
            latest = (await accepted(door, f"Verse {number}"))["stream_url"]
            whole = await door.stream(latest)
        for path in (url, after(url, f"{epoch_of(first)}-3"), after(url, f"{epoch_of(first)}-0")):
            gone = await door.call("GET", path)
            assert (gone.status, gone.error["code"]) == (410, "history_gone")
        # Through another worker the cached text is still there; what was not to be cached is nowhere.
        gone = await client.call("GET", private)
        assert (gone.status, gone.error["code"]) == (410, "history_gone")
        assert (await client.stream(latest)).text == whole.text
    brief = start(simulator, RETENTION_S=0.2)
    async with Client(brief.url) as client:
        url = (await accepted(client, "Verse 0"))["stream_url"]
        await client.stream(url)

        async def forgotten() -> bool:
            return (await client.call("GET", url)).status == 404

        await eventually(forgotten)


async def test_an_unknown_and_a_foreign_id_answer_alike(simulator: SimulatorProcess, start: Start) -> None:
    """Row 43: nobody learns from a 404 whether somebody else's id exists."""
    gateway = start(simulator, API_KEYS="one:key-of-tenant-one,two:key-of-tenant-two")
    async with (
        Client(gateway.url, "key-of-tenant-one") as one,
        Client(gateway.url, "key-of-tenant-two") as two,
    ):
        mine = (await one.submit("Mine")).json["id"]
        assert (await one.call("GET", f"/chat/{mine}")).status == 200
        for method, path in (("GET", "/chat/{}/stream"), ("GET", "/chat/{}"), ("POST", "/chat/{}/cancel")):
            unknown = await two.call(method, path.format("0" * len(mine)))
            for id in (mine, "0", "%00", mine.upper() + "x"):
                foreign = await two.call(method, path.format(id))
                assert (foreign.status, foreign.body) == (404, unknown.body)
                assert foreign.headers.keys() == unknown.headers.keys()
        assert (await one.record(mine))["status"] == "ready"


async def test_a_reader_that_returns_within_the_grace_continues(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 42: closing the only stream is not a cancel; the answer runs on and is resumed."""
    question = prompt("Back in a moment", hold="grace", hold_after=5)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        cursor = await read_until(client, chat["stream_url"], answer_to(question, 5))
        await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 0)
        assert (await client.record(chat["id"]))["status"] == "streaming"
        assert simulator.stats()["in_flight"] == 1
        simulator.release("grace")
        rest = await client.stream(chat["stream_url"], last_event_id=cursor)
        assert rest.text == answer_to(question, TOKENS)[len(answer_to(question, 5)) :]
        assert rest.end.name == "done"
    assert simulator.stats()["aborted"] == 0


async def test_after_the_grace_the_upstream_call_is_aborted(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 42: nobody came back, so nobody pays on; the record says so, and everything is free again."""
    gateway = start(simulator, ABANDON_GRACE_S=0.2)
    question = prompt("Gone for good", hold="for-good", hold_after=5)
    async with Client(gateway.url) as client:
        chat = await accepted(client, question)
        await read_until(client, chat["stream_url"], answer_to(question, 5))
        await eventually(lambda: simulator.stats()["aborted"] == 1)
        await at_rest(gateway)
        record = await client.record(chat["id"])
        assert (record["status"], record["text"]) == ("cancelled", answer_to(question, 5))
        assert (await client.stream(chat["stream_url"])).end.name == "cancelled"


async def test_two_readers_of_one_id_get_the_same_stream(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Row 44: a second GET of a live id replays and then follows; neither disturbs the other."""
    question = prompt("For two", hold="two", hold_after=7)
    async with Client(gateway.url) as client, asyncio.timeout(60):
        url = (await accepted(client, question))["stream_url"]
        async with client.listening(url) as (_, events, reader):
            while (await anext(events)).name != "delta":
                continue
            second = await read_until(client, url, answer_to(question, 7))
            simulator.release("two")
            third = await client.stream(url)
            ends = [event async for event in events if event.name == "done"]
        assert third.text == answer_to(question, TOKENS)
        assert [end.id for end in ends] == [third.end.id] == [reader.last_id]
        assert second.endswith("-7")
    assert simulator.stats()["calls"] == 1
