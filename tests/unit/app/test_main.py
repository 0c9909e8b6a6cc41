"""create_app: what holds for every route of the whole application."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.gateway import Gateway
from app.version import VERSION
from tests.fakes.asgi import Peer
from tests.fakes.running_app import application, running_app
from tests.fakes.upstream import ScriptedUpstream, answer


@pytest.fixture
def app() -> FastAPI:
    return application()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v1/embeddings", "/v1", "/v1/chat/completions/", "/chat/", "/docs", "/redoc", "/chat/a/b"],
)
def test_an_unknown_path_is_a_404_in_the_openai_shape(client: TestClient, path: str) -> None:
    """Also below `/v1`, and with a slash too many: no redirect, no HTML."""
    reply = client.get(path, follow_redirects=False)
    assert reply.status_code == 404
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == "not_found"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-should-retry"] == "false"
    assert "x-request-id" in reply.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/chat", {"POST"}),
        ("DELETE", "/chat", {"POST"}),
        ("GET", "/v1/chat/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/chat/x", {"GET", "HEAD"}),
        ("POST", "/chat/x/stream", {"GET", "HEAD"}),
        ("GET", "/chat/x/cancel", {"POST"}),
        ("POST", "/healthz", {"GET"}),
        ("PUT", "/metrics", {"GET"}),
    ],
)
def test_another_method_is_a_405_that_says_which(
    client: TestClient, method: str, path: str, allowed: set[str]
) -> None:
    """RFC 9110: with `Allow`."""
    reply = client.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
    assert allowed <= set(reply.headers["allow"].split(", "))


def test_every_answer_echoes_the_request_id(client: TestClient) -> None:
    """On hot and cold routes, on success and refusal."""
    for path in ("/healthz", "/nothing", "/chat/x", "/metrics", "/openapi.json"):
        assert client.get(path, headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
        made = [client.get(path).headers["x-request-id"] for _ in range(2)]
        assert len(set(made)) == 2


@pytest.mark.parametrize("path", ["/metrics", "/pipeline"])
def test_an_unexpected_failure_is_an_internal_error_in_our_shape(
    app: FastAPI, client: TestClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The stack goes to the log, under the id that the reply carries."""
    app.state.gateway.stages = None
    caplog.set_level(logging.ERROR)
    reply = client.get(path, headers={"x-request-id": "mine"})
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert reply.headers["x-request-id"] == "mine"
    assert "NoneType" not in reply.text
    assert any(record.exc_info for record in caplog.records)


def test_no_answer_tells_what_it_runs_on(client: TestClient) -> None:
    """No server name, no framework, no version beside the document that is there to tell it."""
    for path in ("/healthz", "/nothing", "/chat/x"):
        reply = client.get(path)
        assert not {"server", "x-powered-by"} & set(reply.headers)
        assert VERSION not in reply.text


@pytest.mark.anyio
async def test_the_lifespan_starts_and_ends_everything() -> None:
    """I4: after the end no task runs and no connection is open, whatever was in the middle."""
    async with ScriptedUpstream([answer("a")]) as upstream:
        async with running_app(upstream.base_url) as app:
            gateway: Gateway = app.state.gateway
            assert gateway.state == "ready"
            assert len(gateway.supervisor) > 0
            body = b'{"model": "m", "messages": [{"role": "user", "content": "q"}]}'
            peer = await Peer("POST", "/v1/chat/completions", body=body).call(app)
            assert peer.status == 200
        assert len(gateway.supervisor) == 0
        await upstream.until(lambda: upstream.open == 0)
        assert gateway.supervisor.healthy


@pytest.mark.anyio
async def test_two_applications_share_nothing() -> None:
    """Everything is built once per application: no state in modules."""
    async with running_app() as first, running_app() as second:
        await Peer("POST", "/chat", body=b'{"message": ""}').call(first)
        totals = [app.state.gateway.observer.totals["requests"] for app in (first, second)]
        assert totals == [1, 0]
