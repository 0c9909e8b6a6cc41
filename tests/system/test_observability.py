"""Rows 77 and 79 to 82: the numbers are true, every request has one closing line, warnings do not storm."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import cycle, repeat
from typing import Any

import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client
from tests.system.crew import crew, pinned
from tests.system.processes import GatewayProcess
from tests.system.prompts import prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, together
from tests.system.test_hostile_load import healthy

pytestmark = pytest.mark.anyio

STAGES = ("cache", "leaders", "followers", "llm_streams", "llm_calls")
SIZES = {
    "CACHE_WORKERS": 2,
    "MAX_CONCURRENT_LEADERS": 5,
    "MAX_CONCURRENT_FOLLOWERS": 7,
    "MAX_CONCURRENT_LLM_STREAMS": 3,
    "MAX_CONCURRENT_LLM_CALLS": 6,
}
#: Of all workers together; the others are of each.
SHARED = ("MAX_CONCURRENT_LLM_STREAMS", "MAX_CONCURRENT_LLM_CALLS")


def _series(gateway: GatewayProcess, name: str) -> dict[tuple[str, ...], int]:
    """The label values of one metric, in the order of their names, to its values; zeros left out."""
    found = {}
    for series, value in gateway.metrics().items():
        bare, _, labels = series.partition("{")
        if bare == name and value:
            pairs = sorted(pair.split("=", 1) for pair in labels.rstrip("}").split(",") if pair)
            found[tuple(value.strip('"') for _, value in pairs)] = int(value)
    return found


def _closing(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [line for line in gateway.log if line["message"] == "request ended"]


# -- row 77 -----------------------------------------------------------------------------------
async def test_limits_are_visible_and_nobody_can_change_them(simulate: Simulate, start: Start) -> None:
    """Row 77: /pipeline and /metrics show the effective values, and no method on any path writes them."""
    gateway = start(simulate(ttft=0, tps=0), **SIZES)
    workers = len(crew(gateway))
    effective = [size * (1 if name in SHARED else workers) for name, size in SIZES.items()]

    def shown() -> list[int]:
        metrics = gateway.metrics()
        capacities = [int(metrics[f'refrain_stage_capacity{{stage="{stage}"}}']) for stage in STAGES]
        seen = gateway.get("/pipeline")
        assert capacities == [stage["capacity"] for stage in seen["stages"]]
        for worker in seen["workers"]:
            assert [stage["capacity"] for stage in worker["stages"]] == list(SIZES.values())
        return capacities

    assert shown() == effective
    async with Client(gateway.url) as client:
        for path in ("/", "/pipeline", "/metrics", "/config", "/settings", "/healthz", "/readyz"):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                seen = await client.call(method, path, json={"capacity": 99, "max_concurrent_leaders": 99})
                assert seen.status in (404, 405), (method, path)
    assert shown() == effective


# -- row 79 -----------------------------------------------------------------------------------
async def test_full_pools_are_not_ill_health(simulate: Simulate, start: Start) -> None:
    """Row 79: with every slot held and the queue full, health is green and the load is visible."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=1, MAX_PENDING=2)
    workers = list(crew(gateway).values())
    callers = pinned(gateway, [workers[0], *workers, *workers])
    async with callers as (first, *others), Client(gateway.url) as client, asyncio.TaskGroup() as group:
        asked = [group.create_task(first.complete(prompt("full", hold="full")))]
        await held(simulator, "full")
        for number, other in enumerate(others):
            asked.append(group.create_task(other.complete(prompt(f"full {number}", hold="full"))))
        await filled(gateway, "llm_streams", 1, len(others))
        for _ in range(2 * len(workers) - 1):
            refused = await client.complete("one too many")
            assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert gateway.get("/healthz") == {"status": "ok"}
        components = {"redis": "ok", "upstream": "ok"}
        assert gateway.get("/readyz") == {"status": "ok", "components": components}
        stage = gateway.stage("llm_streams")
        assert (stage["in_use"], stage["capacity"], stage["waiting"]) == (1, 1, len(others))
        await eventually(lambda: gateway.stage("llm_streams")["oldest_wait_ms"] > 0)
        simulator.release("full")
    assert {task.result().status for task in asked} == {200}
    await at_rest(gateway)


