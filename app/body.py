"""The request body: read within its bounds, decoded, and refused with the name of what is wrong.

The hot path is one strict decode. Only when that fails is the body read again, leniently, to say
which field it was: NaN, a number beyond all ranges, half a surrogate pair, too deep a nesting.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

import msgspec

from app.exchange import ClientGone, Exchange
from app.path import dotted
from runtime.errors import BodyTimeout, BodyTooLarge, InvalidRequest, MalformedRequest, UnsupportedMediaType
from runtime.nesting import MAX_DEPTH, may_be_too_deep, too_deep

#: More values than this in one body would hold the event loop for longer than a token's time.
MAX_VALUES: Final = 100_000
#: Beyond this the lenient second reading is not worth its time.
_DIAGNOSED: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 30.0
_DISCARD_S: Final = 1.0

_decode: Final = msgspec.json.Decoder().decode


async def read_json(exchange: Exchange, max_bytes: int) -> dict[str, Any]:
    """The body as an object. Raises the 4xx that fits, and ClientGone."""
    _check_type(exchange)
    declared = exchange.header(b"content-length")
    if declared.isdigit() and int(declared) > max_bytes:
        await _discard(exchange)
        raise BodyTooLarge()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await _read(exchange, max_bytes)
    except TimeoutError:
        raise BodyTimeout() from None
    return decode(body)


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object of bounded size and depth, without NaN, lone surrogates or absurd numbers."""
    if body.count(b",") > MAX_VALUES and _too_many_values(body):
        raise InvalidRequest(f"The body has more than {MAX_VALUES} values.")
    try:
        value = _decode(body)
    except RecursionError:
        raise _too_deep(_deep_field(body[:_DIAGNOSED]) or "") from None
    except ValueError:
        raise _diagnosis(body) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if may_be_too_deep(body):
        _check_depth(value)
    return value


def _check_type(exchange: Exchange) -> None:
    kind, _, parameters = exchange.header(b"content-type").partition(";")
    kind = kind.strip().lower()
    if (
        kind
        and kind != "application/json"
        and not (kind.startswith("application/") and kind.endswith("+json"))
    ):
        raise UnsupportedMediaType()
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset.group(1).lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("The body must be UTF-8.")
    if exchange.header(b"content-encoding").lower() not in ("", "identity"):
        raise UnsupportedMediaType("The body must not be compressed.")


async def _read(exchange: Exchange, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            await _discard(exchange)
            raise BodyTooLarge()
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _discard(exchange: Exchange) -> None:
    """Let a body that is too large arrive for a moment, so that its sender gets to read our answer."""
    if exchange.header(b"expect").lower() == "100-continue":
        return  # it has not been invited, so it is not coming
    try:
        async with asyncio.timeout(_DISCARD_S):
            more = True
            while more:
                message = await exchange.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                more = message.get("more_body", False)
    except TimeoutError:
        return


def _too_many_values(body: bytes) -> bool:
    """Counts commas outside of strings, all of it at the speed of memchr."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # A value or a name is at most one string: beyond that there is no need to look closer.
    if plain.count(b'"') > 4 * MAX_VALUES:
        return True
    return b"".join(plain.split(b'"')[::2]).count(b",") > MAX_VALUES


def _check_depth(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if too_deep(value, 2):
            raise _too_deep(name)


def _too_deep(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"The body is nested deeper than {MAX_DEPTH} levels.", param=dotted([field]) or None
    )


# -- the lenient second reading -------------------------------------------------------------
class _Bad:
    """Stands where the lenient parser met something that no other parser would take."""

    def __init__(self, what: str) -> None:
        self.what = what


def _diagnosis(body: bytes) -> MalformedRequest | InvalidRequest:
    # A nesting that a parser chokes on shows itself soon.
    deep = _deep_field(body[:_DIAGNOSED])
    if deep is not None:
        return _too_deep(deep)
    if len(body) > _DIAGNOSED:
        return MalformedRequest()
    try:
        value = json.loads(
            body.decode(),
            parse_constant=lambda name: _Bad(f"{name} is not a JSON number"),
            parse_int=lambda digits: int(digits) if len(digits) < 400 else _Bad("the number is too large"),
            parse_float=_float,
        )
    except (ValueError, RecursionError):
        return MalformedRequest()
    found = _find_bad(value, ())
    if found is None:
        return MalformedRequest()
    path, what = found
    return InvalidRequest(f"Invalid value: {what}.", param=dotted(path) or None)


def _float(digits: str) -> float | _Bad:
    value = float(digits)
    return value if abs(value) != float("inf") else _Bad("the number is too large")


def _find_bad(value: Any, path: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], str] | None:
    if isinstance(value, _Bad):
        return path, value.what
    if isinstance(value, str):
        return (path, "half of a surrogate pair") if re.search("[\ud800-\udfff]", value) else None
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
        if any(re.search("[\ud800-\udfff]", name) for name in value):
            return path, "half of a surrogate pair in a name"
    elif isinstance(value, list):
        children = enumerate(value)
    for name, child in children:
        if (found := _find_bad(child, (*path, name))) is not None:
            return found
    return None


# Possessive, and an unterminated string is a token as well: every byte is looked at once.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _deep_field(body: bytes) -> str | None:
    """The top-level field that is nested too deep, "" if it cannot be named; None if none is."""
    depth, field = 0, ""
    for token in _TOKENS.finditer(body):
        text = token.group()
        if text in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return field
        elif text in b"]}":
            depth -= 1
        elif depth == 1:
            field = text[1:-1].decode("utf-8", "replace")[:64]
    return None
