"""Calls of the model during preparation: each under a permit of its own, and nothing held between two.

Who asks the same at the same time shares one call, but only with others of its kind: a call of the
preparation never joins a flight, which may itself be waiting for what this one holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any, Final, cast

import msgspec

from admission import Admission, Stage
from processing.preparer import Turn
from processing.twins import Spawn, Twins
from runtime.errors import UpstreamError
from upstream.client import ModelClient
from upstream.fold import completion
from upstream.retry import RetryPolicy

_SORTED: Final = msgspec.json.Encoder(order="sorted")


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
        self, client: ModelClient, llm_calls: Stage, retry: RetryPolicy, spawn: Spawn, *, patience_s: float
    ) -> None:
        """`patience_s`: a longer Retry-After is not worth waiting for. `spawn` is the Supervisor's."""
        self._client = client
        self._llm_calls = llm_calls
        self._retry = retry
        self._patience_s = patience_s
        self._twins: Twins[Reply] = Twins(spawn, "llm call")

    @property
    def joins(self) -> int:
        """How many calls were saved, because another had asked the same."""
        return self._twins.joins

    async def ask(self, turn: Turn, body: Mapping[str, Any], scope: str) -> Reply:
        """One answer, in the place that `turn` has now, shared within `scope`.

        Raises an UpstreamError when tries are over.
        """
        place = self._twins.join(
            (scope, _SORTED.encode(body)), turn, lambda company: self._tried(company, body)
        )
        try:
            turn.admission = cast(Admission, place.company)
        except BaseException:
            await place.leave()
            raise
        try:
            return await place.result()
        except asyncio.CancelledError:
            place.shun()  # whose time was over must not be sent back to the same call by its next try
            raise

    async def _tried(self, turn: Turn, body: Mapping[str, Any]) -> Reply:
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
