"""Callers of the OpenAI wire, whole and streamed, and those who end their call by its id."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.soaking.people import People
from bench.soaking.questions import Question
from bench.soaking.tally import NOT_OWNED
from tests.system.client import Reply, text_of
from tests.system.sse import Reader


class Callers:
    """Judged as the people are, and counted with them. `cancelled`: whether their cancel was accepted."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._chance = people.chance

    def ways(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [(self.whole, 16), (self.streamed, 14), (self.hit, 10), (self.cancels, 3)]

    async def whole(self) -> None:
        await self._call(self._people.questions.any(), stream=False)

    async def streamed(self) -> None:
        await self._call(self._people.questions.any(), stream=True)

    async def hit(self) -> None:
        """Popular, and timed if it was in the cache."""
        began = time.perf_counter()
        reply = await self._call(self._people.questions.hot(), stream=False, plain=True)
        if reply.status == 200 and "hit" in reply.headers.get("cache-status", "").split("; "):
            self._people.tally.hit(time.perf_counter() - began)

    async def cancels(self) -> None:
        """By the id in the reply's header, from another connection."""
        people, question = self._people, self._people.questions.twin()
        since = asyncio.get_running_loop().time()
        people.tally.sent += 1
        async with people.client.http.post("/v1/chat/completions", json=_body(question, True)) as reply:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            cancelled = None
            if reply.status == 200:
                done = await people.client.cancel(headers["x-refrain-id"])
                cancelled = done.status == 200
            answer = Reply(reply.status, headers, await reply.read())
        self._judge(question, answer, since, stream=True, cancelled=cancelled)

    async def _call(self, question: Question, *, stream: bool, plain: bool = False) -> Reply:
        since = asyncio.get_running_loop().time()
        headers = {}
        if not plain and (way := self._chance.random()) < 0.1:
            headers["cache-control"] = "no-store" if way < 0.05 else "no-cache"
        self._people.tally.sent += 1
        reply = await self._people.client.call(
            "POST", "/v1/chat/completions", json=_body(question, stream), headers=headers
        )
        self._judge(question, reply, since, stream=stream)
        return reply

    def _judge(
        self, question: Question, reply: Reply, since: float, *, stream: bool, cancelled: bool | None = None
    ) -> None:
        if reply.status != 200:
            self._people.refused(reply, since)
            return
        text, code = _streamed(reply.body) if stream else (_whole(reply), "")
        self._people.tally.ends["openai " + (code or "done")] += 1
        if code:
            self._failed(question, text, code, since, cancelled)
            return
        self._people.tally.texts += 1
        if text != question.answer:
            self._people.tally.problem("a wrong text", (question.text[:80], len(text), text[-60:]))
        status = reply.headers.get("cache-status", "").split("; ")
        if "hit" in status or "collapsed" in status:
            self._people.tally.saved(question)

    def _failed(self, question: Question, text: str, code: str, since: float, cancelled: bool | None) -> None:
        tally = self._people.tally
        if not question.answer.startswith(text):
            tally.problem("a text that is no part of the answer", (question.text[:80], text[-60:]))
        if code == "cancelled" and cancelled is not None:
            if not cancelled and not self._people.weather.redis_was_bad(since):
                tally.problem(NOT_OWNED, question.text[:80])
            return
        if (why := self._people.weather.excuses(code, since)) is not None:
            tally.excused[f"{why}: {code}"] += 1
        else:
            tally.problem(f"an OpenAI stream ended as {code}", question.text[:80])


def _body(question: Question, stream: bool) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question.text}], "stream": stream}


def _whole(reply: Reply) -> str:
    text: str = reply.json["choices"][0]["message"]["content"]
    return text


def _streamed(body: bytes) -> tuple[str, str]:
    """The text, and the code of its one failure, if it had one; `torn` if it had no end, `twice` if two."""
    frames = [event.data for event in Reader().feed(body)]
    parsed = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    errors = [frame["error"]["code"] for frame in parsed if "error" in frame]
    ends = len(errors) + frames.count("[DONE]")
    if ends != 1:
        return text_of(parsed), "twice" if ends else "torn"
    if frames[-1] != "[DONE]" and "error" not in parsed[-1]:
        return text_of(parsed), "talked on"
    return text_of(parsed), errors[0] if errors else ""
