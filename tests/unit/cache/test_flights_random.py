"""Two who lead and one who follows, in an order that nobody thought of, against a model of what must hold.

Every step is one call of a script by one of three processes, with whatever epoch that process believes in;
leases run out, memory is lost, replies are lost and calls are made twice. The model knows the one log of
each epoch: what is in Redis, and what the follower has read, is always a beginning of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from cache.flights import Hit, Led, Refused, Wait
from cache.names import flight_keys
from cache.views import Batch, Ending, Others, View
from tests.fakes.shared_redis import Proc, asking, forever, key_of, lapse, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
STEPS = 150


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


@dataclass
class Leader:
    """A process, the epoch that it believes to lead under, and its own log of that epoch."""

    proc: Proc
    epoch: int = 0
    log: list[bytes] = field(default_factory=list)
    told: int = 0


class Play:
    """State of the model: the log of every epoch there was, which of them ended, the highest given."""

    def __init__(self, client: Redis, procs: list[Proc], seed: int) -> None:
        self.random = random.Random(seed)
        self.key = key_of(seed)
        self.client: Any = client  # redis-py types its replies for text and bytes alike
        self.leaders = [Leader(proc) for proc in procs[:2]]
        self.reader = procs[2]
        self.logs: dict[int, list[bytes]] = {}
        self.owners: dict[int, Proc] = {}
        self.completed: dict[int, int] = {}
        self.highest = 0
        self.cursor: tuple[int, int] = (0, 0)
        self.read: list[bytes] = []
        self.done: set[str] = set()

    async def step(self) -> None:
        name = self.random.choice(
            ["lead", "lead", "append", "append", "append", "append", "pull", "pull", "follow", "beat",
             "finish", "idle", "take_over", "reseed", "lapse", "lose", "abdicate"]
        )  # fmt: skip
        leader = self.random.choice(self.leaders)
        await getattr(self, f"_{name}")(leader)
        if self.random.random() < 0.2 and name not in ("lapse", "lose", "lead", "take_over"):
            await getattr(self, f"_{name}")(leader)  # its reply was lost
        self.done.add(name)
        self.check()

    def check(self) -> None:
        """What is in Redis belongs to one epoch, and is a beginning of the log of it, without a hole."""
        m, s, *_ = flight_keys(self.key)
        known, entries = self.client.hgetall(m), self.client.xrange(s)
        if not known:
            return
        epoch, events = int(known["e"]), []
        assert known["o"] == self.owners[epoch].name
        for id, fields in entries:
            assert id.startswith(f"{epoch}-"), "two generations in one log"
            if "t" not in fields:
                events += fields["d"].encode().split(b"\n")
        assert events == self.logs[epoch][: len(events)]
        assert known["st"] != "live" or len(events) == int(known["n"])

    def _takes(self, leader: Leader, epoch: int) -> None:
        if epoch not in self.logs:
            assert epoch > self.highest, "an epoch is given once, and they only rise"
            self.logs[epoch], self.owners[epoch], self.highest = [], leader.proc, epoch
        assert self.owners[epoch] is leader.proc, "two lead under one epoch"
        if leader.epoch != epoch:
            leader.epoch, leader.log, leader.told = epoch, self.logs[epoch], 0

    # -- what a leader does -------------------------------------------------------------------
    async def _lead(self, leader: Leader) -> None:
        joined = await leader.proc.flights.join(asking(self.key), 1.0)
        if isinstance(joined, Led):
            self._takes(leader, joined.epoch)
        elif isinstance(joined, Wait):
            # Somebody may not have read yet how the last one ended; a moment later that is over.
            assert self.client.hget(flight_keys(self.key)[0], "st") != "live"
            lapse(self.client, self.key)
            await self._lead(leader)
        elif isinstance(joined, Hit):
            assert int(joined.value) in self.completed
        else:
            assert isinstance(joined, View)
            assert joined.owner != leader.proc.name
            self._reads(joined, [])

    async def _append(self, leader: Leader) -> None:
        if not leader.epoch:
            return
        for _ in range(self.random.randint(0, 2)):
            leader.log.append(b"%d.%d" % (leader.epoch, len(leader.log)))
        first = self.random.randint(0, leader.told) + 1
        reply = await leader.proc.flights.append(self.key, leader.epoch, first, b"", leader.log[first - 1 :])
        if isinstance(reply, Others):
            leader.told = len(leader.log)
        else:
            await self._obey(leader, reply)

    async def _obey(self, leader: Leader, reply: Refused) -> None:
        if reply.why == "GAP":
            leader.told = int(reply.detail)
        elif reply.why == "GONE":
            await self._reseed(leader)
        else:
            assert reply.why == "ENDED" or int(reply.detail) != leader.epoch
            leader.epoch = 0

    async def _reseed(self, leader: Leader) -> None:
        if not leader.epoch:
            return
        reply = await leader.proc.flights.reseed(
            self.key, leader.epoch, b"", published=True, chunks=list(leader.log)
        )
        if reply is None:
            leader.told = max(leader.told, len(leader.log))
        else:
            leader.epoch = 0

    async def _finish(self, leader: Leader) -> None:
        if not leader.epoch or self.random.random() < 0.5:
            return
        epoch, log = leader.epoch, list(leader.log)
        reply = await leader.proc.flights.finish(
            self.key, epoch, "completed", b"", len(log), value=b"%d" % epoch, ttl_ms=60_000,
            first=leader.told + 1, chunks=log[leader.told :],
        )  # fmt: skip
        if reply is None:
            self.completed[epoch] = len(log)
            leader.epoch = 0
            self._forget_the_answer()
        else:
            await self._obey(leader, reply)

    def _forget_the_answer(self) -> None:
        """So that the play goes on; its value must be of an epoch that ended."""
        value = self.client.get(flight_keys(self.key)[4])
        assert value is None or int(value) in self.completed
        self.client.delete(flight_keys(self.key)[4])

    async def _idle(self, leader: Leader) -> None:
        if not leader.epoch or self.random.random() < 0.5:
            return
        reply = await leader.proc.flights.idle(self.key, leader.epoch, "cancelled", b"", 1.0)
        if not isinstance(reply, Others):
            leader.epoch = 0

    async def _abdicate(self, leader: Leader) -> None:
        if leader.epoch and self.random.random() < 0.3:
            await leader.proc.flights.abdicate(self.key, leader.epoch)
            leader.epoch = 0

    async def _take_over(self, leader: Leader) -> None:
        epoch = self.cursor[0] or self.highest
        nonce = f"{self.random.random()}"
        first = await leader.proc.flights.take_over(self.key, epoch, nonce, "", b"")
        if isinstance(first, Led):
            assert await leader.proc.flights.take_over(self.key, epoch, nonce, "", b"") == first
            self._takes(leader, first.epoch)

    async def _beat(self, leader: Leader) -> None:
        if leader.epoch:
            await leader.proc.flights.beat(int(self.key[-2:], 16) % 64, [(self.key, f"L{leader.epoch}")])

    # -- the follower, and the weather --------------------------------------------------------
    async def _follow(self, leader: Leader) -> None:
        view = await self.reader.flights.attach(self.key, self.random.choice(["f", "fi", "fi+"]))
        if view is not None and view.epoch >= self.cursor[0]:
            self.cursor, self.read = (view.epoch, 0), []
            self._reads(view, self.read)

    async def _pull(self, leader: Leader) -> None:
        view = await self.reader.flights.pull(self.key, *self.cursor)
        if view is not None and view.epoch >= self.cursor[0]:
            if view.epoch > self.cursor[0]:
                self.read = []
            self._reads(view, self.read)

    def _reads(self, view: View, into: list[bytes]) -> None:
        """Exactly what comes next: no event twice, none missing, none of another epoch."""
        for entry in view.entries:
            if isinstance(entry, Ending):
                assert entry.how == "cancelled" or len(into) == self.completed[view.epoch]
                continue
            assert isinstance(entry, Batch)
            assert entry.first <= len(into) + 1
            into += entry.chunks[len(into) + 1 - entry.first :]
        assert into == self.logs[view.epoch][: len(into)]
        if into is self.read:
            self.cursor = (view.epoch, len(into))

    async def _lapse(self, leader: Leader) -> None:
        if self.client.exists(flight_keys(self.key)[0]):
            lapse(self.client, self.key)

    async def _lose(self, leader: Leader) -> None:
        """Memory is lost but for the fence, which a guard stands in for: time does not pass here."""
        if self.random.random() < 0.3:
            self.client.delete(*flight_keys(self.key)[:3])


@pytest.mark.parametrize("seed", range(1, 13))
async def test_any_order_of_calls_keeps_one_log_per_epoch(server: RedisServer, seed: int) -> None:
    """Rows 43 and 93: never two leaders of an epoch, a hole, a doubled event, two generations in a log."""
    with server.client as client:
        async with processes(server, 3) as procs:
            play = Play(client, procs, seed)
            for _ in range(STEPS):
                await play.step()
        assert play.highest, "nobody ever led"
        assert len(play.done) == 12, "the schedule left something out"
        assert forever(client) == [flight_keys(play.key)[3]]
