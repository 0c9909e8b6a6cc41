"""What one request shows is the same through each worker, also after others have forgotten about it."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.prompts import answer_to
from tests.system.scene import Simulate, Start, accepted, embedded_socket

pytestmark = pytest.mark.anyio

TOKENS = 12


async def hit(client: Client, question: str) -> str:
    """The stream's URL of a cached answer; where it was made a moment ago it may still be followed."""
    while (submitted := await accepted(client, question))["role"] != "cached":
        continue
    return str(submitted["stream_url"])


@pytest.mark.parametrize("local", [0, 1 << 20])
async def test_a_hit_is_read_by_any_worker_when_its_answer_has_left_the_cache(
    simulate: Simulate, start: Start, local: int
) -> None:
    """Rows 10, 89: a TTL, an eviction or a purge ends hits, and takes no admitted request's text away."""
    simulator = simulate(ttft=0, tps=0, tokens=TOKENS)
    with TemporaryDirectory(prefix="rf-") as root:
        gateway = start(simulator, workers=3, LOCAL_CACHE_BYTES=local, XDG_RUNTIME_DIR=root)
        async with pinned(gateway, list(crew(gateway).values())) as clients:
            await clients[0].ask("Known by now")
            url = await hit(clients[1], "Known by now")
            with Redis(unix_socket_path=embedded_socket(root)) as redis:
                assert redis.delete(*redis.keys("g:*:c:*")) == 1
            streams = [await client.stream(url) for client in clients]
        assert [stream.status for stream in streams] == [200] * 3
        assert [stream.text for stream in streams] == [answer_to("Known by now", TOKENS)] * 3
        ids = [[event.id for event in stream.events if event.name == "delta"] for stream in streams]
        assert ids[0] == ids[1] == ids[2] != [], "one log, in which a resume goes on through any of them"
    assert simulator.stats()["calls"] == 1
