"""What must hold after each step: I1, I2 and I3 of the design, judged against the plain model."""

from __future__ import annotations

from collections import Counter

from broadcast.lifecycle import PENDING, Phase
from tests.fakes.model import Call
from tests.proofs.clients import Asked, Listener
from tests.proofs.plain_model import STATUSES, allowed, follows, interested, overdue
from tests.proofs.world import LONELY, Seen, World

STREAMS = "llm_streams"


def check_step(world: World) -> None:
    """At every moment, the middle of a change included; and more when nothing moves."""
    with world.loop.current():
        _check(world)


def _check(world: World) -> None:
    assert world.errors.seen == []
    check_conservation(world)
    for asked in world.asked:
        check_end(world, asked)
    for listener in world.listeners:
        check_text(world, listener)
    check_calls(world)
    check_new_calls(world)
    assert world.pipe.supervisor.healthy
    if world.settled:
        check_at_a_standstill(world)


# -- I1: every text is an ordered prefix of one call ----------------------------------------------
def check_text(world: World, listener: Listener) -> None:
    """Of exactly one: what a call says begins with its number."""
    if not listener.text:
        return
    calls = [c for c in world.model.calls if c.prompt == listener.asked.prompt]
    assert any(c.said.startswith(listener.text) for c in calls), f"{listener!r} is of none of {calls}"
    end = listener.end
    if end is not None and end.outcome == "completed":
        whole = [c.said for c in calls if c.number in world.model.completed]
        assert listener.text in whole, f"{listener!r} is no whole answer of {calls}"


def check_calls(world: World) -> None:
    """Never more than the permits, and one at a time for one question."""
    limits = world.around.limits
    assert world.model.peak[STREAMS] <= limits.streams
    assert world.model.peak["llm_calls"] <= limits.calls
    shared = Counter(c.prompt for c in world.model.calls if c.open and not c.prompt.endswith(LONELY))
    assert all(number == 1 for number in shared.values()), f"asked twice at a time: {shared}"


def check_new_calls(world: World) -> None:
    """No call before somebody listens: whoever does had come before it, or came in this step."""
    seen = world.seen
    for call in world.model.calls[seen.calls :]:
        here = [a for a in world.asked if a.prompt == call.prompt and a.came]
        came = any(a.connections or (a.dropped_at or 0.0) >= seen.at for a in here)
        assert came or call.prompt in seen.heard or "plan:" in call.prompt, f"nobody listens to {call!r}"
    heard = frozenset(a.prompt for a in world.asked if a.connections)
    world.seen = Seen(world.now, len(world.model.calls), heard)


# -- I2: each request ends exactly once -----------------------------------------------------------
def check_end(world: World, asked: Asked) -> None:
    if asked.record is None:
        return
    ended = asked.record.claim.ended
    if asked.end is not None:
        assert ended is asked.end, f"{asked!r} has ended again: {ended}"
    elif ended is not None:
        assert allowed(asked, ended, world.around), f"{asked!r} may not end as {ended} at {world.now}"
        asked.end = ended
    assert world.pipe.witness.ends[asked.ticket.id] == (ended is not None), f"{asked!r} was counted wrong"
    status = world.pipe.status(asked.record)
    if not asked.statuses or asked.statuses[-1] != status:
        before = asked.statuses[-1] if asked.statuses else STATUSES[0]
        assert follows(before, status), f"{asked!r} went from {before} to {status}"
        asked.statuses.append(status)


# -- I3: permits are conserved --------------------------------------------------------------------
def check_conservation(world: World) -> None:
    for stage in world.pipe.stages:
        stats = stage.stats()
        assert stats.admitted == stats.released + stats.in_use, stats
        assert 0 <= stats.in_use <= stats.capacity, stats
        assert stats.max_waiting is None or stats.waiting <= stats.max_waiting, stats


# -- when nothing moves ---------------------------------------------------------------------------
def check_at_a_standstill(world: World) -> None:
    """Nothing is on its way: what is held is what is used, and everybody has been shown all there is."""
    check_stages(world)
    check_flights(world)
    for asked in world.asked:
        if asked.running and asked.record is not None:
            check_waiting(world, asked)
    for listener in world.listeners:
        if listener.open and listener.asked.running:
            check_listener(world, listener)
    for call in world.model.calls:
        if call.open and "plan:" not in call.prompt:
            check_wanted(world, call)


def check_stages(world: World) -> None:
    pipe = world.pipe
    phases = Counter(broadcast.phase for broadcast in pipe.broadcasts.running)
    assert pipe.leaders.stats().in_use == phases[Phase.PREPARING], f"{pipe.leaders!r}, {phases}"
    assert pipe.llm_streams.stats().in_use == phases[Phase.LIVE] == pipe.model.in_flight[STREAMS]
    assert pipe.llm_calls.stats().in_use == pipe.model.in_flight["llm_calls"]
    assert pipe.followers.stats().in_use == 0, "attaching takes no time in one process"
    assert pipe.broadcasts.outlook.pending == sum(phases[phase] for phase in PENDING)
    assert pipe.leaders.stats().waiting == phases[Phase.WAITING]
    assert pipe.llm_streams.stats().waiting <= phases[Phase.QUEUED]  # not in a back-off


def check_flights(world: World) -> None:
    """A twin finds what runs; and nothing that does not run, once it is stored."""
    pipe = world.pipe
    running = [broadcast for broadcast in pipe.broadcasts.running if broadcast.key is not None]
    for broadcast in running:
        assert pipe.flights.find(broadcast.key or "") is broadcast
    storing = pipe.broadcasts.rest.storing + sum(not world.answered(asked) for asked in world.asked)
    assert len(pipe.flights) <= len(running) + storing, f"{pipe.flights!r}, {running}"


def check_waiting(world: World, asked: Asked) -> None:
    """It waits for something that can come, and no longer than it may."""
    assert asked.record is not None
    status = asked.statuses[-1]
    assert asked.record.broadcast in world.pipe.broadcasts.running, f"{asked!r} waits for nothing"
    assert not overdue(asked, status, world.now, world.around), f"{asked!r} at {world.now}"
    if asked.connections:
        phase = asked.record.broadcast.phase
        assert phase is not Phase.IDLE, f"{asked!r} listens, and nobody does anything about it"


def check_listener(world: World, listener: Listener) -> None:
    """Appending waits for nobody: whoever listens has everything that was said. Who waits has nothing."""
    prompt, record = listener.asked.prompt, listener.asked.record
    live = record is not None and record.broadcast.phase is Phase.LIVE
    said = {c.said for c in world.model.calls if c.open and c.prompt == prompt} if live else {""}
    assert listener.text in said, f"{listener!r} misses something of {said}"


def check_wanted(world: World, call: Call) -> None:
    """A call goes on for somebody: at zero interest it ends at once."""
    if world.around.limits.finish:
        return
    who = [a for a in world.asked if a.prompt == call.prompt and interested(a, world.now, world.around)]
    assert who, f"{call!r} goes on for nobody"
