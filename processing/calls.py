"""Calls of the model during preparation: each under a permit of its own, and nothing held between two."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any

import msgspec

from admission import Stage
from processing.preparer import Turn
from runtime.errors import UpstreamError
from upstream.client import ModelClient
from upstream.fold import completion
from upstream.retry import RetryPolicy


class Reply(msgspec.Struct, frozen=True):
    """What the model said: `message` as a chat message, whose text may be empty; `usage` if it told."""

    message: dict[str, Any]
    finish_reason: str | None
    usage: dict[str, Any] | None

    @property
    def text(self) -> str:
        return str(self.message.get("content") or "")


class ModelCalls:
    """A step's only way to the model. Takes `llm_calls` per call; holds nothing during a back-off."""

    def __init__(
        self, client: ModelClient, llm_calls: Stage, retry: RetryPolicy, *, patience_s: float
    ) -> None:
        """`patience_s`: a longer Retry-After is not worth waiting for."""
        self._client = client
        self._llm_calls = llm_calls
        self._retry = retry
        self._patience_s = patience_s

    async def ask(self, turn: Turn, body: Mapping[str, Any]) -> Reply:
        """One answer, in the place that `turn` has now. Raises an UpstreamError when tries are over."""
        self._retry.note_call()
        for attempt in count(1):
            try:
                return await self._once(turn, body)
            except UpstreamError as error:
                delay = self._retry.delay(error, attempt)
                if delay is None or delay > self._patience_s:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _once(self, turn: Turn, body: Mapping[str, Any]) -> Reply:
        admission = turn.admission = self._llm_calls.admit(turn)
        async with admission as permit, self._client.stream(permit, body) as batches:
            chunks = [chunk async for batch in batches for chunk in batch]
        answer = msgspec.json.decode(completion(chunks))
        choice = answer["choices"][0] if answer["choices"] else {}
        return Reply(choice.get("message") or {}, choice.get("finish_reason"), answer.get("usage"))
