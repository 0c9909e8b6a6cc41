"""What is found out about a Redis, in words. Pure: measurements and errors in, findings out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from app.doctor.finding import LOOK_S, Finding, failed, ok, skipped, warning
from app.doctor.reach import Unreached, chain, explained
from app.doctor.rights import kinds_of
from app.doctor.server import FROM_INFO
from cache.errors import StoreError
from config.advice import is_loopback

FAR_MS: Final = 10.0
CLOCK_S: Final = 1.0
_PORTS: Final = {"sentinel": 26379}

KINDS: Final[Mapping[str, str]] = {
    "standalone": "One server.",
    "sentinel": "A primary that sentinels name: a failover is followed.",
    "cluster": "A cluster.",
}


def kind_of(url: str) -> str:
    return url.partition(":")[0].partition("+")[2] or "standalone"


def hosts(url: str) -> Iterator[tuple[str, int]]:
    """Each host and port of an address; none for a socket."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return
    for each in rest.partition("?")[0].partition("/")[0].rpartition("@")[2].split(","):
        parts = urlsplit(f"//{each}")
        yield parts.hostname or "localhost", parts.port or _PORTS.get(kind_of(url), 6379)


def transport(url: str) -> Finding:
    """Who could read what is said: prompts' answers are in it, and the password."""
    scheme = url.partition(":")[0]
    if scheme == "unix":
        return ok("redis.tls", "A unix socket: nothing leaves this machine.")
    if scheme.startswith("rediss"):
        return ok("redis.tls", "TLS.")
    far = [host for host, _ in hosts(url) if not is_loopback(host)]
    if not far:
        return ok("redis.tls", "Without TLS, but it does not leave this machine.")
    says = f"Without TLS to {', '.join(far)}: whoever is on the way reads the answers and the password."
    return warning("redis.tls", says, "Use rediss://, or a network that nobody else is on.")


def latency(median_ms: float) -> Finding:
    says = f"A PING takes {median_ms:.1f} ms."
    if median_ms <= FAR_MS:
        return ok("redis.latency", says)
    return warning(
        "redis.latency",
        f"{says} Each look-up and each claim costs that; over 90 ms a look-up is a miss.",
        "Keep Redis in the same zone.",
    )


def clock(ahead_s: float) -> Finding:
    if abs(ahead_s) <= CLOCK_S:
        return ok("redis.clock", f"The clocks differ by {abs(ahead_s) * 1000:.0f} ms.")
    side = "ahead of" if ahead_s > 0 else "behind"
    says = f"Its clock is {abs(ahead_s):.1f} s {side} this machine's: ages of answers will be told wrongly."
    return warning("redis.clock", says, "Let both be set by NTP.")


def processes(count: int) -> Finding:
    if count == 0:
        return ok("redis.processes", "No gateway process is alive on it now.")
    return ok(
        "redis.processes", f"{count} gateway process{'es are' if count > 1 else ' is'} alive on it now."
    )


def unseen() -> list[Finding]:
    """What only INFO tells: the gateway does without it, and so does its documented user."""
    says = "This user may not run INFO, which the gateway does not need."
    return [skipped(check, says, "To have it judged, ask as another user.") for check in FROM_INFO]


def worst_of_each(findings: list[Finding]) -> list[Finding]:
    """One finding per check, of several nodes."""
    order = ["ok", "skipped", "warning", "failed"]
    worst: dict[str, Finding] = {}
    for finding in findings:
        known = worst.get(finding.check)
        if known is None or order.index(finding.level) > order.index(known.level):
            worst[finding.check] = finding
    return list(worst.values())


def trouble(check: str, error: StoreError, shown: str) -> Finding:
    """A call that failed, in words; a message of redis-py is not shown, for it can hold a password."""
    causes = chain(error)
    names = {name for cause in causes for name in kinds_of(cause)}
    for name, says, do in _TROUBLES:
        if name in names:
            return failed(check, says.format(shown=shown), do)
    if "ResponseError" in names and kind_of(shown) == "sentinel":
        says = f"{shown} does not know what a sentinel is asked for."
        return failed(check, says, "Is it the server itself? Then write redis://….")
    sockets = [cause for cause in causes if isinstance(cause, OSError)]
    exact = next((one for one in sockets if type(one) is not OSError), None) or next(iter(sockets), None)
    if isinstance(exact, TimeoutError) and not isinstance(exact, ssl.SSLError):
        hint = "Has its port TLS? If so, look" if shown.startswith("rediss") else "Look"
        return failed(
            check, f"{shown} did not answer within {LOOK_S:g} s.", f"{hint} for a firewall, or a hang."
        )
    if exact is not None:
        return unreached(check, explained(exact, shown))
    kind = type(error.__cause__).__name__
    return failed(
        check, f"{shown} did not go along ({kind}).", "Is it Redis that listens there? See its log."
    )


_TROUBLES: Final = (
    (
        "AuthenticationError",
        "{shown} refused the user name or the password.",
        "Check both in REDIS_URL; what is special in them has to be written as %XX.",
    ),
    (
        "NoPermissionError",
        "{shown} does not let this user do that.",
        "docs/operations.md has the line for a user with exactly what is needed.",
    ),
    ("BusyLoadingError", "{shown} is still loading its data.", "Wait, and ask again."),
    (
        "MasterNotFoundError",
        "No sentinel in {shown} knows a primary of that name.",
        "Check the service name at the end, and whether the sentinels see a primary.",
    ),
    ("MaxConnectionsError", "{shown} takes no more connections.", "Raise its maxclients."),
    ("OutOfMemoryError", "{shown} is full and refuses writes.", "Raise maxmemory, or set volatile-lfu."),
    (
        "RedisClusterException",
        "{shown} is not a cluster that can be used now.",
        "Is it one server? Then write redis://…; if not, see redis-cli cluster info.",
    ),
    ("MovedError", "{shown} is a node of a cluster.", "Write redis+cluster://…."),
)


def unreached(check: str, error: Unreached) -> Finding:
    return failed(check, error.says, error.do)
