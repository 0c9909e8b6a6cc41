"""What a Redis server's INFO means for a gateway. Pure: a mapping in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.doctor.finding import Finding, failed, ok, warning
from cache.embedded import MIN_VERSION

Info = Mapping[str, Any]
#: The checks that need it.
FROM_INFO: Final = ("redis.version", "redis.eviction", "redis.memory", "redis.persistence")


def read(info: Info, cache_bytes_needed: int) -> Iterator[Finding]:
    """What one server says of itself."""
    yield version(info)
    yield eviction(info)
    yield memory(info, cache_bytes_needed)
    yield persistence(info)


def version(info: Info) -> Finding:
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    told = str(info.get("valkey_version") or info.get("redis_version") or "")
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", told)
    if found is None:
        return warning("redis.version", "It does not say its version.", "Make sure that it is 6.2 or later.")
    if tuple(map(int, found.groups())) < MIN_VERSION:
        says = f"{name} {found[0]} is older than 6.2: scripts and streams that are used here are missing."
        return failed("redis.version", says, "Update it.")
    return ok("redis.version", f"{name} {found[0]}.")


def eviction(info: Info) -> Finding:
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("volatile-"):
        return ok("redis.eviction", f"{policy}: only what has a TTL is evicted.")
    if policy == "noeviction":
        return ok("redis.eviction", "noeviction: when it is full, hits are served and nothing is shared.")
    if not policy:
        return warning("redis.eviction", "It does not say its policy.", "volatile-lfu is the right one.")
    says = f"{policy} evicts what has no TTL too: a partition's highest epoch, and questions wait then."
    return warning("redis.eviction", says, "Set maxmemory-policy volatile-lfu.")


def memory(info: Info, needed: int) -> Finding:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit == 0:
        says = f"It has no limit (now {_mib(used)}): the cache grows until the machine has none left."
        return warning("redis.memory", says, "Set maxmemory, for instance 1gb.")
    if limit - used < needed and info.get("maxmemory_policy") == "noeviction":
        says = (
            f"{_mib(used)} of {_mib(limit)} are used and nothing is evicted: new answers will not be cached."
        )
        return warning("redis.memory", says, "Raise maxmemory, or set maxmemory-policy volatile-lfu.")
    return ok("redis.memory", f"{_mib(used)} of {_mib(limit)} are used.")


def persistence(info: Info) -> Finding:
    if info.get("rdb_last_bgsave_status") == "err":
        says = "Its last snapshot failed: a server that saves may refuse every write now (MISCONF)."
        return warning("redis.persistence", says, 'Set save "", or make it work if conversations shall last.')
    if int(info.get("aof_enabled", 0)):
        return ok("redis.persistence", "It writes a log to disk: conversations outlive its restart.")
    return ok("redis.persistence", "It keeps no log on disk: needed only if conversations shall outlive it.")


def role(infos: Mapping[str, Info], *, read_only: bool) -> Finding:
    """`infos` by node, empty if the user may not ask; `read_only` is what a write came to."""
    if read_only:
        says = (
            "It is a replica, or takes no writes for another reason: nothing is cached or shared through it."
        )
        return failed("redis.role", says, "Give the address of the primary, or of the sentinels.")
    roles = [str(info.get("role", "")) for info in infos.values()]
    if len(roles) > 1:
        primaries = sum(role == "master" for role in roles)
        return ok(
            "redis.role", f"{primaries} primaries, {len(roles) - primaries} replicas; writes are taken."
        )
    return ok("redis.role", "A primary: writes are taken.")


def mode_contradicts(info: Info, given: str) -> Finding | None:
    """The server is of another kind than the address says."""
    mode = str(info.get("redis_mode", ""))
    if mode == given or mode not in ("standalone", "sentinel", "cluster"):
        return None
    if given == "standalone":
        path = "…/SERVICE" if mode == "sentinel" else "…"
        return failed(
            "redis.kind",
            f"It is a {'sentinel' if mode == 'sentinel' else 'node of a cluster'}, not a single server.",
            f"Write redis+{mode}://{path}.",
        )
    if given == "cluster":
        return failed("redis.kind", "It is no cluster, but a single server.", "Write redis://….")
    return None


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