# -- row 80 -----------------------------------------------------------------------------------
async def test_the_metrics_are_what_happened(simulate: Simulate, start: Start) -> None:
    """Row 80: hits, joins, outcomes, tokens and calls equal what the model and the clients counted."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=4, MAX_PENDING=4, ABANDON_GRACE_S=0)
    async with Client(gateway.url) as client:
        # Two leaders, a hit each, a flight of four; a failure, a rejection, a cancel, a leaver, a bypass …
        for number in (1, 2):
            assert (await client.ask(f"asked {number}")).end.name == "done"
            await at_rest(gateway)
            assert (await client.complete(f"asked {number}")).status == 200
        async with asyncio.TaskGroup() as group:
            twins = [group.create_task(client.complete(prompt("twins", hold="twins"))) for _ in range(4)]
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 4)
            simulator.release("twins")
        assert {task.result().status for task in twins} == {200}
        assert (await client.complete(prompt("fails", truncate=2))).status == 502
        assert (await client.complete(prompt("rejected", status=400))).status == 400
        cancelled = await accepted(client, prompt("cancelled", hold="never"))
        async with client.listening(cancelled["stream_url"]):
            await held(simulator, "never")
            assert (await client.cancel(cancelled["id"])).status == 200
        left = await accepted(client, prompt("left", hold="either"))
        async with client.listening(left["stream_url"]):
            await held(simulator, "either")
        await client.until_status(left["id"], "cancelled")
        assert (await client.complete("private", headers={"cache-control": "no-store"})).status == 200
        assert (await client.complete("x", headers={"cache-control": "only-if-cached"})).status == 504
    await at_rest(gateway)
    stats = simulator.stats()

    assert _series(gateway, "refrain_requests_total") == {
        # outcome, role, route
        ("cancelled", "leader", "chat"): 2,
        ("completed", "cached", "openai"): 2,
        ("completed", "follower", "openai"): 3,
        ("completed", "leader", "chat"): 2,
        ("completed", "leader", "openai"): 2,
        ("failed", "leader", "openai"): 2,
        ("failed", "none", "openai"): 1,
    }
    results = {("hit",): 2, ("miss",): 7, ("coalesced",): 3, ("bypass",): 1}
    assert _series(gateway, "refrain_cache_requests_total") == results
    assert sum(_series(gateway, "refrain_joins_total").values()) == 3
    calls = _series(gateway, "refrain_upstream_calls_total")
    assert calls == {("completed",): 4, ("failed",): 1, ("rejected",): 1, ("aborted",): 2}
    assert (stats["completed"], stats["aborted"]) == (calls[("completed",)], calls[("aborted",)])
    assert sum(calls.values()) == stats["calls"]
    assert _series(gateway, "refrain_tokens_total") == {("llm",): 20, ("coalesced",): 15, ("cache",): 10}
    assert gateway.metrics()["refrain_tokens_saved_total"] == 25
    assert gateway.metrics()["refrain_ttft_seconds_count"] == 10, "whoever got a first token"
    totals = gateway.get("/pipeline")["totals"]
    assert (totals["hits"], totals["joins"], totals["tokens_saved"]) == (2, 3, 25)
    assert (totals["upstream_calls"], totals["requests"]) == (stats["calls"], 14)


async def test_waits_and_refusals_are_counted_per_stage(simulate: Simulate, start: Start) -> None:
    """Row 80: a histogram of the waits, gauges of the moment, and what was turned away, for every stage."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, MAX_CONCURRENT_LEADERS=1, QUEUE_SIZE=1, PREPARE_URL=hook_of(simulator))
    async with pinned(gateway, list(crew(gateway).values())) as clients:
        each = len(clients)
        for number, client in enumerate(clients):
            await accepted(client, prompt(f"first {number}", prepare_hold="gate"))
            await held(simulator, "gate", number + 1)
            await accepted(client, prompt(f"second {number}", prepare_hold="gate"))
            assert (await client.submit("third")).status == 429
        metrics = gateway.metrics()
        assert metrics['refrain_stage_in_use{stage="leaders"}'] == each
        assert metrics['refrain_stage_waiting{stage="leaders"}'] == each
        assert metrics['refrain_stage_refused_total{reason="queue_full",stage="leaders"}'] == each
        assert metrics['refrain_stage_wait_seconds_count{stage="leaders"}'] == each
        simulator.release("gate")
        admitted = 'refrain_stage_admitted_total{stage="leaders"}'
        await eventually(lambda: gateway.metrics()[admitted] == 2 * each)
    metrics = gateway.metrics()
    assert metrics['refrain_stage_wait_seconds_count{stage="leaders"}'] == 2 * each
    assert metrics['refrain_stage_wait_seconds_sum{stage="leaders"}'] > 0
    for stage in STAGES:
        assert f'refrain_stage_wait_seconds_bucket{{le="+Inf",stage="{stage}"}}' in metrics
        assert metrics[f'refrain_permits_reclaimed_total{{stage="{stage}"}}'] == 0


