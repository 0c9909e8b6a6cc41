"""One planning call before the answer: the plan becomes a system message of the prompt."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from admission import Stage
from processing.preparer import Prompt, with_messages
from runtime.errors import UpstreamError
from upstream.client import ModelClient
from upstream.retry import RetryPolicy

INSTRUCTION = (
    "Write a short plan for answering the conversation: the steps to take, in order. Do not answer it."
)
PREFIX = "Plan for this answer:\n"


class PlanningStep:
    """Takes `llm_calls` per call; holds nothing during a back-off."""

    name = "planning"

    def __init__(
        self, model: str, client: ModelClient, llm_calls: Stage, retry: RetryPolicy, *, patience_s: float
    ) -> None:
        """`patience_s`: a longer Retry-After is not worth waiting for."""
        self._model = model
        self._client = client
        self._llm_calls = llm_calls
        self._retry = retry
        self._patience_s = patience_s

    async def run(self, prompt: Prompt) -> Prompt:
        messages: list[Any] = prompt.body["messages"]
        plan = await self._ask([{"role": "system", "content": INSTRUCTION}, *messages], prompt)
        return with_messages(prompt, [{"role": "system", "content": PREFIX + plan}, *messages])

    async def _ask(self, messages: list[Any], prompt: Prompt) -> str:
        body = {"model": self._model, "messages": messages}
        self._retry.note_call()
        for attempt in count(1):
            try:
                admission = prompt.turn.admission = self._llm_calls.admit(prompt.turn)
                async with admission as permit, self._client.stream(permit, body) as batches:
                    return "".join([chunk.text async for batch in batches for chunk in batch])
            except UpstreamError as error:
                delay = self._retry.delay(error, attempt)
                if delay is None or delay > self._patience_s:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")
