"""What processes tell each other of a request: read back it is what was said, junk is an error."""

from __future__ import annotations

import msgspec
import pytest

from admission import Priority
from broadcast.outcome import Outcome
from chatbot import told
from chatbot.record import CacheResult
from chatbot.ticket import Ticket
from runtime.errors import WorkerLost
from tests.fakes.pipeline import pipeline
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


@virtual
async def test_a_record_says_who_may_see_it_and_how_it_was_answered() -> None:
    """Tenant, key and times: all that another process needs to show it."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        said = told.read_about(told.about(record))
        assert (said.tenant, said.key) == (record.ticket.tenant, record.broadcast.key)
        assert (said.native, said.route, said.priority) == (True, "chat", "interactive")
        assert said.created_at == record.ticket.created_at
        assert told.cache_of(said, "follower") is record.cache
        await pipe.read(record)


@virtual
async def test_an_end_is_read_as_it_was_told() -> None:
    """Outcome, whether it was everybody's, and how much of the log is its own."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        await pipe.read(record)
        end = told.read_ended(told.ended(record))
        assert (end.outcome, end.shared, end.error, end.events) == (
            "completed",
            True,
            None,
            len(record.broadcast.log),
        )
        assert end.timings == record.timings()
        assert told.end_of(end, 7.0).at == 7.0
        assert told.end_of(end, 7.0).outcome is Outcome.COMPLETED


@virtual
async def test_a_failure_keeps_its_code_its_words_and_whether_to_retry() -> None:
    """A client is told the same on every worker."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        record.broadcast.fail(UpstreamUnavailable("our words", retry_after=7.5))
        end = told.read_ended(told.ended(record))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.message) == (UpstreamUnavailable.code, "our words")
        assert end.error.retryable is UpstreamUnavailable.retryable
        assert end.error.retry_after == 7.5


def test_ends_that_another_process_makes() -> None:
    """A cancel is the client's own wish and cuts its text where it was; a lost worker is everybody's."""
    end = told.read_ended(told.cancelled("user", 4))
    assert (end.outcome, end.shared, end.reason, end.events) == ("cancelled", False, "user", 4)
    lost = told.read_ended(told.ended_with(WorkerLost()))
    assert (lost.outcome, lost.shared, lost.code, lost.retryable) == ("failed", True, WorkerLost.code, True)
    hit = told.read_ended(told.hit())
    assert (hit.outcome, hit.shared, hit.error) == ("completed", True, None)


@pytest.mark.parametrize(
    ("role", "cache"),
    [("cached", CacheResult.HIT), ("follower", CacheResult.COALESCED), ("leader", CacheResult.MISS)],
)
def test_before_its_role_is_known_the_look_up_decides(role: str, cache: CacheResult) -> None:
    """The record is written with the claim, in one step, so its cache status follows from the role."""
    ticket = Ticket("chat_x", "tenant", Priority.BATCH, 0.0, 1.5)
    said = told.read_about(told.about_unborn(ticket, "key", "chat", native=True))
    assert (said.tenant, said.priority, said.created_at, said.ttl_s) == ("tenant", "batch", 1.5, None)
    assert told.cache_of(said, role) is cache


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"null", b'["t"]', b"\xff", b'{"shared":1}'])
def test_what_cannot_be_read_is_one_kind_of_error(junk: bytes) -> None:
    """The callers take it for a request that is not known."""
    with pytest.raises(msgspec.MsgspecError):
        told.read_about(junk)
    with pytest.raises(msgspec.MsgspecError):
        told.read_ended(junk)
