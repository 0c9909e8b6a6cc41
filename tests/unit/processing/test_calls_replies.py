"""What a call of the preparation makes of an odd reply: text, or none, and never an error of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes.model import FakeModel, finish, role
from tests.unit.processing.test_calls_budget import Calls
from tests.virtual_time import virtual
from upstream.chunk import Chunk, parse_chunk
from upstream.permit import LlmPermit


def choice(index: int, text: str) -> Chunk:
    return parse_chunk(json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode())


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([choice(1, "second"), choice(0, "first"), *finish()], "first"),
        ([role(), *finish()], ""),
        ([finish()[1]], ""),
        ([parse_chunk(b'{"choices":[{"index":0}]}')], ""),
    ],
    ids=["several choices", "no text", "no choice", "no message"],
)
def test_the_first_choice_is_the_reply(
    monkeypatch: pytest.MonkeyPatch, chunks: list[Chunk], text: str
) -> None:
    """A plan may be empty; it is not the word None, and not what another choice said."""

    @asynccontextmanager
    async def stream(
        self: FakeModel, permit: LlmPermit, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        async def batches() -> AsyncIterator[list[Chunk]]:
            yield chunks

        await asyncio.sleep(0)
        yield batches()

    monkeypatch.setattr(FakeModel, "stream", stream)

    @virtual
    async def asked() -> None:
        assert await Calls().ask() == text

    asked()
