"""The native stream: what a subscriber sees from its connect to the one terminal event."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from runtime.errors import UpstreamTruncated, UpstreamUnreachable
from tests.fakes.front import beat, front
from tests.fakes.turns import settle
from tests.virtual_time import virtual

PING = b": p\n\n"


@virtual
async def test_a_stream_walks_through_every_stage_and_ends_once() -> None:
    """Row 2, 3 and 62: a status for every change, the place only falls, then deltas and one `done`."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        gate.model.by_hand.add("q")
        ahead = await gate.submit("ahead of it")
        await gate.listen(group, ahead["stream_url"])
        peer = await gate.listen(group, (await gate.submit("q"))["stream_url"])
        assert peer.shown[0][:2] == ("waiting_slot", "llm_streams")
        await beat()
        holder.complete()
        call = await gate.model.call("q")
        await settle()
        call.say("one")
        await settle()
        call.say(" two")
        await settle()
        call.complete()
        await settle()
        assert peer.shown[-1] == ("streaming", "streaming", None)
        places = [place for _, _, place in peer.shown if place]
        assert places[0] == 2
        assert places == sorted(places, reverse=True)
        assert [event.json["text"] for event in peer.events if event.name == "delta"] == ["one", " two"]
        assert peer.end.name == "done"
        assert peer.end.json["finish_reason"] == "stop"


@virtual
async def test_the_first_status_has_the_place_already() -> None:
    """Row 62: what is told at once on connect is where one stands, not that one stands somewhere."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        peers = [await gate.listen(group, (await gate.submit(name))["stream_url"]) for name in ("a", "b")]
        assert [peer.shown[0] for peer in peers] == [
            ("waiting_slot", "llm_streams", 1),
            ("waiting_slot", "llm_streams", 2),
        ]
        holder.complete()


@virtual
async def test_a_change_in_the_queue_is_told_within_a_beat() -> None:
    """Row 62: whoever waits sees its place fall while it waits, not only when it is its turn."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        urls = {name: (await gate.submit(name))["stream_url"] for name in ("first", "second", "third")}
        peers = [await gate.listen(group, url) for url in urls.values()]
        await beat()
        assert [peer.shown[-1][2] for peer in peers] == [1, 2, 3]
        peers[0].leave()
        await asyncio.sleep(gate.pipe.limits.grace_s)
        await beat()
        assert [place for _, _, place in peers[2].shown if place] == [3, 2]
        holder.complete()


@virtual
async def test_a_wait_that_cannot_be_foretold_is_not_promised() -> None:
    """Row 97: `eta_ms` is null until a holding time has been measured, and then what was measured."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group, "the first ever")
        peer = await gate.listen(group, (await gate.submit("q"))["stream_url"])
        await beat()
        assert {event.json["eta_ms"] for event in peer.events} == {None}
        await asyncio.sleep(30.0)
        holder.complete()
        await settle()
        assert peer.end.name == "done"
        holder = await gate.hold(group, "the next")
        peer = await gate.listen(group, (await gate.submit("r"))["stream_url"])
        await beat()
        assert 20_000 <= peer.events[-1].json["eta_ms"] <= 40_000
        holder.complete()


@virtual
async def test_preparation_is_shown_by_its_step() -> None:
    """`stage` names what a request is in: the hook's step while it prepares, the leaders queue before."""
    async with front(leaders=1, hook=True) as gate, asyncio.TaskGroup() as group:
        gate.pipe.hook.gate.clear()
        first = await gate.listen(group, (await gate.submit("a"))["stream_url"])
        second = await gate.listen(group, (await gate.submit("b"))["stream_url"])
        assert first.shown[-1][:2] == ("preparing", "preparing:hook")
        assert second.shown[-1] == ("queued", "leaders", 1)
        gate.pipe.hook.gate.set()
    assert second.shown[0][0] == "queued"
    assert (first.end.name, second.end.name) == ("done", "done")


@pytest.mark.parametrize("phase", ["queued", "preparing", "waiting_slot", "streaming"])
@virtual
async def test_ten_seconds_of_silence_bring_a_comment_in_every_phase(phase: str) -> None:
    """Row 45: a proxy that drops silent connections must not, also while the request only waits."""
    async with front(leaders=1, streams=1, hook=True) as gate, asyncio.TaskGroup() as group:
        release, target = await gate.bring_to(group, phase)
        peer = await gate.listen(group, target)
        await beat()
        assert peer.shown[-1][0] == phase
        before = len(peer.pieces)
        await asyncio.sleep(10.0 - 0.5)
        assert len(peer.pieces) == before
        await asyncio.sleep(0.8)
        assert peer.pieces[before:] == [PING]
        await asyncio.sleep(30.0)
        assert 2 <= peer.pieces[before:].count(PING) <= 4
        release()
    assert peer.end.name == "done"
    assert peer.reader.comments == ["p"] * peer.pieces.count(PING)


