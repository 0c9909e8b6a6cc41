"""The patterns: each is a graph and nothing more, and all of them together keep to one limit."""

from __future__ import annotations

import asyncio
import json

import pytest

from processing.ready import Ready
from processing.workflows.graph import Graph
from processing.workflows.replies import NOT_PUBLISHED, NOT_UNDERSTOOD
from runtime.errors import UpstreamError
from tests.fakes.workflows import Flows, last_text, workflows
from tests.virtual_time import virtual

ALL = '"{% for name, text in results.items() %}{{ name }}={{ text }};{% endfor %}"'
GRAPH = """
    name: graph
    steps:
      - {name: a, prompt: a}
      - {name: b, prompt: b}
      - {name: c, depends_on: [a, b], prompt: "{{ results.a }}{{ results.b }}"}
"""
PIPELINE = """
    name: pipeline
    pattern: pipeline
    steps:
      - {name: a, prompt: "{{ question }}"}
      - {name: b, prompt: "{{ results.a }}"}
      - {name: c, prompt: "{{ results.b }}"}
"""
PARALLEL = """
    name: parallel
    pattern: parallel
    steps:
      - {name: b, prompt: "b {{ question }}"}
      - {name: a, prompt: "a {{ question }}"}
"""
FORK = f"""
    name: fork
    pattern: fork_join
    branches: [{{name: b, prompt: b}}, {{name: a, prompt: a}}]
    answer: {{name: join, prompt: {ALL}}}
"""
DEBATE = """
    name: debate
    pattern: debate
    rounds: 2
    debaters:
      - name: pro
        prompt: "pro{{ round }}{% if round > 1 %} against {{ results.con }}{% endif %}"
      - {name: con, prompt: "con{{ round }}"}
    answer:
      name: moderator
      prompt: "{% for m in history %}{{ m.name }}/{{ m.round }}:{{ m.text }};{% endfor %}"
"""
HUB = f"""
    name: hub
    pattern: hub_and_spoke
    coordinator: {{name: boss, prompt: "plan {{{{ question }}}}"}}
    workers:
      - {{name: w1, does: sums, prompt: "w1 {{{{ task }}}}"}}
      - {{name: w2, does: words, prompt: "w2 {{{{ task }}}}"}}
    answer: {{name: boss-again, prompt: {ALL}}}
"""
PUBLISH = """
    name: publish
    pattern: publish_subscribe
    rounds: 3
    agents:
      - {name: scout, topics: [question], prompt: "scout"}
      - name: judge
        topics: [finding]
        prompt: "judge {% for m in inbox %}{{ m.from }}:{{ m.text }}{% endfor %}"
      - {name: clerk, topics: [verdict], prompt: "clerk {% for m in inbox %}{{ m.text }}{% endfor %}"}
    answer: {name: end, prompt: "{% for said in history %}{{ said.name }}:{{ said.text }};{% endfor %}"}
"""
EVERY = (GRAPH, PIPELINE, PARALLEL, FORK, DEBATE, HUB, PUBLISH)
NAMES = ("graph", "pipeline", "parallel", "fork", "debate", "hub", "publish")


def needs(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.name: node.needs for node in graph.nodes}


def test_what_each_pattern_becomes() -> None:
    """One engine: a pattern is only a way to write the needs."""
    found = workflows(*EVERY)
    assert needs(found["pipeline"].graph) == {"a": (), "b": ("a",), "c": ("b",)}
    assert needs(found["parallel"].graph) == {"b": (), "a": ()}
    assert needs(found["fork"].graph) == {"b": (), "a": (), "join": ("b", "a")}
    assert needs(found["hub"].graph) == {
        "boss": (),
        "w1": ("boss",),
        "w2": ("boss",),
        "boss-again": ("w1", "w2"),
    }
    assert needs(found["debate"].graph) == {
        "pro@1": (),
        "con@1": (),
        "pro@2": ("pro@1", "con@1"),
        "con@2": ("pro@1", "con@1"),
        "moderator": ("pro@2", "con@2"),
    }
    lasts = {name: each.graph.last and each.graph.last.name for name, each in found.items()}
    assert lasts == {
        "graph": "c",
        "pipeline": "c",
        "parallel": None,
        "fork": "join",
        "debate": "moderator",
        "hub": "boss-again",
        "publish": "end",
    }


@pytest.mark.parametrize("limit", [1, 2])
def test_every_pattern_at_once_under_a_small_limit(limit: int) -> None:
    """Row 75 for all of them: no pattern waits for a permit while it holds one, so nothing can lock."""

    @virtual
    async def at_once() -> None:
        flows = Flows(*EVERY, calls=limit)
        async with asyncio.TaskGroup() as group:
            for name in NAMES * 2:
                group.create_task(flows.run(name))
        assert flows.model.peak["llm_calls"] == limit
        assert sorted(record.workflow for record in flows.records) == sorted(NAMES * 2)
        unfinished = {"waiting", "running"} & {step.status for each in flows.records for step in each.steps}
        assert unfinished == set()
        flows.assert_over()

    at_once()


@virtual
async def test_a_pipeline_hands_each_answer_on() -> None:
    """The last one streams, so it is not called here."""
    flows = Flows(PIPELINE)
    assert last_text(await flows.run("pipeline")) == "q!!"
    assert flows.model.prompts() == ["q", "q!"]


