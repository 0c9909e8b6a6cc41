r"""SealedAnswer to bytes and back.

    offset 0   4 bytes  magic `RFA` and the format's version
           4  16 bytes  blake2b of everything behind it
          20   4 bytes  length of the header, big endian
          24            header: msgpack array, see `_Header`
                        body: the completion and the chunks, joined by \n

`join.lua` reads the epoch where it is now: whoever changes the header changes that with it.
Nothing in the body is parsed: reading a hit costs one hash and one split. The checksum tells damage
from an answer, and the full key inside tells a crossed reply or a foreign value from ours.
"""

from __future__ import annotations

import math
import struct
from hashlib import blake2b

import msgspec

from cache.answer import SealedAnswer

MAGIC = b"RFA\x02"
MAX_BYTES = 64 * 1024 * 1024
_DIGEST_BYTES = 16
_BODY_AT = len(MAGIC) + _DIGEST_BYTES
_LENGTH = struct.Struct(">I")


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    key: str
    epoch: int
    stored_at: float
    ttl_s: float
    prompt_tokens: int
    completion_tokens: int
    chunks: int
    made_s: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


def encode(answer: SealedAnswer) -> bytes:
    """The stored form. ValueError if a chunk or the completion spans lines, or if a number does not fit."""
    body = b"\n".join((answer.completion, *answer.chunks))
    if body.count(b"\n") != len(answer.chunks):
        raise ValueError("a chunk or the completion contains a newline")
    header = _encode_header(answer)
    rest = b"".join((_LENGTH.pack(len(header)), header, body))
    return MAGIC + _digest(rest) + rest


def decode(data: bytes, key: str, max_bytes: int = MAX_BYTES) -> SealedAnswer | None:
    """The answer stored under `key`, or None for anything else, whatever the bytes are. Never raises."""
    if len(data) > max_bytes or not data.startswith(MAGIC):
        return None
    rest = memoryview(data)[_BODY_AT:]
    if len(rest) < _LENGTH.size or _digest(rest) != data[len(MAGIC) : _BODY_AT]:
        return None
    body_at = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
    header = _decode_header(rest[_LENGTH.size : body_at])
    if header is None or header.key != key:
        return None
    completion, *chunks = bytes(rest[body_at:]).split(b"\n")
    return _sealed(header, completion, chunks) if len(chunks) == header.chunks else None


def _encode_header(answer: SealedAnswer) -> bytes:
    header = _Header(
        key=answer.key,
        epoch=answer.epoch,
        stored_at=answer.stored_at,
        ttl_s=answer.ttl_s,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        chunks=len(answer.chunks),
        made_s=answer.made_s,
    )
    if not _plausible(header):
        raise ValueError("a number of the answer is negative or not finite")
    try:
        return _encoder.encode(header)
    except OverflowError as error:
        raise ValueError("a number of the answer does not fit in 64 bits") from error


def _decode_header(data: memoryview) -> _Header | None:
    try:
        header = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return None
    return header if _plausible(header) else None


def _plausible(header: _Header) -> bool:
    times = (header.stored_at, header.ttl_s, header.made_s)
    counts = (header.epoch, header.prompt_tokens, header.completion_tokens, header.chunks)
    return all(math.isfinite(time) and time >= 0 for time in times) and min(counts) >= 0


def _sealed(header: _Header, completion: bytes, chunks: list[bytes]) -> SealedAnswer:
    return SealedAnswer(
        key=header.key,
        epoch=header.epoch,
        stored_at=header.stored_at,
        ttl_s=header.ttl_s,
        chunks=tuple(chunks),
        completion=completion,
        prompt_tokens=header.prompt_tokens,
        completion_tokens=header.completion_tokens,
        made_s=header.made_s,
    )


def _digest(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
