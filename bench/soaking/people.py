"""Callers who want an answer: each way of asking is a visit, judged to its end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bench.soaking.native import Answer, Listener
from bench.soaking.questions import Question, Questions
from bench.soaking.tally import GONE_BACK, NOT_KEPT, OTHER_END, SECOND, TOO_LATE, Tally
from bench.soaking.weather import Weather
from tests.system.client import Client, Reply

#: A status never goes back; the ends are one step.
WALK: Final = {
    name: step
    for step, names in enumerate(
        (
            ("queued",),
            ("preparing",),
            ("ready",),
            ("waiting_slot",),
            ("streaming",),
            ("completed", "failed", "cancelled", "expired"),
        )
    )
    for name in names
}
RECORD: Final = {"done": ("completed",), "failed": ("failed", "expired"), "cancelled": ("cancelled",)}
LAG_S: Final = 5.0


class People:
    """State: the one client of all, a connection each time."""

    def __init__(
        self, client: Client, questions: Questions, tally: Tally, weather: Weather, chance: random.Random
    ) -> None:
        self.client = client
        self.questions = questions
        self.tally = tally
        self.weather = weather
        self.chance = chance
        self.listener = Listener(client, tally, weather)

    def ways(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            (self.reads, 16),
            (self.resumes, 12),
            (self.polls, 6),
            (self.cancels, 8),
            (self.cancels_late, 3),
            (self.repeats, 3),
            (self.never_comes, 1),
        ]

    # -- visits -------------------------------------------------------------------------------
    async def reads(self) -> None:
        if (answer := await self.submitted(self.questions.any())) is not None:
            await self.listener.whole(answer)

    async def resumes(self) -> None:
        """Cut after a few events, once or twice; the pieces are the whole."""
        if (answer := await self.submitted(self.questions.any())) is None:
            return
        for _ in range(self.chance.randint(1, 2)):
            if await self.listener.part(answer, self.chance.randint(1, 12)):
                break
            await asyncio.sleep(self.chance.uniform(0.0, 0.4))
        if answer.end:
            self.listener.judge(answer)
        else:
            await self.listener.whole(answer)

    async def polls(self) -> None:
        """Read, while the record is asked again and again; it walks forward, and ends as the stream did."""
        if (answer := await self.submitted(self.questions.any())) is None:
            return
        seen: list[str] = []
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self.listener.whole(answer))
            while not reading.done():
                seen.append((await self._record(answer)).get("status", ""))
                await asyncio.sleep(0.03)
        until = time.monotonic() + LAG_S
        while (last := (await self._record(answer)).get("status")) not in RECORD.get(answer.end, (last,)):
            if time.monotonic() > until:
                self.unless_redis(OTHER_END, answer, (answer.end, last))
                return
            await asyncio.sleep(0.05)
        steps = [WALK[status] for status in [*seen, last] if status]
        if steps != sorted(steps):
            self.unless_redis(GONE_BACK, answer, seen)

    async def cancels(self) -> None:
        """At any moment: before the stream is opened or while it is read, once or twice."""
        if (answer := await self.submitted(self.questions.any())) is None:
            return
        if self.chance.random() < 0.3:
            cancelled = await self._cancel(answer)
            await self._until_end(answer)
        else:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._until_end(answer))
                await asyncio.sleep(self.chance.uniform(0.0, 0.5))
                cancelled = await self._cancel(answer)
                await reading
        self.listener.judge(answer, cancelled=cancelled)
        if cancelled and answer.end in ("done", "failed"):
            self.unless_redis(NOT_KEPT, answer, answer.end)
        if self.chance.random() < 0.5 and await self._cancel(answer) != cancelled and answer.end != "refused":
            self.unless_redis(SECOND, answer, (cancelled, answer.end))

    async def cancels_late(self) -> None:
        if (answer := await self.submitted(self.questions.any())) is None:
            return
        await self.listener.whole(answer)
        if answer.end == "done" and await self._cancel(answer):
            self.unless_redis(TOO_LATE, answer, answer.told)

    async def repeats(self) -> None:
        """The same request_id twice at once is one request."""
        question, since = self.questions.any(), asyncio.get_running_loop().time()
        name = f"again-{self.chance.getrandbits(64):x}"
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(self._submit(question, request_id=name)) for _ in range(2)]
        self.tally.sent += 1
        self.tally.vague += 1  # if the first was refused, the second is another request
        replies = [task.result() for task in both]
        taken = [reply for reply in replies if reply.status in (200, 202)]
        for reply in replies:
            if reply not in taken:
                self.refused(reply, since)
        if len({reply.json["id"] for reply in taken}) > 1 and not self.weather.redis_was_bad(since):
            self.tally.problem("one request_id, two requests", question.text)
        if taken:
            await self.listener.whole(Answer(question, taken[0].json["stream_url"], since))

    async def never_comes(self) -> None:
        """Nobody opens its stream: it expires by itself, and the model is not asked for it."""
        await self.submitted(self.questions.distinct())

    # -- steps --------------------------------------------------------------------------------
    async def submitted(self, question: Question) -> Answer | None:
        """None if there was no room, or that is excused."""
        since = asyncio.get_running_loop().time()
        fields: dict[str, Any] = {}
        if self.chance.random() < 0.2:
            fields["priority"] = "batch"
        if (way := self.chance.random()) < 0.1:
            fields["cache"] = False if way < 0.05 else "refresh"
        reply = await self._submit(question, **fields)
        self.tally.sent += 1
        if reply.status == 202:
            return Answer(question, reply.json["stream_url"], since)
        self.refused(reply, since)
        return None

    async def _submit(self, question: Question, **fields: Any) -> Reply:
        return await self.client.submit(question.text, **fields)

    def refused(self, reply: Reply, since: float) -> None:
        code = reply.error["code"]
        self.tally.ends[f"refused {reply.status} {code}"] += 1
        if (why := self.weather.excuses(code, since)) is not None:
            self.tally.excused[f"{why}: {code}"] += 1
        else:
            self.tally.problem(f"refused as {reply.status} {code}", reply.body)
        if reply.status in (429, 503) and not reply.headers.get("retry-after", "").isdigit():
            self.tally.problem("a refusal without Retry-After", reply.headers)

    async def _until_end(self, answer: Answer) -> None:
        try:
            async with asyncio.timeout(LAG_S):
                while True:
                    if await self.listener.part(answer, -1):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            answer.end = answer.end or "hung"

    async def _cancel(self, answer: Answer) -> bool:
        """Whether it was accepted."""
        reply = await self.client.cancel(_id_of(answer))
        if reply.status not in (200, 409):
            self.unless_redis(f"a cancel was answered {reply.status}", answer, reply.body)
        return reply.status == 200

    async def _record(self, answer: Answer) -> Any:
        reply = await self.client.call("GET", f"/chat/{_id_of(answer)}")
        if reply.status == 200:
            return reply.json
        self.unless_redis(f"a record was answered {reply.status}", answer, reply.body)
        return {}

    def unless_redis(self, what: str, answer: Answer, detail: object) -> None:
        if self.weather.redis_was_bad(answer.since):
            self.tally.excused[f"redis: {what}"] += 1
        else:
            self.tally.problem(what, (answer.question.text[:80], detail))


def _id_of(answer: Answer) -> str:
    return answer.url.split("/")[2]
