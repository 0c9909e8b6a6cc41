"""The kinds of value a setting can have, each with the phrase that tells what it has to look like.

A reader takes text (from the environment or a flag) as well as the finished value (from code and
tests) and raises `ValueError("must be …")`, which `loading.py` completes to a sentence. The phrase
never repeats the value: whether that may be shown depends on the setting, not on its kind.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, SecretStr

_UNITS = {"b": 1} | {
    unit + suffix: base**power
    for power, unit in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_MOST_BYTES = 1 << 50
_MOST_SECONDS = 1e9


def plain(value: object) -> str:
    """The text of a value as it was given, a secret's too, without surrounding white space."""
    return (value.get_secret_value() if isinstance(value, SecretStr) else str(value)).strip()


def whole(least: int, most: int = 1_000_000) -> BeforeValidator:
    """A whole number from `least` to `most`."""

    def read(value: object) -> int:
        text = plain(value)
        # int() alone would also take "1_000" and digits of other scripts.
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return BeforeValidator(read)


def seconds(*, zero: bool, least: float = 0.0) -> BeforeValidator:
    """A finite time in seconds; whether it may be 0, and how short it may be, is the setting's choice."""

    def read(value: object) -> float:
        text = plain(value)
        try:
            number = math.nan if "_" in text else float(text)
        except ValueError:
            number = math.nan
        # NaN fails every comparison, so this one line refuses it and infinity too.
        if not (least <= number <= _MOST_SECONDS and (zero or number > 0)):
            bound = f"{least:g} or more" if zero or least else "more than 0"
            raise ValueError(f"must be a time in seconds, {bound}")
        return number

    return BeforeValidator(read)


def byte_size(least: int) -> BeforeValidator:
    """A size in bytes: a whole number, with one of B, kB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024)."""

    def read(value: object) -> int:
        match = re.fullmatch(r"([0-9]{1,16}) ?([a-z]*)", plain(value).lower())
        factor = _UNITS.get(match[2] or "b") if match else None
        size = int(match[1]) * factor if match and factor else -1
        if not least <= size <= _MOST_BYTES:
            raise ValueError(f"must be a size in bytes of at least {least}, such as 1048576, 64MiB or 20MB")
        return size

    return BeforeValidator(read)


def one_of(*words: str) -> BeforeValidator:
    """One of a few words, written exactly so."""

    def read(value: object) -> str:
        text = plain(value)
        if text not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return text

    return BeforeValidator(read)


def _flag(value: object) -> bool:
    text = plain(value)
    if text not in ("0", "1", "False", "True"):
        raise ValueError("must be 0 or 1")
    return text in ("1", "True")


def _text(value: object) -> str:
    text = plain(value)
    if not re.fullmatch(r"[!-~]{1,256}", text):
        raise ValueError("must be 1 to 256 printable ASCII characters without spaces")
    return text


def secret(least: int) -> BeforeValidator:
    """A secret that can travel in an HTTP header, of at least so many characters."""

    def read(value: object) -> SecretStr:
        text = plain(value)
        # A line break in a key would end the header that carries it and begin another.
        if not re.fullmatch(rf"[!-~]{{{least},4096}}", text):
            length = f", {least} characters or more" if least > 1 else ""
            raise ValueError(f"must be printable ASCII without spaces{length}")
        return SecretStr(text)

    return BeforeValidator(read)


Count = Annotated[int, whole(1)]
Room = Annotated[int, whole(0)]
Port = Annotated[int, whole(0, 65535)]
Timer = Annotated[float, seconds(zero=False)]
#: Renewed three times before it ends: with less, processes would be busy with nothing else.
Lease = Annotated[float, seconds(zero=False, least=0.1)]
Span = Annotated[float, seconds(zero=True)]
Size = Annotated[int, byte_size(1)]
SizeOrOff = Annotated[int, byte_size(0)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
Secret = Annotated[SecretStr, secret(1)]
LongSecret = Annotated[SecretStr, secret(8)]
Policy = Annotated[Literal["cancel", "finish"], one_of("cancel", "finish")]
ShareScope = Annotated[Literal["tenant", "global"], one_of("tenant", "global")]
Normalization = Annotated[Literal["exact", "loose"], one_of("exact", "loose")]
