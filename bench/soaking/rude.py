"""Callers who leave at no particular moment, send nonsense, or open a stream and read nothing of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from bench.soaking.people import People
from bench.soaking.scene import Scene
from tests.system.raw import exchange, get, post, wire
from tests.system.sse import Reader

#: Path, body, status.
HOSTILE: Final = (
    ("/chat", b"", 400),
    ("/chat", b'{"message":"hi"', 400),
    ("/chat", b'{"message":" "}', 422),
    ("/chat", b'{"message":"hi","temperature":NaN}', 422),
    ("/chat", b'{"message":"hi","x":' + b"[" * 5000, 422),
    ("/v1/chat/completions", b"null", 422),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"\\udc00"}]}', 422),
    ("/v1/chat/completions", b'{"messages":"' + b"x" * 200_000 + b'"}', 422),
)
#: Longer than SEND_TIMEOUT_S and the time it takes to notice.
FROZEN_S: Final = 4.0


class Rude:
    """What became of those who left, only the gateway knows: they are counted apart."""

    def __init__(self, people: People, scene: Scene) -> None:
        self._people = people
        self._scene = scene
        self._chance = people.chance

    def ways(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [(self.drops_stream, 10), (self.drops_call, 12), (self.talks_nonsense, 2)]

    async def drops_stream(self) -> None:
        """A native reader leaves, by FIN or RST, at any moment of its answer; nobody comes back."""
        question = self._people.questions.any()
        if (answer := await self._people.submitted(question)) is not None:
            self._people.tally.unseen(question)
            await self._leave(get(answer.url))

    async def drops_call(self) -> None:
        """An OpenAI caller leaves likewise, at times before its request was read."""
        question, stream = self._people.questions.any(), self._chance.random() < 0.5
        self._people.tally.vague += 1
        self._people.tally.unseen(question)
        body = {"messages": [{"role": "user", "content": question.text}], "stream": stream}
        await self._leave(post("/v1/chat/completions", body))

    async def talks_nonsense(self) -> None:
        path, body, status = self._chance.choice(HOSTILE)
        self._people.tally.vague += 1
        answer = await exchange(self._scene.gateway.url, post(path, body))
        if answer.status != status:
            self._people.tally.problem(f"nonsense was answered {answer.status}, not {status}", body[:80])

    async def freezes(self) -> None:
        """One reader that takes nothing is cut, and then gets the rest."""
        question = self._people.questions.big()
        if (answer := await self._people.submitted(question)) is None:
            return
        with deaf(self._scene.gateway.url, get(answer.url)) as sock:
            await asyncio.sleep(FROZEN_S)
            data, cut = await asyncio.to_thread(left_over, sock)
        self._people.listener.heard(answer, Reader().feed(unchunked(data.partition(b"\r\n\r\n")[2])))
        if not cut and answer.end != "failed":
            self._people.unless_redis("a frozen reader was not cut", answer, (len(data), data[-200:]))
        if answer.end:
            self._people.listener.judge(answer)
        else:
            await self._people.listener.whole(answer)

    async def _leave(self, request: bytes) -> None:
        async with wire(self._scene.gateway.url) as connection:
            await connection.send(request)
            await asyncio.sleep(self._chance.choice((0.0, 0.02, 0.1, 0.6)) * self._chance.random())
            await connection.leave(self._chance.choice(("fin", "rst")))


def deaf(url: str, request: bytes) -> socket.socket:
    """A connection that asks and reads nothing, its buffer as small as the kernel allows."""
    address = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.connect((address.hostname, address.port))
    sock.sendall(request)
    return sock


def left_over(sock: socket.socket) -> tuple[bytes, bool]:
    """What the kernel had kept of an answer, and whether its connection was cut: without the last chunk."""
    data = b""
    # In a window of a kilobyte the rest would take half a minute, longer than the gateway keeps the answer.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.settimeout(10)
    try:
        while part := sock.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    except TimeoutError:
        return data, False
    return data, not data.endswith(b"0\r\n\r\n")


def unchunked(body: bytes) -> bytes:
    """The payload of whole and torn chunks."""
    plain = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        number = int(size, 16)
        plain += rest[:number]
        body = rest[number + 2 :]
    return plain
