"""The simulated model behind a real server, a real socket and a real client."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import uvicorn
from openai import APIStatusError, AsyncOpenAI

from tests.fakes.simulator_caller import chat_body
from upstream.simulator import Behaviour, answer_tokens, create_simulator

pytestmark = pytest.mark.anyio

_MESSAGES: Any = [{"role": "user", "content": "hi"}]
_CALL = "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n{}"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A simulator on an ephemeral port. It listens before its server runs, so nobody has to wait for it."""
    app = create_simulator(Behaviour(ttft=0, tps=0, tokens=5))
    # With its protocol left at 0, asyncio would not know it for TCP, leave Nagle on, and every second
    # small write would wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, access_log=False)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        yield int(listener.getsockname()[1])
        server.should_exit = True


def _client(port: int) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


async def _stats(port: int) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/stats") as reply:
        return await reply.json()


async def test_the_openai_client_reads_its_stream(port: int) -> None:
    """The SDK parses every chunk, and its text is the foretold one."""
    async with _client(port) as client:
        stream = await client.chat.completions.create(
            model="any", messages=_MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [piece for piece in text if piece] == answer_tokens(_MESSAGES, 5)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_the_openai_client_understands_whole_answers_models_and_errors(port: int) -> None:
    """Completion, model list and error object have the shapes that the SDK knows."""
    async with _client(port) as client:
        whole = await client.chat.completions.create(model="any", messages=_MESSAGES)
        assert whole.choices[0].message.content == "".join(answer_tokens(_MESSAGES, 5))
        assert [model.id async for model in client.models.list()] == ["refrain-sim"]
        scripted: Any = chat_body("[[sim status=400 code=context_length_exceeded]]")["messages"]
        with pytest.raises(APIStatusError) as refused:
            await client.chat.completions.create(model="any", messages=scripted)
    assert (refused.value.status_code, refused.value.code) == (400, "context_length_exceeded")


async def test_a_reset_tears_the_body_after_its_tokens(port: int) -> None:
    """The client gets what was sent, and then an error instead of the end."""
    received = io.BytesIO()
    with pytest.raises(aiohttp.ClientPayloadError):
        await _read_stream(port, "[[sim reset=3]]", received)
    assert received.getvalue().count(b'"delta":{"content"') == 3


async def _read_stream(port: int, text: str, received: io.BytesIO) -> None:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=chat_body(text)) as reply:
        async for data in reply.content.iter_any():
            received.write(data)


async def test_one_caller_at_a_time_never_looks_like_two(port: int) -> None:
    """Whoever leaves one connection and then asks on another has held one place only, as the peak says."""
    await asyncio.to_thread(_leave_and_ask_again, port, 100)
    stats = await _stats(port)
    assert (stats["calls"], stats["peak"], stats["in_flight"]) == (200, 1, 0)
    assert (stats["aborted"], stats["completed"]) == (100, 100)


def _leave_and_ask_again(port: int, rounds: int) -> None:
    """In a thread, with blocking sockets: a close is on the wire before the next request is."""
    with socket.create_connection(("127.0.0.1", port)) as kept:
        for _ in range(rounds):
            with socket.create_connection(("127.0.0.1", port)) as left:
                left.sendall(
                    _request('{"stream":true,"messages":[{"role":"user","content":"[[sim stall=0]]"}]}')
                )
                _read_until(left, b"\r\n\r\n")
            kept.sendall(_request('{"stream":true,"messages":[{"role":"user","content":"hi"}]}'))
            _read_until(kept, b"0\r\n\r\n")


def _request(body: str) -> bytes:
    return _CALL.format(len(body), body).encode()


def _read_until(connection: socket.socket, mark: bytes) -> None:
    received = b""
    while not received.endswith(mark):
        data = connection.recv(65536)
        assert data, "the simulator closed the connection"
        received += data
