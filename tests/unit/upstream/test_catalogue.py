"""The list of models: fetched once for all, whoever goes away, and kept when the upstream does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.errors import UpstreamAuth, UpstreamBadResponse, UpstreamError, UpstreamUnreachable
from runtime.supervisor import Supervisor
from tests.fakes.eventually import eventually
from tests.fakes.upstream import CLOSE, RESET, Gate, Script, ScriptedUpstream, head, piece, reply
from upstream import catalogue
from upstream.client import ModelClient

pytestmark = pytest.mark.anyio

MODELS = [{"id": "first", "object": "model"}, {"id": "second"}]
GOOD = reply("200 OK", json.dumps({"object": "list", "data": MODELS}).encode())


@asynccontextmanager
async def client_of(*scripts: Script) -> AsyncIterator[tuple[ScriptedUpstream, ModelClient]]:
    supervisor = Supervisor()
    async with ScriptedUpstream(scripts) as upstream:
        client = ModelClient(upstream.base_url, "sk-test", supervisor=supervisor)
        yield upstream, client
        await client.close()
        await supervisor.close()


async def test_the_list_is_what_the_upstream_says() -> None:
    """With every field, and the first as default."""
    async with client_of([GOOD]) as (upstream, client):
        assert await client.models() == MODELS
        assert await client.default_model() == "first"
    assert [(r.method, r.path) for r in upstream.requests] == [("GET", "/v1/models")]
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-test"


async def test_many_askers_cost_one_request() -> None:
    """And then the list is kept."""
    gate = Gate()
    async with client_of([gate, GOOD]) as (upstream, client):
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(client.models()) for _ in range(5)]
            await upstream.until(lambda: len(upstream.requests) == 1)
            gate.open()
        assert all(task.result() == MODELS for task in asking)
        assert await client.models() == MODELS
    assert len(upstream.requests) == 1


async def test_an_asker_that_goes_away_leaves_the_others_their_list() -> None:
    """Also the one whose question started the request."""
    gate = Gate()
    async with client_of([gate, GOOD]) as (upstream, client):
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.models())
            await upstream.until(lambda: len(upstream.requests) == 1)
            second = group.create_task(client.models())
            first.cancel()
            await asyncio.sleep(0)
            gate.open()
        assert first.cancelled()
        assert second.result() == MODELS
    assert len(upstream.requests) == 1


async def test_an_old_list_is_renewed_behind_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is old at once: who asks then gets the old one without a wait, and soon the new one."""
    monkeypatch.setattr(catalogue, "KEPT_S", 0.0)
    newer = reply("200 OK", b'{"data":[{"id":"newer"}]}')
    async with client_of([GOOD], [newer]) as (_, client):
        assert await client.default_model() == "first"
        assert await client.default_model() == "first"

        async def renewed() -> bool:
            return await client.default_model() == "newer"

        await eventually(renewed)


async def test_the_last_good_list_is_served_while_the_upstream_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stale is better than none; a failure is not asked for again at once."""
    monkeypatch.setattr(catalogue, "KEPT_S", 0.0)
    async with client_of([GOOD], [reply("503 Unavailable", b"")]) as (upstream, client):
        assert await client.models() == MODELS
        assert await client.models() == MODELS
        await upstream.until(lambda: len(upstream.requests) == 2)
        for _ in range(3):
            assert await client.models() == MODELS
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([RESET], UpstreamUnreachable),
        ([CLOSE], UpstreamUnreachable),
        ([reply("401 Unauthorized", b"")], UpstreamAuth),
        ([reply("404 Not Found", b"")], UpstreamBadResponse),
        ([reply("500 Oops", b"")], UpstreamError),
        ([reply("200 OK", b"nonsense")], UpstreamBadResponse),
        ([reply("200 OK", b"[]")], UpstreamBadResponse),
        ([reply("200 OK", b'{"data":null}')], UpstreamBadResponse),
        ([reply("200 OK", b'{"data":["x"]}')], UpstreamBadResponse),
        ([reply("200 OK", b'{"data":[{"id":1}]}')], UpstreamBadResponse),
        ([reply("200 OK", b'{"data":' + b"[" * 100_000)], UpstreamBadResponse),
        ([head(Transfer_Encoding="chunked"), *[piece(b"x" * 1_048_576)] * 5], UpstreamBadResponse),
    ],
)
async def test_without_any_list_the_failure_is_told(script: list[Any], kind: type[UpstreamError]) -> None:
    """By its type, and never as if the client's own request had been rejected."""
    async with client_of(script) as (_, client):
        for _ in range(2):
            with pytest.raises(UpstreamError) as caught:
                await client.models()
            assert type(caught.value) is kind


async def test_an_upstream_without_models_has_no_default() -> None:
    """An empty list is a list."""
    async with client_of([reply("200 OK", b'{"data":[]}')]) as (_, client):
        assert await client.models() == []
        with pytest.raises(UpstreamBadResponse):
            await client.default_model()


async def test_an_upstream_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness and requests without a model must not hang on it."""
    monkeypatch.setattr(catalogue, "FETCH_S", 0.02)
    async with client_of([Gate(), GOOD]) as (upstream, client):
        with pytest.raises(UpstreamUnreachable):
            await client.models()
        await upstream.until(lambda: upstream.aborted == 1)
