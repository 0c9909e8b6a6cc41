"""The state machine: clients, the model, Redis and time do what Hypothesis says, in any order.

`turns` is how far the pipeline gets before the next rule acts: to a standstill, or only a few turns of
the loop, so that a cancel meets a grant, a drop meets an end, and a twin comes in the middle of a seal.
"""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.errors import (
    PrepareFailed,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTruncated,
)
from tests.fakes.model import Call
from tests.fakes.pipeline import Limits
from tests.proofs.answers import check_answer, expected_hit, note_stored
from tests.proofs.checks import check_step
from tests.proofs.world import LONELY, PROMPTS, STORING_S, World, wish
from upstream.errors import UpstreamUnavailable

T = TypeVar("T")

PICK = st.integers(min_value=0, max_value=60)
TURNS = st.sampled_from((None, None, None, 0, 1, 2, 3, 5))
SMALL = st.integers(min_value=1, max_value=3)
PROMPT = st.sampled_from(PROMPTS)
HOW = st.sampled_from(("", "", "", "", "no_cache", "no_store", "only_if_cached"))
#: Below and above each timer; the long ones outlast several.
WAITS = st.sampled_from((0.01, 0.3, 0.6, 1.2, 1.4, 2.0, 2.4, 3.2, 4.4, 6.0))
TIMERS: dict[str, Any] = {
    "queue_s": 1.7, "prepare_s": 2.3, "slot_s": 5.7, "subscribe_s": 4.3, "grace_s": 0.5, "retention_s": 1e6,
}  # fmt: skip


def before_the_first_token(number: int) -> UpstreamError:
    """Transient ones are tried again, others are not; a Retry-After stops the stage for a while."""
    kinds = (
        UpstreamUnavailable(), UpstreamRateLimited(retry_after=1.0), UpstreamBadResponse(),
        UpstreamRateLimited(), UpstreamRateLimited(retry_after=9.0),
    )  # fmt: skip
    return kinds[number % len(kinds)]


def of(choices: list[T], pick: int) -> T:
    return choices[pick % len(choices)]


