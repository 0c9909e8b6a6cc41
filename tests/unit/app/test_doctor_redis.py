"""What `refrain doctor` makes of what a Redis says: each verdict from its measurement, without a server."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import OutOfMemoryError as Full

from app.doctor import redis_words, server
from app.doctor.finding import Finding, Level
from app.doctor.rights import COMMANDS, Rights, judged
from cache.errors import StoreDown

pytestmark = pytest.mark.anyio

OK, WARNING, FAILED = Level.OK, Level.WARNING, Level.FAILED
MIB = 1 << 20


def told(finding: Finding, level: Level, words: str) -> None:
    assert finding.level is level, finding
    assert words in finding.says + " " + finding.do
    assert finding.says.endswith(".")
    assert level in (OK, Level.SKIPPED) or finding.do


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({"redis_version": "7.0.15"}, OK, "Redis 7.0.15"),
        ({"redis_version": "6.2.0"}, OK, "6.2.0"),
        ({"redis_version": "6.0.16"}, FAILED, "older than 6.2"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0", "server_name": "valkey"}, OK, "Valkey 8.1.0"),
        ({}, WARNING, "does not say"),
    ],
)
def test_the_version(info: dict[str, str], level: Level, words: str) -> None:
    """Below 6.2 the scripts do not run."""
    told(server.version(info), level, words)


@pytest.mark.parametrize(
    ("policy", "level", "words"),
    [
        ("volatile-lfu", OK, "only what has a TTL"),
        ("volatile-ttl", OK, "only what has a TTL"),
        ("noeviction", OK, "nothing is shared"),
        ("allkeys-lru", WARNING, "volatile-lfu"),
        ("", WARNING, "does not say"),
    ],
)
def test_the_eviction_policy(policy: str, level: Level, words: str) -> None:
    """allkeys-* evicts the epochs, and questions wait for that."""
    told(server.eviction({"maxmemory_policy": policy}), level, words)


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({"maxmemory": 0, "used_memory": MIB}, WARNING, "no limit"),
        ({"maxmemory": 1 << 30, "used_memory": MIB}, OK, "1 MiB of 1,024 MiB"),
        (
            {"maxmemory": 10 * MIB, "used_memory": 9 * MIB, "maxmemory_policy": "noeviction"},
            WARNING,
            "not be cached",
        ),
        ({"maxmemory": 10 * MIB, "used_memory": 9 * MIB, "maxmemory_policy": "volatile-lfu"}, OK, "are used"),
    ],
)
def test_the_memory(info: dict[str, Any], level: Level, words: str) -> None:
    """Without a limit the cache takes what the machine has; full is fine where something is evicted."""
    told(server.memory(info, 2 * MIB), level, words)


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "ok"}, OK, "needed only if"),
        ({"aof_enabled": 1}, OK, "outlive its restart"),
        ({"rdb_last_bgsave_status": "err"}, WARNING, "MISCONF"),
    ],
)
def test_persistence(info: dict[str, Any], level: Level, words: str) -> None:
    """Not needed; a failed snapshot makes a server refuse writes."""
    told(server.persistence(info), level, words)


@pytest.mark.parametrize(
    ("mode", "given", "words"),
    [
        ("cluster", "standalone", "redis+cluster://"),
        ("sentinel", "standalone", "redis+sentinel://…/SERVICE"),
        ("standalone", "cluster", "redis://"),
    ],
)
def test_an_address_of_the_wrong_kind_is_told(mode: str, given: str, words: str) -> None:
    """A cluster's node takes PINGs, and sends nearly every key elsewhere."""
    finding = server.mode_contradicts({"redis_mode": mode}, given)
    assert finding is not None
    told(finding, FAILED, words)


@pytest.mark.parametrize(
    ("mode", "given"), [("standalone", "standalone"), ("standalone", "sentinel"), ("cluster", "cluster")]
)
def test_an_address_of_the_right_kind_is_left_alone(mode: str, given: str) -> None:
    """What sentinels name is one server."""
    assert server.mode_contradicts({"redis_mode": mode}, given) is None


def test_a_replica_is_no_place_to_share() -> None:
    """It is read, and nothing is ever stored in it."""
    told(server.role({}, read_only=True), FAILED, "primary")
    told(server.role({"": {"role": "master"}}, read_only=False), OK, "writes are taken")
    nodes = {"a": {"role": "master"}, "b": {"role": "slave"}}
    told(server.role(nodes, read_only=False), OK, "1 primaries, 1 replicas")


@pytest.mark.parametrize(
    ("url", "level", "words"),
    [
        ("unix:///run/redis.sock", OK, "unix socket"),
        ("redis://127.0.0.1:6379", OK, "does not leave this machine"),
        ("redis://h", WARNING, "rediss://"),
        ("rediss://h", OK, "TLS"),
        ("redis+cluster://localhost:1,u:p@h2:2", WARNING, "h2"),
        ("rediss+sentinel://a,b/main", OK, "TLS"),
    ],
)
def test_what_can_be_read_on_the_way(url: str, level: Level, words: str) -> None:
    """The answers of all tenants go over this line."""
    told(redis_words.transport(url), level, words)


