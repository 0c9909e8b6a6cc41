"""A whole pipeline on a stepped loop with its clients: everything that a rule of the machine may do."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import count

from admission import Priority
from cache.errors import StoreDown, StoreRefused
from chatbot.request import CacheDirectives
from chatbot.ticket import Ticket
from runtime.errors import UpstreamError
from runtime.supervisor import Supervisor
from tests.fakes.model import Call
from tests.fakes.pipeline import Limits, Pipeline
from tests.proofs.clients import Asked, Listener, Wish, call, submit
from tests.proofs.environment import TimedHook, TimedModel, TimedStore
from tests.proofs.plain_model import Around
from tests.proofs.stepped_loop import SteppedLoop

PROMPTS = ("a", "b", "c", "d")
LONELY = "!"  #: ends the prompts that are asked with no-store only
#: A submit is answered within this, with Redis hung.
SUBMIT_S = 0.2
#: Longer than the store takes.
STORING_S = 0.2


@dataclass(frozen=True)
class Stored:
    """What Redis must have by now, or within `STORING_S`."""

    text: str
    at: float


@dataclass
class Seen:
    """At the last check: when it was, how many calls there were, and which prompts were listened to."""

    at: float
    calls: int = 0
    heard: frozenset[str] = frozenset()


class Errors(logging.Handler):
    """Whatever the Supervisor had to log as an error: a task that died of a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


