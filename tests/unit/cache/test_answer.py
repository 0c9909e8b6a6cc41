"""What a sealed answer knows about itself."""

from dataclasses import replace

from tests.fakes.answers import answer


def test_size_is_the_bytes_that_are_kept() -> None:
    """Chunks and completion count, the bookkeeping does not."""
    sealed = replace(answer(), chunks=(b"12", b"345"), completion=b"6789")

    assert sealed.size == 9


def test_ttl_runs_down_to_nothing_and_never_below() -> None:
    """Age and remaining TTL add up until the TTL is over."""
    sealed = replace(answer(), stored_at=1000.0, ttl_s=60.0)

    assert (sealed.age(1010.0), sealed.remaining_ttl(1010.0)) == (10.0, 50.0)
    assert (sealed.age(2000.0), sealed.remaining_ttl(2000.0)) == (1000.0, 0.0)


def test_answer_from_the_future_is_new() -> None:
    """Another host's clock may be ahead: that makes an answer fresh, not immortal."""
    sealed = replace(answer(), stored_at=1000.0, ttl_s=60.0)

    assert (sealed.age(990.0), sealed.remaining_ttl(990.0)) == (0.0, 60.0)