class PipelineMachine(RuleBasedStateMachine):
    """See the module. What holds after each step is in `tests.proofs.checks`."""

    world: World

    @initialize(
        leaders=SMALL, streams=SMALL, room=st.sampled_from((1, 2, 50)),
        hook=st.booleans(), planning=st.booleans(), finish=st.booleans(), patient=st.booleans(),
        local=st.sampled_from((False, False, True)), latency_s=st.sampled_from((0.0, 0.03, 0.03)),
    )  # fmt: skip
    def begin(
        self, leaders: int, streams: int, room: int, hook: bool, planning: bool, finish: bool, patient: bool,
        local: bool, latency_s: float,
    ) -> None:  # fmt: skip
        self.patient = patient
        self.world = World(
            Limits(
                leaders=leaders, followers=2, streams=streams, calls=1, queue=room, pending=room + 1,
                hook=hook, planning=planning, finish=finish, local_bytes=local << 20, **TIMERS,
            ),
            latency_s=latency_s,
        )  # fmt: skip

    # -- submit -------------------------------------------------------------------------------
    @rule(prompt=PROMPT, native=st.booleans(), how=HOW, batch=st.booleans())
    def submit(self, prompt: str, native: bool, how: str, batch: bool) -> None:
        """Leader, twin or cached: whatever it becomes, it is answered in time."""
        self._submit(prompt, native, how, batch)

    def _submit(self, prompt: str, native: bool, how: str, batch: bool = False) -> None:
        world = self.world
        hit = expected_hit(world, prompt, how)
        asked = world.ask(wish(prompt, native=native, how=how, batch=batch))
        world.finish_submits()
        check_answer(world, asked, hit)

    @rule(prompt=PROMPT, kinds=st.lists(st.booleans(), min_size=2, max_size=4), turns=TURNS)
    def submit_together(self, prompt: str, kinds: list[bool], turns: int | None) -> None:
        """Twins that look into the cache at the same time."""
        for native in kinds:
            self.world.ask(wish(prompt, native=native, how="", batch=False))
        self.world.go(turns)

    @rule(prompt=PROMPT, native=st.booleans(), turns=st.integers(min_value=0, max_value=5))
    def submit_and_leave(self, prompt: str, native: bool, turns: int) -> None:
        """The client is gone before it has been answered."""
        world = self.world
        asked = world.ask(wish(prompt, native=native, how="", batch=False))
        world.go(turns)
        if native:
            world.give_up(asked)
        else:
            world.drop(next(one for one in world.listeners if one.asked is asked))
        world.go(None)

    # -- read ---------------------------------------------------------------------------------
    @precondition(lambda self: self.world.readable())
    @rule(pick=PICK, turns=TURNS)
    def subscribe(self, pick: int, turns: int | None) -> None:
        world = self.world
        world.listen(of(world.readable(), pick))
        world.go(turns)

    @precondition(lambda self: self.world.dropped())
    @rule(pick=PICK, turns=TURNS)
    def resume(self, pick: int, turns: int | None) -> None:
        world = self.world
        before = of(world.dropped(), pick)
        world.listen(before.asked, before)
        world.go(turns)

    @precondition(lambda self: self.world.connected())
    @rule(pick=PICK, turns=TURNS)
    def drop(self, pick: int, turns: int | None) -> None:
        world = self.world
        world.drop(of(world.connected(), pick))
        world.go(turns)

    @precondition(lambda self: self.world.cancellable())
    @rule(pick=PICK, turns=TURNS)
    def cancel(self, pick: int, turns: int | None) -> None:
        """Ended at once, and nothing else of it can be heard later."""
        world = self.world
        asked = of(world.cancellable(), pick)
        world.cancel(asked)
        assert asked.record is not None
        assert asked.record.claim.ended is not None
        world.go(turns)

    # -- the model ----------------------------------------------------------------------------
    @precondition(lambda self: self.world.calls())
    @rule(pick=PICK, turns=TURNS)
    def chunk(self, pick: int, turns: int | None) -> None:
        call = of(self.world.calls(), pick)
        call.say(f" {len(call.said)}" if call.said else f"{call.number}:")
        self.world.go(turns)

    @precondition(lambda self: self.world.calls())
    @rule(pick=PICK, turns=TURNS)
    def finish(self, pick: int, turns: int | None) -> None:
        """With what it has said so far, which may be nothing."""
        self._finish(of(self.world.calls(), pick), turns)

    @precondition(lambda self: self.world.calls())
    @rule(pick=PICK, turns=TURNS, native=st.booleans(), pause=st.sampled_from((0.0, 0.0, 0.3, 6.0)))
    def answer_and_ask_again(self, pick: int, turns: int | None, native: bool, pause: float) -> None:
        """Is there a moment, from the last word to the cache, at which a twin finds neither?"""
        call = of(self.world.calls(), pick)
        call.say(" and so on" if call.said else f"{call.number}: all of it")
        self._finish(call, turns)
        if pause:
            self.world.wait(pause)
        self._submit(call.prompt, native, "no_store" if call.prompt.endswith(LONELY) else "")

    @precondition(lambda self: self.world.calls() and self.world.waiting())
    @rule(pick=PICK, other=PICK, turns=st.integers(min_value=1, max_value=4))
    def a_cancel_meets_a_grant(self, pick: int, other: int, turns: int) -> None:
        """A slot becomes free, and one who waits for it goes in about the same turn."""
        world = self.world
        world.fail(of(world.calls(), pick), UpstreamTruncated())
        world.go(turns)
        if waiting := world.waiting():
            world.cancel(of(waiting, other))
        world.go(None)

    def _finish(self, call: Call, turns: int | None) -> None:
        self.world.finish(call)
        note_stored(self.world, call)
        self.world.go(turns)

    @precondition(lambda self: self.world.calls())
    @rule(pick=PICK, turns=TURNS, truncated=st.booleans())
    def fail_in_the_middle(self, pick: int, turns: int | None, truncated: bool) -> None:
        error = UpstreamTruncated() if truncated else UpstreamUnavailable()
        self.world.fail(of(self.world.calls(), pick), error)
        self.world.go(turns)

    @rule(prompt=PROMPT, kind=PICK)
    def fail_before_the_first_token(self, prompt: str, kind: int) -> None:
        """The next call for it; nothing happens until there is one."""
        self.world.model.errors[prompt].append(before_the_first_token(kind))

    # -- preparation, Redis, time ---------------------------------------------------------------
    @precondition(lambda self: self.world.around.limits.hook)
    @rule(what=st.sampled_from(("shut", "open", "open", "fail", "mend", "mend")), turns=TURNS)
    def hook(self, what: str, turns: int | None) -> None:
        hook = self.world.hook
        if what == "shut":
            hook.shut(self.world.now)
        elif what == "open":
            hook.open()
        else:
            hook.error = PrepareFailed() if what == "fail" else None
        self.world.go(turns)

    @rule(what=st.sampled_from(("hung", "down", "full", "lost", "healed", "healed", "healed")))
    def redis(self, what: str) -> None:
        world = self.world
        if what == "healed":
            world.heal_redis()
        elif what == "lost":
            world.lose_redis()
        else:
            world.break_redis(what)
        world.go(None)

    @rule(seconds=WAITS)
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    # -- what holds ---------------------------------------------------------------------------
    @invariant()
    def holds(self) -> None:
        check_step(self.world)

    def teardown(self) -> None:
        """Everybody leaves, or waits for the end; then everything is at rest."""
        world = self.world
        try:
            world.heal_redis()
            world.hook.open()
            if not self.patient:
                for listener in world.connected():
                    world.drop(listener)
            world.finish_submits()
            world.wait(STORING_S)
            check_step(world)
            world.loop.run(world.pipe.rest())
            world.settled = False
            check_step(world)
        finally:
            world.close()
