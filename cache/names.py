"""The names in Redis. The braces are a cluster's hash tag: what a script touches shares a slot.

The table of what each holds is in docs/design/shared-state.md.
"""

from __future__ import annotations

from hashlib import blake2b

from cache.store import PARTITIONS, partition

PROCESSES = "g:{procs}:p"
DEAD = "g:{procs}:d"


def flight_keys(key: str) -> list[str]:
    """m, s, u, f, c of a sharing key, in the order of `flight.lua`."""
    tag = f"g:{{b{partition(key):02d}}}"
    return [f"{tag}:m:{key}", f"{tag}:s:{key}", f"{tag}:u:{key}", f"{tag}:f", f"{tag}:c:{key}"]


def request_key(id: str) -> str:
    """The record of a request, in the partition that its id's last two digits name."""
    return f"g:{{b{partition(id):02d}}}:q:{id}"


def log_key(key: str, epoch: int, own: str = "") -> str:
    """An ended log that is asked for elsewhere. `own`: of one request that ended before the rest."""
    return f"g:{{b{partition(key):02d}}}:r:{key}:{epoch}" + (f":{own}" if own else "")


def once_key(tenant: str, request_id: str) -> str:
    """A request_id of a tenant; neither stands in the name."""
    digest = blake2b(f"{tenant}\n{request_id}".encode("utf-8", "surrogateescape"), digest_size=24).hexdigest()
    return f"g:{{b{partition(digest):02d}}}:i:{digest}"


def conversation(tenant: str, id: str) -> str:
    """The name of a tenant's conversation; neither stands in it."""
    return blake2b(f"{tenant}\n{id}".encode("utf-8", "surrogateescape"), digest_size=24).hexdigest()


def conversation_keys(name: str, id: str = "") -> list[str]:
    """The line and the turns of a conversation; of one of its turns also where it is."""
    tag = f"g:{{b{partition(name):02d}}}"
    return [f"{tag}:y:{name}", f"{tag}:z:{name}", *([f"{tag}:w:{id}"] if id else ())]


def whereabouts_key(id: str) -> str:
    """Of a turn whose id ends as its conversation's name does."""
    return f"g:{{b{partition(id):02d}}}:w:{id}"


def fences() -> list[str]:
    """Every partition's fence: the only names without an expiry."""
    return [f"g:{{b{number:02d}}}:f" for number in range(PARTITIONS)]
