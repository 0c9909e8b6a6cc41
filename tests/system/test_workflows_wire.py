"""Row 104: a workflow is a model name to any OpenAI client; requests for it share, count and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from tests.fakes.real_redis import real_redis, supervised
from tests.system.client import Client
from tests.system.flows import BRANCHES, INNER, PATTERNS, every_pattern, joined, write
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, at_rest, calls_of, filled, held, hook_of, over, together
from tests.system.workplace import TOOLS, Workplace, calling

pytestmark = pytest.mark.anyio

TOKENS = 6
JOINED = "workflow:fork-join"


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    simulator = simulate(ttft=0, tps=0, tokens=TOKENS)
    simulator.release("end")
    return simulator


@pytest.fixture
def gateway(simulator: SimulatorProcess, start: Start, tmp_path: Path) -> GatewayProcess:
    return start(simulator, WORKFLOWS=every_pattern(tmp_path), WORKFLOW_MODEL=INNER)


@pytest.fixture
async def sdk(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key="any", timeout=30, max_retries=0) as client:
        yield client


async def test_the_sdk_asks_a_workflow_like_a_model(sdk: AsyncOpenAI, simulator: SimulatorProcess) -> None:
    """Row 104: it is listed, answers whole and streamed, says its usage; one that is not there is a 404."""
    listed = {model.id async for model in await sdk.models.list()}
    names = {pattern.replace("_", "-") for pattern in PATTERNS} | {"nested", "debate-below"}
    assert listed == {"refrain-sim", *(f"workflow:{name}" for name in names)}

    expected = answer_to(joined("Row 104", TOKENS), TOKENS)
    whole = await sdk.chat.completions.create(model=JOINED, messages=[{"role": "user", "content": "Row 104"}])
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (expected, "stop")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == TOKENS
    steps = (whole.model_extra or {})["refrain"]["workflow"]["steps"]
    assert [step["step"] for step in steps] == [*BRANCHES, "joined"]
    assert [step.get("completion_tokens") for step in steps[:-1]] == [TOKENS] * 5
    assert all(step["seconds"] >= 0 and step["calls"] == 1 for step in steps[:-1])

    async with sdk.chat.completions.stream(
        model=JOINED,
        messages=[{"role": "user", "content": "Row 104, streamed"}],
        stream_options={"include_usage": True},
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert kinds.count("content.delta") >= TOKENS, "the last step streams"
    assert final.choices[0].message.content == answer_to(joined("Row 104, streamed", TOKENS), TOKENS)
    assert final.usage is not None
    assert final.usage.completion_tokens == TOKENS

    before = simulator.stats()["calls"]
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.create(
            model="workflow:nowhere", messages=[{"role": "user", "content": "?"}], stream=True
        )
    assert simulator.stats()["calls"] == before == 12


async def test_parallel_answers_without_a_call_of_its_own(
    sdk: AsyncOpenAI, simulator: SimulatorProcess
) -> None:
    """Part 4: all results in declared order, the usage is what they cost together, nobody else is asked."""
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "Side by side"}
    ]
    whole = await sdk.chat.completions.create(model="workflow:parallel", messages=messages)
    said = {name: answer_to(f"{name.title()}: Side by side", TOKENS) for name in ("left", "middle", "right")}
    text = "".join(f"## {name}\n\n{each}\n\n" for name, each in said.items())
    assert whole.choices[0].message.content == text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3 * TOKENS
    async with sdk.chat.completions.stream(model="workflow:parallel", messages=messages) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content == text
    seen = simulator.stats()
    assert (seen["calls"], seen["calls_by_model"]) == (3, {INNER: 3})


async def test_identical_requests_share_one_run(gateway: GatewayProcess, simulator: SimulatorProcess) -> None:
    """Row 104 and 22: ten at once on both wires are one run of six calls; later it is a hit."""
    question = prompt("One run", hold="gate")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        native = [group.create_task(client.ask(question, model=JOINED)) for _ in range(5)]
        wire = [group.create_task(client.complete(question, model=JOINED)) for _ in range(5)]
        await held(simulator, "gate", 5)
        await filled(gateway, "leaders", 1, 0)
        simulator.release("gate")
        texts = {(await one).text for one in native}
        texts |= {(await one).json["choices"][0]["message"]["content"] for one in wire}
        assert texts == {answer_to(joined(question, TOKENS), TOKENS)}
        await over(gateway)
        hit = await client.complete(question, model=JOINED)
        assert "hit" in hit.headers["cache-status"]
        assert hit.json["refrain"]["workflow"]["workflow"] == "fork-join", "it still says how it was made"
    assert simulator.stats()["calls"] == 6
    await at_rest(gateway)


async def test_an_edit_of_the_file_is_another_key(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 4: after a restart the same file hits what the cache has kept; one that was changed does not."""
    text = "name: flow\nsteps:\n  - {name: a, prompt: 'One {{ question }}'}\n"
    above = "name: above\nsteps:\n  - {name: a, workflow: flow, prompt: '{{ question }}'}\n"
    async with supervised() as supervisor, real_redis(supervisor) as redis:

        async def asked() -> list[str]:
            gateway = start(
                simulator, WORKFLOWS=tmp_path, WORKFLOW_MODEL=INNER, REDIS_URL=f"unix://{redis.socket_path}"
            )
            async with Client(gateway.url) as client:
                streams = [
                    await client.ask("Edited?", model=f"workflow:{name}") for name in ("flow", "above")
                ]
            await at_rest(gateway)
            await asyncio.to_thread(gateway.stop)
            return [stream.end.json["cache"] for stream in streams]

        write(tmp_path, "flow", text)
        write(tmp_path, "above", above)
        assert await asked() == ["miss", "miss"]
        assert await asked() == ["hit", "hit"]
        write(tmp_path, "flow", text.replace("One", "Two"))
        assert await asked() == ["miss", "miss"]


