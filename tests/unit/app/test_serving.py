"""One instance, started in order and stopped in reverse: what it says, and what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.serving import serve
from app.stopping import SIGNALS, Stop
from config.settings import Settings
from tests.fakes.eventually import eventually
from tests.fakes.upstream import ScriptedUpstream, answer

pytestmark = pytest.mark.anyio

REDIS = "unix:///nonexistent/refrain-test.sock"


@dataclass
class Instance:
    said: str
    port: int

    async def get(self, path: str) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        return json.loads(reply.partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def serving(capsys: pytest.CaptureFixture[str], **settings: Any) -> AsyncIterator[Instance]:
    """An instance in this process, told to stop the way an operator would, with exit status 0."""
    said = ""

    def greeted() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "Refrain is at" in said

    async with asyncio.TaskGroup() as group:
        stop = Stop()
        task = group.create_task(serve(Settings(port=0, drain_timeout_s=5, **settings), {}, stop))
        await eventually(greeted, within=60)
        instance = Instance(said, int(re.findall(r"is at http://127.0.0.1:(\d+)/", said)[0]))
        assert await instance.get("/healthz") == {"status": "ok"}
        try:
            yield instance
        finally:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            stop.install()
            try:
                signal.raise_signal(signal.SIGTERM)
                assert await task == 0
                signal.raise_signal(signal.SIGTERM)  # once more, when all is over
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", instance.port)


async def test_it_greets_with_what_is_behind_it_and_stops_when_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An operator sees the model's address and three lines to paste, and no secret."""
    async with ScriptedUpstream([answer("a")]) as upstream:
        keys = "tenant:s3cret-key"
        async with serving(
            capsys, openai_base_url=upstream.base_url, redis_url=REDIS, api_keys=keys
        ) as instance:
            assert f"Upstream: {upstream.base_url}" in instance.said
            assert f"http://127.0.0.1:{instance.port}/chat" in instance.said
            assert "YOUR_KEY" in instance.said
            assert "SIMULATED" not in instance.said
            assert "embedded" not in instance.said
            assert "s3cret" not in instance.said
        assert upstream.open == 0


async def test_without_a_place_for_its_redis_it_serves_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A gateway that does not start helps nobody; readiness tells what is missing."""
    (tmp_path / f"refrain-{os.geteuid()}").write_text("a file where its folder would be")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with (
        ScriptedUpstream([answer("a")]) as upstream,
        serving(capsys, openai_base_url=upstream.base_url) as instance,
    ):
        assert "No embedded Redis" in instance.said
        assert "not cached" in instance.said

        async def redis_is_away() -> bool:
            return bool((await instance.get("/readyz"))["components"]["redis"] == "unreachable")

        await eventually(redis_is_away, within=30)
