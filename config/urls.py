"""The addresses among the settings: which ones are taken, and how one is shown without its secrets."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, SecretStr

from config.kinds import plain

# The client speaks Valkey's protocol, but does not know its schemes.
_REDIS_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_TOPOLOGIES = ("", "+sentinel", "+cluster")


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
    text = plain(value)
    given, _, rest = text.partition("://")
    name, plus, topology = given.partition("+")
    scheme = "unix" if given == "unix" else _REDIS_SCHEMES.get(name)
    if scheme is None or plus + topology not in _TOPOLOGIES or not _leads_somewhere(text, plus + topology):
        raise ValueError(
            "must be a redis://, rediss://, valkey(s)://, unix://, redis+cluster:// or redis+sentinel://…/service"
            " address"
        )
    return SecretStr(f"{scheme}{plus}{topology}://{rest}")


def _leads_somewhere(text: str, topology: str) -> bool:
    """Each of its hosts is one, with a port that is one; a socket and a sentinel's service have a name."""
    authority, _, path = text.partition("://")[2].partition("/")
    user, at, hosts = authority.rpartition("@")
    if topology == "" and "," in hosts:
        return False
    each = [_split(f"{text.partition(':')[0]}://{user}{at}{host}/{path}") for host in hosts.split(",")]
    if text.startswith("unix:"):
        return bool(path) and None not in each
    named = bool(path.partition("?")[0]) or topology != "+sentinel"
    return named and all(parts is not None and parts.hostname for parts in each)


BaseUrl = Annotated[str, BeforeValidator(_base_url)]
# Secrets, because both may carry a password, and a hook's address often a token in its query.
PrivateHttpUrl = Annotated[SecretStr, BeforeValidator(_private_http_url)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_redis_url)]


def masked(url: str) -> str:
    """The address with its user name, password and query replaced by `***`."""
    # Not urlsplit: it knows one host at most, and geturl() drops the empty one of unix:///path.
    scheme, _, rest = url.partition("://")
    rest, asked, _ = rest.partition("?")
    authority, slash, path = rest.partition("/")
    _, found, hosts = authority.rpartition("@")
    return f"{scheme}://{'***@' if found else ''}{hosts}{slash}{path}{'?***' if asked else ''}"
