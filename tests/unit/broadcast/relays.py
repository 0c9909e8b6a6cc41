"""A real relay on a played Redis: its manager, its cache and the other processes are what the test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.leading import Leading
from broadcast.log import Log
from broadcast.manager import BroadcastManager
from broadcast.mirror import Mirror
from broadcast.relay import Relay
from broadcast.sealing import Sealing
from cache.answer import SealedAnswer
from cache.errors import StoreDown
from cache.processes import Processes
from processing.flights import Flights
from runtime.supervisor import Supervisor
from tests.fakes.answers import answer
from tests.fakes.claims import TIMERS, RecordingDriver, Ticket
from tests.fakes.flights import FakeFlights, FakeLink, view
from tests.fakes.turns import settle
from upstream.chunk import Chunk

LEASE_S = 8.0
#: As every key it ends in hexadecimal digits, which name its partition.
KEY = "key-0a"
BODY: dict[str, Any] = {"q": 1}


class Line(FakeLink):
    """A link that somebody listens to: `hear` is a push, `rise` and `fall` are its state."""

    def __init__(self) -> None:
        super().__init__()
        self._ears: dict[str, Callable[[str], None]] = {}
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []

    def listen(self, kind: str, act: Callable[[str], None]) -> None:
        self._ears[kind] = act

    def on_up(self, act: Callable[[], None]) -> None:
        self._ups.append(act)

    def on_down(self, act: Callable[[], None]) -> None:
        self._downs.append(act)

    def hear(self, kind: str, rest: str) -> None:
        self._ears[kind](rest)

    def rise(self) -> None:
        self.up = True
        for act in self._ups:
            act()

    def fall(self) -> None:
        self.up = False
        for act in self._downs:
            act()


class PlayedProcesses:
    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.beats = 0
        self._acts: list[Callable[[str], None]] = []

    def on_death(self, act: Callable[[str], None]) -> None:
        self._acts.append(act)

    async def beat(self) -> None:
        self.beats += 1

    async def lives(self, proc: str) -> bool:
        if proc == "unknown":
            raise StoreDown("away")
        return proc not in self.dead

    def die(self, proc: str) -> None:
        self.dead.add(proc)
        for act in self._acts:
            act(proc)


class PlayedManager:
    """`taken` and `gone` are the broadcasts that it was told to make here, and to follow."""

    def __init__(self) -> None:
        self.running: dict[Any, Any] = {}
        self.taken: list[tuple[Any, int, Any]] = []
        self.gone: list[tuple[Any, int]] = []
        self.outlook = self  #: which foretells the wait

    def eta_s(self, broadcast: Any) -> float | None:
        return 4.5

    def take_over(self, mirror: Broadcast[Chunk], epoch: int, body: Any) -> None:
        self.taken.append((mirror, epoch, body))
        mirror.restart(epoch, remote=False)

    def let_go(self, broadcast: Broadcast[Chunk], epoch: int) -> None:
        self.gone.append((broadcast, epoch))
        broadcast.restart(epoch, remote=True)


class PlayedSealing:
    """`value` is what each answer is encoded to; `held` is what this process shares."""

    def __init__(self) -> None:
        self.value = b"value"
        self.held: list[SealedAnswer] = []

    def answer(self, key: str, log: Log[Chunk], ttl_s: float | None) -> SealedAnswer:
        return replace(answer(), key=key, epoch=log.epoch, ttl_s=self.ttl_s(ttl_s))

    def encoded(self, answer: SealedAnswer) -> bytes:
        return self.value

    def ttl_s(self, ttl_s: float | None) -> float:
        return 60.0 if ttl_s is None else ttl_s

    def hold(self, answer: SealedAnswer) -> None:
        self.held.append(answer)


class AskingDriver(RecordingDriver):
    """Whether what nobody here wants may end is asked of the relay, as the manager does."""

    relay: Relay

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        return self.relay.may_abandon(broadcast, expired=expired)


class RelayScene:
    """What is led and followed is of epoch 5, unless said otherwise."""

    def __init__(self, *, durable: bool = False) -> None:
        self.flights = FakeFlights()
        self.link = self.flights.link = Line()
        self.processes = PlayedProcesses()
        self.manager = PlayedManager()
        self.sealing = PlayedSealing()
        self.table: Flights[Broadcast[Chunk]] = Flights()
        self.supervisor = Supervisor()
        self.relay = Relay(
            self.flights.real,
            self.table,
            cast(Processes, self.processes),
            cast(Sealing, self.sealing),
            self.supervisor,
            lease_s=LEASE_S,
            durable=durable,
        )
        self.driver = AskingDriver()
        self.driver.relay = self.relay
        self.relay.manager = cast(BroadcastManager, self.manager)

    def broadcast(self, key: str = KEY, epoch: int = 5) -> Broadcast[Chunk]:
        made: Broadcast[Chunk] = Broadcast(key, Log(epoch), self.driver)
        self.manager.running[made] = SimpleNamespace(body={"prepared": BODY}, question=BODY)
        self.table.claim(key, made)
        return made

    def leads(self, key: str = KEY, *, registered: bool = True, epoch: int = 5) -> Leading:
        broadcast = self.broadcast(key, epoch)
        self.relay.led(broadcast, registered=registered, private=False)
        return self.relay.leads[key]

    def follows(self, key: str = KEY, *, body: Any = None, joined: bool = True) -> Mirror:
        """With somebody here who is interested, unless nobody has `joined`."""
        broadcast = self.broadcast(key)
        broadcast.remote = True
        mirror = self.relay.mirror(broadcast, view(), body)
        if joined:
            joins(broadcast)
        return mirror

    def called(self) -> list[str]:
        """The names of all calls of Redis, in order."""
        return [call[0] for call in self.flights.calls]


def joins(broadcast: Broadcast[Chunk], *, attached: bool = True, id: str = "c") -> Claim:
    claim = Claim(Ticket(id, 0.0), broadcast, TIMERS, attached=attached, on_end=lambda claim: None)
    broadcast.join(claim)
    return claim


async def unregistered(scene: RelayScene) -> Leading:
    """Redis was away when it began."""
    scene.flights.replies["join"] = [StoreDown("away")]
    leading = scene.leads(registered=False)
    await settle()
    scene.flights.calls.clear()
    return leading
