"""What is kept of a conversation: whose it is, how much, for how long, and what Redis in trouble changes."""

from __future__ import annotations

import asyncio
import tempfile

import pytest
from redis import Redis

from tests.fakes.eventually import eventually
from tests.servers import standalone
from tests.system.client import Client
from tests.system.processes import SimulatorProcess
from tests.system.prompts import prompt, saying
from tests.system.scene import Simulate, Start, at_rest, embedded_socket, held
from tests.system.talk import TOKENS, alone, answered, answers, history, idle, say, show
from upstream.simulator.answers import answer_tokens

pytestmark = pytest.mark.anyio

ACME, GLOBEX = "acme-key-1", "globex-key-2"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


async def test_what_runs_adds_nothing_to_what_was_deleted(simulator: SimulatorProcess, start: Start) -> None:
    """204, then 404; the turn that runs ends as it will and is not kept; the next begins anew."""
    gateway = start(simulator)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        await answered(client, "zero")
        first = await say(client, prompt("one", hold="gate"))
        reading = group.create_task(client.stream(first["stream_url"]))
        await held(simulator, "gate")
        assert (await client.call("DELETE", "/conversations/c")).status == 204
        seen = await history(client)
        assert (seen["turns"], seen["running"]) == ([], first["id"])
        simulator.release("gate")
        assert (await reading).text == answers("zero", prompt("one", hold="gate"))[1]
        await idle(client)
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            gone = await client.call(method, f"/conversations/c{path}")
            assert (gone.status, gone.error["code"]) == (404, "not_found")
        assert (await answered(client, "two")).text == alone("two")
    await at_rest(gateway)


async def test_a_conversation_is_its_tenants(simulator: SimulatorProcess, start: Start) -> None:
    """Row 12's spirit: the same name elsewhere is another one; what is foreign is unknown, word for word."""
    gateway = start(simulator, API_KEYS=f"acme:{ACME},globex:{GLOBEX}")
    async with Client(gateway.url, ACME) as mine, Client(gateway.url, GLOBEX) as theirs:
        await answered(mine, "one", "shared-name")
        await answered(mine, "secret", "only-mine")
        assert (await answered(theirs, "two", "shared-name")).text == alone("two")
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            foreign = await theirs.call(method, f"/conversations/only-mine{path}")
            unknown = await theirs.call(method, f"/conversations/no-such{path}")
            assert (foreign.status, foreign.body) == (unknown.status, unknown.body)
            assert foreign.status == 404
            async with Client(gateway.url) as nobody:
                refused = await nobody.call(method, f"/conversations/only-mine{path}")
            assert refused.status == 401
        assert len((await history(mine, "only-mine"))["turns"]) == 1
    await at_rest(gateway)


async def test_the_same_history_is_answered_once(simulator: SimulatorProcess, start: Start) -> None:
    """Two users with the same words in two conversations share answers; `cache: false` shares nothing."""
    gateway = start(simulator)
    async with Client(gateway.url) as client:
        for conversation in ("c", "d"):
            ends = [(await answered(client, question, conversation)).end for question in ("one", "two")]
        assert [end.json["cache"] for end in ends] == ["hit", "hit"]
        assert simulator.stats()["calls"] == 2
        stream = await answered(client, "one", "e", cache=False)
        assert stream.end.json["role"] == "leader"
        assert simulator.stats()["calls"] == 3
        refused = await client.submit("new", conversation_id="c", headers={"cache-control": "only-if-cached"})
        assert (refused.status, refused.error["code"]) == (504, "not_cached")
        await idle(client)
        assert len((await history(client))["turns"]) == 2
    await at_rest(gateway)


async def test_history_fits_into_the_models_window(simulator: SimulatorProcess, start: Start) -> None:
    """The model is asked with the latest whole turns; instructions and the question are always there."""
    gateway = start(simulator, CONTEXT_TOKENS=300)
    system = {"role": "system", "content": "Be brief."}
    words = [prompt(f"{n}" * 200, text=saying("a" * 200)) for n in range(4)]

    async with Client(gateway.url) as client:
        for question in words:
            await answered(client, question, max_tokens=40)
        reply = await client.call(
            "POST",
            "/chat",
            json={
                "messages": [system, {"role": "user", "content": "new"}],
                "conversation_id": "c",
                "max_tokens": 40,
            },
        )
        stream = await client.stream(reply.json["stream_url"])
        turns = (await history(client))["turns"][:4]
        assert len(turns) == 4, "what is not asked is not forgotten"

    def asked(count: int) -> str:
        messages = [system]
        for turn in turns[4 - count :]:
            messages += [*turn["messages"], {"role": "assistant", "content": turn["answer"]}]
        return "".join(answer_tokens([*messages, {"role": "user", "content": "new"}], TOKENS))

    assert [count for count in range(5) if asked(count) == stream.text] == [1]
    await at_rest(gateway)


