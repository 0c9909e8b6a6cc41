"""The tenants' API keys: `tenant:key` pairs, from the environment or from a file."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr

# A key may hold colons, so the tenant ends at the first one.
_PAIR = re.compile(r"([A-Za-z0-9._-]{1,64}):([!-+\--~]{8,4096})")
_SHAPE = "tenant:key, the tenant 1 to 64 of A-Z a-z 0-9 . _ -, the key 8 or more printable ASCII characters"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key and the tenant whose requests carry it. A tenant may have several keys, to change them."""

    tenant: str
    key: SecretStr


def _read(value: object) -> tuple[ApiKey, ...]:
    if isinstance(value, tuple):
        return value
    lines = [line for line in str(value).splitlines() if not line.lstrip().startswith("#")]
    pairs = [pair for line in lines for pair in (part.strip() for part in line.split(",")) if pair]
    keys = tuple(_pair(place, pair) for place, pair in enumerate(pairs, start=1))
    # A list that holds no key must not open the gateway to everybody.
    if not keys:
        raise ValueError("holds no tenant:key pair")
    if max(Counter(key.key for key in keys).values()) > 1:
        raise ValueError("gives the same key twice")
    return keys


def _pair(place: int, pair: str) -> ApiKey:
    match = _PAIR.fullmatch(pair)
    if match is None:
        raise ValueError(f"must list {_SHAPE}; pair {place} does not")
    return ApiKey(match[1], SecretStr(match[2]))


def read_file(path: Path) -> str:
    """The text of a key file: pairs one per line or comma-separated, `#` begins a comment line.

    Raises ValueError with a phrase if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"names a file that cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("names a file that is not UTF-8 text") from None


ApiKeys = Annotated[tuple[ApiKey, ...], BeforeValidator(_read)]
