"""Places in a queue, as records tell them: through its own worker at once, through another a moment later."""

from __future__ import annotations

from typing import Any

from tests.fakes.eventually import eventually
from tests.system.client import Client


async def positions(client: Client, chats: list[Any]) -> list[int | None]:
    return [(await client.record(chat["id"]))["queue_position"] for chat in chats]


async def placed(client: Client, chats: list[Any], places: list[int | None]) -> None:
    """Until the records say so."""

    async def seen() -> bool:
        return await positions(client, chats) == places

    await eventually(seen)
