"""What lies in Redis is not believed: whatever is wrong with an entry, it is a miss and never an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest
from redis import Redis

from cache.answer import SealedAnswer
from cache.codec import decode, encode
from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.prompts import answer_to
from tests.system.scene import Simulate, Start, at_rest, embedded_socket, over

pytestmark = pytest.mark.anyio

QUESTION = "What lies here?"
OTHER = "And what there?"
MAX_ENTRY = 64 * 1024


async def kept(redis: Redis, count: int) -> dict[str, bytes]:
    """As `entries`, once there are so many: `done` does not wait for the store."""
    await eventually(lambda: len(entries(redis)) == count)
    return entries(redis)


def entries(redis: Redis) -> dict[str, bytes]:
    """Every answer: its name in Redis → its value."""
    found: dict[str, bytes] = {}
    for name in redis.scan_iter(match="g:*:c:*"):
        value = redis.get(name)
        assert isinstance(value, bytes)
        found[name.decode()] = value
    return found


def sealed(name: str, value: bytes) -> SealedAnswer:
    answer = decode(value, name.rpartition(":")[2])
    assert answer is not None
    return answer


def rewritten(change: Callable[[SealedAnswer], SealedAnswer]) -> Callable[[str, bytes, bytes], bytes]:
    """An entry whose checksum is right and whose content is not."""
    return lambda name, value, foreign: encode(change(sealed(name, value)))


def flipped(place: float) -> Callable[[str, bytes, bytes], bytes]:
    def flip(name: str, value: bytes, foreign: bytes) -> bytes:
        at = int(place * (len(value) - 1))
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]

    return flip


#: (name in Redis, good value, value of another question) → what is put in its place.
DAMAGE: dict[str, Callable[[str, bytes, bytes], bytes]] = {
    "nothing": lambda name, value, foreign: b"",
    "one byte": lambda name, value, foreign: value[:1],
    "the head alone": lambda name, value, foreign: value[:24],
    "half": lambda name, value, foreign: value[: len(value) // 2],
    "all but a byte": lambda name, value, foreign: value[:-1],
    "a byte too many": lambda name, value, foreign: value + b"\n",
    "another version": lambda name, value, foreign: value[:3] + b"\x7f" + value[4:],
    "text": lambda name, value, foreign: b'{"answer": "forty-two"}',
    "a foreign answer": lambda name, value, foreign: foreign,
    "oversized": lambda name, value, foreign: value + b"x" * MAX_ENTRY,
    "oversized with a good checksum": rewritten(
        lambda answer: replace(answer, chunks=(*answer.chunks, b'{"choices":[]}' + b" " * MAX_ENTRY))
    ),
    "unreadable chunks": rewritten(lambda answer: replace(answer, chunks=(b"nonsense",))),
    "an error for a chunk": rewritten(
        lambda answer: replace(answer, chunks=(*answer.chunks, b'{"error":{"message":"no"}}'))
    ),
    "no chunks": rewritten(lambda answer: replace(answer, chunks=())),
    "no end": rewritten(lambda answer: replace(answer, chunks=answer.chunks[:3])),
    **{f"a flipped bit at {place:.0%}": flipped(place) for place in (0, 0.01, 0.03, 0.1, 0.5, 0.99, 1)},
}


async def test_a_damaged_entry_is_a_miss(simulate: Simulate, start: Start) -> None:
    """Issue part 4: truncated, flipped, foreign, oversized, of another type: one new call, then a hit."""
    simulator = simulate(ttft=0, tps=0)
    with TemporaryDirectory(prefix="rf-") as root:
        gateway = start(simulator, LOCAL_CACHE_BYTES=0, CACHE_MAX_ENTRY_BYTES=MAX_ENTRY, XDG_RUNTIME_DIR=root)
        redis = Redis(unix_socket_path=embedded_socket(root))
        async with Client(gateway.url) as client:
            await client.ask(OTHER)
            (foreign,) = (await kept(redis, 1)).values()
            await client.ask(QUESTION)
            ((name, good),) = ((n, v) for n, v in (await kept(redis, 2)).items() if v != foreign)
            calls = simulator.stats()["calls"]
            assert calls == 2

            async def found_as_new(kind: str) -> None:
                nonlocal calls
                damaged = None if kind == "another type" else redis.get(name)
                again = await client.ask(QUESTION)
                assert (again.end.name, again.text) == ("done", answer_to(QUESTION, 60)), kind
                assert again.end.json["cache"] == "miss", kind
                await over(gateway)
                assert simulator.stats()["calls"] == calls + 1, kind
                await eventually(lambda: redis.type(name) == b"string" and redis.get(name) != damaged)
                healed = await client.complete(QUESTION)
                assert "hit" in healed.headers["cache-status"], kind
                assert healed.json["choices"][0]["message"]["content"] == again.text
                calls += 1
                assert simulator.stats()["calls"] == calls, kind

            for kind, damage in DAMAGE.items():
                redis.set(name, damage(name, good, foreign), ex=600)
                await found_as_new(kind)
            redis.delete(name)
            redis.rpush(name, b"a", b"list")
            await found_as_new("another type")
            redis.flushall()
            await found_as_new("no entry")
            redis.close()
        assert gateway.get("/readyz")["components"]["redis"] == "ok", "damage is not an outage"
        await at_rest(gateway)
        assert gateway.stop() == 0


async def test_no_key_in_redis_is_for_ever(simulate: Simulate, start: Start) -> None:
    """I4 and I5: every key has a TTL, and no name tells the question or the tenant."""
    simulator = simulate(ttft=0, tps=0)
    with TemporaryDirectory(prefix="rf-") as root:
        gateway = start(
            simulator, XDG_RUNTIME_DIR=root, CACHE_TTL_S=700, API_KEYS="canary-tenant:canary-key-0001"
        )
        redis = Redis(unix_socket_path=embedded_socket(root))
        async with Client(gateway.url, "canary-key-0001") as client:
            await client.ask("the canary sings", user="canary-user")
        names = list(await kept(redis, 1))
        for name in names:
            assert "canary" not in name
            assert 0 < redis.ttl(name) <= 700
        redis.close()
        assert gateway.stop() == 0
