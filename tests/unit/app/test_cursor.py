"""Where a reader starts: every cursor has one meaning, and none means a silent full replay."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from app.cursor import Start, start_of
from app.exchange import Exchange
from chatbot.record import Record
from runtime.errors import BadCursor, HistoryGone
from tests.fakes.asgi import Peer
from tests.fakes.front import Front, front
from tests.fakes.turns import settle
from tests.virtual_time import virtual


def start(record: Record, target: str = "/", headers: Mapping[str, str] | None = None) -> Start:
    peer = Peer(target=target, headers=headers or {})
    return start_of(Exchange(peer.scope, peer.receive, peer.send), record)


async def ended(gate: Front, how: str = "done") -> Record:
    """A record of two deltas that has ended."""
    chat = await gate.submit(how)
    if how == "cancelled":
        await gate.post(f"/chat/{chat['id']}/cancel", {})
    await gate.get(chat["stream_url"])
    return gate.record(chat["id"])


@virtual
async def test_without_a_cursor_a_reader_starts_from_the_beginning() -> None:
    """A fresh reader is told `<epoch>-0`, and sees everything."""
    async with front() as gate:
        record = await ended(gate)
        assert start(record) == Start((record.broadcast.log.epoch, 0))


@pytest.mark.parametrize("seq", [0, 1, 2])
@virtual
async def test_a_cursor_of_this_epoch_is_where_it_says(seq: int) -> None:
    """By header or by query, the same."""
    async with front() as gate:
        record = await ended(gate)
        cursor = f"{record.broadcast.log.epoch}-{seq}"
        expected = Start((record.broadcast.log.epoch, seq), seq)
        assert start(record, headers={"last-event-id": cursor}) == expected
        assert start(record, f"/?after={cursor}&ticket=x") == expected


@virtual
async def test_the_header_wins_over_the_query() -> None:
    """EventSource reconnects to the URL it was given, with the header it has learned since."""
    async with front() as gate:
        record = await ended(gate)
        epoch = record.broadcast.log.epoch
        assert start(record, f"/?after={epoch}-0", {"last-event-id": f"{epoch}-2"}).seq == 2
        assert start(record, "/?after=nonsense", {"last-event-id": f"{epoch}-2"}).seq == 2


@pytest.mark.parametrize(
    "given",
    [
        "x", "1", "-", "1-", "-1", "1--1", "-1-1", "+1-1", "1-1-1", " 1-1", "1-1 ", "1.0-1", "1_0-1", "0x1-1",
        "1-1\n", "\u0661-\u0661", "12345678901234567-1", "1-1234567890", "$", "*", "null", "%",
    ],
)  # fmt: skip
@virtual
async def test_a_malformed_cursor_is_refused(given: str) -> None:
    """400: whoever sends nonsense has lost its place, and is not to be given everything again."""
    async with front() as gate:
        record = await ended(gate)
        if given.isascii() and "\n" not in given:
            with pytest.raises(BadCursor):
                start(record, headers={"last-event-id": given})
        peer = Peer(target="/")
        peer.scope["query_string"] = b"after=" + "".join(f"%{byte:02x}" for byte in given.encode()).encode()
        with pytest.raises(BadCursor):
            start_of(Exchange(peer.scope, peer.receive, peer.send), record)


@virtual
async def test_an_empty_cursor_in_the_query_is_malformed() -> None:
    """`?after=` was meant to say something."""
    async with front() as gate:
        record = await ended(gate)
        for target in ("/?after=", "/?after", "/?after=&after=1-0"):
            with pytest.raises(BadCursor):
                start(record, target)


@virtual
async def test_a_cursor_beyond_the_end_is_refused() -> None:
    """Nobody can have seen what was never sent; the next number is the terminal event's."""
    async with front() as gate:
        record = await ended(gate)
        epoch = record.broadcast.log.epoch
        for cursor in (f"{epoch}-4", f"{epoch}-999999999", f"{epoch + 1}-0", f"{epoch + 1}-1"):
            with pytest.raises(BadCursor):
                start(record, headers={"last-event-id": cursor})


@pytest.mark.parametrize("how", ["done", "cancelled"])
@virtual
async def test_whoever_has_seen_the_end_is_over(how: str) -> None:
    """The terminal event's own id, shared or private: 204, which stops EventSource."""
    async with front() as gate:
        record = await ended(gate, how)
        number = 3 if how == "done" else 999_999_999
        found = start(record, headers={"last-event-id": f"{record.broadcast.log.epoch}-{number}"})
        assert found.over


@virtual
async def test_a_cursor_of_an_older_epoch_is_void_and_stays_until_the_reset_is_seen() -> None:
    """`reset`, primed with its own old cursor: with the new one, a cut right then would lose the reset."""
    async with front() as gate:
        record = await ended(gate)
        epoch = record.broadcast.log.epoch
        for old in ((epoch - 1, 0), (epoch - 1, 77), (0, 999_999_999)):
            found = start(record, headers={"last-event-id": f"{old[0]}-{old[1]}"})
            assert found == Start(old, 0, reset=True)


@virtual
async def test_epochs_and_numbers_compare_as_numbers() -> None:
    """`-10` is after `-9`, and leading zeros change nothing."""
    async with front() as gate:
        gate.model.by_hand.add("q")
        chat = await gate.submit("q")
        record = gate.record(chat["id"])
        reading = gate.pipe.supervisor.spawn("reader", _read(gate, record))
        call = await gate.model.call("q")
        for _ in range(10):
            call.say("x")
        await settle()
        epoch = record.broadcast.log.epoch
        assert start(record, headers={"last-event-id": f"{epoch}-10"}).seq == 10
        assert start(record, headers={"last-event-id": f"000{epoch}-09"}).seq == 9
        with pytest.raises(BadCursor):
            start(record, headers={"last-event-id": f"{epoch}-11"})
        call.complete()
        await reading


async def _read(gate: Front, record: Record) -> None:
    await gate.pipe.read(record)


@virtual
async def test_a_history_too_long_to_replay_is_gone() -> None:
    """410, decided before the headers; but whoever was cancelled alone is still told so."""
    async with front(log_bytes=200) as gate:
        record = await ended(gate)
        assert record.broadcast.log.overflowed
        with pytest.raises(HistoryGone):
            start(record)
        end = f"{record.broadcast.log.epoch}-{record.broadcast.log.seq + 1}"
        assert start(record, headers={"last-event-id": end}).over