@virtual
async def test_a_stream_that_has_to_queue_again_is_told_its_place_again() -> None:
    """A retry gives the slot back: the status stays, the stage and the place are the true ones."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        gate.model.errors["q"].append(UpstreamUnreachable())
        chat = await gate.submit("q")
        peer = await gate.listen(group, chat["stream_url"])
        holder = await gate.hold(group)
        await asyncio.sleep(30.0)
        assert peer.shown[-1] == ("streaming", "llm_streams", 1)
        holder.complete()
        await settle()
        assert peer.end.name == "done"
        assert len(gate.model.asked("q")) == 2


@virtual
async def test_no_comment_comes_while_tokens_do() -> None:
    """Keepalives are for silence: a busy stream carries none."""
    async with front() as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        peer = await gate.listen(group, (await gate.submit("q"))["stream_url"])
        call = await gate.model.call("q")
        for _ in range(20):
            call.say("token")
            await asyncio.sleep(3.0)
        call.complete()
    assert PING not in peer.pieces
    assert peer.text == "token" * 20


@virtual
async def test_cancel_ends_every_open_stream_of_the_request_with_one_event() -> None:
    """Row 32, 33 and 44: also the stream of the client that cancelled, in the same turn."""
    async with front() as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        chat = await gate.submit("q")
        peers = [await gate.listen(group, chat["stream_url"]) for _ in range(2)]
        call = await gate.model.call("q")
        call.say("half")
        await settle()
        assert (await gate.post(f"/chat/{chat['id']}/cancel", {})).status == 200
        await settle()
        assert not call.open
        for peer in peers:
            assert (peer.end.name, peer.text) == ("cancelled", "half")
            assert peer.end.id.endswith("-999999999")


@virtual
async def test_a_leader_that_cancels_leaves_its_followers_the_answer() -> None:
    """Row 34: two requests, one call of the model; only one of them ends."""
    async with front() as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        leader, follower = await gate.submit("q"), await gate.submit("q")
        assert (leader["role"], follower["role"]) == ("leader", "follower")
        first, second = [await gate.listen(group, chat["stream_url"]) for chat in (leader, follower)]
        call = await gate.model.call("q")
        call.say("to the")
        await settle()
        await gate.post(f"/chat/{leader['id']}/cancel", {})
        await settle()
        call.say(" end")
        call.complete()
        await settle()
        late = await gate.get(leader["stream_url"])
    assert (first.end.name, first.text) == ("cancelled", "to the")
    assert (second.end.name, second.text) == ("done", "to the end")
    assert second.end.json["cache"] == "coalesced"
    assert [event.name for event in late.events] == ["cancelled"]


@virtual
async def test_a_failure_in_the_middle_keeps_the_text_and_names_the_code() -> None:
    """Row 47 and 48: all readers get the same one `failed`, with the same id."""
    async with front() as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        url = (await gate.submit("q"))["stream_url"]
        peers = [await gate.listen(group, url) for _ in range(2)]
        call = await gate.model.call("q")
        call.say("part")
        await settle()
        call.fail(UpstreamTruncated())
        await settle()
        late = await gate.get(url)
    for peer in (*peers, late):
        assert (peer.text, peer.end.name) == ("part", "failed")
        assert peer.end.json == {
            "code": "upstream_truncated",
            "message": UpstreamTruncated.message,
            "retryable": True,
        }
    assert len({peer.end.id for peer in (*peers, late)}) == 1


@virtual
async def test_the_watch_of_a_finished_stream_is_over() -> None:
    """A watcher that outlived its stream would be a leak for every request."""
    async with front() as gate:
        chat = await gate.submit("q")
        await gate.get(chat["stream_url"])
        await settle()
        assert len(gate.supervisor) == 1
        assert gate.record(chat["id"]).broadcast.phase is Phase.SEALED
        ended = gate.record(chat["id"]).claim.ended
        assert ended is not None
        assert ended.outcome is Outcome.COMPLETED
