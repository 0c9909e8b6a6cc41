"""A log becomes a cached answer and a log again; what is not a whole good answer never does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from broadcast.log import Log
from broadcast.sealing import Sealing, log_of
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.answers import answer, key
from tests.fakes.lane import running
from tests.fakes.model import USAGE, delta, finish, role
from tests.virtual_time import virtual
from upstream.chunk import Chunk
from upstream.fold import completion

TTL = 600.0


def ended(*chunks: Chunk, max_bytes: int | None = None) -> Log[Chunk]:
    log: Log[Chunk] = Log(9, max_bytes)
    log.extend(chunks)
    log.end()
    return log


WHOLE: Sequence[Chunk] = (role(), delta("Hello"), delta(" there"), *finish())


@virtual
async def test_a_hit_is_the_same_log_as_when_it_was_live() -> None:
    """Row 100: same epoch, same numbers, same bytes, same usage, so that cursors go on meaning the same."""
    async with running(MemoryAnswerStore()) as lane:
        live = ended(*WHOLE)
        assert await Sealing(lane, TTL).store(key(1), live, None)
        sealed = await lane.lookup(key(1))
        assert sealed is not None
        replay = log_of(sealed)

        assert replay is not None
        assert replay.ended
        assert (replay.epoch, replay.seq, replay.events) == (live.epoch, live.seq, live.events)
        assert replay.whole(completion) == live.whole(completion)
        assert msgspec.json.decode(replay.whole(completion))["usage"] == USAGE
        assert (sealed.prompt_tokens, sealed.completion_tokens) == (3, 2)


@virtual
async def test_a_hit_is_parsed_once_for_all_its_readers() -> None:
    """The hottest answer costs one parse, not one per hit."""
    async with running(MemoryAnswerStore(), local_bytes=1 << 20) as lane:
        await Sealing(lane, TTL).store(key(1), ended(*WHOLE), None)
        one, other = await lane.lookup(key(1)), await lane.lookup(key(1))
        assert one is not None
        assert other is not None
        assert log_of(one) is log_of(other)


def test_an_unreadable_entry_is_no_log() -> None:
    """Whoever wrote it: a miss, and not an error."""
    assert log_of(answer(1)) is None


@pytest.mark.parametrize(
    ("log", "ttl_s", "accepted"),
    [
        (ended(*WHOLE), None, True),
        (ended(*WHOLE), 5.0, True),
        (ended(*WHOLE), 0.0, False),
        (ended(role(), *finish()), None, False),
        (ended(*WHOLE, max_bytes=10), None, False),
    ],
    ids=["whole", "short-lived", "no time to live", "empty", "too long"],
)
def test_only_good_answers_are_accepted(log: Log[Chunk], ttl_s: float | None, accepted: bool) -> None:
    """Row 13: an empty answer or one beyond the bound is not worth repeating."""

    @virtual
    async def judged() -> None:
        async with running(MemoryAnswerStore()) as lane:
            assert Sealing(lane, TTL).accepts(log, ttl_s) is accepted
            assert not Sealing(lane, 0).accepts(log, ttl_s), "TTL 0 turns the cache off"

    judged()


@virtual
async def test_an_answer_larger_than_an_entry_is_not_accepted() -> None:
    """Nobody is told `stored` of something that the store refuses."""
    async with running(MemoryAnswerStore(max_entry_bytes=2000)) as lane:
        assert Sealing(lane, TTL).accepts(ended(*WHOLE), None)
        assert not Sealing(lane, TTL).accepts(ended(delta("x" * 1000), *finish()), None)


@virtual
async def test_preparation_shortens_the_time_to_live_and_never_lengthens_it() -> None:
    """The operator's bound holds whatever the hook says."""
    async with running(MemoryAnswerStore()) as lane:
        for number, (asked, kept) in enumerate([(5.0, 5.0), (TTL * 10, TTL), (None, TTL)]):
            await Sealing(lane, TTL).store(key(number), ended(*WHOLE), asked)
            sealed = await lane.lookup(key(number))
            assert sealed is not None
            assert sealed.ttl_s == kept


@pytest.mark.parametrize("count", [-1, True, "3", None])
def test_a_nonsense_usage_counts_nothing(count: object) -> None:
    """Totals stay numbers, whatever an upstream reports."""

    @virtual
    async def counted() -> None:
        async with running(MemoryAnswerStore()) as lane:
            odd = msgspec.structs.replace(finish()[1], usage={"prompt_tokens": count})
            await Sealing(lane, TTL).store(key(1), ended(delta("a"), odd), None)
            sealed = await lane.lookup(key(1))
            assert sealed is not None
            assert (sealed.prompt_tokens, sealed.completion_tokens) == (0, 0)

    counted()
