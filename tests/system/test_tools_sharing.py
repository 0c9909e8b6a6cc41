"""Row 12: what the use of a tool does to sharing and keeping an answer; private results stay private."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.flows import INNER, write
from tests.system.processes import SimulatorProcess
from tests.system.scene import Simulate, Start, accepted, at_rest, together
from tests.system.workplace import PRIVATE, TOOLS, Workplace, calling, heard

pytestmark = pytest.mark.anyio

KEYS = "acme:acme-key-0001,globex:globex-key-01"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=20)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def test_an_answer_holds_as_long_as_its_shortest_lived_tool(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 12: within the TTL it is a hit with what is left of it; later, and with TTL 0, it is asked anew."""
    gateway = start(simulator, TOOLS=TOOLS, CACHE_TTL_S=5000)
    async with Client(gateway.url) as client:
        mixed = calling("Mixed", work("look", "free"), work("lasting", "bound"))
        await client.ask(mixed)
        await at_rest(gateway)
        hit = await client.complete(mixed)
        name, _, ttl = hit.headers["cache-status"].rpartition("ttl=")
        assert name == "refrain; hit; "
        assert 900 <= int(ttl) <= 1000, "not the cache's own five thousand"
        assert work.begun.count("bound") == 1

        never = calling("Never kept", work("lasting", "x"), work("now", "y"))
        for _ in range(2):
            assert (await client.ask(never)).end.json["cache"] == "miss"
            await at_rest(gateway)
        assert work.begun.count("y") == 2, "twice at once is two calls of the tool and of the model"

        brief = calling("Brief", work("fleeting", "z"))
        await client.ask(brief)

        async def asked_anew() -> bool:
            return bool((await client.ask(brief)).end.json["cache"] == "miss")

        await eventually(asked_anew)
        assert work.begun.count("z") == 2
    await at_rest(gateway)


async def test_the_shortest_lived_is_shared_while_it_runs(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 12: who comes while it is made gets the same; that is no older than what it would get alone."""
    gateway = start(simulator, TOOLS=TOOLS)
    question = calling("Shared now", work("now", "it", door="door"))
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        chats = [await accepted(client, question) for _ in range(3)]
        reading = [group.create_task(client.stream(chat["stream_url"])) for chat in chats]
        await work.filled(1)
        work.open("door")
        assert {tuple(heard((await stream).text)) for stream in reading} == {("it was found",)}
    assert work.begun == ["it"]
    await at_rest(gateway)


async def test_nobody_gets_what_a_tool_said_to_another_user(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 12: `user` is part of the key from the start: at the same moment, and later."""
    gateway = start(simulator, TOOLS=PRIVATE)
    question = calling("My letters", work("mail", "letter", door="door"))
    async with Client(gateway.url) as client:
        users = ["ann", "bob"] * 3
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(client.ask(question, user=user)) for user in users]
            await work.filled(2)
            work.open("door")
        for user, one in zip(users, reading, strict=True):
            assert heard(one.result().text) == [f"a letter for public and {user}"]
        assert len(work.begun) == 2, "each user's are one"
        await at_rest(gateway)
        again = [await client.ask(question, user=user) for user in ("ann", "bob")]
        assert [stream.end.json["cache"] for stream in again] == ["hit", "hit"]
        assert heard(again[0].text) != heard(again[1].text)
        for fields in ({}, {"user": "carol"}, {"user": ""}):
            stream = await client.ask(question, **fields)
            assert not {"ann", "bob"} & set(" ".join(heard(stream.text)).split()), fields
        nobody = await client.ask(calling("Nobody's letters", work("mail", "none")))
    assert "there is no such tool" in heard(nobody.text)[0], "without a user it is not even on offer"
    assert "none" not in work.begun
    await at_rest(gateway)


async def test_two_tenants_are_not_one_user(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 12: though answers are shared by all, the same `user` of two tenants is two people."""
    gateway = start(simulator, TOOLS=PRIVATE, SHARE_SCOPE="global", API_KEYS=KEYS)
    question = calling("My letters", work("mail", "letter", door="door"))
    async with Client(gateway.url, "acme-key-0001") as acme, Client(gateway.url, "globex-key-01") as globex:
        async with asyncio.TaskGroup() as group:
            clients = (acme, globex, acme, globex)
            reading = [group.create_task(client.ask(question, user="ann")) for client in clients]
            await work.filled(2)
            work.open("door")
        said = [heard(stream.result().text) for stream in reading]
        assert said == [["a letter for acme and ann"], ["a letter for globex and ann"]] * 2
        later = await globex.complete(question, user="ann")
    assert heard(later.json["choices"][0]["message"]["content"]) == said[1]
    assert len(work.begun) == 2


async def test_a_global_scope_stays_global_without_private_tools(
    simulator: SimulatorProcess, start: Start, work: Workplace
) -> None:
    """Row 12, the other half: tools for everybody cost nobody the sharing between tenants."""
    gateway = start(simulator, TOOLS=TOOLS, SHARE_SCOPE="global", API_KEYS=KEYS)
    question = calling("Everybody's", work("look", "it"))
    async with Client(gateway.url, "acme-key-0001") as acme, Client(gateway.url, "globex-key-01") as globex:
        first = await acme.ask(question)
        await at_rest(gateway)
        second = await globex.ask(question)
    assert (heard(first.text), second.text) == (["it was found"], first.text)
    assert second.end.json["cache"] == "hit"
    assert work.begun == ["it"]


async def test_steps_of_a_workflow_read_their_own_users_letters(
    simulator: SimulatorProcess, start: Start, work: Workplace, tmp_path: Path
) -> None:
    """Row 12: two users run one workflow at once: its steps share no call whose tool spoke to one of them."""
    flow = """
        name: letters
        pattern: pipeline
        steps:
          - {name: read, prompt: "{{ question }}", tools: [mail]}
          - {name: tell, prompt: "{{ results.read }}"}
        """
    gateway = start(
        simulator,
        TOOLS=PRIVATE,
        WORKFLOWS=write(tmp_path / "flows", "letters", flow),
        WORKFLOW_MODEL=INNER,
    )
    question = calling("Read them", work("mail", "letter"))
    async with Client(gateway.url) as client:
        users = ["ann", "bob"] * 2
        streams = await together(client.ask(question, model="workflow:letters", user=user) for user in users)
    assert streams[0].text == streams[2].text != streams[1].text == streams[3].text
    assert work.begun == ["letter"] * 2
    await at_rest(gateway)
