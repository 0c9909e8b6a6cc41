"""What a caller of the simulated model asks, checked."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from upstream.simulator.answers import MODEL
from upstream.simulator.refusal import Refusal

Messages = list[dict[str, Any]]
_AtLeastOne = Annotated[int, Meta(ge=1)]
_Body = TypeVar("_Body", bound="PrepareRequest")


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class PrepareRequest(msgspec.Struct, kw_only=True):
    """The fields that the preparation hook reads; all others are ignored."""

    messages: Annotated[Messages, Meta(min_length=1)]


class ChatRequest(PrepareRequest, kw_only=True):
    """The fields of a chat completion that change the simulated answer; all others are ignored."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _AtLeastOne | None = None
    max_completion_tokens: _AtLeastOne | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    @property
    def model_name(self) -> str:
        return self.model or MODEL

    @property
    def tools_on_offer(self) -> list[Any]:
        """Those that may be called."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def token_limit(self) -> int | None:
        """The caller's own cap on the answer, in tokens."""
        return self.max_completion_tokens or self.max_tokens


def parse_request(body: bytes, kind: type[_Body]) -> _Body:
    """Read a body as `kind`. Raises `Refusal` (400) for whatever is no such request."""
    try:
        request = msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(400, f"Invalid request: {error}.", code="invalid_request") from None
    if not all(isinstance(message.get("role"), str) for message in request.messages):
        raise Refusal(400, "Invalid request: every message needs a role.", code="invalid_request")
    return request
