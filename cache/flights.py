"""The flights that several processes share: one method per script, replies as values.

Everything here is idempotent, so that a call whose outcome is unknown may simply be made again. Raises
StoreDown or StoreRefused, and nothing else but cancellation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cache.errors import StoreDown, StoreError
from cache.link import Link
from cache.names import fences, flight_keys, request_key
from cache.scripts import Script
from cache.store import PARTITIONS, partition
from cache.views import FOREVER_MS, Others, Pulse, View, entries_of
from cache.wire import Word

T = TypeVar("T")

#: Entries of a log in one reply; a log beyond it is pulled in several.
MAX_ENTRIES = 500
#: A flight that has ended is known for so long: later than that nobody is still about to look.
LINGER_MS = 60_000

_JOIN, _ATTACH, _PULL = (Script.of(name, "flight") for name in ("join", "attach", "pull"))
_APPEND, _FINISH, _RESEED = (Script.of(name, "flight") for name in ("append", "finish", "reseed"))
_IDLE, _STAKE, _TAKEOVER = (Script.of(name, "flight") for name in ("idle", "stake", "takeover"))
_ABDICATE, _BEAT, _FENCE = Script.of("abdicate", "flight"), Script.of("beat"), Script.of("fence")


@dataclass(frozen=True, slots=True)
class Hit:
    value: bytes


@dataclass(frozen=True, slots=True)
class Led:
    """This process leads, under a new epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Redis has lost its memory, and living leaders get so many ms to say that they lead."""

    ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """`why`: MISS and BUSY where the caller may not lead or join, PAST where nobody may join any more the
    flight of epoch `detail`; else what stands against it."""

    why: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a JOIN may do, and for whom. `stake` of a joiner: "fi", and "fi+" if it listens already.

    `fresh`: what this process led under that key before is void. `floor`: the new epoch is above it.
    `body`: the canonical request, where another process is to be able to take it over. `hit`: how the
    request ends if it is one, known for `hit_ttl_ms`; empty where nobody asks for it later.
    """

    key: str
    id: str
    about: bytes
    record_ttl_ms: int
    stake: str
    read_cache: bool = True
    fresh: bool = False
    lead: bool = True
    floor: int = 0
    body: bytes = b""
    hit: bytes = b""
    hit_ttl_ms: int = 0


Joined = Hit | Led | View | Wait | Refused


class SharedFlights:
    """`lease_s` of a leader and of a stake; `guard_s` after a loss of memory before anybody leads anew."""

    def __init__(self, link: Link, *, lease_s: float, guard_s: float) -> None:
        self.link = link
        self.lease_ms = round(lease_s * 1000)
        self.guard_s = guard_s
        self._guard_ms = round(guard_s * 1000)
        self._ttl_ms = max(LINGER_MS, 4 * self.lease_ms)

    async def join(self, asking: Asking, timeout_s: float) -> Joined:
        mode = "jl" if asking.lead else "j"
        mode += ("c" if asking.read_cache else "") + ("x" if asking.fresh else "")
        record: tuple[Word, ...] = (asking.record_ttl_ms, asking.about) if asking.id else ("", "")
        args: tuple[Word, ...] = (
            self._guard_ms,
            mode,
            asking.stake,
            MAX_ENTRIES,
            asking.floor,
            asking.body,
            *record,
            asking.hit,
            asking.hit_ttl_ms,
        )
        keys = [*flight_keys(asking.key), request_key(asking.id or asking.key)]
        return await self._run(_JOIN, asking.key, args, _joined, keys=keys, timeout_s=timeout_s)

    async def attach(self, key: str, stake: str) -> View | None:
        """Follow what runs somewhere, or what ran a moment ago; None if Redis knows of nothing."""
        return await self._run(_ATTACH, key, (stake, MAX_ENTRIES), _attached)

    async def pull(self, key: str, epoch: int, events: int) -> View | None:
        """What is new after `events` events of `epoch`; all of it if there is another epoch by now."""
        return await self._run(_PULL, key, (epoch, events, MAX_ENTRIES), _pulled)

    async def stake(self, key: str, stake: str, *, dismissed: bool = False) -> None:
        """What this process wants of a flight elsewhere; "" leaves it. `dismissed`: by an explicit cancel."""
        await self._run(_STAKE, key, (stake, "|x" if dismissed else ""), bool)

    async def append(
        self, key: str, epoch: int, first: int, phase: bytes, chunks: Sequence[bytes]
    ) -> Others | Refused:
        """Publish events from number `first` on. Refused: GONE, FENCED, ENDED, or GAP with what is there."""
        return await self._run(_APPEND, key, (epoch, first, phase, *chunks), _published)

    async def finish(
        self,
        key: str,
        epoch: int,
        how: str,
        payload: bytes,
        total: int,
        *,
        value: bytes = b"",
        ttl_ms: int = 0,
        publish: bool = False,
        first: int = 0,
        chunks: Sequence[bytes] = (),
    ) -> Refused | None:
        """The end, and in the same step the cached answer `value`. Refused as by `append`."""
        args: tuple[Word, ...] = (
            epoch,
            how,
            payload,
            total,
            value,
            ttl_ms,
            int(publish),
            first or total + 1,
            *chunks,
        )
        return await self._run(_FINISH, key, args, _ok)

    async def reseed(
        self,
        key: str,
        epoch: int,
        phase: bytes,
        *,
        published: bool,
        chunks: Sequence[bytes],
        body: bytes = b"",
        fresh_ms: int = FOREVER_MS,
    ) -> Refused | None:
        """Say that this process leads, with all its events if they are public. Refused: FENCED, ENDED."""
        args: tuple[Word, ...] = (epoch, self._guard_ms, phase, int(published), body, fresh_ms, *chunks)
        return await self._run(_RESEED, key, args, _ok)

    async def idle(
        self, key: str, epoch: int, how: str, payload: bytes, timeout_s: float
    ) -> Others | Refused | None:
        """End what nobody wants: None if done, the others if somebody elsewhere does."""
        return await self._run(_IDLE, key, (epoch, how, payload), _idle, timeout_s=timeout_s)

    async def take_over(self, key: str, epoch: int, nonce: str, dead: str, body: bytes) -> Joined:
        """Led, Wait, or Refused: LATE, ENDED, ALIVE, GONE."""
        return await self._run(_TAKEOVER, key, (epoch, nonce, self._guard_ms, dead, body), _joined)

    async def abdicate(self, key: str, epoch: int) -> None:
        """Let another process lead at once, or, with nobody there, let the key go."""
        await self._run(_ABDICATE, key, (epoch,), bool)

    async def beat(self, number: int, flights: Sequence[tuple[str, str]]) -> list[Pulse]:
        """Of partition `number`: (key, "L<epoch>" or "F<epoch>|<stake>") → what Redis says of each."""
        keys = [name for key, _ in flights for name in flight_keys(key)[0:3]]
        args: tuple[Word, ...] = (self.link.proc, self.lease_ms, self._ttl_ms, *(said for _, said in flights))
        return _read(await self.link.run(_BEAT, keys, args), lambda reply: [_pulse(one) for one in reply])

    async def push(self, proc: str, message: str) -> None:
        """A hint to another process; a lost one costs time."""
        try:
            await self.link.do("PUBLISH", f"g:i:{proc}", message)
        except StoreError:
            return

    async def fence(self, guard_s: float | None = None) -> float:
        """Have a fence in every partition; seconds until all may be led in. 0 for a Redis of one's own."""
        guard_ms = self._guard_ms if guard_s is None else round(guard_s * 1000)
        waits = await self.link.run_all(_FENCE, [([name], (guard_ms,)) for name in fences()])
        return max(map(int, waits)) / 1000

    async def _run(
        self,
        script: Script,
        key: str,
        args: Sequence[str | bytes | int],
        read: Callable[[Any], T],
        *,
        keys: Sequence[str] | None = None,
        timeout_s: float = 1.0,
    ) -> T:
        head = (self.link.proc, key, self.lease_ms, self._ttl_ms)
        reply = await self.link.run(script, keys or flight_keys(key), (*head, *args), timeout_s)
        return _read(reply, read)