async def test_only_so_much_is_kept(simulator: SimulatorProcess, start: Start) -> None:
    """The oldest turns make room for new ones, and the next is asked with what is left."""
    gateway = start(simulator, CONVERSATION_MAX_TURNS=2, CONVERSATION_QUEUE=0, CONVERSATION_TTL_S=5)
    async with Client(gateway.url) as client:
        for question in ("one", "two", "three"):
            await answered(client, question)
            await idle(client)
        seen = await history(client)
        assert [turn["messages"][0]["content"] for turn in seen["turns"]] == ["two", "three"]
        assert seen["expires_in_s"] <= 5
        first = await say(client, prompt("four", hold="gate"))
        busy = await client.submit("five", conversation_id="c")
        assert (busy.status, busy.error["code"]) == (409, "conversation_busy")
        await client.cancel(first["id"])
    await at_rest(gateway)


async def test_nothing_in_redis_lives_for_ever(simulator: SimulatorProcess, start: Start) -> None:
    """While one runs, others wait, and after all of it: every name of a conversation has a time to go."""
    with standalone() as server, server.client as redis:
        gateway = start(simulator, REDIS_URL=server.url)

        def names() -> list[str]:
            parts = ("}:y:", "}:z:", "}:w:")
            return [name for name in redis.scan_iter(count=1000) if any(part in name for part in parts)]

        async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
            await answered(client, "zero")
            first = await say(client, prompt("one", hold="gate"))
            reading = group.create_task(client.stream(first["stream_url"]))
            await held(simulator, "gate")
            second = await say(client, "two")
            found = names()
            assert len(found) == 4, "the line, the turns, and where each of the two is"
            assert [name for name in found if redis.pttl(name) < 0] == []
            simulator.release("gate")
            await reading
            await client.stream(second["stream_url"])
            await idle(client)
            found = names()
            assert len(found) == 2
            assert [name for name in found if redis.pttl(name) < 0] == []
            assert not any(part == "c" for name in found for part in name.split(":")), "nor whose it is"
        gateway.stop()


async def test_without_redis_no_turn_is_asked(simulator: SimulatorProcess, start: Start) -> None:
    """503 with a typed code and a time to come back, on every route; other questions are answered."""
    with standalone() as server:
        gateway = start(simulator, REDIS_URL=server.url)
        async with Client(gateway.url) as client:
            await answered(client, "one")
            server.kill()
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
                reply = await client.call(method, f"/conversations/c{path}")
                assert (reply.status, reply.error["code"]) == (503, "conversation_unavailable")
            reply = await client.submit("two", conversation_id="c")
            assert (reply.status, reply.error["code"]) == (503, "conversation_unavailable")
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.headers["x-refrain-reason"] == "conversation_unavailable"
            assert simulator.stats()["calls"] == 1
            assert (await client.complete("plain")).status == 200
            server.start()

            async def back() -> bool:
                return (await client.submit("two", conversation_id="c")).status == 202

            await eventually(back, within=15.0)


async def test_an_end_that_redis_has_missed_is_kept_when_it_is_back(
    simulator: SimulatorProcess, start: Start
) -> None:
    """The answer was read, so the next turn is asked with it, once Redis can say so again."""
    with standalone() as server:
        gateway = start(simulator, REDIS_URL=server.url)
        question = prompt("one", hold="gate")
        async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
            first = await say(client, question)
            reading = group.create_task(client.stream(first["stream_url"]))
            await held(simulator, "gate")
            server.signal(19)
            try:
                simulator.release("gate")
                assert (await reading).end.name == "done"
            finally:
                server.signal(18)
            await eventually(lambda: _is_kept(client, first["id"]), within=15.0)
            assert (await answered(client, "two")).text == answers(question, "two")[1]


async def _is_kept(client: Client, id: str) -> bool:
    reply = await show(client)
    return reply.status == 200 and [turn["id"] for turn in reply.json["turns"]] == [id]


@pytest.mark.per_process
async def test_a_broken_history_is_not_an_empty_one(simulator: SimulatorProcess, start: Start) -> None:
    """Something else under its name, or turns that make no sense: refused, instead of asked without them."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        gateway = start(simulator, XDG_RUNTIME_DIR=folder)
        async with Client(gateway.url) as client:
            await answered(client, "one")
            await idle(client)
            with Redis(unix_socket_path=embedded_socket(folder), decode_responses=True) as redis:
                (name,) = redis.scan_iter("*:z:*")
                redis.rpush(name, "nonsense")
                reply = await client.submit("two", conversation_id="c")
                assert (reply.status, reply.error["code"]) == (503, "conversation_unavailable")
                assert (await show(client)).status == 503
                redis.delete(name)
                redis.set(name, "a string")
                reply = await client.submit("two", conversation_id="c")
                assert (reply.status, reply.error["code"]) == (503, "conversation_unavailable")
                redis.delete(name)
            assert (await answered(client, "two")).text == alone("two")
        gateway.stop()