async def test_hook_and_tools_work_inside_and_planning_does_not(
    simulator: SimulatorProcess, start: Start, tmp_path: Path
) -> None:
    """Part 1: the hook comes first, the workflow plans for itself, steps have the tools that they name."""
    flow = """
        name: flow
        steps:
          - {name: seek, prompt: "{{ question }}", tools: [look]}
          - {name: tell, depends_on: [seek], prompt: "{{ results.seek }}"}
        """
    work = Workplace(tmp_path)
    gateway = start(
        simulator,
        WORKFLOWS=write(tmp_path / "flows", "flow", flow),
        WORKFLOW_MODEL=INNER,
        TOOLS=TOOLS,
        PREPARE_URL=hook_of(simulator),
        PREPARE_MODEL="planner",
    )
    question = calling("Seek", work("look", "it"), work("narrow", "that"))
    async with Client(gateway.url) as client:
        stream = await client.ask(question, model="workflow:flow")
    made = stream.end.json["preparation"]
    assert [(one["tool"], one["status"]) for one in made["tools"]] == [("look", "ok"), ("narrow", "refused")]
    assert [(step["step"], step.get("calls")) for step in made["workflow"]["steps"]] == [
        ("seek", 2),
        ("tell", 0),
    ]
    assert work.begun == ["it"], "a step has the tools that it names, and no others"
    seen = simulator.stats()
    assert seen["calls_by_model"] == {INNER: 3}, "asked twice with its tool, then the last step; no plan"
    assert seen["prepare"]["calls"] == 1
    await at_rest(gateway)


async def test_plain_requests_pay_nothing_for_workflows(
    gateway: GatewayProcess, simulator: SimulatorProcess
) -> None:
    """Part 1: with workflows on offer a request for a plain model is one call, as it came."""
    async with Client(gateway.url) as client:
        streams = await together(client.ask(f"Plain {n}", model="refrain-sim") for n in range(3))
    assert [stream.text for stream in streams] == [answer_to(f"Plain {n}", TOKENS) for n in range(3)]
    assert [calls_of(simulator, f"Plain {n}") for n in range(3)] == [1] * 3
    assert simulator.stats()["calls"] == 3
    await at_rest(gateway)
