"""Nothing is lost and nothing leaks: permits, slots, memory, and the peace of the other readers."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from tests.fakes.eventually import eventually
from tests.system.client import Client, Stream
from tests.system.crew import crew
from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.prompts import prompt, saying
from tests.system.scene import Simulate, Start, accepted, at_rest, filled, held, hook_of, together
from tests.system.sse import Event, Reader

pytestmark = pytest.mark.anyio

STAGES = ("cache", "leaders", "followers", "llm_streams", "llm_calls")
TOKENS = 8
MIB = 1 << 20


@pytest.fixture
def simulator(simulate: Simulate) -> SimulatorProcess:
    return simulate(ttft=0, tps=0, tokens=TOKENS)


def check_conservation(gateway: GatewayProcess) -> None:
    """One scrape: in every stage, what was admitted is released or held, and no cap is exceeded."""
    seen = gateway.metrics()
    for stage in STAGES:
        label = f'{{stage="{stage}"}}'
        admitted, released, reclaimed, in_use, capacity = (
            seen[f"refrain_{name}{label}"]
            for name in (
                "stage_admitted_total",
                "stage_released_total",
                "permits_reclaimed_total",
                "stage_in_use",
                "stage_capacity",
            )
        )
        assert admitted == released + reclaimed + in_use, stage
        assert 0 <= in_use <= capacity, stage
        assert reclaimed == 0


@pytest.mark.parametrize("planner", [None, "planner"])
async def test_permits_are_conserved_at_every_scrape_of_a_mixed_load(
    simulator: SimulatorProcess, start: Start, planner: str | None
) -> None:
    """Row 99: through hits, joins, failures, cancels and disconnects; then the whole capacity is there."""
    gateway = start(
        simulator,
        MAX_CONCURRENT_LEADERS=3,
        MAX_CONCURRENT_LLM_STREAMS=4,
        MAX_CONCURRENT_LLM_CALLS=2,
        PREPARE_URL=hook_of(simulator),
        ABANDON_GRACE_S=0,
        **({"PREPARE_MODEL": planner} if planner else {}),
    )
    chance = random.Random(99)

    async def behave(client: Client, number: int) -> None:
        question = prompt(f"Mixed {chance.randrange(60)}", **chance.choice(HABITS))
        way = chance.choice(("ask", "complete", "cancel", "leave"))
        if way == "ask":
            await client.ask(question)
        elif way == "complete":
            await client.complete(question, stream=bool(number % 2))
        elif way == "cancel":
            chat = await accepted(client, question)
            assert (await client.cancel(chat["id"])).status in (200, 409)
            await client.stream(chat["stream_url"])
        else:
            async with client.listening((await accepted(client, question))["stream_url"]) as (_, events, _):
                await anext(events)

    async with Client(gateway.url) as client:
        async with asyncio.TaskGroup() as group:
            load = group.create_task(together(behave(client, number) for number in range(200)))
            scrapes = 0
            while not load.done() or not scrapes:
                await asyncio.to_thread(check_conservation, gateway)
                scrapes += 1
        await at_rest(gateway)
        check_conservation(gateway)
        await probe(client, gateway, simulator, planned=planner is not None)
    assert scrapes > 1


HABITS: tuple[dict[str, object], ...] = (
    {},
    {},
    {"truncate": 3},
    {"status": 500},
    {"ttft": 0.05},
    {"empty": 1},
)


async def probe(
    client: Client, gateway: GatewayProcess, simulator: SimulatorProcess, *, planned: bool
) -> None:
    """I3, from outside: capacity + 10 requests reach exactly the capacity at the model."""
    capacity = 2 if planned else 4  # a planning call asks with the same words, so it comes to the same hold
    simulator.reset()
    async with asyncio.TaskGroup() as group:
        for number in range(capacity + 10):
            group.create_task(client.complete(prompt(f"Probe {number}", hold="probe")))
        if planned:
            leaders = await led(gateway, capacity + 10)
            await filled(gateway, "llm_calls", capacity, leaders - capacity)
        else:
            await filled(gateway, "llm_streams", capacity, 10)
        await held(simulator, "probe", capacity)
        assert simulator.stats()["peak"] == capacity
        simulator.release("probe")
    assert simulator.stats()["completed"] == (capacity + 10) * (2 if planned else 1)
    await at_rest(gateway)


async def led(gateway: GatewayProcess, asked: int) -> int:
    """Until so many lead or wait for it, and no worker lets fewer lead than it may; how many lead."""
    in_use = 0

    def full() -> bool:
        nonlocal in_use
        each = [
            stage
            for worker in gateway.get("/pipeline")["workers"]
            for stage in worker["stages"]
            if stage["name"] == "leaders"
        ]
        in_use = sum(stage["in_use"] for stage in each)
        there = [stage["in_use"] + stage["waiting"] for stage in each]
        return bool(sum(there) == asked and in_use == sum(min(3, number) for number in there))

    await eventually(full)
    return in_use


BIG = "".join(f"{number:07d} " for number in range(MIB))  # 8 MiB, every place in it its own
PIECE = 1 << 16


@contextmanager
def deaf_reader(gateway: GatewayProcess, head: str, body: str = "") -> Iterator[socket.socket]:
    """A client that asks and reads nothing of the answer, its buffer as small as the kernel allows."""
    address = urlsplit(gateway.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.connect((address.hostname, address.port))
        sock.sendall(f"{head}\r\nHost: gateway\r\n\r\n{body}".encode())
        yield sock


def heard(sock: socket.socket) -> tuple[list[Event], str]:
    """What arrived before the cut: whole events only, and the cursor after them."""
    data = b""
    sock.settimeout(10)
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    _, _, body = data.partition(b"\r\n\r\n")
    # Chunked: the sizes stand on lines of their own, between the frames or inside of one that was torn.
    reader = Reader()
    events = reader.feed(unchunked(body))
    return events, reader.last_id


def unchunked(body: bytes) -> bytes:
    plain = b""
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        plain += body[:length]
        body = body[length + 2 :]
    return plain


async def submitted(client: Client, question: str) -> str:
    """The stream's address. In pieces: a client's loop must not stall over so large a body either."""
    body = io.BytesIO(json.dumps({"message": question}).encode())
    reply = await client.call("POST", "/chat", data=body, headers={"content-type": "application/json"})
    assert reply.status == 202
    url: str = reply.json["stream_url"]
    return url


def totals(gateway: GatewayProcess) -> dict[str, int]:
    found: dict[str, int] = gateway.get("/pipeline")["totals"]
    return found


async def test_a_reader_that_reads_nothing_is_cut_alone_and_may_resume(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 29: others get every byte while it hangs and after it is cut; it comes back to the exact rest."""
    gateway = start(simulator, SEND_TIMEOUT_S=1.5, CACHE_MAX_ENTRY_BYTES=16 * MIB, ABANDON_GRACE_S=60)
    pieces = len(BIG) // PIECE
    question = prompt("A big one", text=saying(BIG), cut=PIECE, hold="deaf", hold_after=pieces - 1)
    async with Client(gateway.url) as client, asyncio.TaskGroup() as group:
        url = await submitted(client, question)
        twin = await submitted(client, question)
        quick = group.create_task(client.stream(twin))
        await held(simulator, "deaf")
        with deaf_reader(gateway, f"GET {url} HTTP/1.1") as sock:
            await eventually(lambda: totals(gateway)["readers_cut"] == 1)
            await eventually(lambda: totals(gateway)["subscribers"] == 1)
            assert not quick.done()
            assert totals(gateway)["upstream_in_flight"] == 1
            simulator.release("deaf")
            events, cursor = await asyncio.to_thread(heard, sock)
    assert quick.result().text == BIG
    assert quick.result().end.name == "done"
    assert not [event for event in events if event.name in ("done", "failed", "cancelled")]
    before = "".join(event.json["text"] for event in events if event.name == "delta")
    assert len(before) < len(BIG)
    async with Client(gateway.url) as client:
        rest: Stream = await client.stream(url, last_event_id=cursor)
        assert before + rest.text == BIG
        assert rest.end.name == "done"
        await at_rest(gateway)
    assert simulator.stats()["calls"] == 1


