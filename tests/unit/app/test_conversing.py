"""What a process of several does before a turn leaves its line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.conversing import TOLD_S, Conversing

pytestmark = pytest.mark.anyio


class Known:
    """Writes down what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float]] = []

    async def admitted(self, record: Any, timeout_s: float) -> None:
        self.asked.append(("admitted", record.ticket.id, timeout_s))

    async def told(self, id: str, timeout_s: float) -> None:
        self.asked.append(("told", id, timeout_s))


@pytest.mark.parametrize("known", [False, True])
async def test_its_end_is_heard_before_it_is_kept(known: bool) -> None:
    """Others may have been told that it is cancelled; who was never known is made known first."""
    heard = Known()
    process: Any = SimpleNamespace(_sharing=SimpleNamespace(known=heard))
    record: Any = SimpleNamespace(known=known, ticket=SimpleNamespace(id="chat_1"))
    await Conversing._told(process, record)
    assert heard.asked == [("admitted", "chat_1", TOLD_S)] * (not known) + [("told", "chat_1", TOLD_S)]
