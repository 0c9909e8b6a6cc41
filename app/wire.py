"""The bodies as models: what is checked, and what the OpenAPI document shows. No logic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(strict=True, extra="allow")


# The first complaint is enough: a list of a hundred thousand of them would stop the event loop.
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class ContentPart(BaseModel):
    model_config = _STRICT
    type: str = Field(min_length=1)
    text: str | None = None


class Message(BaseModel):
    model_config = _STRICT
    role: str = Field(min_length=1)
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)] | None = None
    name: str | None = None
    tool_calls: Objects | None = None
    tool_call_id: str | None = None


Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


class Sampling(BaseModel):
    """Parameters that both wires know. Any other is passed upstream untouched, and is part of the key."""

    model_config = _STRICT
    model: Annotated[str, Field(min_length=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    seed: int | None = None
    user: str | None = None


class ChatBody(Sampling):
    """`POST /chat`: `message`, or `messages`."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["message"]}, {"required": ["messages"]}]}
    )

    message: str | None = None
    messages: Messages | None = None
    conversation_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    priority: Literal["interactive", "batch"] | None = None
    cache: bool | Literal["refresh"] | None = None
    request_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None


class StreamOptions(BaseModel):
    model_config = _STRICT
    include_usage: bool | None = None


class CompletionBody(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class Accepted(BaseModel):
    """The answer to `POST /chat`."""

    id: str
    status: str
    role: Literal["leader", "follower", "cached"]
    stream_url: str
    queue_position: int | None


class Timings(BaseModel):
    queue_ms: int | None
    prepare_ms: int | None
    slot_wait_ms: int | None
    ttft_ms: int | None
    total_ms: int | None


class ChatRecord(BaseModel):
    """`GET /chat/{id}`."""

    id: str
    status: Literal[
        "queued",
        "preparing",
        "ready",
        "waiting_slot",
        "streaming",
        "completed",
        "failed",
        "cancelled",
        "expired",
    ]
    role: Literal["leader", "follower", "cached"]
    stage: str
    queue_position: int | None
    eta_ms: int | None
    created_at: float
    timings: Timings
    finish_reason: str | None
    usage: dict[str, Any] | None
    preparation: dict[str, Any] | None
    text: str


class TurnKept(BaseModel):
    """One that ended with a complete answer. `messages` are the new ones of its request."""

    id: str
    messages: list[dict[str, Any]]
    answer: str
    finish_reason: str | None
    usage: dict[str, Any] | None
    created_at: float
    tool_calls: list[dict[str, Any]] | None = None


class Conversation(BaseModel):
    """`GET /conversations/{id}`."""

    id: str
    turns: list[TurnKept]
    running: str | None
    waiting: list[str]
    expires_in_s: int


class ErrorObject(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    error: ErrorObject
