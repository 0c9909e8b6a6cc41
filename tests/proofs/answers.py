"""What a submit may be answered: which role, which refusal, and when it must be a hit."""

from __future__ import annotations

from tests.fakes.model import Call
from tests.proofs.clients import Asked
from tests.proofs.world import LONELY, Stored, World


def note_stored(world: World, call: Call) -> None:
    """A call is told to end well. Redis gets its answer for sure only if nothing is in the way of it."""
    prompt = call.prompt
    world.stored.pop(prompt, None)
    wanted = any(a.running and a.prompt == prompt and a.connections for a in world.asked)
    if wanted and call.said and world.redis_is_fine and not prompt.endswith(LONELY):
        world.stored[prompt] = Stored(call.said, world.now)


def expected_hit(world: World, prompt: str, how: str) -> str | None:
    """The text that this submit must be answered with, without a call of the model; None: it may be."""
    stored = world.stored.get(prompt)
    twins = [a for a in world.asked if a.prompt == prompt]
    if how in ("no_cache", "no_store") or stored is None or not world.redis_is_fine:
        return None
    if not world.done(prompt, stored.at):
        return None  # it was given up before its end
    if any(not world.ended(a) for a in twins):
        return None  # a twin that runs, or may be about to, is joined
    return stored.text


def check_answer(world: World, asked: Asked, hit: str | None) -> None:
    """The answer to a submit, once everything has come to a standstill."""
    if asked.record is None:
        check_refusal(world, asked)
        assert hit is None, f"{asked!r} was refused, and the answer is in the cache"
        return
    record, directives = asked.record, asked.wish.cache
    text = "".join(chunk.text for chunk in record.chunks())
    if directives.no_store:
        assert record.role == "leader"
    if directives.only_if_cached or hit is not None:
        assert record.role == "cached", f"{asked!r} was not served from the cache"
    if directives.no_cache:
        assert record.role != "cached"
    if hit is not None:
        assert text == hit
    if record.role == "cached":
        whole = [c.said for c in world.model.asked(asked.prompt) if c.number in world.model.completed]
        assert text in whole, f"{text!r} is no whole answer: {whole}"


def check_refusal(world: World, asked: Asked) -> None:
    """For a reason, and nothing of it stays behind."""
    assert asked.refusal is not None, f"{asked!r} has no answer"
    code = asked.refusal.code
    if code == "not_cached":
        assert asked.wish.cache.only_if_cached
        return
    pipe = world.pipe
    assert code in ("queue_full", "queue_timeout"), f"{asked!r}: {asked.refusal!r}"
    if code == "queue_full":
        limits = world.around.limits
        assert asked.crowd >= min(limits.leaders + limits.queue, limits.pending), "refused with room to spare"
    assert asked.ticket.id not in {record.ticket.id for record in pipe.records.made}