class World:
    """Times are the loop's. `settled`: nothing can run without a timer."""

    def __init__(self, limits: Limits, *, latency_s: float = 0.0) -> None:
        self.loop = SteppedLoop()
        self.store = TimedStore()
        self.store.latency_s = latency_s
        self.model = TimedModel()
        self.hook = TimedHook(self.model.troubles)
        self.errors = Errors()
        logging.getLogger("refrain.supervisor").addHandler(self.errors)
        self.pipe = self.loop.run(self._pipeline(limits))
        self.around = Around(limits, self.model.troubles, self.hook)
        self.asked: list[Asked] = []
        self.listeners: list[Listener] = []
        self.stored: dict[str, Stored] = {}  #: by prompt
        self.settled = True
        self.seen = Seen(self.now)
        self._numbers = count(1)

    async def _pipeline(self, limits: Limits) -> Pipeline:
        self.supervisor = Supervisor()
        self.model.by_hand.update(PROMPTS, [prompt + LONELY for prompt in PROMPTS])
        return Pipeline(limits, self.supervisor, self.store, model=self.model, hook=self.hook)

    @property
    def now(self) -> float:
        return self.loop.time()

    # -- time ---------------------------------------------------------------------------------
    def go(self, turns: int | None) -> None:
        """So many turns of the loop; None: until nothing can run without a timer."""
        if turns is None:
            self.loop.settle()
        else:
            for _ in range(turns):
                self.loop.turn()
        self.settled = turns is None

    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.settled = True

    # -- what clients do ----------------------------------------------------------------------
    def ask(self, wish: Wish) -> Asked:
        """A submit that is under way; `finish_submits` brings it to its answer."""
        number = next(self._numbers)
        ticket = Ticket(f"chat_{number:032x}", "t", wish.priority, self.now, 0.0)
        asked = Asked(wish, ticket)
        self.asked.append(asked)
        self.pipe.prompts[ticket.id] = wish.prompt
        if wish.native:
            asked.task = self.loop.create_task(submit(self.pipe, asked), name=f"submit {number}")
        else:
            listener = Listener(asked)
            self.listeners.append(listener)
            asked.task = listener.task = self.loop.create_task(
                call(self.pipe, listener), name=f"call {number}"
            )
        return asked

    def answered(self, asked: Asked) -> bool:
        assert asked.task is not None
        return asked.record is not None or asked.refusal is not None or asked.task.done()

    def finish_submits(self) -> None:
        """Let time pass until every submit has its answer: within `SUBMIT_S`."""
        self.go(None)
        if all(self.answered(asked) for asked in self.asked):
            return
        self.wait(SUBMIT_S)
        late = [asked for asked in self.asked if not self.answered(asked)]
        assert not late, f"after {SUBMIT_S} s no answer for {late}"

    def listen(self, asked: Asked, before: Listener | None = None) -> None:
        """Open a stream of a native request, or resume one that was dropped."""
        listener = Listener(asked)
        if before is not None:
            listener.text, listener.cursor = before.text, before.cursor
        self.listeners.append(listener)
        listener.task = self.loop.create_task(listener.read(self.pipe.manager), name="listener")

    def drop(self, listener: Listener) -> None:
        assert listener.task is not None
        listener.task.cancel()
        if listener.asked.record is None and not listener.asked.wish.native:
            listener.asked.dropped_at = self.now  # it left in the middle of its submit

    def give_up(self, asked: Asked) -> None:
        """Leave in the middle of a submit: nobody hears its answer."""
        assert asked.task is not None
        if asked.record is None:
            asked.task.cancel()
            asked.dropped_at = self.now

    def cancel(self, asked: Asked) -> None:
        assert asked.record is not None
        if asked.record.claim.ended is None:
            asked.cancelled_at = self.now
        with self.loop.current():
            self.pipe.cancel(asked.record)

    def done(self, prompt: str, since: float) -> bool:
        """Has any client been told since then that its answer is complete?"""
        ends = [a.record.claim.ended for a in self.asked if a.record is not None and a.prompt == prompt]
        return any(end and end.outcome == "completed" and end.at >= since for end in ends)

    def ended(self, asked: Asked) -> bool:
        """Has its client been told an end, or a refusal?"""
        if not self.answered(asked):
            return False
        return asked.record is None or asked.record.claim.ended is not None

    # -- what can be picked -------------------------------------------------------------------
    def readable(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.record is not None and asked.wish.native]

    def cancellable(self) -> list[Asked]:
        return [a for a in self.asked if a.record is not None and a.record.claim.ended is None]

    def waiting(self) -> list[Asked]:
        """For a slot of the model."""
        return [a for a in self.cancellable() if a.statuses and a.statuses[-1] == "waiting_slot"]

    def connected(self) -> list[Listener]:
        return [one for one in self.listeners if one.task is not None and not one.task.done()]

    def dropped(self) -> list[Listener]:
        return [one for one in self.listeners if one.asked.wish.native and one.end is None and not one.open]

    def calls(self) -> list[Call]:
        """The open ones that have not been told how to end."""
        told = self.model.told
        return [c for c in self.model.calls if c.open and c.number not in told and "plan:" not in c.prompt]

    # -- what happens around it ---------------------------------------------------------------
    def finish(self, call: Call) -> None:
        call.complete()
        self.model.completed.add(call.number)
        self.model.told.add(call.number)

    def fail(self, call: Call, error: UpstreamError) -> None:
        call.fail(error)
        self.model.told.add(call.number)

    def break_redis(self, how: str) -> None:
        self.stored = {p: s for p, s in self.stored.items() if s.at < self.now - STORING_S}
        if how == "hung":
            self.store.gate.clear()
        else:
            self.store.trouble = StoreDown("gone") if how == "down" else StoreRefused("full")

    def heal_redis(self) -> None:
        self.store.trouble = None
        self.store.gate.set()

    def lose_redis(self) -> None:
        self.store.lose_everything()
        self.stored.clear()

    @property
    def redis_is_fine(self) -> bool:
        return self.store.fine and self.pipe.lane.healthy

    # -- the end ------------------------------------------------------------------------------
    def close(self) -> None:
        logging.getLogger("refrain.supervisor").removeHandler(self.errors)
        self.loop.run(self.supervisor.close())
        for listener in self.connected():
            assert listener.task is not None
            listener.task.cancel()
        self.loop.settle()
        self.loop.close()


def wish(prompt: str, *, native: bool, how: str, batch: bool) -> Wish:
    """As a rule draws it."""
    priority = Priority.BATCH if batch else Priority.INTERACTIVE
    directives = CacheDirectives(**({how: True} if how else {}))
    lonely = LONELY if how == "no_store" and not prompt.endswith(LONELY) else ""
    return Wish(prompt + lonely, native, directives, priority)
