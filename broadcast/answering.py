"""The upstream calls of one broadcast: a slot, a stream into the log, and another try if that is allowed.

The permit is held from just before the call until the upstream's stream is closed, and never during
a back-off. A call may be made again only while its answer has no delta: never a splice of two answers.
The same holds for another prompt in its place, which preparation may have provided for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import replace

from admission import Admission, Stage
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase, Signal
from processing.account import beside
from processing.preparer import Prompt
from runtime.errors import (
    GatewayError,
    StreamTimeout,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamRateLimited,
)
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.permit import LlmPermit
from upstream.retry import RetryPolicy

#: A Retry-After stops all grants for at most so long: one bad header must not close the gateway.
MAX_COOLDOWN_S = 30.0
#: An answer of more bytes than this is no answer any more, whatever may be cached.
RUNAWAY_BYTES = 256 * 1024 * 1024


class Answering:
    """Runs the upstream side of broadcasts. `slot_s` bounds a Retry-After that is worth waiting for."""

    def __init__(
        self,
        client: ModelClient,
        llm_streams: Stage,
        retry: RetryPolicy,
        *,
        slot_s: float,
        runaway_bytes: int = RUNAWAY_BYTES,
    ) -> None:
        self._client = client
        self._llm_streams = llm_streams
        self._retry = retry
        self._slot_s = slot_s
        self._runaway_bytes = runaway_bytes

    async def run(
        self, broadcast: Broadcast[Chunk], prompts: MutableMapping[Broadcast[Chunk], Prompt]
    ) -> None:
        """From QUEUED, with a place before the stage or in a back-off without one, to SEALED or FAILED.

        Cancelled when the broadcast is deserted or abandoned. The back-off is the broadcast's, not this
        task's, and so is the prompt that it has in `prompts`: a reader that comes back in the middle of it
        neither cuts it short nor begins with the first one again.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                if broadcast.admission is None:
                    await asyncio.sleep(max(0.0, broadcast.not_before - loop.time()))
                    broadcast.admission = self._llm_streams.admit(broadcast)
                if not await self._attempt(broadcast, broadcast.admission, prompts):
                    return
        except GatewayError as error:
            broadcast.fail(error)
        except Exception:
            broadcast.fail(GatewayError())
            raise

    async def _attempt(
        self,
        broadcast: Broadcast[Chunk],
        admission: Admission,
        prompts: MutableMapping[Broadcast[Chunk], Prompt],
    ) -> bool:
        """One call under one permit; whether another is to follow."""
        prompt = prompts[broadcast]
        async with admission as permit:
            broadcast.signal(Signal.SLOT_GRANTED)
            broadcast.attempts += 1
            if broadcast.attempts == 1:
                self._retry.note_call()
            try:
                await self._call(broadcast, permit, prompt)
                return False
            except UpstreamError as error:
                prompts[broadcast], delay = self._next(broadcast, error, prompt)
                broadcast.not_before = asyncio.get_running_loop().time() + delay
                broadcast.admission, broadcast.setback = None, error
                broadcast.signal(Signal.RETRY)
                # Nobody connected any more: it is idle again, and the next subscriber starts it.
                return broadcast.phase is Phase.QUEUED

    async def _call(self, broadcast: Broadcast[Chunk], permit: LlmPermit, prompt: Prompt) -> None:
        """To its end, within the prompt's own time if it has one. Raises an UpstreamError."""
        scope = asyncio.timeout(prompt.within_s)
        try:
            async with scope, self._client.stream(permit, prompt.body) as batches:
                await self._read(broadcast, batches, prompt)
                # Said before the connection is put away: nobody waits for our housekeeping.
                broadcast.complete()
        except TimeoutError:
            if not scope.expired():
                raise  # a fault of ours, that must not look like the model's
            raise StreamTimeout() from None

    async def _read(
        self, broadcast: Broadcast[Chunk], batches: AsyncIterator[list[Chunk]], prompt: Prompt
    ) -> None:
        """The stream into the log. What precedes the first delta (a role, say) waits for it.

        A call that fails before that is made again, and no reader may have seen a part of the first. An empty
        answer is one, unless there is something else that may be asked.
        """
        ahead: list[Chunk] | None = []
        preface = prompt.preface
        async for batch in batches:
            if preface:
                ahead, preface = beside(preface, batch[0]), ()
            if ahead is not None:
                ahead += batch
                if not any(chunk.content for chunk in batch):
                    continue
                batch, ahead = ahead, None
            broadcast.append(batch)
            if broadcast.log.size > self._runaway_bytes:
                raise UpstreamBadResponse("The model's answer is too large.")
        if ahead and prompt.otherwise is not None:
            raise UpstreamBadResponse("The model's answer was empty.")
        if ahead:
            broadcast.append(ahead)

    def _next(
        self, broadcast: Broadcast[Chunk], error: UpstreamError, prompt: Prompt
    ) -> tuple[Prompt, float]:
        """What is asked after the failure, and after which back-off; raises the error if nothing is."""
        paused_s = 0.0
        if isinstance(error, UpstreamRateLimited) and error.retry_after is not None:
            paused_s = min(error.retry_after, MAX_COOLDOWN_S)
            self._llm_streams.pause(paused_s)
        if broadcast.phase is not Phase.LIVE or broadcast.log.seq:
            raise error
        delay = self._retry.delay(error, broadcast.attempts)
        if delay is not None and delay <= self._slot_s:
            return prompt, delay
        if paused_s > self._slot_s:
            raise error  # another model would wait for the same slots, and in vain
        following = None if prompt.otherwise is None else prompt.otherwise(error)
        if following is None:
            raise error
        broadcast.attempts = 0
        instead, delay = following
        return replace(instead, asked=prompt.question), delay
