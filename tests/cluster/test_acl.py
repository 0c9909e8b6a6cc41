"""docs/operations.md: a Redis user with exactly the commands that it names is enough for everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.cluster.conftest import Cluster
from tests.cluster.shared_answer import shared_answer
from tests.servers import RedisServer, cluster, sentinels
from tests.system.scene import together
from tests.system.test_purge import purge

Launch = Callable[..., Cluster]
Place = tuple[str, list[RedisServer]]
pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
PASSWORD = "only-of-this-test"


def rights() -> list[str]:
    (line,) = re.findall(r"^user refrain on >PASSWORD (.*)$", PAGE, re.MULTILINE)
    return str(line).split()


def as_user(url: str) -> str:
    return url.replace("://", f"://refrain:{PASSWORD}@", 1)


def allow(servers: list[RedisServer], *more: str) -> None:
    for server in servers:
        with server.client as admin:
            admin.execute_command("ACL", "SETUSER", "refrain", "on", f">{PASSWORD}", *rights(), *more)


@contextmanager
def documented() -> Iterator[Place]:
    """The server of deploy/kubernetes, with its configuration; but the test keeps the default user."""
    secrets = yaml.safe_load_all((ROOT / "deploy/kubernetes/secret.example").read_text())
    (conf,) = [each["stringData"]["redis.conf"] for each in secrets if "redis.conf" in each["stringData"]]
    with TemporaryDirectory(prefix="rf-") as folder:
        path = Path(folder) / "redis.conf"
        path.write_text(conf.replace("user default off\n", "").replace(">PASSWORD", f">{PASSWORD}"))
        server = RedisServer(Path(folder), None, str(path))
        try:
            yield as_user(server.url), [server]
        finally:
            server.kill()


@contextmanager
def watched() -> Iterator[Place]:
    with sentinels() as (url, primary, replica):
        allow([primary, replica])
        yield as_user(url), [primary, replica]


@contextmanager
def parted() -> Iterator[Place]:
    (more,) = re.findall(r"^A cluster needs `(\+cluster.*)` as well", PAGE, re.MULTILINE)
    with cluster() as (url, nodes):
        allow(nodes, *more.split())
        yield as_user(url), nodes


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(documented, id="one"),
        pytest.param(watched, id="sentinel", marks=pytest.mark.storm),
        pytest.param(parted, id="cluster", marks=pytest.mark.storm),
    ],
)
async def test_the_documented_user_may_do_all_that_is_done(
    place: Callable[[], AbstractContextManager[Place]], launch: Launch
) -> None:
    """Lead, follow, cancel, read elsewhere, hit and purge; what is not on the list is refused."""
    with place() as (url, servers):
        gateways = launch(2, url=url, MAX_CONCURRENT_LLM_STREAMS=1, LOCAL_CACHE_BYTES=0)
        await gateways.until_linked()
        await _all_that_is_done(gateways)
        for node in gateways.nodes:
            assert [line for line in node.process.log if "refused" in line["message"]] == []
            assert PASSWORD not in node.process.output
        assert purge(REDIS_URL=url).stdout.startswith("1 answers purged")
        for server in servers:
            with server.client as admin:
                assert admin.execute_command("ACL", "LOG") == []


async def _all_that_is_done(gateways: Cluster) -> None:
    async with shared_answer(gateways, "Allowed?", tokens=30) as shared:
        one, other = shared.clients
        waiting = (await one.submit("[[sim hold=never]] Cancelled?", request_id="once")).json
        again = (await other.submit("[[sim hold=never]] Cancelled?", request_id="once")).json
        assert again["id"] == waiting["id"]
        assert (await other.cancel(waiting["id"])).status == 200
        for client in shared.clients:
            assert (await client.record(waiting["id"]))["status"] == "cancelled"
    shared.all_exact()
    assert shared.calls == 1
    async with gateways.clients_of_all() as clients:
        hits = await together(client.ask(shared.question) for client in clients)
    assert [stream.end.json["cache"] for stream in hits] == ["hit", "hit"]
    await gateways.until_rest()


def test_the_documented_user_may_do_no_more() -> None:
    """A list that allowed everything would pass the test above as well."""
    with documented() as (url, _), Redis.from_url(url) as user:
        assert user.set("g:mine", "1")
        for command in ("FLUSHALL", "CONFIG GET maxmemory", "KEYS *", "ACL LIST", "SHUTDOWN", "GET other"):
            with pytest.raises(NoPermissionError):
                user.execute_command(*command.split())
