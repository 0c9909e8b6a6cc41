"""The two forms of an answer: streamed, and whole. Both are told the same story by the player."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from upstream.simulator.exchange import EVENT_STREAM, JSON, Exchange
from upstream.simulator.refusal import Refusal
from upstream.simulator.script import Delta, Ending, Script
from upstream.simulator.wire import DONE, GARBAGE, ROLE, ChunkForm, Head, completion, event


def _error() -> Refusal:
    return Refusal(500, "Simulated error in the middle of an answer.")


class Reply(Protocol):
    async def begin(self) -> None:
        """The call is accepted; its first token is still to come."""

    async def deltas(self, deltas: Sequence[Delta]) -> None:
        """These became due together."""

    async def end(self, ending: Ending) -> None:
        """Nothing more comes. Never called for `Ending.STALL`."""


class StreamReply:
    """Chunks as server-sent events. The headers go out at once, as those of vLLM and Ollama do."""

    def __init__(self, exchange: Exchange, head: Head, script: Script) -> None:
        self._exchange = exchange
        self._script = script
        self._form = ChunkForm(head, with_usage=script.include_usage)
        self._role = self._form.delta(ROLE)

    async def begin(self) -> None:
        await self._exchange.open(EVENT_STREAM)

    async def deltas(self, deltas: Sequence[Delta]) -> None:
        role, self._role = self._role, b""
        await self._exchange.write(role + b"".join(map(self._form.delta, deltas)))

    async def end(self, ending: Ending) -> None:
        match ending:
            case Ending.FINISH:
                await self._exchange.close(self._finish())
            case Ending.ERROR_FRAME:
                await self._exchange.close(event(_error().body()))
            case Ending.GARBAGE:
                await self._exchange.close(b"data: " + GARBAGE + b"\n\n")
            case Ending.TRUNCATE:
                await self._exchange.close()
            case _:
                return  # a reset: the server cuts the connection of a reply that was never closed

    def _finish(self) -> bytes:
        script = self._script
        finish = self._form.finish(script.finish_reason, script.usage if script.inline_usage else None)
        separate = script.include_usage and not script.inline_usage
        usage = self._form.usage(script.usage) if separate else b""
        return self._role + finish + usage + DONE


class WholeReply:
    """One JSON object, sent when its last token would have been."""

    def __init__(self, exchange: Exchange, head: Head, script: Script) -> None:
        self._exchange = exchange
        self._head = head
        self._script = script

    async def begin(self) -> None:
        """Nothing goes out before the answer is whole."""

    async def deltas(self, deltas: Sequence[Delta]) -> None:
        """The script has them all."""

    async def end(self, ending: Ending) -> None:
        script = self._script
        answer = completion(self._head, script.deltas, script.finish_reason, script.usage)
        match ending:
            case Ending.FINISH:
                await self._exchange.reply(answer)
            case Ending.ERROR_FRAME:
                await self._exchange.refuse(_error())
            case Ending.GARBAGE:
                await self._exchange.open(JSON)
                await self._exchange.close(GARBAGE)
            case _:
                await self._half(msgspec.json.encode(answer), ending)

    async def _half(self, data: bytes, ending: Ending) -> None:
        await self._exchange.open(JSON)
        await self._exchange.write(data[: len(data) // 2])
        if ending is Ending.TRUNCATE:
            await self._exchange.close()
