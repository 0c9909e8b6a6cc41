"""`refrain doctor` and real Redis servers: well, with less rights, far, deaf, silent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.doctor import embedded, redis_words
from app.doctor.finding import Finding, Level
from app.doctor.redis import examine
from cache.link import Link
from cache.processes import Processes
from cache.targets import RedisTarget
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import real_redis, supervised
from tests.faults import FaultProxy, Mode
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
PASSWORD = "s3cret-of-this-test"


@pytest.fixture(autouse=True)
def _near(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a PING takes on a busy machine is no verdict on anything; but 40 ms of a proxy's is far."""
    monkeypatch.setattr(redis_words, "FAR_MS", 40.0 if "delay" in request.node.name else 5_000.0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone("--maxmemory", "200mb", "--maxmemory-policy", "volatile-lfu") as running:
        yield running


async def look(url: str) -> dict[str, Finding]:
    """By check; none of them may be told twice, or tell the password."""
    found = await examine(url)
    assert len({finding.check for finding in found}) == len(found), found
    assert not any(PASSWORD in finding.line for finding in found)
    return {finding.check: finding for finding in found}


def levels(found: dict[str, Finding]) -> set[Level]:
    return {finding.level for finding in found.values()}


def user(server: RedisServer, *changes: str) -> str:
    """The address of the documented user, with these changes."""
    (rights,) = re.findall(r"^user refrain on >PASSWORD (.*)$", PAGE, re.MULTILINE)
    with server.client as admin:
        admin.execute_command("ACL", "SETUSER", "refrain", "reset", "on", f">{PASSWORD}", *rights.split())
        if changes:
            admin.execute_command("ACL", "SETUSER", "refrain", *changes)
    return server.url.replace("://", f"://refrain:{PASSWORD}@")


async def test_a_server_as_documented_is_well_in_every_way(server: RedisServer) -> None:
    """Nothing to warn about, nothing skipped, and nothing is left behind."""
    found = await look(server.url)
    assert levels(found) == {Level.OK}, found
    assert {
        "redis.version", "redis.eviction", "redis.memory", "redis.persistence", "redis.latency", "redis.kind",
        "redis.role", "redis.commands", "redis.scripts", "redis.pubsub", "redis.clock", "redis.processes",
    } < set(found)  # fmt: skip
    with server.client as admin:
        assert admin.keys("*") == []


async def test_the_documented_user_is_enough_and_sees_less(server: RedisServer) -> None:
    """docs/operations.md: it may run all that is needed, but not INFO, so four verdicts are left open."""
    found = await look(user(server))
    assert levels(found) == {Level.OK, Level.SKIPPED}, found
    skipped = {check for check, finding in found.items() if finding.level is Level.SKIPPED}
    assert skipped == {"redis.version", "redis.eviction", "redis.memory", "redis.persistence"}


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        (("-xadd",), "redis.commands", "may not run: xadd."),
        (("-evalsha",), "redis.scripts", "does not let this user"),
        (("-subscribe",), "redis.pubsub", "does not let this user"),
        (("resetchannels",), "redis.commands", "may not run: publish."),
        (("resetkeys", "~other:*"), "redis.commands", "begin with g:"),
        (("-ping",), "redis.reach", "does not let this user"),
        ((">another", f"<{PASSWORD}"), "redis.reach", "password"),
    ],
)
async def test_each_missing_right_is_named(
    server: RedisServer, changes: tuple[str, ...], check: str, words: str
) -> None:
    """What the administrator has to add stands in the line."""
    found = await look(user(server, *changes))
    assert found[check].level is Level.FAILED
    assert words in found[check].says


async def test_living_processes_are_counted(server: RedisServer) -> None:
    """A link that says it lives is one."""
    async with supervised() as supervisor:
        link = Link(RedisTarget(server.url), "0123456789abcdef")
        link.start(supervisor)
        try:
            await eventually(lambda: link.up)
            await Processes(link, 15.0).beat()
            assert "1 gateway process is alive" in (await look(server.url))["redis.processes"].says
        finally:
            await link.close()
    with server.client as admin:
        admin.flushall()


@pytest.mark.parametrize(
    ("mode", "check", "words"),
    [
        (Mode.DEAF, "redis.pubsub", "did not come back"),
        (Mode.REFUSE, "redis.reach", "broke the connection"),
        (Mode.BLACKHOLE, "redis.reach", "did not answer within 5 s"),
        (Mode.DELAY, "redis.latency", "same zone"),
    ],
)
async def test_what_stands_between_is_found(server: RedisServer, mode: Mode, check: str, words: str) -> None:
    """The same server behind a proxy that fails: the line says which step does."""
    with FaultProxy(server.port) as proxy:
        proxy.mode, proxy.delay_s = mode, 0.02
        finding = (await look(f"redis://127.0.0.1:{proxy.port}"))[check]
    assert finding.level is not Level.OK
    assert words in f"{finding.says} {finding.do}"


async def test_a_server_that_stops_answering_ends_the_visit() -> None:
    """Each look would wait as long again: the first that hangs is the last."""
    with standalone() as server, FaultProxy(server.port) as proxy:
        visit_url = f"redis://127.0.0.1:{proxy.port}"
        proxy.reset_after = 200  # enough for the PINGs, not for INFO
        found = await look(visit_url)
    assert found["redis.reach"].level is Level.OK
    assert list(found.values())[-1].level is Level.FAILED
    assert "redis.processes" not in found


async def test_what_a_default_server_lacks_is_told() -> None:
    """No limit of its memory, a policy that evicts everything, a log on disk, writes refused."""
    with standalone("--maxmemory-policy", "allkeys-lru", "--appendonly", "yes") as server:
        found = await look(server.url)
        assert found["redis.eviction"].level is found["redis.memory"].level is Level.WARNING
        assert "log to disk" in found["redis.persistence"].says
        with server.client as admin:
            admin.replicaof("127.0.0.1", "1")
        found = await look(server.url)
        assert found["redis.role"].level is found["redis.commands"].level is Level.FAILED


async def test_an_embedded_server_is_found_by_its_port() -> None:
    """The instance that runs is asked; here it is called `test`, so another port has none."""
    async with supervised() as supervisor, real_redis(supervisor) as redis:
        assert redis.socket_path is not None
        root = redis.socket_path.parents[2]
        found = {finding.check: finding for finding in await embedded.examine(8484, root)}
        assert {finding.level for finding in found.values()} == {Level.OK}
        assert "No instance on port 8484" in found["embedded.instance"].says
        found_by_name = await embedded.instance(root, "test")  # type: ignore[arg-type]
        assert "runs one, and it answers" in found_by_name.says
