"""Body and headers become a `ChatRequest`; whatever is wrong is named."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from admission import Priority
from app.exchange import Exchange
from app.path import dotted
from app.wire import ChatBody, CompletionBody, Message
from chatbot.request import CacheDirectives, ChatRequest
from runtime.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)

#: Fields of a native body that are the gateway's own: the model never sees them.
_NATIVE_ONLY: Final = (
    "message",
    "conversation_id",
    "priority",
    "cache",
    "request_id",
    "stream",
    "stream_options",
)
_PRIORITIES: Final = {priority.value: priority for priority in Priority}
_MAX_AGE: Final = re.compile(r"max-age\s*=\s*\"?(\d{1,10})\"?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how its caller wants to be answered: the latter is the OpenAI wire's alone."""

    request: ChatRequest
    stream: bool = False
    include_usage: bool = False


def native_request(exchange: Exchange, body: dict[str, Any]) -> Asked:
    """`POST /chat`. Raises InvalidRequest, with `param`."""
    chat = _validate(ChatBody, body)
    if chat.message is not None and chat.messages is not None:
        raise InvalidRequest("Give either message or messages, not both.", param="message")
    upstream = {name: value for name, value in body.items() if name not in _NATIVE_ONLY}
    if chat.messages is not None:
        _check_last(chat.messages)
    elif chat.message is None or not chat.message.strip():
        raise InvalidRequest("message must not be missing or blank.", param="message")
    else:
        upstream["messages"] = [{"role": "user", "content": chat.message}]
    key = exchange.header(b"idempotency-key")
    request = ChatRequest(
        body=upstream,
        priority=_PRIORITIES[chat.priority or "interactive"],
        cache=_directives(exchange, chat.cache),
        request_id=chat.request_id or _idempotency_key(key),
        conversation=chat.conversation_id,
    )
    return Asked(request)


def openai_request(exchange: Exchange, body: dict[str, Any]) -> Asked:
    """`POST /v1/chat/completions`. Unknown fields go upstream untouched."""
    completion = _validate(CompletionBody, body)
    _check_last(completion.messages)
    upstream = dict(body)
    upstream.pop("stream", None)
    options = upstream.pop("stream_options", None) or {}
    # `priority` and `cache` mean something upstream too: only what is ours is taken out.
    priority, cache = upstream.get("priority"), upstream.get("cache")
    if isinstance(priority, str) and priority in _PRIORITIES:
        del upstream["priority"]
    else:
        priority = "interactive"
    if isinstance(cache, bool) or cache == "refresh":
        del upstream["cache"]
    else:
        cache = None
    request = ChatRequest(upstream, _PRIORITIES[priority], _directives(exchange, cache))
    return Asked(request, bool(completion.stream), bool(options.get("include_usage")))


def with_model(request: ChatRequest, model: str) -> ChatRequest:
    """The same request for a model that its caller left to us."""
    return replace(request, body={"model": model, **_without_model(request.body)})


def _without_model(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "model"}


def _idempotency_key(key: str) -> str | None:
    if len(key) > 255:
        raise InvalidRequest("The Idempotency-Key is longer than 255 characters.", param="request_id")
    return key or None


def _directives(exchange: Exchange, cache: bool | str | None) -> CacheDirectives:
    header = exchange.list_header(b"cache-control").lower()
    names = {part.strip() for part in header.split(",")}
    age = _MAX_AGE.search(header)
    return CacheDirectives(
        no_store="no-store" in names or cache is False,
        no_cache="no-cache" in names or cache == "refresh",
        only_if_cached="only-if-cached" in names,
        max_age_s=float(age.group(1)) if age else None,
    )


def _check_last(messages: list[Message]) -> None:
    """A question must be asked: the last message of a user must not be blank."""
    last = messages[-1]
    where = dotted(("messages", len(messages) - 1, "content"))
    if last.role != "user":
        return
    if isinstance(last.content, list):
        blank = not last.content or all(
            part.type == "text" and not (part.text or "").strip() for part in last.content
        )
    else:
        blank = not (last.content or "").strip()
    if blank:
        raise InvalidRequest("The last message must not be blank.", param=where)


def _validate(model: type[M], body: dict[str, Any]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidRequest:
    """The deepest complaint is the one about the field that is really wrong: a union complains per arm."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    worst = max(details, key=lambda detail: len(detail["loc"]))
    path = [part for part in worst["loc"] if isinstance(part, int) or _is_field(part)]
    what = worst["msg"].partition(" or instance of ")[0]  # the names of our classes mean nothing to a client
    return InvalidRequest(f"{dotted(path)}: {what}.", param=dotted(path))


def _is_field(part: str) -> bool:
    """pydantic names the arm of a union too (`str`, `list[ContentPart]`, `literal['refresh']`)."""
    return part not in ("str", "bool", "int", "float", "dict") and "[" not in part
