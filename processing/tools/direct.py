"""A tool that gives the answer itself: its pieces are the broadcast, and no model is asked.

It is begun when its broadcast has a reader, not before: until then it holds no slot. It takes those of its
tool and no permit of a model. Nothing is shown before its first piece is there, so until then the usual way
is open.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import msgspec

from processing.caller import Caller
from processing.preparer import DirectFailed, Prompt, Turn
from processing.tools.asked import Call
from processing.tools.places import Places
from processing.tools.results import Result, Status, ToolFailed, as_text
from processing.tools.running import cancelled
from processing.tools.tool import Tool
from processing.tools.toolbox import Toolbox
from processing.twins import Company
from runtime.errors import StreamTimeout, UpstreamTruncated
from upstream.chunk import Chunk, parse_chunk

#: No model was asked.
NOTHING: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class DirectAnswer:
    """One call of a tool as an answer. `otherwise` is the prompt for when it fails, which tells of the
    failure.
    """

    def __init__(self, toolbox: Toolbox, tool: Tool, call: Call, caller: Caller, otherwise: Prompt) -> None:
        self._executor = toolbox.executor(tool.name)
        self._tool = tool
        self._call = call
        self._caller = caller
        self.otherwise = otherwise

    def __repr__(self) -> str:
        return f"<DirectAnswer {self._tool.name}>"

    @asynccontextmanager
    async def stream(self, turn: Turn) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        """Yields an iterator over lists of chunks, which ends only if the answer is complete.

        The same shape as `ModelClient.stream`. Raises DirectFailed on entering, and a GatewayError while
        iterating.
        """
        try:
            arguments = self._tool.reader.read(self._call.arguments)
        except Exception as why:
            raise DirectFailed(f"{self._tool.name} was not run") from why
        values = self._executor.values(arguments, self._caller)
        company, places = Company(), Places()
        company.enter(turn)
        asked = asyncio.get_running_loop().time()
        with places.stand_in(turn), places.kept(company):
            async with self._executor.limits.lease(company), self._told(values, asked) as pieces:
                yield pieces

    @asynccontextmanager
    async def _told(
        self, values: Mapping[str, Any], asked: float
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        """Its time runs from here on. How it ends is told, once."""
        events, name = self._executor.events, self._tool.name
        loop = asyncio.get_running_loop()
        began = loop.time()
        events.invoked(name)
        events.started(name, 1, began - asked)
        status = Status.FAILED
        try:
            async with aclosing(self._tool.function(**values)) as pieces:
                answer = _Answer(self._tool, pieces, began + self._tool.options.timeout_s)
                try:
                    await answer.first()
                    yield answer.chunks(self.otherwise.body.get("model"))
                    status = Status.OK if answer.complete else Status.FAILED
                except StreamTimeout:
                    status = Status.TIMED_OUT
                    raise
                except asyncio.CancelledError:
                    status = Status.CANCELLED
                    raise
        finally:
            events.ended(name, Result(name, status, tries=1, ran_s=loop.time() - began))


class _Answer:
    """The pieces, within their time."""

    def __init__(self, tool: Tool, pieces: AsyncIterator[str], until: float) -> None:
        self._tool = tool
        self._pieces = pieces
        self._until = until
        self._first = ""
        self.complete = False

    async def first(self) -> None:
        """Raises DirectFailed if there is none."""
        try:
            while not self._first:
                self._first = await self._next()
        except Exception as error:  # its end too
            raise DirectFailed(f"{self._tool.name} gave no answer") from error

    async def chunks(self, model: str | None) -> AsyncIterator[list[Chunk]]:
        top = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        yield [_chunk(top, {"role": "assistant", "content": ""}), _chunk(top, {"content": self._first})]
        while (piece := await self._piece()) is not None:
            if piece:
                yield [_chunk(top, {"content": piece})]
        self.complete = True
        spent = parse_chunk(msgspec.json.encode({**top, "choices": [], "usage": NOTHING}))
        yield [_chunk(top, {}, "stop"), spent]

    async def _piece(self) -> str | None:
        try:
            return await self._next()
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise StreamTimeout(f"The tool {self._tool.name} took too long.") from None
        except Exception as error:
            raise UpstreamTruncated(f"The tool {self._tool.name} failed before its answer's end.") from error

    async def _next(self) -> str:
        try:
            async with asyncio.timeout_at(self._until):
                return as_text(await anext(self._pieces))
        except asyncio.CancelledError:
            if cancelled():
                raise
            raise ToolFailed("it was cancelled by itself") from None
        except (SystemExit, KeyboardInterrupt) as error:
            raise ToolFailed(type(error).__name__) from None


def _chunk(top: Mapping[str, Any], delta: Mapping[str, Any], finish_reason: str | None = None) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return parse_chunk(msgspec.json.encode({**top, "choices": [choice]}))
