"""Arguments by a JSON schema, for tools that are no Python function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from processing.tools.tool import MAX_ARGUMENTS, Arguments, ArgumentsRefused
from runtime.nesting import may_be_too_deep, too_deep

_FAULTS: Final = 3
_MAX_FAULT: Final = 200
_SORTED: Final = msgspec.json.Encoder(order="sorted")


_META: Final = Draft202012Validator(
    Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER
)


def _unique(_: object, wanted: object, value: object, schema: object) -> Iterator[ValidationError]:
    """The library compares each item with each: seconds of the loop's time for a list of thousands."""
    if wanted is True and isinstance(value, list) and len(set(map(_SORTED.encode, value))) < len(value):
        yield ValidationError("there are items in it twice")


_Validator: Final = extend(Draft202012Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]


class SchemaReader:
    """Reads an object that satisfies `schema`, which has been checked itself (see `faults`)."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._validator = _Validator(schema)

    def read(self, text: str) -> Arguments:
        """Raises ArgumentsRefused."""
        values = _object(text)
        for name, described in self.schema.get("properties", {}).items():
            if isinstance(described, dict) and "default" in described:
                values.setdefault(name, described["default"])
        lines = []
        for fault in self._validator.iter_errors(values):
            place = ".".join(map(str, fault.absolute_path)) or "arguments"
            lines.append(f"{place}: {_said(fault)}")
            if len(lines) == _FAULTS:
                break
        if lines:
            raise ArgumentsRefused("; ".join(lines))
        return Arguments(values, _SORTED.encode(values))


def faults(schema: dict[str, Any]) -> Iterator[tuple[list[str | int], str]]:
    """What is wrong with a schema itself: where, and what."""
    for fault in _META.iter_errors(schema):
        yield list(fault.absolute_path), _said(fault)
    yield from _foreign(schema, [])


def _foreign(value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
    """References out of the schema: nothing is fetched to check a call."""
    if isinstance(value, dict):
        for name, child in value.items():
            if name in ("$ref", "$dynamicRef") and not str(child).startswith("#"):
                yield [*path, name], f"{name} may only point into this schema, with #"
            yield from _foreign(child, [*path, name])
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from _foreign(child, [*path, position])


def _said(fault: ValidationError) -> str:
    """The library's words, which begin with the value that is wrong: not if that is a long one."""
    if len(fault.message) <= _MAX_FAULT:
        return fault.message
    return f"does not satisfy {fault.validator}: {fault.validator_value!r}"[:_MAX_FAULT]


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_ARGUMENTS:
        raise ArgumentsRefused(f"the arguments are longer than {MAX_ARGUMENTS} characters")
    try:
        raw = text.encode() or b"{}"
        values = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise ArgumentsRefused("the arguments are not JSON") from None
    if not isinstance(values, dict):
        raise ArgumentsRefused("the arguments are not a JSON object")
    if may_be_too_deep(raw) and too_deep(values):
        raise ArgumentsRefused("the arguments are nested too deeply")
    return values
