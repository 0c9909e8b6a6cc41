"""How a trace crosses processes: one string, beside what is said of a broadcast and of a request."""

from __future__ import annotations

import msgspec
import pytest

from admission import Priority
from broadcast.broadcast import Broadcast
from broadcast.log import Log
from broadcast.shown import hear, say
from chatbot import told
from chatbot.ticket import Ticket
from tests.fakes.claims import RecordingDriver
from tests.virtual_time import virtual
from upstream.chunk import Chunk

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def broadcast() -> Broadcast[Chunk]:
    return Broadcast("key", Log(5), RecordingDriver())


@virtual
async def test_a_mirror_knows_the_trace_of_what_it_mirrors() -> None:
    """Its followers link there; without it a request that was answered elsewhere has no cause."""
    made, mirror = broadcast(), broadcast()
    made.traceparent = TRACEPARENT
    hear(mirror, say(made, None, 1000.0), 1000.0)
    assert mirror.traceparent == TRACEPARENT


@virtual
@pytest.mark.parametrize("older", [True, False])
async def test_processes_of_two_versions_understand_each_other(older: bool) -> None:
    """During an upgrade both run on one Redis: the new field is the last, and may be missing."""
    made, mirror = broadcast(), broadcast()
    made.step = "hook"
    said = msgspec.json.decode(say(made, 2.5, 1000.0))
    said = said[:-1] if older else [*said, "of a later version"]
    hear(mirror, msgspec.json.encode(said), 1000.0)
    assert (mirror.step, mirror.shown.eta_s, mirror.traceparent) == ("hook", 2.5, "")


def test_a_request_that_is_read_elsewhere_brings_its_trace() -> None:
    """The stream of a chat links to the submit, whichever processes the two have reached."""
    ticket = Ticket("chat_x", "tenant", Priority.BATCH, 0.0, 1.5, TRACEPARENT)
    assert told.read_about(told.about_unborn(ticket, "key", "chat", native=True)).traceparent == TRACEPARENT
    assert ticket.placed("k00").traceparent == TRACEPARENT


def test_a_request_of_an_older_version_has_none() -> None:
    """Its admission was told before there were traces."""
    ticket = Ticket("chat_x", "tenant", Priority.BATCH, 0.0, 1.5)
    said = msgspec.json.decode(told.about_unborn(ticket, "key", "chat", native=True))[:-1]
    assert told.read_about(msgspec.json.encode(said)).traceparent == ""
