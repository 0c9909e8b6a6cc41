"""The end of a process: drained, interrupted or killed, it hangs on nobody and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream, text_of
from tests.system.crew import crew
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, filled, held

pytestmark = pytest.mark.anyio

TOKENS = 12


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    # Not pytest's tmp_path: its names are too long for a unix socket.
    with tempfile.TemporaryDirectory(prefix="rf-") as path:
        yield Path(path)


def folders(runtime_dir: Path) -> list[Path]:
    """What instances keep there, apart from the lock that they share."""
    return [path for path in runtime_dir.glob("*/*") if path.name != ".lock"]


def children(gateway: GatewayProcess) -> list[psutil.Process]:
    return psutil.Process(gateway.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    """Ended, whether or not whoever inherited them has taken notice."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


async def ended(gateway: GatewayProcess) -> int:
    """Its exit status. Half a minute is much less than any drain that is not to be waited for."""
    return await asyncio.to_thread(gateway.wait, 30.0)


async def until_draining(client: Client) -> None:
    async def red() -> bool:
        ready = await client.call("GET", "/readyz")
        assert ready.json["status"] in ("ok", "draining")
        return ready.status == 503

    await eventually(red)


async def test_a_drain_refuses_new_work_and_finishes_what_runs(
    simulator: SimulatorProcess, start: Start, runtime_dir: Path
) -> None:
    """Row 87: running, queued and unopened requests are served; a second SIGTERM changes nothing."""
    gateway = start(simulator, MAX_CONCURRENT_LLM_STREAMS=2, XDG_RUNTIME_DIR=runtime_dir)
    assert len(folders(runtime_dir)) == 1
    processes = children(gateway)
    assert any("redis" in process.name() for process in processes)
    live, whole, queued, unopened = (prompt(word, hold="drain", hold_after=3) for word in "ABCD")
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        first = await accepted(client, live)
        running = group.create_task(client.stream(first["stream_url"]))
        completing = group.create_task(client.complete(whole))
        await held(simulator, "drain", 2)
        waiting = group.create_task(client.chunks(queued))
        await filled(gateway, "llm_streams", 2, 1)
        later = await accepted(client, unopened)

        gateway.signal(signal.SIGTERM)
        await until_draining(client)
        for refused in (
            await client.submit("Too late"),
            await client.complete("Too late"),
            await client.submit(live),
        ):
            assert (refused.status, refused.error["code"]) == (503, "draining")
            assert refused.headers["x-refrain-reason"] == "draining"
            assert int(refused.headers["retry-after"]) >= 1
        assert (await client.call("GET", "/healthz")).status == 200

        gateway.signal(signal.SIGTERM)
        # Long after it has taken notice of that, it still answers.
        await eventually(lambda: gateway.stage("llm_streams")["oldest_wait_ms"] > 1000)
        second = group.create_task(client.stream(first["stream_url"]))
        opened = group.create_task(client.stream(later["stream_url"]))
        await filled(gateway, "llm_streams", 2, 2)
        assert (await client.record(first["id"]))["status"] == "streaming"
        assert gateway.popen.poll() is None
        simulator.release("drain")
    for stream, question in ((running, live), (second, live), (opened, unopened)):
        assert stream.result().text == answer_to(question, TOKENS)
        assert stream.result().end.name == "done"
    assert completing.result().json["choices"][0]["message"]["content"] == answer_to(whole, TOKENS)
    assert waiting.result()[1][-1] == "[DONE]"
    assert text_of(waiting.result()[1]) == answer_to(queued, TOKENS)
    assert await ended(gateway) == 0
    assert gone(processes)
    assert folders(runtime_dir) == []
    assert simulator.stats()["calls"] == simulator.stats()["completed"] == 4


async def test_what_outlasts_the_drain_gets_its_end_and_nothing_is_left(
    start: Start, runtime_dir: Path
) -> None:
    """Row 87: at DRAIN_TIMEOUT every request ends with `draining`; Redis and the simulated model go too."""
    gateway = start(None, DRAIN_TIMEOUT_S=1, XDG_RUNTIME_DIR=runtime_dir, MAX_CONCURRENT_LLM_STREAMS=3)
    processes = children(gateway)
    assert len(processes) >= 2, "a Redis and a simulated model"
    endless = [prompt(word, stall=4, ttft=0, tps=0) for word in ("Native", "Streamed", "Whole", "Queued")]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        native = group.create_task(client.ask(endless[0]))
        streamed = group.create_task(client.chunks(endless[1]))
        whole = group.create_task(client.complete(endless[2]))
        await filled(gateway, "llm_streams", 3, 0)
        queued = group.create_task(client.ask(endless[3]))
        await filled(gateway, "llm_streams", 3, 1)
        await accepted(client, "Submitted and never opened")
        gateway.signal(signal.SIGTERM)
    assert native.result().text == answer_to(endless[0], 4)
    for stream in (native.result(), queued.result()):
        assert (stream.end.name, stream.end.json["code"]) == ("failed", "draining")
        assert stream.end.json["retryable"] is True
    _, frames = streamed.result()
    assert text_of(frames) == answer_to(endless[1], 4)
    assert frames[-1]["error"]["code"] == "draining"
    assert (whole.result().status, whole.result().error["code"]) == (503, "draining")
    assert await ended(gateway) == 0
    assert gone(processes)
    assert folders(runtime_dir) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_ends_at_the_first_signal(
    start: Start, runtime_dir: Path, number: signal.Signals
) -> None:
    """Row 87: with nothing to finish there is nothing to wait for, open connections and feeds or not."""
    gateway = start(None, XDG_RUNTIME_DIR=runtime_dir, DRAIN_TIMEOUT_S=300)
    processes = children(gateway)
    async with aiohttp.ClientSession(gateway.url) as idle, idle.get("/pipeline/stream") as feed:
        assert (await idle.get("/healthz")).status == 200
        await feed.content.readline()
        gateway.signal(number)
        assert await ended(gateway) == 0
    assert gone(processes)
    assert folders(runtime_dir) == []


