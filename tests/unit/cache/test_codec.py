"""Sealed answers to bytes and back, and what is made of any other bytes."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.answer import SealedAnswer
from cache.codec import MAGIC, decode, encode
from tests.fakes.answers import answer, key

lines = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" "))
times = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=0, max_value=2**63 - 1)
answers = st.builds(
    SealedAnswer,
    key=st.text(st.sampled_from("0123456789abcdef"), min_size=64, max_size=64),
    epoch=counts,
    stored_at=times,
    ttl_s=times,
    chunks=st.lists(lines, max_size=5).map(tuple),
    completion=lines,
    prompt_tokens=counts,
    completion_tokens=counts,
)


@given(answers)
def test_what_is_encoded_comes_back_whole(sealed: SealedAnswer) -> None:
    """Every field survives, byte for byte, empty chunks and missing chunks included."""
    assert decode(encode(sealed), sealed.key) == sealed


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_nothing_or_an_answer_but_never_an_error(data: bytes, with_magic: bool) -> None:
    """Whatever lies in Redis, reading it cannot fail."""
    assert decode(MAGIC + data if with_magic else data, key(0)) is None


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_headers_of_nonsense_are_nothing_even_under_a_good_checksum(header: bytes, body: bytes) -> None:
    """The checksum tells damage, not sense: the header is judged by itself."""
    assert decode(_forged(header, body), key(0)) is None


def test_every_flipped_bit_is_noticed() -> None:
    """Damage anywhere makes a miss, not an altered answer."""
    data = encode(answer())
    for at in range(len(data)):
        for bit in range(8):
            damaged = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            assert decode(damaged, key(0)) is None, f"bit {bit} of byte {at}"


def test_every_truncation_is_noticed() -> None:
    """A value cut anywhere, or with something behind it, is a miss."""
    data = encode(answer())

    assert all(decode(data[:end], key(0)) is None for end in range(len(data)))
    assert decode(data + b"\n", key(0)) is None


def test_foreign_key_is_a_miss() -> None:
    """A crossed reply carries somebody else's key, and must not be served."""
    assert decode(encode(answer(1)), key(2)) is None


def test_other_version_is_a_miss() -> None:
    """A value of an older or newer format is left alone."""
    data = encode(answer())

    assert decode(data[:3] + b"\x01" + data[4:], key(0)) is None


def test_oversized_value_is_a_miss() -> None:
    """What is larger than anybody stores is not even looked at."""
    data = encode(answer())

    assert decode(data, key(0), max_bytes=len(data)) is not None
    assert decode(data, key(0), max_bytes=len(data) - 1) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (1, -1),
        (1, 1.5),
        (2, math.nan),
        (2, "now"),
        (3, math.inf),
        (3, -1.0),
        (4, None),
        (5, -7),
        (6, 3),
        (6, True),
        (7, -0.5),
        (7, math.nan),
    ],
)
def test_implausible_header_is_a_miss(field: int, value: Any) -> None:
    """Negative counts, times that are none, the wrong number of chunks, the wrong types."""
    header: list[Any] = [key(0), 1, 1.0, 1.0, 1, 1, 1, 0.5]
    assert decode(_forged(msgspec.msgpack.encode(header), b"{}\n{}"), key(0)) is not None
    header[field] = value

    assert decode(_forged(msgspec.msgpack.encode(header), b"{}\n{}"), key(0)) is None


@pytest.mark.parametrize(
    "broken",
    [
        replace(answer(), chunks=(b"{\n}",)),
        replace(answer(), completion=b"{\n}"),
        replace(answer(), ttl_s=math.nan),
        replace(answer(), stored_at=math.inf),
        replace(answer(), prompt_tokens=-1),
        replace(answer(), epoch=2**70),
    ],
)
def test_answer_that_would_not_come_back_is_refused(broken: SealedAnswer) -> None:
    """What cannot be read back is not written in the first place."""
    with pytest.raises(ValueError, match=r"the answer|newline"):
        encode(broken)


def _forged(header: bytes, body: bytes) -> bytes:
    rest = struct.pack(">I", len(header)) + header + body
    return MAGIC + blake2b(rest, digest_size=16).digest() + rest
