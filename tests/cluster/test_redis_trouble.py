"""Redis restarts, forgets, fills up, falls silent or lies, under an answer that two gateways serve."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cluster.conftest import LEASE_S, Cluster
from tests.cluster.shared_answer import SharedAnswer, shared_answer
from tests.faults import Mode
from tests.servers import RedisServer
from tests.system.prompts import answer_to, prompt
from tests.system.scene import calls_of, together

Launch = Callable[..., Cluster]
pytestmark = pytest.mark.anyio

#: The design's bound: everything as before, so long after Redis is back.
BACK_S = 10.0


async def shares_again(shared: SharedAnswer, words: str) -> None:
    """Two gateways are one again: a new question costs one call, whoever is asked."""
    async with asyncio.timeout(BACK_S):
        for number in range(1000):
            question = prompt(f"{words} again {number}?", ttft=0.2, tps=0, tokens=5)
            replies = await together(client.complete(question) for client in shared.clients)
            assert {reply.status for reply in replies} == {200}
            if calls_of(shared.cluster.simulator, question) == 1:
                return


async def test_redis_restarts_with_its_data(launch: Launch) -> None:
    """Cell: Redis restart, data kept: a pause, exact texts, one call."""
    with TemporaryDirectory(prefix="rf-") as folder:
        redis = RedisServer(
            Path(folder), None, "--appendonly", "yes", "--appendfsync", "always", "--save", ""
        )
        try:
            cluster = launch(2, url=redis.url)
            async with shared_answer(cluster, "Kept?") as shared:
                redis.kill()
                redis.start()
            shared.all_exact()
            assert (shared.calls, shared.resets) == (1, [0, 0])
            await cluster.until_rest()
        finally:
            redis.kill()


async def test_redis_restarts_empty(launch: Launch) -> None:
    """Cell: Redis restart, EMPTY: the leader seeds it again, same ids; a newcomer joins."""
    cluster = launch(3)
    assert cluster.redis is not None
    async with shared_answer(cluster, "Forgotten?", tokens=100) as shared:
        await asyncio.to_thread(cluster.redis.restart_empty)
        await cluster.until_linked()
        late = await shared.clients[2].ask(shared.question)
        assert late.text == shared.text
    shared.all_exact()
    assert (shared.calls, shared.resets) == (1, [0, 0])
    await cluster.until_rest()


async def test_everything_is_flushed(launch: Launch) -> None:
    """The same without a restart: nothing breaks but the memory."""
    cluster = launch(3)
    assert cluster.redis is not None
    async with shared_answer(cluster, "Flushed?", tokens=100) as shared:
        with cluster.redis.client as admin:
            for _ in range(5):
                admin.flushall()
                await asyncio.sleep(0.3)
        late = await shared.clients[2].ask(shared.question)
        assert late.text == shared.text
    shared.all_exact()
    assert (shared.calls, shared.resets) == (1, [0, 0])
    await cluster.until_rest()


async def test_a_leader_that_is_cut_off_is_replaced_and_gives_way(launch: Launch) -> None:
    """Cell: cut leader-Redis for two leases: its own clients are unharmed, those elsewhere get a reset and
    another whole text; afterwards both sides share again, and the cache has one of the two."""
    cluster = launch(2, faults=True)
    async with shared_answer(cluster, "Cut off?", tokens=140) as shared:
        faults = cluster.nodes[0].faults
        assert faults is not None
        faults.mode = Mode.BLACKHOLE
        await asyncio.sleep(2 * LEASE_S)
        faults.mode = Mode.PASS
    shared.all_exact()
    assert (shared.calls, shared.resets) == (2, [0, 1])
    async with cluster.clients_of_all() as clients:
        for client in clients:
            again = await client.ask(shared.question)
            assert (again.text, again.end.json["cache"]) in [(shared.text, "hit"), (shared.text, "coalesced")]
    assert shared.calls == 2
    await cluster.until_rest()


async def test_a_follower_that_is_cut_off_for_a_moment_gets_the_rest(launch: Launch) -> None:
    """Cell: cut follower-Redis: pings meanwhile; the bytes are exact after its return."""
    cluster = launch(2, faults=True)
    async with shared_answer(cluster, "Behind?", tokens=80) as shared:
        faults = cluster.nodes[1].faults
        assert faults is not None
        faults.mode = Mode.REFUSE
        faults.cut()
        await asyncio.sleep(LEASE_S / 2)
        faults.mode = Mode.PASS
    shared.all_exact()
    assert (shared.calls, shared.resets) == (1, [0, 0])
    await cluster.until_rest()


async def test_without_redis_each_gateway_serves_alone(launch: Launch) -> None:
    """Row 14: submits go their normal way, readiness says degraded; back within ten seconds of its return."""
    cluster = launch(2)
    assert cluster.redis is not None
    async with shared_answer(cluster, "Alone?", tokens=60) as shared:
        cluster.redis.kill()
        for number, client in enumerate(shared.clients):
            question = prompt(f"Meanwhile {number}?", ttft=0.0, tps=0, tokens=5)
            assert (await client.ask(question)).text == answer_to(question, 5)
            twins = await together(client.complete(prompt(f"Twins {number}?", ttft=0.3)) for _ in range(5))
            assert {reply.status for reply in twins} == {200}
            ready = (await client.call("GET", "/readyz")).json
            assert (ready["status"], ready["components"]["redis"]) == ("degraded", "unreachable")
        cluster.redis.start()
        await shares_again(shared, "Alone")
    assert shared.streams[0].text == shared.text
    assert shared.streams[0].end.name == "done"
    assert shared.streams[1].text in (shared.text, "") or shared.text.startswith(shared.streams[1].text)
    assert len(shared.streams[1].terminals) == 1
    await cluster.until_rest()


async def test_a_hung_redis_is_survived(launch: Launch) -> None:
    """SIGSTOP for less than a lease: it accepts and never answers. Then everything goes on as it was."""
    cluster = launch(2)
    assert cluster.redis is not None
    async with shared_answer(cluster, "Hung?", tokens=80) as shared:
        cluster.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S * 0.7)
        cluster.redis.signal(signal.SIGCONT)
        await shares_again(shared, "Hung")
    shared.all_exact()
    assert shared.calls <= 2
    await cluster.until_rest()


async def test_scripts_are_flushed_again_and_again(launch: Launch) -> None:
    """Cell: SCRIPT FLUSH: loaded again by whoever misses it, nobody notices."""
    cluster = launch(2)
    assert cluster.redis is not None
    with cluster.redis.client as admin:
        await _exact_under(cluster, "Scripts?", lambda: asyncio.to_thread(admin.script_flush))


async def test_connections_are_killed_again_and_again(launch: Launch) -> None:
    """CLIENT KILL of all that run commands, and of all that listen."""
    cluster = launch(2)
    assert cluster.redis is not None
    with cluster.redis.client as admin:

        def kill() -> None:
            admin.client_kill_filter(_type="normal", skipme=True)
            admin.client_kill_filter(_type="pubsub")

        await _exact_under(cluster, "Killed?", lambda: asyncio.to_thread(kill))


async def test_flights_and_logs_are_evicted(launch: Launch) -> None:
    """Cell: eviction of m or s, at any moment: seeded again, with the same ids."""
    cluster = launch(2)
    assert cluster.redis is not None
    with cluster.redis.client as admin:
        kinds = iter("ms" * 100)

        def evict() -> None:
            for name in admin.keys(f"g:*:{next(kinds)}:*"):
                admin.delete(name)

        await _exact_under(cluster, "Evicted?", lambda: asyncio.to_thread(evict))


async def _exact_under(cluster: Cluster, words: str, act: Callable[[], Awaitable[object]]) -> None:
    """`act` ten times within one answer: exact texts, one call, no reset."""
    async with shared_answer(cluster, words, tokens=80) as shared:
        for _ in range(10):
            await act()
            await asyncio.sleep(0.2)
    shared.all_exact()
    assert (shared.calls, shared.resets) == (1, [0, 0])
    await cluster.until_rest()


async def test_pushes_that_are_lost_cost_a_beat_and_nothing_else(launch: Launch) -> None:
    """Cell: poisoned pub/sub: connected and silent on every node; answers and slots go on by the beat."""
    cluster = launch(2, faults=True, MAX_CONCURRENT_LLM_STREAMS=2)
    for node in cluster.nodes:
        assert node.faults is not None
        node.faults.mode = Mode.DEAF
    async with cluster.clients_of_all() as clients:
        questions = [prompt(f"Deaf {number}?", ttft=0.1, tps=100, tokens=20) for number in range(8)]
        asked = await together(clients[at % 2].submit(question) for at, question in enumerate(questions))
        streams = await together(
            clients[(at + 1) % 2].stream(reply.json["stream_url"]) for at, reply in enumerate(asked)
        )
    assert [stream.text for stream in streams] == [answer_to(question, 20) for question in questions]
    assert cluster.simulator.stats()["peak"] == 2
    await cluster.until_rest()


async def test_a_redis_a_tenth_of_a_second_away_still_makes_one_of_two(launch: Launch) -> None:
    """100 ms each way: a look-up is a miss in time, and identical questions cost a second call at most;
    every text is exact."""
    cluster = launch(2, faults=True)
    for node in cluster.nodes:
        assert node.faults is not None
        node.faults.delay_s = 0.1
        node.faults.mode = Mode.DELAY
    async with cluster.clients_of_all() as clients:
        for number in range(5):
            question = prompt(f"Far {number}?", ttft=1.0, tps=50, tokens=30)
            streams = await together(client.ask(question) for client in clients)
            assert {stream.text for stream in streams} == {answer_to(question, 30)}
            assert calls_of(cluster.simulator, question) <= 2
    await cluster.until_rest()


async def test_a_full_redis_lets_everybody_finish(launch: Launch) -> None:
    """Cell: maxmemory, noeviction: the leader's client gets all, the follower's all or one retryable end;
    nothing is left behind when there is room again."""
    cluster = launch(2)
    assert cluster.redis is not None
    with cluster.redis.client as admin:
        async with shared_answer(cluster, "Full?", tokens=60) as shared:
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", "1")
            lone = prompt("Full and new?", ttft=0.0, tps=0, tokens=5)
            assert [(await client.ask(lone)).text for client in shared.clients] == [answer_to(lone, 5)] * 2
            admin.config_set("maxmemory", "0")
            await shares_again(shared, "Full")
        assert shared.streams[0].text == shared.text
        assert _honest(shared.streams[1].text, shared)
    await cluster.until_rest()


def _honest(text: str, shared: SharedAnswer) -> bool:
    """A prefix of the one text, with one end."""
    end = shared.streams[1].end
    whole = end.name == "done" and text == shared.text
    return whole or (end.name == "failed" and end.json["retryable"] and shared.text.startswith(text))


async def test_waiting_flights_are_promoted_from_the_cache(launch: Launch) -> None:
    """Rows 56 and 57: two gateways admitted the same keys while Redis was cut, one leader permit each. When
    the first answers land, the other's waiting flights are served from the cache; none is lost."""
    cluster = launch(2, hook=True, MAX_CONCURRENT_LEADERS=1)
    assert cluster.redis is not None
    questions = [prompt(f"Promote {number}?", ttft=0.0, tps=0, tokens=5) for number in range(20)]
    async with cluster.clients_of_all() as (one, other):
        cluster.redis.kill()
        first = await together(one.submit(question) for question in questions)
        blocker = await other.submit(prompt("In front?", prepare_hold="front"))
        second = await together(other.submit(question) for question in questions)
        assert {reply.json["role"] for reply in (*first, blocker, *second)} == {"leader"}
        cluster.redis.start()
        answered = await together(one.stream(reply.json["stream_url"]) for reply in first)
        promoted = await together(other.stream(reply.json["stream_url"]) for reply in second)
        assert (await other.cancel(blocker.json["id"])).status == 200
    assert [stream.end.name for stream in (*answered, *promoted)] == ["done"] * 40
    texts = [stream.text for stream in answered]
    assert [stream.text for stream in promoted] == texts
    assert len(set(texts)) == len(questions)
    assert cluster.simulator.stats()["calls"] == len(questions)
    await cluster.until_rest()
