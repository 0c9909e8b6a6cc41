"""The whole examination: all parts side by side, each bounded, whatever hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from app.doctor import embedded, redis, upstream
from app.doctor.finding import Finding, failed
from app.doctor.host import gateway, settings_findings
from config.settings import Settings

#: For one part; each of its looks has its own bound, which is shorter.
PART_S: Final = 18.0


async def examine(settings: Settings, tokens: int | None = None) -> list[Finding]:
    """Every finding, in the order of the report. `tokens`: length of the one completion; None for none."""
    if settings.redis_url is not None:
        store = _part("redis.reach", redis.examine(settings.redis_url.get_secret_value()))
    else:
        store = _part("embedded.instance", embedded.examine(settings.port))
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(_part("gateway.port", _gateway(settings))),
            group.create_task(store),
            group.create_task(_part("upstream.reach", upstream.examine(settings, tokens))),
        ]
    return [*settings_findings(settings), *(finding for part in parts for finding in part.result())]


async def _gateway(settings: Settings) -> list[Finding]:
    return [await gateway(settings.host, settings.port)]


async def _part(check: str, looking: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(PART_S):
            return await looking
    except TimeoutError:
        says = f"It was given up after {PART_S:g} s: too much of it hangs."
        return [failed(check, says, "Look at it by itself, for instance with redis-cli or curl.")]
