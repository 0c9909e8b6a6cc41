"""States of the two processes that a test waits for or asserts, and many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.eventually import eventually
from tests.system.client import Client, Reply
from tests.system.processes import GatewayProcess, SimulatorProcess, workers
from tests.system.prompts import digest_of

T = TypeVar("T")
Simulate = Callable[..., SimulatorProcess]
Start = Callable[..., GatewayProcess]

#: Where the requirement says "within a second": that second, and one for a machine that is busy.
SOON_S = 2.0
#: How long what one worker did may take to show through another. One process has no other.
LAG_S = SOON_S if workers() > 1 else 0.0


async def together(callers: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run them all at once; their results in order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller) for caller in callers]
    return [task.result() for task in tasks]


def calls_of(simulator: SimulatorProcess, question: str) -> int:
    """How often the model was asked exactly this, with nothing added by preparation."""
    calls: int = simulator.stats()["calls_by_prompt"].get(digest_of(question), 0)
    return calls


def hook_of(simulator: SimulatorProcess) -> str:
    return simulator.url + "/prepare"


def embedded_socket(runtime_dir: str) -> str:
    """Where the embedded Redis of the one gateway with that XDG_RUNTIME_DIR listens."""
    (socket,) = Path(runtime_dir).glob("*/*/redis.sock")
    return str(socket)


async def held(simulator: SimulatorProcess, name: str, count: int = 1) -> None:
    """Until exactly so many calls wait at that hold."""
    await eventually(lambda: simulator.stats()["holding"].get(name, 0) == count)


async def filled(gateway: GatewayProcess, stage: str, in_use: int, waiting: int) -> None:
    """Until the stage shows exactly this."""

    def seen() -> bool:
        now = gateway.stage(stage)
        return bool((now["in_use"], now["waiting"]) == (in_use, waiting))

    try:
        await eventually(seen)
    except AssertionError:
        raise AssertionError((stage, in_use, waiting, gateway.get("/pipeline"))) from None


async def at_rest(gateway: GatewayProcess) -> None:
    """Nothing runs, waits or is held; and what was admitted was released (I3, I4)."""
    await eventually(gateway.at_rest)
    metrics = gateway.metrics()
    for stage in ("cache", "leaders", "followers", "llm_streams", "llm_calls"):
        name = f'{{stage="{stage}"}}'
        assert (
            metrics[f"refrain_stage_admitted_total{name}"] == metrics[f"refrain_stage_released_total{name}"]
        )
        assert metrics[f"refrain_permits_reclaimed_total{name}"] == 0


async def over(gateway: GatewayProcess) -> None:
    """Until what was read to its end through one worker has ended in all. Alone it ends before its `done`."""
    if workers() > 1:
        await eventually(lambda: not gateway.get("/pipeline")["totals"]["broadcasts"])


async def shown(client: Client, id: str, status: str) -> Any:
    """The record, and that it says this: at once in one process, else as soon as another one knows."""
    record = await (client.until_status(id, status) if workers() > 1 else client.record(id))
    assert record["status"] == status
    return record


async def accepted(client: Client, question: str, **fields: Any) -> Any:
    """Submit what must be admitted; the body of the 202."""
    reply: Reply = await client.submit(question, **fields)
    assert reply.status == 202, reply.body
    return reply.json
