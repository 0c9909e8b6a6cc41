"""The addresses among the settings: which ones are taken, and how one is shown without its secrets."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, SecretStr

from config.kinds import plain

# The client speaks Valkey's protocol, but does not know its schemes.
_REDIS_SCHEMES = {s: s for s in ("redis", "rediss", "unix")} | {"valkey": "redis", "valkeys": "rediss"}


def _split(value: object) -> SplitResult | None:
    """The address in its parts; None if it holds a space or a port that is none."""
    text = plain(value)
    if not re.fullmatch(r"[!-~]+", text):
        return None
    try:
        parts = urlsplit(text)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _base_url(value: object) -> str:
    parts = _split(value)
    extra = parts and ("@" in parts.netloc or parts.query or parts.fragment)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or extra:
        raise ValueError("must be an http:// or https:// address without user name, query or fragment")
    return parts.geturl().rstrip("/")


def _private_http_url(value: object) -> SecretStr:
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    return SecretStr(plain(value))


def _redis_url(value: object) -> SecretStr:
    parts = _split(value)
    scheme = _REDIS_SCHEMES.get(parts.scheme) if parts else None
    if parts is None or scheme is None or not (parts.path if scheme == "unix" else parts.hostname):
        raise ValueError("must be a redis://, rediss://, valkey:// or unix:// address")
    return SecretStr(scheme + plain(value)[len(parts.scheme) :])


BaseUrl = Annotated[str, BeforeValidator(_base_url)]
# Secrets, because both may carry a password, and a hook's address often a token in its query.
PrivateHttpUrl = Annotated[SecretStr, BeforeValidator(_private_http_url)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_redis_url)]


def masked(url: str) -> str:
    """The address with its user name, password and query replaced by `***`."""
    parts = urlsplit(url)
    _, found, host = parts.netloc.rpartition("@")
    # Not geturl(): it drops the empty host of unix:///path.
    return f"{parts.scheme}://{'***@' if found else ''}{host}{parts.path}{'?***' if parts.query else ''}"
