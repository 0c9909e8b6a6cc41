"""Events as bytes on the wire: the native form, the OpenAI form, and the frames around them.

The three forms below are what a `Log` encodes once per event. Frames are LF only, one JSON object per
`data: ` line, `id:` after the data so that an id is never acknowledged without it.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

from app.errors import error_object
from chatbot.record import Progress, Record, finish_reason, usage
from processing.account import account_of
from runtime.errors import GatewayError
from upstream.chunk import Chunk

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
PING: Final = b": p\n\n"
DONE: Final = b"data: [DONE]\n\n"
#: The sequence number of an end that is private to one request: beyond that of any shared event.
PRIVATE_END: Final = 999_999_999
RETRY_MS: Final = 1000

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


# -- forms: one event of a log → bytes ------------------------------------------------------
def native_form(chunk: Chunk, epoch: int, seq: int) -> bytes:
    if not chunk.content:
        return b""
    data: dict[str, Any] = {"text": chunk.text}
    if chunk.reasoning:
        data["reasoning"] = chunk.reasoning
    if chunk.tool_calls:
        data["tool_calls"] = chunk.tool_calls
    return event("delta", data, epoch, seq)


def openai_form(chunk: Chunk, epoch: int, seq: int) -> bytes:
    """For callers that did not ask for usage: we did, so it is taken out again."""
    if chunk.usage is None and b'"usage"' not in chunk.raw:
        return b"data: %b\n\n" % chunk.raw
    if chunk.usage_only:
        return b""
    fields = _decode(chunk.raw)
    if "usage" not in fields:  # it is deeper in
        return b"data: %b\n\n" % chunk.raw
    del fields["usage"]
    return b"data: %b\n\n" % _encode(fields)


def openai_usage_form(chunk: Chunk, epoch: int, seq: int) -> bytes:
    return b"data: %b\n\n" % chunk.raw


# -- native frames --------------------------------------------------------------------------
def event(name: str, data: dict[str, Any], epoch: int | None = None, seq: int = 0) -> bytes:
    if epoch is None:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))
    return b"event: %b\ndata: %b\nid: %d-%d\n\n" % (name.encode(), _encode(data), epoch, seq)


def priming(epoch: int, seq: int) -> bytes:
    """The first frame: how long to wait before reconnecting, and the cursor that this connection starts from.

    Jittered by half either way, so that a restart does not bring everybody back at once.
    """
    retry = round(RETRY_MS * random.uniform(0.5, 1.5))
    return b"retry: %d\nid: %d-%d\n\n" % (retry, epoch, seq)


def status(progress: Progress) -> bytes:
    return event(
        "status",
        {
            "status": progress.status,
            "stage": progress.stage,
            "queue_position": progress.queue_position,
            "eta_ms": progress.eta_ms,
        },
    )


def reset(epoch: int) -> bytes:
    """With an id: whoever has seen it has dropped the old text, so its old cursor is void from then on."""
    return event("reset", {"epoch": epoch}, epoch)


def terminal(record: Record) -> bytes:
    """The one terminal event of a request that has ended."""
    end = record.claim.ended
    assert end is not None
    epoch, seq = terminal_id(record)
    if end.error is not None:
        error = end.error
        data = {"code": error.code, "message": error.message, "retryable": error.retryable}
        return event("failed", data, epoch, seq)
    if end.reason is not None:
        return event("cancelled", {"reason": end.reason}, epoch, seq)
    chunks = record.chunks()
    done = {
        "finish_reason": finish_reason(chunks),
        "usage": usage(chunks),
        "role": record.role.value,
        "cache": "miss" if record.cache.value == "bypass" else record.cache.value,
        "timings": record.timings(),
    }
    if account := account_of(chunks):
        done["preparation"] = account
    return event("done", done, epoch, seq)


def terminal_id(record: Record) -> tuple[int, int]:
    """Shared ends follow the last delta; an end private to one request has a number beyond them all."""
    log = record.broadcast.log
    return log.epoch, PRIVATE_END if record.alone or record.lost else log.seq + 1


# -- OpenAI frames --------------------------------------------------------------------------
def openai_error(error: GatewayError) -> bytes:
    return b"data: %b\n\n" % _encode({"error": error_object(error)})


def comment(text: str) -> bytes:
    return b": %b\n\n" % text.encode()
