"""The OpenAPI document: every route is in it, every reference leads somewhere, and it tells the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from app import wire
from app.version import VERSION
from tests.fakes.asgi import Peer
from tests.fakes.front import front, openai_body
from tests.fakes.running_app import application, running_app
from tests.virtual_time import virtual

#: Not for callers: the document itself.
INTERNAL = {"/openapi.json"}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return application()


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def served(routes: list[Any]) -> Iterator[tuple[str, str]]:
    """Every (path, method) that the application answers, routers within routers included."""
    for route in routes:
        if isinstance(route, Route | APIRoute):
            yield from ((route.path, method.lower()) for method in route.methods or () if method != "HEAD")
        elif not isinstance(route, Mount):  # the parts of the page
            yield from served(getattr(route, "routes", None) or route.original_router.routes)


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child)


def test_every_route_is_in_it_and_nothing_else(app: FastAPI, document: dict[str, Any]) -> None:
    """A route that is not described does not exist for whoever generates a client."""
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    answered = {(path, method) for path, method in served(app.routes) if path not in INTERNAL}
    assert described == answered
    assert ("/chat", "post") in described
    assert ("/metrics", "get") in described


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    """A dangling `$ref` breaks every generator."""
    references = [node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)]
    assert len(references) > 10
    for reference in references:
        found: Any = document
        assert reference.startswith("#/")
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_the_bodies_are_the_models_that_are_checked(document: dict[str, Any]) -> None:
    """What is shown is what is validated: the same pydantic models."""
    for path, model in (("/chat", wire.ChatBody), ("/v1/chat/completions", wire.CompletionBody)):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        shown = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        assert set(shown["properties"]) == set(model.model_fields)


def test_every_path_parameter_is_declared(document: dict[str, Any]) -> None:
    """`{id}` in a path without its parameter is an invalid document."""
    for path, item in document["paths"].items():
        for operation in item.values():
            declared = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"}
            assert declared == ({"id"} if "{id}" in path else set())


def test_every_operation_says_what_it_answers(document: dict[str, Any]) -> None:
    """A summary, a success, and for our own routes the error's shape."""
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            assert any(status.startswith("2") for status in operation["responses"])
            if path.startswith(("/chat", "/v1")):
                error = operation["responses"]["401"]["content"]["application/json"]["schema"]
                assert error == {"$ref": "#/components/schemas/ErrorBody"}


@pytest.mark.anyio
async def test_it_is_served_and_made_once() -> None:
    """One document, the same for all; its version is the program's."""
    async with running_app() as app:
        first, second = [await Peer("GET", "/openapi.json").call(app) for _ in range(2)]
        assert first.status == 200
        assert first.body == second.body
        assert first.json["info"]["version"] == VERSION
        assert app.openapi() is app.openapi()
        json.loads(first.body)


@virtual
async def test_what_is_answered_is_what_is_described(document: dict[str, Any]) -> None:
    """Every status that these calls end in is one that the document lists."""
    async with front() as gate:
        chat = await gate.post("/chat", {"message": "q", "request_id": "r"})
        id = chat.json["id"]
        answered = [
            ("/chat", "post", chat),
            ("/chat", "post", await gate.post("/chat", {"message": "q", "request_id": "r"})),
            ("/chat", "post", await gate.post("/chat", {"message": "other", "request_id": "r"})),
            ("/chat", "post", await gate.post("/chat", {"message": ""})),
            ("/chat", "post", await gate.post("/chat", {"message": "q"}, {"content-type": "text/plain"})),
            (
                "/chat",
                "post",
                await gate.post("/chat", {"message": "z"}, {"cache-control": "only-if-cached"}),
            ),
            ("/chat/{id}/stream", "get", await gate.get(f"/chat/{id}/stream?after=x")),
            ("/chat/{id}/stream", "get", await gate.get(f"/chat/{id}/stream")),
            ("/chat/{id}", "get", await gate.get(f"/chat/{id}")),
            ("/chat/{id}", "get", await gate.get("/chat/x")),
            ("/chat/{id}/cancel", "post", await gate.post(f"/chat/{id}/cancel", {})),
            ("/v1/models", "get", await gate.get("/v1/models")),
            ("/v1/chat/completions", "post", await gate.post("/v1/chat/completions", openai_body("q"))),
            ("/v1/chat/completions", "post", await gate.post("/v1/chat/completions", {})),
        ]
        for path, method, peer in answered:
            assert str(peer.status) in document["paths"][path][method]["responses"], (path, peer.status)


BODY = {"400", "401", "408", "409", "413", "415", "422", "429", "502", "503", "504"}


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/v1/chat/completions", "post", {"200", "404"} | BODY),
        ("/chat", "post", {"200", "202"} | BODY),
        ("/chat/{id}/stream", "get", {"200", "204", "400", "401", "404", "410"}),
        ("/chat/{id}", "get", {"200", "401", "404", "410"}),
        ("/chat/{id}/cancel", "post", {"200", "401", "404", "409", "410"}),
        ("/v1/models", "get", {"200", "401", "502", "503"}),
        ("/readyz", "get", {"200", "503"}),
        ("/metrics", "get", {"200", "401"}),
        ("/pipeline", "get", {"200", "401"}),
        ("/pipeline/stream", "get", {"200", "401"}),
        ("/pipeline/history", "get", {"200", "401"}),
        ("/", "get", {"200", "401"}),
    ],
)
def test_every_status_that_a_route_can_end_in_is_listed(
    document: dict[str, Any], path: str, method: str, statuses: set[str]
) -> None:
    """Row by row from docs/errors.md: whoever generates a client gets a branch for each."""
    assert statuses <= set(document["paths"][path][method]["responses"])


def test_the_key_is_described(document: dict[str, Any]) -> None:
    """A generated client must know that there may be a bearer key, and that there may be none."""
    schemes = document["components"]["securitySchemes"]
    (name,) = [name for name, scheme in schemes.items() if scheme.get("scheme") == "bearer"]
    assert document["security"] == [{}, {name: []}]
