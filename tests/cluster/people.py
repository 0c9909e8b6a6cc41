"""People who ask somewhere, lose their connection, and come back somewhere else until there is an end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import aiohttp

from tests.system.client import Client
from tests.system.prompts import answer_to

#: What a person makes of it: ask again.
_AGAIN = ("worker_lost", "leader_lost", "draining", "upstream_truncated")
#: Far more than any of them needs: a person who still has no end is hung.
ROUNDS = 200


@dataclass
class Visit:
    """How one person fared. `text` is what stands on their screen at the end."""

    text: str
    end: str
    resets: int = 0
    resumed: int = 0
    asked: int = 1


class Person:
    """One who wants the answer to `question`, whoever gives it. Every event is checked as it comes."""

    def __init__(self, question: str, tokens: int, chance: random.Random) -> None:
        self._question = question
        self._expected = answer_to(question, tokens)
        self._chance = chance
        self.visit = Visit("", "")
        self._last: str | None = None

    async def ask(self, clients: list[Client]) -> Visit:
        """Until there is an end. `clients` may be changed by whoever restarts gateways meanwhile."""
        url = await self._submit(clients)
        for _ in range(ROUNDS):
            said = await self._listen(self._chance.choice(clients), url)
            if said is None:
                self.visit.resumed += 1
                await asyncio.sleep(0.05)
            elif said in _AGAIN:
                self.visit.asked += 1
                self.visit.text, self._last = "", None
                url = await self._submit(clients)
            else:
                self.visit.end = said
                return self.visit
        raise AssertionError(f"no end: {self._question}")

    async def _submit(self, clients: list[Client]) -> str:
        for _ in range(ROUNDS):
            try:
                reply = await self._chance.choice(clients).submit(self._question)
            except (aiohttp.ClientError, OSError):
                reply = None
            if reply is not None and reply.status == 202:
                url: str = reply.json["stream_url"]
                return url
            await asyncio.sleep(0.05)
        raise AssertionError(f"not accepted: {self._question}")

    async def _listen(self, client: Client, url: str) -> str | None:
        """One connection: the terminal event's name or its code; None if there was none."""
        try:
            async with client.listening(url, last_event_id=self._last) as (reply, events, _):
                if reply.status == 204:
                    return "done"  # it had ended with the last event that we saw
                if reply.status in (404, 410, 503):
                    return "worker_lost"
                assert reply.status == 200, reply.status
                async for event in events:
                    said = self._hear(event.name, event.json if event.data else {}, event.id)
                    if said is not None:
                        return said
        except (aiohttp.ClientError, OSError):
            return None
        return None

    def _hear(self, name: str, told: dict[str, str], id: str | None) -> str | None:
        self._last = id or self._last
        if name == "reset":
            self.visit.text = ""
            self.visit.resets += 1
        elif name == "delta":
            self.visit.text += told["text"]
            # Nothing doubled, nothing skipped, never a splice of two answers.
            assert self._expected.startswith(self.visit.text), (self._question, self.visit.text)
        elif name == "failed":
            return told["code"]
        elif name in ("done", "cancelled"):
            return name
        return None
