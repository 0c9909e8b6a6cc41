"""The OpenAPI document: FastAPI writes its own routes into it, this adds the raw ones."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.wire import Accepted, ChatBody, ChatRecord, CompletionBody, Conversation, ErrorBody

_REF: Final = "#/components/schemas/{model}"
_MODELS: Final[tuple[type[BaseModel], ...]] = (
    Accepted,
    ChatBody,
    ChatRecord,
    CompletionBody,
    Conversation,
    ErrorBody,
)
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` complete."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _, definitions = models_json_schema([(m, "validation") for m in _MODELS], ref_template=_REF)
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{}, {"bearer": []}]  # {}: open where no keys are configured
            document["paths"] = {**_paths(), **document["paths"]}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _paths() -> dict[str, Any]:
    # OpenAPI 3.1 has no schema for a stream: one given here would be taken for that of each event.
    stream = {"200": {"description": "Events", "content": {"text/event-stream": {}}}}
    record = _json("200", "The record", ChatRecord)
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "Complete a chat (OpenAI wire)",
                {
                    "200": {
                        "description": "The completion, or its chunks",
                        "content": {
                            "application/json": {"schema": {"type": "object"}},
                            "text/event-stream": {},
                        },
                    }
                },
                ["401", "404", "408", "409", "413", "415", "422", "429", "502", "503", "504"],
                body=CompletionBody,
            )
        },
        "/v1/models": {
            "get": _operation("List the models", _json("200", "The models", None), ["401", "502", "503"])
        },
        "/chat": {
            "post": _operation(
                "Submit a chat",
                {**_json("202", "Admitted", Accepted), **_json("200", "Known by its request_id", Accepted)},
                ["401", "404", "408", "409", "413", "415", "422", "429", "502", "503", "504"],
                body=ChatBody,
            )
        },
        "/chat/{id}": {"get": _operation("Status and text so far", record, ["401", "404", "410"], path=True)},
        "/chat/{id}/stream": {
            "get": _operation(
                "Subscribe",
                {**stream, "204": {"description": "The reader has seen the end"}},
                ["401", "404", "410"],
                path=True,
            )
        },
        "/chat/{id}/cancel": {"post": _operation("Cancel", record, ["401", "404", "409", "410"], path=True)},
        **_conversations(),
    }


def _conversations() -> dict[str, Any]:
    errors = ["401", "404", "503"]
    shown, gone = _json("200", "The turns", Conversation), {"204": {"description": "Forgotten"}}
    return {
        "/conversations/{id}": {
            "get": _operation("The turns of a conversation", shown, errors, path=True),
            "delete": _operation("Forget them", gone, errors, path=True),
        },
        "/conversations/{id}/cancel": {
            "post": _operation(
                "Cancel all that runs and waits", _json("200", "Their ids", None), errors, path=True
            )
        },
    }


def _operation(
    summary: str,
    responses: dict[str, Any],
    errors: list[str],
    *,
    body: type[BaseModel] | None = None,
    path: bool = False,
) -> dict[str, Any]:
    problem = {"content": {"application/json": {"schema": _schema(ErrorBody)}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "tags": ["chat"],
        "responses": {
            **responses,
            **{code: {"description": "Error", **problem} for code in ["400", *errors]},
        },
    }
    if path:
        operation["parameters"] = [_ID]
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(body)}},
        }
    return operation


def _json(status: str, description: str, model: type[BaseModel] | None) -> dict[str, Any]:
    schema = {"type": "object"} if model is None else _schema(model)
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
