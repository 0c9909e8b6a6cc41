"""The cancellation storm: does the upstream client's pool survive users who give up early?

    python -m bench.cancel_storm [--requests 20000] [--seed 1]

Many calls are cancelled at random moments, some before the response's headers, some in the middle of
the stream. Then good calls must succeed, as many at a time as the pool has connections (one lost
connection and they would wait for each other for ever), and after `close` none may be left open at
the server. Prints one line of JSON and fails if a check did.

The server is a process of its own, this file run with `--serve`: its sockets are not ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from runtime.errors import UpstreamError
from runtime.supervisor import Supervisor
from upstream.client import ModelClient

CONCURRENCY = 64
GOOD = 100
TOKENS = [f" token{n}" for n in range(6)]
TOKEN_EVERY_S = 0.01
CALL_TAKES_S = 0.1
LIMIT_S = 30.0


@dataclass
class Result:
    """What the storm did. `ok` sums it up; `open_*` are connections as the server counts them.

    `cancelled_in_stream` of the `cancelled` had already got a chunk.
    """

    requests: int
    cancelled: int = 0
    cancelled_in_stream: int = 0
    finished: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    good: int = 0
    open_after_good: int = 0
    open_after_close: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        ended = self.cancelled + self.finished == self.requests
        closed = self.open_after_good <= CONCURRENCY and self.open_after_close == 0
        return ended and closed and self.good == GOOD


class Permit:
    """The storm is not about admission."""

    stage = "llm_streams"
    held = True


async def storm(requests: int, seed: int) -> Result:
    """Run it against a server of its own. The moments are drawn from `seed`."""
    result = Result(requests)
    started = time.perf_counter()
    async with server() as port:
        client = ModelClient(f"http://127.0.0.1:{port}/v1", supervisor=Supervisor(), connections=CONCURRENCY)
        moments = random.Random(seed)
        left = iter(range(requests))
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(_cancel_each(client, left, moments, result))
        await _good_calls(client, result)
        result.open_after_good = await _open_connections(port)
        await client.close()
        result.open_after_close = await _open_connections(port, wanted=0)
    result.seconds = round(time.perf_counter() - started, 2)
    return result


async def _cancel_each(
    client: ModelClient, left: Iterator[int], moments: random.Random, result: Result
) -> None:
    """One of the `CONCURRENCY` users: asks, and gives up after a random time, until none is left."""
    for _ in left:
        # Every second one gives up while the connection is being made or the headers are awaited.
        patience = moments.uniform(0, CALL_TAKES_S * moments.choice((0.1, 1.2)))
        text: list[str] = []
        try:
            async with asyncio.timeout(patience):
                await _call(client, text)
            result.finished += 1
        except TimeoutError:
            result.cancelled += 1
            result.cancelled_in_stream += bool(text)
        except UpstreamError as error:
            result.errors[error.code] += 1


async def _good_calls(client: ModelClient, result: Result) -> None:
    """The first of them are answered only once `CONCURRENCY` of them have arrived."""
    for batch, meet in ((CONCURRENCY, CONCURRENCY), (GOOD - CONCURRENCY, 0)):
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            texts: list[list[str]] = [[] for _ in range(batch)]
            for text in texts:
                group.create_task(_call(client, text, meet))
        result.good += sum("".join(text) == "".join(TOKENS) for text in texts)


async def _call(client: ModelClient, text: list[str], meet: int = 0) -> None:
    """One call to its end; what it says is added to `text`."""
    body = {"model": "storm", "messages": [], "meet": meet}
    async with client.stream(Permit(), body) as batches:
        async for batch in batches:
            text += [chunk.text for chunk in batch]


async def _open_connections(port: int, wanted: int | None = None) -> int:
    """As the server counts them; asked again until there are `wanted`, if that is given."""
    until = time.monotonic() + LIMIT_S
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /open HTTP/1.1\r\n\r\n")
        count = int(await reader.read())
        writer.close()
        if wanted in (None, count) or time.monotonic() > until:
            return count
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[int]:
    """The streaming server as a child process; yields its port. It ends when its input does."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.cancel_storm",
        "--serve",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield int(await child.stdout.readline())
    finally:
        child.stdin.close()
        await child.wait()


class Streamer(asyncio.Protocol):
    """One connection of the server: a token per timer, nothing else."""

    open: ClassVar[int] = 0
    meeting: ClassVar[list[Streamer]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._received = b""
        Streamer.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        Streamer.open -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self in Streamer.meeting:
            Streamer.meeting.remove(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.startswith(b"GET"):
            self._transport.write(b"%d" % (Streamer.open - 1))  # but for the one that asks
            self._transport.close()
            return
        _, found, body = self._received.partition(b"\r\n\r\n")
        if found and body.endswith(b"}"):
            self._received = b""
            self._meet(json.loads(body)["meet"])

    def _meet(self, number: int) -> None:
        """Answer, together with the others once `number` are there."""
        Streamer.meeting.append(self)
        if len(Streamer.meeting) >= number:
            for streamer in Streamer.meeting:
                streamer._later([HEAD, *EVENTS])
            Streamer.meeting.clear()

    def _later(self, pieces: list[bytes]) -> None:
        self._timer = asyncio.get_running_loop().call_later(TOKEN_EVERY_S, self._send, pieces)

    def _send(self, pieces: list[bytes]) -> None:
        self._transport.write(pieces[0])
        if pieces[1:]:
            self._later(pieces[1:])


def _event(payload: bytes) -> bytes:
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(json.dumps({"id": "storm", "choices": [choice]}).encode())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [_chunk({"content": token}, None) for token in TOKENS]
EVENTS.append(_chunk({}, "stop") + _event(b"[DONE]") + b"0\r\n\r\n")


async def serve() -> None:
    """Serve on a free port, print it, end with the standard input."""
    listening = await asyncio.get_running_loop().create_server(Streamer, "127.0.0.1", 0)
    async with listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> int:
    """0 if every check held."""
    parser = argparse.ArgumentParser(description="the upstream client's cancellation storm")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return 0
    result = asyncio.run(storm(options.requests, options.seed))
    print(json.dumps(asdict(result) | {"ok": result.ok}))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
