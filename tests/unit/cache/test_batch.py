"""How many keys are asked for at once."""

from __future__ import annotations

from cache.batch import TARGET_BYTES, BatchSize
from cache.store import MAX_BATCH

MIB = 1 << 20


def test_small_answers_are_asked_for_64_at_once() -> None:
    """The usual case, from the start."""
    batch = BatchSize()
    batch.saw([b"x" * 50_000, None, b""])

    assert batch.most == MAX_BATCH


def test_large_answers_shrink_the_batch_at_once() -> None:
    """So that the next reply stays near 4 MiB."""
    batch = BatchSize()
    batch.saw([None, b"x" * MIB])

    assert batch.most * MIB <= TARGET_BYTES


def test_batch_grows_again_when_answers_are_small() -> None:
    """One huge answer does not slow the lane for ever."""
    batch = BatchSize()
    batch.saw([b"x" * TARGET_BYTES])
    assert batch.most == 1
    for _ in range(60):
        batch.saw([None])

    assert batch.most == MAX_BATCH


def test_reply_that_did_not_come_shrinks_the_batch() -> None:
    """Its size is not known, and the same question would fail again; one key is always asked for."""
    batch = BatchSize()
    sizes = []
    for _ in range(4):
        batch.failed()
        sizes.append(batch.most)

    assert sizes == [8, 1, 1, 1]


def test_value_larger_than_the_target_is_asked_for_alone() -> None:
    """There is always something to ask."""
    batch = BatchSize()
    batch.saw([b"x" * (2 * TARGET_BYTES)])

    assert batch.most == 1
