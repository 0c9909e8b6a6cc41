"""`refrain doctor` behind sentinels and on a cluster: the way of a gateway, and wrong addresses."""

from __future__ import annotations

import pytest

from app.doctor.finding import Finding, Level
from app.doctor.redis import examine
from tests.servers import cluster, sentinels, standalone

pytestmark = pytest.mark.anyio


async def look(url: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in await examine(url)}


def failures(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.says for check, finding in found.items() if finding.level is Level.FAILED}


async def test_behind_sentinels() -> None:
    """The primary is found and is well; a replica, a sentinel and an unknown service are named as such."""
    with sentinels() as (url, _, replica):
        well = await look(url)
        assert failures(well) == {}
        assert "sentinels" in well["redis.kind"].says
        assert set(failures(await look(replica.url))) == {"redis.role", "redis.commands"}
        unknown = failures(await look(url.replace("/main", "/other")))
        assert "No sentinel" in unknown["redis.reach"]
        one = url.replace("redis+sentinel", "redis").split(",")[0]
        assert list(failures(await look(one))) == ["redis.kind"]


# Of cache/targets.py, which names an option of redis-py there that is going away.
async def test_on_a_cluster() -> None:
    """Every node is judged; the address of one of them is not enough."""
    with cluster() as (url, nodes):
        well = await look(url)
        assert failures(well) == {}
        assert "3 primaries" in well["redis.role"].says
        wrong = failures(await look(nodes[0].url))
        assert list(wrong) == ["redis.kind"]
        with nodes[1].client as admin:
            admin.config_set("maxmemory-policy", "allkeys-lru")
        assert (await look(url))["redis.eviction"].level is Level.WARNING


async def test_one_server_is_no_cluster() -> None:
    """The other way round: the scheme says cluster, and there is none."""
    with standalone() as server:
        found = failures(await look(server.url.replace("redis:", "redis+cluster:")))
    assert "not a cluster" in found["redis.reach"]
