"""What the row of steps is made of, by the settings alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from admission import Stage
from app.preparation_watch import PreparationWatch
from app.preparing import Preparing
from cache.keys import SharingKeys
from config.loading import load
from processing.preparer import Prompt
from runtime.errors import InvalidRequest, NotFound
from runtime.metrics import Metrics
from runtime.supervisor import Supervisor
from tests.fakes.model import FakeModel
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.client import ModelClient
from upstream.retry import RetryPolicy

TOOLS = {"REFRAIN_TOOLS": "tests.fakes.some_tools:TOOLS"}
PLAIN: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
FLOW = (
    "name: f\ndescription: Two steps.\npattern: pipeline\nsteps: [{name: a, prompt: x}, {name: b, prompt: y}]"
)


@pytest.fixture
def flows(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "f.yaml").write_text(FLOW)
    (tmp_path / "p.yaml").write_text(FLOW.replace("name: f", "name: p").replace("pipeline", "parallel"))
    return {"REFRAIN_WORKFLOWS": str(tmp_path), "REFRAIN_WORKFLOW_MODEL": "m"}


def preparing(environ: dict[str, str], model: FakeModel | None = None, permits: int = 1) -> Preparing:
    client, retry = cast(ModelClient, model or FakeModel()), RetryPolicy(asyncio.get_running_loop().time)
    watch = PreparationWatch(Metrics().preparation)
    return Preparing(load(environ), client, Stage("llm_calls", permits), retry, Supervisor(), watch)


def applies(environ: dict[str, str], **body: Any) -> bool:
    keys = SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=())
    return preparing(environ).preparer(keys).applies({**PLAIN, **body})


@virtual
async def test_a_plain_request_has_no_step() -> None:
    """It pays nothing for what others use; also where only workflows are served."""
    assert not applies({})
    assert not applies({}, tools=[{}])


def test_what_applies_to_whom(flows: dict[str, str]) -> None:
    """A client's own tools are its own, a workflow is its own plan, a hook is asked about everybody."""

    @virtual
    async def applied() -> None:
        assert applies(TOOLS)
        assert not applies(TOOLS, tools=[{}])
        assert not applies(TOOLS, model="workflow:f")
        assert not applies(flows)
        assert applies(flows, model="workflow:f")
        assert applies({"REFRAIN_PREPARE_MODEL": "planner"})
        assert not applies({"REFRAIN_PREPARE_MODEL": "planner"}, model="workflow:f")
        assert applies({"REFRAIN_PREPARE_URL": "http://127.0.0.1:1/p"}, tools=[{}])

    applied()


def test_workflows_are_models(flows: dict[str, str]) -> None:
    """Row 104: listed like one, and one that is not there is refused before anything is done."""

    @virtual
    async def listed() -> None:
        one = preparing(flows)
        model, _ = one.models()
        assert (model["id"], model["object"], model["description"]) == ("workflow:f", "model", "Two steps.")
        one.check({**PLAIN, "model": "workflow:f"})
        one.check(PLAIN)
        for name in ("workflow:g", "workflow:", "workflow:F"):
            with pytest.raises(NotFound) as refused:
                one.check({**PLAIN, "model": name})
            assert refused.value.param == "model"
        with pytest.raises(InvalidRequest) as several:
            one.check({**PLAIN, "model": "workflow:p", "n": 2})
        assert several.value.param == "n"
        one.check({**PLAIN, "model": "workflow:f", "n": 2})
        await one.close()
        await one.close()

    listed()


def test_what_prepares_an_answer_is_in_its_key(flows: dict[str, str]) -> None:
    """A tool, a bound of theirs or a workflow that has been edited must not serve old answers."""

    @virtual
    async def fingerprints() -> None:
        found = [
            preparing(environ).fingerprint
            for environ in (
                {},
                TOOLS,
                TOOLS | {"REFRAIN_TOOL_ROUNDS": "5"},
                {"REFRAIN_PREPARE_MODEL": "p"},
                {"REFRAIN_PREPARE_URL": "http://127.0.0.1:1/p"},
            )
        ]
        assert len(set(found)) == len(found)
        assert preparing(flows).fingerprint == found[0]
        hooked = {"REFRAIN_PREPARE_URL": "http://127.0.0.1:1/p"}
        assert preparing(flows | hooked).fingerprint not in found, "a hook may choose a workflow"
        before = preparing(flows).versions
        assert before.keys() == {"workflow:f", "workflow:p"}
        assert preparing(flows | {"REFRAIN_WORKFLOW_MODEL": "n"}).versions != before
        (Path(flows["REFRAIN_WORKFLOWS"]) / "f.yaml").write_text(FLOW.replace("prompt: x", "prompt: z"))
        assert preparing(flows).versions != before

    fingerprints()


def test_who_joins_nothing_shares_no_call_of_its_preparation() -> None:
    """`no-store` promises that all that is made for a request is made for it alone."""

    @virtual
    async def asked() -> None:
        model = FakeModel()
        model.by_hand.add("plan:q")
        made = preparing({"REFRAIN_PREPARE_MODEL": "planner"}, model, permits=4)
        preparer = made.preparer(SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=()))
        prompts = [Prompt(PLAIN, FakeTurn(), store=store) for store in (True, True, False, False)]
        async with asyncio.TaskGroup() as group:
            for prompt in prompts:
                group.create_task(preparer.prepare(prompt, lambda step: None))
            await settle()
            assert len(model.calls) == 3
            for call in model.calls:
                call.say("a plan")
                call.complete()

    asked()
