"""The upstream calls of one broadcast: a slot, a stream into the log, and another try if that is allowed.

The permit is held from just before the call until the upstream's stream is closed, and never during
a back-off. A call may be made again only while its answer has no delta: never a splice of two answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from admission import Admission, Stage
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase, Signal
from processing.account import beside
from processing.preparer import Prompt
from runtime.errors import GatewayError, UpstreamBadResponse, UpstreamError, UpstreamRateLimited
from upstream.chunk import Chunk
from upstream.client import ModelClient
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

    async def run(self, broadcast: Broadcast[Chunk], prompt: Prompt) -> None:
        """From QUEUED, with a place before the stage or in a back-off without one, to SEALED or FAILED.

        Cancelled when the broadcast is deserted or abandoned. The back-off is the broadcast's, not this
        task's: a reader that comes back in the middle of it does not cut it short.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                if broadcast.admission is None:
                    await asyncio.sleep(max(0.0, broadcast.not_before - loop.time()))
                    broadcast.admission = self._llm_streams.admit(broadcast)
                if not await self._attempt(broadcast, broadcast.admission, prompt):
                    return
        except GatewayError as error:
            broadcast.fail(error)
        except Exception:
            broadcast.fail(GatewayError())
            raise

    async def _attempt(self, broadcast: Broadcast[Chunk], admission: Admission, prompt: Prompt) -> bool:
        """One call under one permit; whether another is to follow."""
        async with admission as permit:
            broadcast.signal(Signal.SLOT_GRANTED)
            broadcast.attempts += 1
            if broadcast.attempts == 1:
                self._retry.note_call()
            try:
                async with self._client.stream(permit, prompt.body) as batches:
                    await self._read(broadcast, batches, prompt.preface)
                    # Said before the connection is put away: nobody waits for our housekeeping.
                    broadcast.complete()
                return False
            except UpstreamError as error:
                delay = self._delay(broadcast, error)
                broadcast.not_before = asyncio.get_running_loop().time() + delay
                broadcast.admission, broadcast.setback = None, error
                broadcast.signal(Signal.RETRY)
                # Nobody connected any more: it is idle again, and the next subscriber starts it.
                return broadcast.phase is Phase.QUEUED

    async def _read(
        self, broadcast: Broadcast[Chunk], batches: AsyncIterator[list[Chunk]], preface: tuple[Chunk, ...]
    ) -> None:
        """The stream into the log. What precedes the first delta (a role, say) waits for it.

        A call that fails before that is made again, and no reader may have seen a part of the first.
        """
        ahead: list[Chunk] | None = []
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
        if ahead:
            broadcast.append(ahead)

    def _delay(self, broadcast: Broadcast[Chunk], error: UpstreamError) -> float:
        """The back-off before another try; raises the error if there is to be none."""
        if isinstance(error, UpstreamRateLimited) and error.retry_after is not None:
            self._llm_streams.pause(min(error.retry_after, MAX_COOLDOWN_S))
        if broadcast.phase is not Phase.LIVE or broadcast.log.seq:
            raise error
        delay = self._retry.delay(error, broadcast.attempts)
        if delay is None or delay > self._slot_s:
            raise error
        return delay