def by_partition(keys: Sequence[str]) -> dict[int, list[str]]:
    """A beat's flights, grouped as its script needs them."""
    groups: dict[int, list[str]] = {}
    for key in keys:
        groups.setdefault(partition(key), []).append(key)
    assert len(groups) <= PARTITIONS
    return groups


def _read(reply: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(reply)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        raise StoreDown("script: a reply that makes no sense") from None


def _joined(reply: Any) -> Joined:
    match reply[0]:
        case b"HIT":
            return Hit(reply[1])
        case b"LEAD":
            return Led(int(reply[1]))
        case b"WAIT":
            return Wait(int(reply[1]))
        case b"JOIN":
            _, epoch, owner, events, published, phase, left, entries, fresh = reply
            return View(
                int(epoch), owner.decode(), "live", int(events), published == b"1", phase, int(left),
                entries_of(entries), fresh_ms=int(fresh),
            )  # fmt: skip
    return Refused(*(part.decode() if isinstance(part, bytes) else str(part) for part in reply[:2]))


def _attached(reply: Any) -> View | None:
    if not reply:
        return None
    epoch, owner, state, events, published, phase, left, interested, entries, body, fresh = reply
    return View(
        int(epoch), owner.decode(), state.decode(), int(events), published == b"1", phase, int(left),
        entries_of(entries), body, int(interested), int(fresh),
    )  # fmt: skip


def _pulled(reply: Any) -> View | None:
    if not reply:
        return None
    *known, entries, body, fresh = reply
    return _attached([*known, 0, entries, body, fresh])


def _published(reply: Any) -> Others | Refused:
    return Others(*map(int, reply[2:5])) if reply[0] == b"OK" else _refused(reply)


def _idle(reply: Any) -> Others | Refused | None:
    if reply[0] == b"BUSY":
        return Others(*map(int, reply[1:4]))
    return None if reply[0] == b"CANCELLED" else _refused(reply)


def _ok(reply: Any) -> Refused | None:
    return None if reply[0] == b"OK" else _refused(reply)


def _refused(reply: Any) -> Refused:
    detail = reply[1] if len(reply) > 1 else b""
    return Refused(reply[0].decode(), detail.decode() if isinstance(detail, bytes) else str(detail))


def _pulse(reply: Any) -> Pulse:
    epoch, state, events, left, owner, published, following, interested, connected = reply
    others = Others(int(following), int(interested), int(connected))
    return Pulse(
        int(epoch or 0), state.decode(), int(events), int(left), owner.decode(), published == b"1", others
    )
