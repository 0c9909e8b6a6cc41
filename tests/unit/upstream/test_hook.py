"""The preparation hook: what is sent, what is accepted, and that everything else is one error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from runtime.errors import PrepareFailed
from tests.fakes.upstream import CLOSE, HANG, RESET, Gate, Script, ScriptedUpstream, head, piece, reply
from upstream.hook import HookAnswer, PreparationHook

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "é"}]


def ok(answer: Any) -> Script:
    return [reply("200 OK", json.dumps(answer).encode())]


async def ask(script: Script, canonical: dict[str, Any] | None = None) -> HookAnswer:
    async with ScriptedUpstream([script]) as server:
        hook = PreparationHook(f"http://127.0.0.1:{server.port}/prepare", connections=2)
        try:
            return await hook.prepare(canonical or {"messages": MESSAGES})
        finally:
            await hook.close()


async def test_the_canonical_request_is_posted_as_it_is() -> None:
    """At top level, as JSON, to the address that was configured."""
    canonical = {"messages": MESSAGES, "model": "m", "temperature": 0.5, "x": None}
    async with ScriptedUpstream([ok({"messages": MESSAGES})]) as server:
        hook = PreparationHook(f"http://127.0.0.1:{server.port}/prepare?team=a", connections=2)
        await hook.prepare(canonical)
        await hook.close()
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/prepare?team=a")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == canonical


async def test_messages_alone_are_enough() -> None:
    """The rest has defaults: the same model, stored for as long as usual."""
    answer = await ask(ok({"messages": MESSAGES}))
    assert answer == HookAnswer(messages=MESSAGES, model=None, store=True, ttl_s=None)


async def test_everything_it_says_is_taken() -> None:
    """Fields that this version does not know are left alone."""
    said = {"messages": MESSAGES, "model": "other", "store": False, "ttl_s": 30, "later": 1}
    answer = await ask(ok(said))
    assert (answer.model, answer.store, answer.ttl_s) == ("other", False, 30.0)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        {"messages": []},
        {"messages": None},
        {"messages": "x"},
        {"messages": ["x"]},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": 1}]},
        {"messages": MESSAGES, "model": ""},
        {"messages": MESSAGES, "model": 1},
        {"messages": MESSAGES, "store": "no"},
        {"messages": MESSAGES, "store": None},
        {"messages": MESSAGES, "ttl_s": -1},
        {"messages": MESSAGES, "ttl_s": "60"},
        {"messages": MESSAGES, "ttl_s": True},
    ],
)
async def test_an_answer_of_another_shape_fails(answer: Any) -> None:
    """Going on with half of what a team's service meant would be a wrong answer."""
    with pytest.raises(PrepareFailed):
        await ask(ok(answer))


@pytest.mark.parametrize(
    "script",
    [
        [reply("400 Bad Request", b'{"messages":[{"role":"user"}]}')],
        [reply("503 Unavailable", b"")],
        [reply("302 Found", b"", Location="/elsewhere")],
        [reply("200 OK", b"nonsense")],
        [reply("200 OK", b"")],
        [reply("200 OK", b'{"messages":' + b"[" * 100_000)],
        [reply("200 OK", b'{"messages":[{"role":"user","n":NaN}]}')],
        [head(Content_Length="100"), b"short", CLOSE],
        [RESET],
        [CLOSE],
        [b"garbage\r\n\r\n", CLOSE],
        [head(Transfer_Encoding="chunked"), *[piece(b" " * 1_048_576)] * 21, HANG],
    ],
)
async def test_every_failure_is_one_error(script: Script) -> None:
    """Statuses, garbage, cut connections, an endless body."""
    with pytest.raises(PrepareFailed):
        await ask(script)


async def test_a_hook_that_is_not_there_fails() -> None:
    """Nobody listens on that port."""
    hook = PreparationHook("http://127.0.0.1:1/prepare", connections=2)
    with pytest.raises(PrepareFailed):
        await hook.prepare({"messages": MESSAGES})
    await hook.close()


async def test_a_request_that_json_cannot_carry_fails() -> None:
    """It never leaves."""
    with pytest.raises(PrepareFailed):
        await ask(ok({"messages": MESSAGES}), {"messages": "\ud800"})


@pytest.mark.parametrize("script", [[HANG], [head(Content_Length="9"), b"{", HANG]])
async def test_cancelling_closes_the_connection_at_once(script: Script) -> None:
    """Before the answer and in the middle of it."""
    async with ScriptedUpstream([script]) as server:
        hook = PreparationHook(f"http://127.0.0.1:{server.port}/", connections=2)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(hook.prepare({"messages": MESSAGES}))
            await server.until(lambda: len(server.requests) == 1)
            call.cancel()
        await server.until(lambda: server.aborted == 1)
        await hook.close()


async def test_no_more_connections_than_allowed() -> None:
    """The calls beyond wait their turn."""
    gate = Gate()
    async with ScriptedUpstream([[gate, *ok({"messages": MESSAGES})]]) as server:
        hook = PreparationHook(f"http://127.0.0.1:{server.port}/", connections=2)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(hook.prepare({"messages": MESSAGES})) for _ in range(5)]
            await server.until(lambda: len(server.requests) == 2)
            gate.open()
        assert all(call.result().messages == MESSAGES for call in calls)
        await hook.close()
        await server.until(lambda: server.open == 0)