@virtual
async def test_parallel_results_are_the_answer_in_declared_order() -> None:
    """Without a further call: one that only repeats would cost a permit and might say something else."""
    flows = Flows(PARALLEL)
    flows.model.takes = {"b q": 5}
    prepared = await flows.run("parallel")
    assert isinstance(prepared.direct, Ready)
    assert "".join(chunk.text for chunk in prepared.direct.chunks) == "## b\n\nb q!\n\n## a\n\na q!\n\n"
    assert len(flows.model.calls) == 2


@virtual
async def test_debaters_answer_what_the_round_before_said() -> None:
    """Both of a round at the same time; the moderator reads every round."""
    flows = Flows(DEBATE)
    began = asyncio.get_running_loop().time()
    prepared = await flows.run("debate")
    assert asyncio.get_running_loop().time() - began == pytest.approx(2)
    assert flows.model.prompts() == ["pro1", "con1", "pro2 against con1!", "con2"]
    said = "pro/1:pro1!;con/1:con1!;pro/2:pro2 against con1!!;con/2:con2!;"
    assert last_text(prepared) == said


@virtual
async def test_a_coordinator_hands_out_work() -> None:
    """Whom it leaves out is not asked, and that is no gap."""
    flows = Flows(HUB)
    flows.model.says["plan q"] = ['```json\n[{"worker": "w2", "task": "spell it"}]\n```']
    prepared = await flows.run("hub")
    assert flows.model.prompts() == ["plan q", "w2 spell it"]
    assert "w1=[not asked: w1: it was given no task];w2=w2 spell it!;" in last_text(prepared)
    assert (flows.entry("w1").status, flows.entry("w1").idle, flows.record.whole) == ("skipped", True, True)
    system = flows.model.calls[0].body["messages"][0]
    assert system["role"] == "system"
    assert "- w1: sums\n- w2: words" in system["content"]


@pytest.mark.parametrize(
    "nonsense",
    [
        "I would ask w1.",
        "[]",
        '[{"worker": "w9", "task": "x"}]',
        '[{"worker": "w1"}]',
        '[{"worker": "w1", "task": " "}]',
        json.dumps([{"worker": "w1", "task": "x"}] * 65),
        "[" * 100_000,
        '{"worker": ["w1"], "task": "x"}',
    ],
)
def test_nonsense_of_a_coordinator_gives_every_worker_the_question(nonsense: str) -> None:
    """A model that does not keep to a form must not cost the user the answer; the record says so."""

    @virtual
    async def everybody() -> None:
        flows = Flows(HUB)
        flows.model.says["plan q"] = [nonsense]
        await flows.run("hub")
        assert flows.model.prompts() == ["plan q", "w1 q", "w2 q"]
        assert flows.entry("boss").why == NOT_UNDERSTOOD

    everybody()


@virtual
async def test_two_tasks_for_one_worker_are_one_call() -> None:
    """A worker is one step, whatever the coordinator writes."""
    flows = Flows(HUB)
    flows.model.says["plan q"] = [json.dumps([{"worker": "w1", "task": "a"}, {"worker": "w1", "task": "b"}])]
    await flows.run("hub")
    assert flows.model.prompts() == ["plan q", "w1 a\nb"]


@virtual
async def test_agents_react_to_what_the_round_before_published() -> None:
    """Only those whose topics it has: a round in which nobody is meant costs no call."""
    flows = Flows(PUBLISH)
    flows.model.says["scout"] = ['[{"topic": "finding", "text": "f1"}, {"topic": "noise", "text": "n"}]']
    flows.model.says["judge scout:f1"] = ['{"topic": "verdict", "text": "v1"}']
    flows.model.says["clerk v1"] = ["[]"]
    prepared = await flows.run("publish")
    assert flows.model.prompts() == ["scout", "judge scout:f1", "clerk v1"]
    assert last_text(prepared) == "scout:finding: f1\nnoise: n;judge:verdict: v1;clerk:;"
    assert flows.record.whole


@virtual
async def test_an_agent_that_publishes_nonsense_publishes_nothing() -> None:
    """Nobody is called for it; its words are kept, and the record says why nothing followed."""
    flows = Flows(PUBLISH)
    flows.model.says["scout"] = ["I found something."]
    prepared = await flows.run("publish")
    assert flows.model.prompts() == ["scout"]
    assert flows.entry("scout@1").why == NOT_PUBLISHED
    assert last_text(prepared) == "scout:I found something.;"


@virtual
async def test_an_agent_does_not_hear_itself() -> None:
    """It would talk to itself until the rounds are over."""
    flows = Flows("""
        name: p
        pattern: publish_subscribe
        rounds: 4
        agents: [{name: echo, topics: [question, more], prompt: echo}]
        answer: {name: end, prompt: x}
    """)
    flows.model.says["echo"] = ['{"topic": "more", "text": "again"}']
    await flows.run("p")
    assert flows.model.prompts() == ["echo"]


@virtual
async def test_who_failed_in_one_round_may_speak_in_the_next() -> None:
    """What it said last counts; only the history has the gap."""
    flows = Flows("""
        name: debate
        pattern: debate
        rounds: 2
        debaters: [{name: pro, prompt: "pro{{ round }}"}, {name: con, prompt: "con{{ round }}{{ missing }}"}]
        answer:
          name: end
          prompt: "{{ missing }}{{ results.pro }}{% for m in history %};{{ m.text }}{% endfor %}"
    """)
    flows.model.says["pro1"] = [UpstreamError()]
    prepared = await flows.run("debate")
    con = "con2{'pro': 'upstream_error'}!"
    assert last_text(prepared) == "{}pro2!;[missing: pro: upstream_error];con1{}!;pro2!;" + con