@pytest.mark.per_process("memory is a process's own, and a reader elsewhere fetches so large an answer anew")
async def test_the_memory_of_readers_that_were_cut_is_given_back(
    simulator: SimulatorProcess, start: Start
) -> None:
    """Row 29: each parks megabytes in the server until it is cut; rounds of them must not add up."""
    gateway = start(simulator, SEND_TIMEOUT_S=0.5, CACHE_MAX_ENTRY_BYTES=16 * MIB)
    readers, process = 6, psutil.Process(gateway.pid)
    async with Client(gateway.url) as client:
        url = await submitted(client, prompt("A big one", text=saying(BIG), cut=PIECE))
        assert (await client.stream(url)).text == BIG
        used = []
        for round_number in range(1, 5):
            await one_round(gateway, url, readers)
            assert totals(gateway)["readers_cut"] == readers * round_number
            used.append(process.memory_info().rss)
        await at_rest(gateway)
    assert used[-1] - used[0] < readers * len(BIG), "three more rounds cost less than one would, if it leaked"


async def one_round(gateway: GatewayProcess, path: str, readers: int) -> None:
    already = totals(gateway)["readers_cut"]
    with ExitStack() as stack:
        for _ in range(readers):
            stack.enter_context(deaf_reader(gateway, f"GET {path} HTTP/1.1"))
        await eventually(lambda: totals(gateway)["readers_cut"] == already + readers)
        await eventually(lambda: totals(gateway)["subscribers"] == streams_of(gateway) == 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_slow_caller_of_the_openai_wire_is_cut_alone_as_well(
    simulator: SimulatorProcess, start: Start, stream: bool
) -> None:
    """Row 29: streamed or whole; and the call that only it was interested in is aborted."""
    gateway = start(simulator, SEND_TIMEOUT_S=0.5, CACHE_MAX_ENTRY_BYTES=16 * MIB)
    hold: dict[str, object] = {"hold": "deaf-too", "hold_after": len(BIG) // PIECE - 1} if stream else {}
    question = prompt("A big one", text=saying(BIG), cut=PIECE, **hold)
    body = json.dumps({"stream": stream, "messages": [{"role": "user", "content": question}]})
    with deaf_reader(gateway, f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}", body):
        await eventually(lambda: totals(gateway)["readers_cut"] == 1, within=30)
        await eventually(lambda: simulator.stats()["aborted" if stream else "completed"] == 1)
        await at_rest(gateway)
        await eventually(lambda: streams_of(gateway) == 0)


def streams_of(gateway: GatewayProcess) -> int:
    """Clients' connections that the kernel still holds something for; ours that asks is closing already."""
    port = urlsplit(gateway.url).port
    found = [one for pid in crew(gateway).values() for one in psutil.Process(pid).net_connections(kind="tcp")]
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)
