"""The lines between a parent and its workers: whole messages, or an end that is told as one."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from app.framing import MAX_BYTES, framed, read, read_now
from tests.virtual_time import virtual

MESSAGES: list[Any] = [{"t": "ready"}, {"t": "reading", "r": b"\x00\xff" * 40_000, "id": 7}, {"n": None}]


def reader_of(data: bytes, *, ended: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if ended:
        reader.feed_eof()
    return reader


@virtual
async def test_messages_arrive_one_by_one_however_they_are_cut() -> None:
    """A socket knows no messages: what comes in pieces, or several at once, is the same to the reader."""
    data = b"".join(map(framed, MESSAGES))
    reader = asyncio.StreamReader()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read_all(reader, len(MESSAGES)))
        for at in range(0, len(data), 5_000):
            reader.feed_data(data[at : at + 5_000])
            await asyncio.sleep(0)
    assert reading.result() == MESSAGES


async def _read_all(reader: asyncio.StreamReader, count: int) -> list[Any]:
    return [await read(reader) for _ in range(count)]


@pytest.mark.parametrize("cut", [0, 2, 4, 6])
def test_a_line_that_ends_is_an_end_wherever_it_is_cut(cut: int) -> None:
    """A worker may die in the middle of a message: half of one is none."""

    @virtual
    async def ends() -> None:
        with pytest.raises(EOFError):
            await read(reader_of(framed({"t": "ready"})[:cut]))

    ends()


@virtual
async def test_what_claims_to_be_huge_is_not_waited_for() -> None:
    """A length that makes no sense would have the reader wait, and its memory grow, for ever."""
    with pytest.raises(EOFError):
        await read(reader_of(struct.pack(">I", MAX_BYTES + 1), ended=False))


def test_the_first_message_is_read_without_a_loop_and_nothing_beyond_it() -> None:
    """What a worker is handed over comes before it has a loop; what follows is for the loop to read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(framed(MESSAGES[1])[:100])
        rest = framed(MESSAGES[1])[100:]
        ours.setblocking(False)
        sent = ours.send(rest)
        ours.setblocking(True)
        assert sent == len(rest), "it fits the socket's buffer, else this test would wait"
        ours.sendall(framed(MESSAGES[0]))
        assert read_now(theirs) == MESSAGES[1]
        assert theirs.recv(100) == framed(MESSAGES[0])


def test_a_parent_that_is_gone_before_it_has_spoken_is_an_end() -> None:
    """The worker then stops with an error, and does not wait for a message that nobody sends."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(framed({"t": "late"})[:3])
        ours.close()
        with pytest.raises(EOFError):
            read_now(theirs)