def test_every_host_of_an_address_is_found() -> None:
    """Each has to be looked up; credentials and queries are no part of it."""
    url = "redis+sentinel://u:p%40x@one,[::1]:7,three:9/main/2?sentinel_password=x"
    assert list(redis_words.hosts(url)) == [("one", 26379), ("::1", 7), ("three", 9)]
    assert list(redis_words.hosts("redis://")) == [("localhost", 6379)]
    assert list(redis_words.hosts("unix:///x")) == []


def test_a_far_redis_is_told() -> None:
    """Ten milliseconds is another zone."""
    told(redis_words.latency(10.0), OK, "10.0 ms")
    told(redis_words.latency(10.1), WARNING, "same zone")


@pytest.mark.parametrize(
    ("ahead", "level", "words"), [(0.9, OK, "900 ms"), (2, WARNING, "ahead of"), (-2, WARNING, "behind")]
)
def test_clocks_that_differ_are_told(ahead: float, level: Level, words: str) -> None:
    """Ages are told by wall time."""
    told(redis_words.clock(ahead), level, words)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "No gateway"), (1, "1 gateway process is"), (3, "3 gateway")]
)
def test_the_living_processes_are_counted(count: int, words: str) -> None:
    """Two where one was meant is a Redis that two installations share."""
    told(redis_words.processes(count), OK, words)


def test_of_several_nodes_the_worst_is_told() -> None:
    """One line per check, also of a cluster."""
    one, other = (
        server.eviction({"maxmemory_policy": "noeviction"}),
        server.eviction({"maxmemory_policy": "x"}),
    )
    assert redis_words.worst_of_each([one, other, one]) == [other]


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (AuthenticationError("WRONGPASS s3cret"), "refused the user name or the password"),
        (NoPermissionError("s3cret"), "does not let this user"),
        (BusyLoadingError("x"), "still loading"),
        (Full("x"), "full"),
        (TimeoutError(), "did not answer within 5 s"),
        (ConnectionRefusedError(111, "refused"), "nothing listens"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "not trusted"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "handshake"),
        (FileNotFoundError(2, "none"), "no socket"),
        (PermissionError(13, "denied"), "may not open"),
        (ConnectionResetError(104, "reset"), "broke the connection"),
        (OSError(113, "No route to host"), "No route to host"),
        (ConnectionError("redis://u:s3cret@h"), "did not go along (ConnectionError)"),
        (ResponseError("s3cret"), "did not go along (ResponseError)"),
    ],
)
def test_each_failure_is_told_from_the_others(cause: Exception, words: str) -> None:
    """As redis-py and RedisConnection wrap it; and none of their messages is shown."""
    error = StoreDown("ping: x")
    error.__cause__ = cause
    finding = redis_words.trouble("redis.reach", error, "redis://***@h:1")
    told(finding, FAILED, words)
    assert "s3cret" not in finding.line


class Server:
    """Answers each command, or raises what is said for its name."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.ran: list[str] = []

    async def execute_command(self, *words: str | int, **options: object) -> int:
        name = str(words[0]).lower()
        self.ran.append(name)
        if name in self.errors:
            raise self.errors[name]
        return 1


async def rights(**errors: Exception) -> tuple[Finding, Server]:
    fake = Server(**errors)
    return judged(await Rights().try_all(fake, "key", "channel", clustered=False)), fake


async def test_a_user_that_may_do_everything_is_told_so() -> None:
    """Errors that come after the permission are none: the key holds a value of another type."""
    finding, fake = await rights(hset=ResponseError("WRONGTYPE"), select=ResponseError("out of range"))
    told(finding, OK, f"all {len(COMMANDS)} commands")
    assert fake.ran == list(COMMANDS)


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"xadd": NoPermissionError("no permissions to run the 'xadd' command")}, "may not run: xadd."),
        ({"publish": NoPermissionError("no permissions to access a channel")}, "may not run: publish."),
        ({"get": NoPermissionError("access one of the keys used as arguments")}, "begin with g:"),
        ({"xadd": ResponseError("unknown command 'XADD', with args")}, "does not know: xadd."),
        ({"set": ReadOnlyError("READONLY")}, "takes no writes"),
    ],
)
async def test_what_a_user_may_not_do_is_named(errors: dict[str, Exception], words: str) -> None:
    """An administrator can mend what is named."""
    told((await rights(**errors))[0], FAILED, words)


async def test_nothing_is_left_behind_for_a_user_that_may_not_set() -> None:
    """Without the text at the key, a hash would be made there that has no TTL."""
    finding, fake = await rights(set=NoPermissionError("no permissions to run the 'set' command"))
    told(finding, FAILED, "was not tried")
    assert fake.ran == ["set"]
