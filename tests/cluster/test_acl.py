"""docs/operations.md: a Redis user with exactly the commands that it names is enough for everything."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.purge import purge
from cache.targets import RedisTarget
from tests.cluster.conftest import Cluster
from tests.cluster.shared_answer import shared_answer
from tests.servers import standalone
from tests.system.scene import together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs/operations.md"
PASSWORD = "only-of-this-test"


async def test_the_documented_user_may_do_all_that_is_done(launch: Launch) -> None:
    """Lead, follow, cancel, read elsewhere, hit and purge; what is not on the list is refused."""
    (line,) = re.findall(r"^user refrain on >PASSWORD (.*)$", PAGE.read_text(), re.MULTILINE)
    with standalone() as redis, redis.client as admin:
        admin.execute_command("ACL", "SETUSER", "refrain", "on", f">{PASSWORD}", *line.split())
        url = f"redis://refrain:{PASSWORD}@127.0.0.1:{redis.port}"
        cluster = launch(2, url=url, MAX_CONCURRENT_LLM_STREAMS=1, LOCAL_CACHE_BYTES=0)
        await cluster.until_linked()
        async with shared_answer(cluster, "Allowed?", tokens=30) as shared:
            one, other = shared.clients
            waiting = (await one.submit("[[sim hold=never]] Cancelled?", request_id="once")).json
            again = (await other.submit("[[sim hold=never]] Cancelled?", request_id="once")).json
            assert again["id"] == waiting["id"]
            assert (await other.cancel(waiting["id"])).status == 200
            for client in shared.clients:
                assert (await client.record(waiting["id"]))["status"] == "cancelled"
        shared.all_exact()
        assert shared.calls == 1
        async with cluster.clients_of_all() as clients:
            hits = await together(client.ask(shared.question) for client in clients)
        assert [stream.end.json["cache"] for stream in hits] == ["hit", "hit"]
        await cluster.until_rest()
        for node in cluster.nodes:
            refused = [line for line in node.process.log if "refused" in line["message"]]
            assert refused == []
            assert PASSWORD not in node.process.output
        assert await purge(RedisTarget(url)) == 1
        assert admin.execute_command("ACL", "LOG") == []
