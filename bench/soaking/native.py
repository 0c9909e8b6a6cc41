"""One native answer as its client hears it, over any number of connections, judged on the way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from bench.soaking.questions import Question
from bench.soaking.tally import NOT_OWNED, Tally
from bench.soaking.weather import Weather
from tests.system.client import TERMINAL, Client
from tests.system.sse import Event

AGAIN_S: Final = 0.05
#: A client that is told "not now" while Redis is away comes back for so long.
PATIENCE_S: Final = 30.0


@dataclass
class Answer:
    """What one client has heard. `code` is that of `failed`, or of the refusal that ended it."""

    question: Question
    url: str
    since: float
    text: str = ""
    last: str | None = None
    end: str = ""
    code: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    connections: int = 0
    statuses: list[str] = field(default_factory=list)


class Listener:
    """Reads answers to their ends, or a part of them."""

    def __init__(self, client: Client, tally: Tally, weather: Weather) -> None:
        self._client = client
        self._tally = tally
        self._weather = weather

    async def part(self, answer: Answer, events: int) -> bool:
        """One connection, left after so many events; whether it was read to its end."""
        async with self._client.listening(answer.url, last_event_id=answer.last) as (reply, stream, _):
            answer.connections += 1
            answer.code = ""
            if reply.status != 200:
                return self._refused(answer, reply.status, await reply.json() if reply.status > 299 else {})
            async for event in stream:
                self._hear(answer, event)
                events -= 1
                if events == 0 and not answer.end:
                    return False
        return bool(answer.end)

    def heard(self, answer: Answer, events: list[Event]) -> None:
        """What came another way, before a connection was cut."""
        for event in events:
            self._hear(answer, event)

    async def whole(self, answer: Answer) -> Answer:
        """To its terminal event, coming back as long as that is no fault of the gateway's; then judged."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while not await self._patiently(answer):
            if not answer.code and not self._weather.redis_was_bad(answer.since):
                self._tally.problem("a stream was cut without an end", (answer.question.text, answer.last))
            if loop.time() > until:
                answer.end = "refused"
                break
            await asyncio.sleep(AGAIN_S)
        self.judge(answer)
        return answer

    async def _patiently(self, answer: Answer) -> bool:
        try:
            return await self.part(answer, -1)
        except TimeoutError:
            heard = (answer.connections, answer.statuses, answer.last, len(answer.text))
            self._tally.problem("a stream hung", (answer.question.text[:80], answer.url[:45], heard))
            answer.end = "hung"
            return True

    def _refused(self, answer: Answer, status: int, body: Any) -> bool:
        """A stream that was not opened: over, or to be tried again."""
        if status == 204:
            if not answer.end:
                self._tally.problem("204 for a stream whose end was not seen", answer.question.text)
                answer.end = "done"
            return True
        answer.code = body["error"]["code"]
        if self._weather.redis_was_bad(answer.since) and status in (404, 503):
            return False
        answer.end = "refused"
        return True

    def _hear(self, answer: Answer, event: Event) -> None:
        if answer.end:
            self._tally.problem("an event after the terminal one", (answer.question.text, event))
        if event.name == "reset":
            answer.text = ""
            self._tally.excused["reset"] += 1
        elif event.name == "delta":
            self._order(answer, event)
            answer.text += event.json["text"]
        elif event.name == "status":
            answer.statuses.append(event.json["status"])
        elif event.name in TERMINAL:
            answer.end, answer.told = event.name, event.json
            answer.code = answer.told.get("code", "")

    def _order(self, answer: Answer, event: Event) -> None:
        epoch, _, number = event.id.partition("-")
        before, _, last = (answer.last or "").partition("-")
        if epoch == before and int(number) <= int(last):
            self._tally.problem("an event came twice", (answer.question.text, answer.last, event.id))
        answer.last = event.id

    def judge(self, answer: Answer, *, cancelled: bool | None = None) -> None:
        """The text is exact, the end one that may be, the books are kept. `cancelled`: was it accepted?"""
        tally, question = self._tally, answer.question
        tally.ends[answer.end + (f" {answer.code}" if answer.code else "")] += 1
        if answer.end == "done":
            tally.texts += 1
            if answer.text != question.answer:
                tally.problem("a wrong text", (question.text[:80], len(answer.text), answer.text[-60:]))
            if answer.told["role"] != "leader":
                tally.saved(question)
        elif answer.end == "cancelled":
            self._cancelled(answer, cancelled)
        elif answer.end == "hung":
            return
        elif (why := self._weather.excuses(answer.code, answer.since)) is not None:
            tally.excused[f"{why}: {answer.code}"] += 1
        else:
            tally.problem(
                f"ended as {answer.end} {answer.code}", (question.text[:80], answer.url[:45], answer.last)
            )
        if answer.end != "done" and not question.answer.startswith(answer.text):
            tally.problem("a text that is no part of the answer", (question.text[:80], answer.text[-60:]))

    def _cancelled(self, answer: Answer, accepted: bool | None) -> None:
        if accepted is None:
            self._tally.problem(
                "cancelled, and nobody asked for it", (answer.question.text[:80], answer.told)
            )
        elif not accepted and not self._weather.redis_was_bad(answer.since):
            self._tally.problem(NOT_OWNED, answer.question.text[:80])
