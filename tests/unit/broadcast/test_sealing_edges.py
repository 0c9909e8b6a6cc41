"""What an answer has to have to be kept, and what a stored one has to have to be served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broadcast.sealing import Sealing, log_of
from cache.codec import decode
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.lane import running
from tests.fakes.model import delta, finish, role
from tests.unit.broadcast.test_sealing import TTL, WHOLE, ended
from tests.virtual_time import virtual
from upstream.fold import completion


@virtual
async def test_less_than_a_second_is_time_to_live() -> None:
    """Who asked for half a second shares for half a second; nothing less than nothing."""
    async with running(MemoryAnswerStore()) as lane:
        for ttl_s, accepted in ((0.5, True), (0.0, False), (-1.0, False)):
            assert Sealing(lane, TTL).accepts(ended(*WHOLE), ttl_s) is accepted


@virtual
async def test_what_another_writes_is_what_would_be_stored() -> None:
    """A shared flight's answer goes to Redis with its end: the same bytes; none if it is not to be kept."""
    async with running(MemoryAnswerStore(max_entry_bytes=2000), local_bytes=1 << 20) as lane:
        sealing = Sealing(lane, TTL)
        kept = sealing.answer(key(1), ended(*WHOLE), None)
        decoded = decode(sealing.encoded(kept), key(1))
        assert decoded is not None
        assert (decoded.epoch, decoded.chunks) == (kept.epoch, kept.chunks)
        large = sealing.answer(key(2), ended(delta("x" * 3000), *finish()), None)
        assert sealing.encoded(large) == b""
        assert lane.peek(key(1)) is None
        sealing.hold(kept)
        held = lane.peek(key(1))
        assert held is not None
        assert held.epoch == kept.epoch


@virtual
async def test_an_answer_without_usage_counts_nothing() -> None:
    """Not every upstream tells."""
    async with running(MemoryAnswerStore()) as lane:
        sealed = Sealing(lane, TTL).answer(key(1), ended(delta("a"), finish()[0]), None)
        assert (sealed.prompt_tokens, sealed.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ((role(), delta("text"), finish()[0]), True),
        ((role(), delta("text")), False),
        ((role(), finish()[0]), False),
        ((), False),
    ],
    ids=["whole", "without an end", "without text", "nothing"],
)
def test_an_entry_that_is_no_complete_answer_is_a_miss(chunks: tuple[object, ...], whole: bool) -> None:
    """Whoever wrote it: part of an answer is never served as all of it."""
    raw = tuple(chunk.raw for chunk in chunks)  # type: ignore[attr-defined]
    assert (log_of(replace(answer(1), chunks=raw)) is not None) is whole


def test_a_hit_knows_what_its_answer_cost_and_its_body() -> None:
    """Seconds saved are told from it, and a plain reply is not folded anew."""
    raw = tuple(chunk.raw for chunk in WHOLE)
    log = log_of(replace(answer(1), chunks=raw, made_s=7.5, completion=b"as it was"))
    assert log is not None
    assert log.made_s == 7.5
    assert log.whole(completion) == b"as it was"