# -- row 81 -----------------------------------------------------------------------------------
async def test_every_request_has_exactly_one_closing_line_with_its_own_id(
    simulate: Simulate, start: Start
) -> None:
    """Row 81: leaders, followers, hits, failures, cancels and refusals; never the id of whoever ended it."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator)
    expected: dict[str, str] = {}

    async def complete(id: str, question: str, outcome: str, **fields: Any) -> None:
        expected[id] = outcome
        await client.complete(question, headers={"x-request-id": id}, **fields)

    async with Client(gateway.url) as client:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(complete(f"twin-{number}", prompt("twins", hold="twins"), "completed"))
            await eventually(lambda: gateway.get("/pipeline")["totals"]["subscribers"] == 4)
            simulator.release("twins")
        await complete("hit", prompt("twins", hold="twins"), "completed", stream=True)
        await complete("failure", prompt("fails", truncate=1), "failed", stream=True)
        await complete("invalid", "x", "failed", n=0)
        expected["cancelled"] = "cancelled"
        headers = {"x-request-id": "cancelled"}
        submitted = (await client.submit(prompt("long", hold="never"), headers=headers)).json
        await client.call("POST", f"/chat/{submitted['id']}/cancel", headers={"x-request-id": "canceller"})
        await eventually(lambda: len(_closing(gateway)) >= len(expected))
        record = await client.record(submitted["id"])
    gateway.stop()

    assert Counter(line["request_id"] for line in _closing(gateway)) == Counter(expected.keys())
    assert {line["request_id"]: line["outcome"] for line in _closing(gateway)} == expected
    timings = {"queue_ms", "prepare_ms", "slot_wait_ms", "ttft_ms", "total_ms"}
    twin = next(line for line in _closing(gateway) if line["request_id"] == "twin-0")
    assert timings <= twin.keys()
    assert record["timings"].keys() == timings
    assert next(line for line in _closing(gateway) if line.get("id") == submitted["id"])["reason"]


async def test_every_log_line_is_one_json_object(simulate: Simulate, start: Start) -> None:
    """A log that a machine reads has no line that a machine cannot read, whatever clients send."""
    gateway = start(simulate(ttft=0, tps=0))
    banner = len(gateway.lines)
    async with Client(gateway.url) as client:
        await client.complete("hi\nthere\u2028and\r\nthere", user="a\nb")
        await client.complete("x", headers={"x-request-id": "not plain"})
        await client.call("POST", "/chat", data=b"{\n\r", headers={"content-type": "application/json"})
    gateway.stop()
    lines = [line for line in gateway.lines[banner:] if line]
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


# -- row 82 -----------------------------------------------------------------------------------
def _warnings(gateway: GatewayProcess) -> list[tuple[str, int]]:
    lines = [line for line in gateway.log if line["message"] == "a stage is nearly full"]
    assert all(line["level"] == "warning" for line in lines)
    return [(line["stage"], line["capacity"]) for line in lines]


async def test_a_stage_that_is_nearly_full_warns_once(simulate: Simulate, start: Start) -> None:
    """Row 82: four of five permits held are one warning, and more of the same is silence.

    The watch reads all stages together, and warns of one that it has seen full several times: the second
    stage's warning tells that the first was seen full as often again.
    """
    simulator = simulate(ttft=0, tps=0)
    settings = {"MAX_CONCURRENT_LLM_STREAMS": 5, "MAX_CONCURRENT_LEADERS": 5, "ABANDON_GRACE_S": 0}
    gateway = start(simulator, PREPARE_URL=hook_of(simulator), **settings)
    each = pinned(gateway, list(crew(gateway).values()))
    async with Client(gateway.url) as client, each as clients, AsyncExitStack() as stack:

        async def hold(name: str, askers: Iterable[Client], **directive: str) -> None:
            for number, asker in zip(range(4), askers, strict=False):
                submitted = await accepted(asker, prompt(f"{name} {number}", **directive))
                await stack.enter_async_context(client.listening(submitted["stream_url"]))
            await held(simulator, name, 4)

        await hold("streams", cycle(clients), hold="streams")
        await eventually(lambda: set(_warnings(gateway)) == {("llm_streams", 5)})
        await hold("leaders", repeat(clients[0]), prepare_hold="leaders")
        await eventually(lambda: ("leaders", 5) in _warnings(gateway))
    await at_rest(gateway)
    warned = Counter(_warnings(gateway))
    assert warned == {("llm_streams", 5): warned["llm_streams", 5], ("leaders", 5): 1}
    assert warned["llm_streams", 5] <= len(clients), "once by each who holds of what is shared"


# -- row 78 and I6 ----------------------------------------------------------------------------
async def test_health_answers_at_once_under_load(simulate: Simulate, start: Start) -> None:
    """I6: fifty streams of three hundred tokens and as many hits never hold the loop for long."""
    gateway = start(simulate(ttft=0, tps=0, tokens=300))
    async with Client(gateway.url) as client:
        with healthy(gateway):
            for _ in range(2):
                streams = await together(client.ask(f"load {number}") for number in range(50))
                assert all(stream.end.name == "done" for stream in streams)
                replies = await together(client.complete(f"load {number}") for number in range(50))
                assert {seen.status for seen in replies} == {200}
    await at_rest(gateway)
