"""One answer that two gateways serve while something happens: what every party of it sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.cluster.conftest import Cluster
from tests.system.client import Client, Stream
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of


@dataclass
class SharedAnswer:
    """Led by the first gateway, followed through the second; `streams` are theirs, once it is over."""

    cluster: Cluster
    clients: list[Client]
    question: str
    tokens: int
    ids: list[str]
    streams: list[Stream] = field(default_factory=list)

    @property
    def text(self) -> str:
        return answer_to(self.question, self.tokens)

    @property
    def calls(self) -> int:
        return calls_of(self.cluster.simulator, self.question)

    @property
    def resets(self) -> list[int]:
        """How often each of the two streams began anew."""
        return [sum(event.name == "reset" for event in stream.events) for stream in self.streams]

    def all_exact(self) -> None:
        """Both have the whole text, once, and ended well."""
        assert [stream.text for stream in self.streams] == [self.text, self.text]
        assert [stream.end.name for stream in self.streams] == ["done", "done"]


@asynccontextmanager
async def shared_answer(
    cluster: Cluster, words: str, *, tokens: int = 60, tps: int = 20, **directive: object
) -> AsyncIterator[SharedAnswer]:
    """Inside the block both have shown some text; behind it both streams have ended."""
    question = prompt(words, ttft=0.05, tps=tps, tokens=tokens, **directive)
    async with cluster.clients_of_all() as clients:
        accepted = [(await client.submit(question)).json for client in clients[:2]]
        assert [reply["role"] for reply in accepted] == ["leader", "follower"]
        shared = SharedAnswer(cluster, clients, question, tokens, [reply["id"] for reply in accepted])
        shown = [asyncio.Event(), asyncio.Event()]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            readers = [
                group.create_task(_read(client, reply["stream_url"], begun))
                for client, reply, begun in zip(clients, accepted, shown, strict=False)
            ]
            for begun in shown:
                await begun.wait()
            yield shared
        shared.streams = [reader.result() for reader in readers]


async def _read(client: Client, url: str, begun: asyncio.Event) -> Stream:
    async with client.listening(url) as (reply, events, reader):
        stream = Stream(reply.status, {}, reader=reader)
        async for event in events:
            stream.events.append(event)
            if len(stream.text) > 20:
                begun.set()
    return stream
