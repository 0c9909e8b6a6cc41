"""Patterns and graphs from outside: who is told what, who has nothing to do, and what comes before whom."""

from __future__ import annotations

import json

import pytest

from processing.workflows.graph import cycle
from runtime.errors import UpstreamError
from tests.fakes.workflows import Flows, last_text, workflows
from tests.virtual_time import virtual

HUB = """
    name: hub
    pattern: hub_and_spoke
    coordinator: {name: boss, prompt: plan, system: be brief}
    workers:
      - {name: w1, does: sums, prompt: "w1 {{ task }}"}
      - {name: w2, does: words, prompt: "w2 {{ task }}"}
    answer: {name: end, prompt: "{% for n, t in results.items() %}{{ n }}={{ t }};{% endfor %}"}
"""
PUBLISH = """
    name: news
    pattern: publish_subscribe
    rounds: 2
    agents:
      - {name: scout, topics: [question, idea], prompt: "scout {{ round }}"}
      - name: judge
        topics: [finding, idea]
        prompt: "judge {% for m in inbox %}{{ m['from'] }}/{{ m.topic }}:{{ m.text }}{% endfor %}"
    answer: {name: end, prompt: "{% for m in history %}{{ m.name }}{{ m.round }}={{ m.text }};{% endfor %}"}
"""


@virtual
async def test_the_coordinator_is_told_who_can_do_what() -> None:
    """Before the file's own words. It knows no worker by itself, nor the form of its reply."""
    flows = Flows(HUB)
    await flows.run("hub")
    system = flows.model.asked("plan:plan")[0].body["messages"][0]
    assert system["role"] == "system"
    assert "\n- w1: sums\n- w2: words\n" in system["content"]
    assert system["content"].endswith("\n\nbe brief")
    assert '[{"worker": NAME, "task": WHAT IT SHALL DO}]' in system["content"]


@virtual
async def test_only_who_was_given_work_works() -> None:
    """The other is no gap: nobody wanted it. The answer is whole, and may be kept."""
    flows = Flows(HUB)
    flows.model.says["plan"] = [json.dumps([{"worker": "w2", "task": "spell"}])]
    prepared = await flows.run("hub")
    assert flows.model.prompts() == ["plan", "w2 spell"]
    entry = flows.entry("w1")
    assert (entry.status, entry.idle, entry.why) == ("skipped", True, "it was given no task")
    assert "w2=w2 spell!;" in last_text(prepared)
    assert flows.entry("boss").why == ""
    assert prepared.store


@virtual
async def test_a_plan_that_failed_leaves_nobody_anything_to_do() -> None:
    """A coordinator without an answer is not one who hands out nothing."""
    flows = Flows(HUB)
    flows.model.says["plan"] = [UpstreamError()]
    with pytest.raises(Exception, match="nothing that it needs is there"):
        await flows.run("hub")
    assert [flows.entry(name).idle for name in ("w1", "w2")] == [False, False]


@virtual
async def test_what_is_published_reaches_those_who_listen_and_nobody_else() -> None:
    """In the round after it, under its topic, and never who said it."""
    flows = Flows(PUBLISH)
    said = [
        {"topic": "finding", "text": "F"},
        {"topic": "idea", "text": "I"},
        {"topic": "gossip", "text": "G"},
    ]
    flows.model.says["scout 1"] = [json.dumps(said)]
    flows.model.says["judge scout/finding:Fscout/idea:I"] = ["[]"]
    prepared = await flows.run("news")
    assert flows.model.prompts() == ["scout 1", "judge scout/finding:Fscout/idea:I"]
    assert flows.statuses() == {
        "scout@1": "done",
        "judge@1": "skipped",
        "scout@2": "skipped",
        "judge@2": "done",
        "end": "streams",
    }
    why = "nobody has published one of its topics"
    assert [flows.entry(name).why for name in ("judge@1", "scout@2")] == [why, why]
    assert last_text(prepared) == "scout1=finding: F\nidea: I\ngossip: G;judge2=;"


@virtual
async def test_agents_are_told_the_topics_that_somebody_listens_to() -> None:
    """The question is none that one could publish; without any other there is none."""
    flows = Flows(PUBLISH)
    await flows.run("news")
    system = flows.model.asked("plan:scout 1")[0].body["messages"][0]["content"]
    assert system.endswith("Topics that somebody listens to: finding, idea.")
    alone = Flows("""
        name: alone
        pattern: publish_subscribe
        rounds: 1
        agents: [{name: a, topics: [question], prompt: a}]
        answer: {name: end, prompt: x}
    """)
    await alone.run("alone")
    system = alone.model.asked("plan:a")[0].body["messages"][0]["content"]
    assert system.endswith("listens to: none.")


def test_what_comes_before_a_step_is_all_of_it_once_in_declared_order() -> None:
    """Templates list it: a step that is needed on two ways stands there once."""
    graph = workflows("""
        name: g
        steps:
          - {name: c, depends_on: [b, a], prompt: x}
          - {name: a, prompt: x}
          - {name: b, depends_on: [a], prompt: x}
          - {name: end, depends_on: [c, a], prompt: x}
    """)["g"].graph
    assert {name: [node.name for node in nodes] for name, nodes in graph.before.items()} == {
        "c": ["a", "b"],
        "a": [],
        "b": ["a"],
        "end": ["c", "a", "b"],
    }
    assert graph.after == {"c": ("end",), "a": ("c", "b", "end"), "b": ("c",), "end": ()}
    assert [node.name for node in graph.called()] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({}, None),
        ({"a": []}, None),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, None),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["x"], "b": ["a", "b"]}, ["b", "b"]),
        ({"a": ["b", "c"], "b": [], "c": ["a"]}, ["a", "c", "a"]),
    ],
)
def test_a_cycle_is_told_from_where_it_begins(needs: dict[str, list[str]], circle: list[str] | None) -> None:
    """Not the way to it; and two ways to one step are no cycle."""
    assert cycle(needs) == circle


def test_a_long_chain_is_no_cycle() -> None:
    """Without recursion, and without looking at each part again for each beginning."""
    chain = {str(number): [str(number + 1)] for number in range(3000)}
    assert cycle(chain) is None
    assert cycle(chain | {"3000": ["0"]}) is not None