async def test_signals_without_end_change_nothing(start: Start, runtime_dir: Path) -> None:
    """Row 87: a manager that repeats its SIGTERM to the last moment cuts no clean-up short."""
    gateway = start(None, XDG_RUNTIME_DIR=runtime_dir)
    processes = children(gateway)
    async with asyncio.timeout(30):
        while gateway.popen.poll() is None:
            gateway.signal(signal.SIGTERM)
            await asyncio.sleep(0.002)
    assert await ended(gateway) == 0
    assert gone(processes)
    assert folders(runtime_dir) == []


async def test_a_second_interrupt_ends_at_once(start: Start, runtime_dir: Path) -> None:
    """Row 87: the first Ctrl-C drains, the second does not wait for what runs; nothing is left behind."""
    gateway = start(None, XDG_RUNTIME_DIR=runtime_dir, DRAIN_TIMEOUT_S=300)
    processes = children(gateway)
    async with Client(gateway.url) as client:
        url = (await accepted(client, prompt("Endless", stall=4, ttft=0, tps=0)))["stream_url"]
        async with client.listening(url) as (_, events, _):
            while (await anext(events)).name != "delta":
                continue
            gateway.signal(signal.SIGINT)
            await until_draining(client)
            assert gateway.popen.poll() is None
            gateway.signal(signal.SIGINT)
            assert await ended(gateway) == 0
    assert gone(processes)
    assert folders(runtime_dir) == []


async def test_streams_that_are_flowing_when_the_signal_comes_arrive_whole(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 87: twenty answers in full flow, on both wires: every byte of each, and one end."""
    gateway = start(simulator)
    questions = [prompt(f"Flowing {number}", tps=15, tokens=25) for number in range(20)]
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        native = [group.create_task(client.ask(question)) for question in questions[::2]]
        openai = [group.create_task(client.chunks(question)) for question in questions[1::2]]
        await filled(gateway, "llm_streams", 20, 0)
        gateway.signal(signal.SIGTERM)
    for asked, stream in zip(questions[::2], native, strict=True):
        assert stream.result().text == answer_to(asked, 25)
        assert stream.result().end.name == "done"
    for asked, chunks in zip(questions[1::2], openai, strict=True):
        assert text_of(chunks.result()[1]) == answer_to(asked, 25)
        assert chunks.result()[1][-1] == "[DONE]"
    assert await ended(gateway) == 0


async def test_after_a_kill_nobody_hangs_nothing_is_left_and_old_ids_are_unknown(
    start: Start, runtime_dir: Path
) -> None:
    """Row 88: kill -9 cuts every stream, takes the children along, and the next start cleans up."""
    gateway = start(None, XDG_RUNTIME_DIR=runtime_dir)
    processes = children(gateway)
    assert len(processes) >= 2, "a Redis and a simulated model"
    async with Client(gateway.url) as client:
        done = await accepted(client, prompt("Finished", ttft=0, tps=0))
        await client.stream(done["stream_url"])
        live = await accepted(client, prompt("Endless", stall=4, ttft=0, tps=0))
        waiting = await accepted(client, "Not opened")

        async def cut(request: aiohttp.client._RequestContextManager) -> bytes:
            read = b""
            try:
                async with request as reply:
                    async for chunk in reply.content.iter_any():
                        read += chunk
            except aiohttp.ClientError:
                return read
            raise AssertionError("a cut stream must not look like a complete one")

        body = {"messages": [{"role": "user", "content": prompt("Endless there", hang=1)}]}
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            native = group.create_task(cut(client.http.get(live["stream_url"])))
            whole = group.create_task(cut(client.http.post("/v1/chat/completions", json=body)))
            await filled(gateway, "llm_streams", 2, 0)
            await client.until_status(live["id"], "streaming")
            # The parent first: it would start another worker. One process is both.
            for pid in dict.fromkeys([gateway.pid, *crew(gateway).values()]):
                os.kill(pid, signal.SIGKILL)
        assert b"event: done" not in native.result()
        assert b"event: failed" not in native.result()
        assert whole.result() == b""
    await ended(gateway)
    await eventually(lambda: gone(processes))

    again = start(None, XDG_RUNTIME_DIR=runtime_dir)
    assert len(folders(runtime_dir)) == 1
    async with Client(again.url) as client, asyncio.timeout(30):
        for id in (chat["id"] for chat in (done, live, waiting)):
            for method, path in (("GET", "/stream"), ("GET", ""), ("POST", "/cancel")):
                reply = await client.call(method, f"/chat/{id}{path}")
                assert (reply.status, reply.error["code"]) == (404, "not_found")
        answer: Stream = await client.ask(prompt("Finished", ttft=0, tps=0))
        assert answer.end.name == "done"
    assert again.stop() == 0
    assert folders(runtime_dir) == []
