"""The operator's own preparation service: one POST, whose answer is the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from processing.preparer import Prompt, with_messages
from upstream.hook import PreparationHook


class HookStep:
    """Bounded by the caller's prepare timeout and by the leaders permits; aborted with the flight."""

    name = "hook"

    def __init__(self, hook: PreparationHook) -> None:
        self._hook = hook

    def applies(self, body: Mapping[str, Any]) -> bool:
        return True

    async def run(self, prompt: Prompt) -> Prompt:
        answer = await self._hook.prepare(prompt.body)
        prepared = with_messages(prompt, answer.messages, answer.model)
        return replace(prepared, store=prompt.store and answer.store, ttl_s=answer.ttl_s)
