"""The preparation hook, and what a test asks of the simulator itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.simulator_caller import Caller, Sim, chat_body
from upstream.simulator import prompt_digest

pytestmark = pytest.mark.anyio


async def _prepare(sim: Sim, text: str) -> Caller:
    return await sim.call("POST", "/prepare", chat_body(text, model="m"))


async def test_preparation_appends_a_message_derived_from_the_prompt() -> None:
    """What comes back holds all that went in, and names it."""
    reply = await _prepare(Sim(), "hi")
    messages = chat_body("hi")["messages"]
    added = {"role": "system", "content": f"Simulated preparation of {prompt_digest(messages)}."}
    assert reply.json == {"messages": [*messages, added]}


async def test_a_prompt_scripts_its_own_preparation() -> None:
    """Model, time to live and storing are answered as the directive says."""
    reply = await _prepare(Sim(), "[[sim prepare_model=big prepare_ttl=9 prepare_store=0]]")
    assert (reply.json["model"], reply.json["ttl_s"], reply.json["store"]) == ("big", 9, False)


async def test_a_failing_preparation_is_counted() -> None:
    """By status, by chance, by garbage or by nonsense: each is one failure, and none a model call."""
    sim = Sim(prepare_fail_rate=1)
    assert (await _prepare(sim, "hi")).status == 503
    assert (await _prepare(sim, "[[sim prepare_status=418]]")).status == 418
    await sim.call("POST", "/config?prepare_fail_rate=0")
    garbage = await _prepare(sim, "[[sim prepare_garbage=1]]")
    assert garbage.status == 200
    assert garbage.body.startswith(b"<html>")
    assert (await sim.call("POST", "/prepare", {"messages": 3})).status == 400
    stats = await sim.stats()
    assert stats["calls"] == 0
    del stats["prepare"]["busy_ms"]  # however long they took
    assert stats["prepare"] == {
        "calls": 4,
        "in_flight": 0,
        "peak": 1,
        "completed": 0,
        "aborted": 0,
        "failed": 4,
    }


async def test_preparations_in_flight_are_counted_and_can_be_left() -> None:
    """The hook sees its own peak, and notices a caller that gives up while it is held or delayed."""
    sim = Sim()
    texts = ("[[sim prepare_hold=never]]", "[[sim prepare_delay=3600]]")
    async with (
        sim.open("POST", "/prepare", chat_body(texts[0])) as held,
        sim.open("POST", "/prepare", chat_body(texts[1])) as delayed,
    ):
        while (await sim.stats())["prepare"]["in_flight"] < 2:
            pass
        for caller in (held, delayed):
            caller.leave()
            await caller.finished()
    prepare = (await sim.stats())["prepare"]
    assert (prepare["peak"], prepare["in_flight"], prepare["aborted"]) == (2, 0, 2)


async def test_a_held_preparation_goes_on_when_released() -> None:
    """The same barrier as for answers."""
    sim = Sim()
    async with sim.open("POST", "/prepare", chat_body("[[sim prepare_hold=p]]")) as caller:
        while (await sim.stats())["holding"] != {"p": 1}:
            pass
        await sim.call("POST", "/release?name=p")
        await caller.finished()
    assert caller.status == 200


async def test_settings_change_at_run_time() -> None:
    """The answer tells all effective values; a bad change changes nothing."""
    sim = Sim()
    changed = await sim.get("/config?tokens=2&max_streams=8")
    assert (changed["tokens"], changed["max_streams"], changed["ttft"]) == (2, 8, 0)
    assert len((await sim.chat("hi")).deltas()) == 2
    bad = await sim.call("POST", "/config?tokens=9&max_streams=-1")
    assert bad.status == 400
    assert bad.json["error"]["code"] == "invalid_setting"
    assert await sim.get("/config") == changed


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/embeddings", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/release?name=x", 405),
        ("POST", "/release", 400),
    ],
)
async def test_every_route_answers_in_the_openai_shape(method: str, target: str, status: int) -> None:
    """Errors are JSON with an error object, and every reply admits that it is simulated."""
    reply = await Sim().call(method, target)
    assert reply.status == status
    assert ("error" in reply.json) == (status != 200)
    assert reply.headers[b"x-refrain-simulated"] == b"1"


async def test_there_is_one_model() -> None:
    """A request without a model can be given this one."""
    models = await Sim().get("/v1/models")
    assert [(model["id"], model["owned_by"]) for model in models["data"]] == [("refrain-sim", "refrain")]


async def test_the_lifespan_is_answered() -> None:
    """A server that waits for startup and shutdown gets both."""
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Sim().app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
