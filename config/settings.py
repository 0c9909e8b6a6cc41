"""Settings: every knob of the gateway, its kind, its default, its scope and its meaning.

The one table: reading, `refrain check` and the test that guards docs/settings.md all derive from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.about import About
from config.api_keys import ApiKeys
from config.kinds import (
    Count,
    Flag,
    Lease,
    LongSecret,
    Normalization,
    Policy,
    Port,
    Room,
    Secret,
    ShareScope,
    Size,
    SizeOrOff,
    Span,
    Text,
    Timer,
)
from config.urls import BaseUrl, PrivateHttpUrl, RedisUrl

_MIB = 1 << 20
_OPENAI = "https://api.openai.com/v1"


class Settings(BaseSettings):
    """The effective settings: frozen, complete, in range. `_S` is seconds, `_BYTES` is bytes.

    Built by `load` from an environment, by tests from keywords. Constructing it raises pydantic's
    ValidationError; `load` turns that into sentences.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # -- pools
    cache_workers: Annotated[Count, About("process", "cache fast-lane workers")] = 4
    local_cache_bytes: Annotated[
        SizeOrOff,
        About("process", "in-process layer before Redis (0 = off); entries at most 5 s old"),
    ] = 64 * _MIB
    max_concurrent_leaders: Annotated[Count, About("process", "preparation slots")] = 32
    max_concurrent_followers: Annotated[Count, About("process", "subscription slots")] = 256
    max_concurrent_llm_streams: Annotated[Count, About("shared", "LLM-stream slots")] = 64
    max_concurrent_llm_calls: Annotated[
        Count, About("shared", "LLM calls made during preparation (planning, tools, workflows)")
    ] = 16
    queue_size: Annotated[
        Room,
        About("process", "requests waiting for a leader slot; waiting followers and turns are bounded alike"),
    ] = 1000
    max_pending: Annotated[
        Count,
        About("process", "flights prepared or waiting for an LLM slot; one more is refused `queue_full`"),
    ] = 1000

    # -- timers
    queue_timeout_s: Annotated[Timer, About("-", "longest wait for a leader slot")] = 60.0
    prepare_timeout_s: Annotated[Timer, About("-", "longest preparation")] = 60.0
    slot_timeout_s: Annotated[Timer, About("-", "longest wait for an LLM-stream slot")] = 120.0
    first_token_timeout_s: Annotated[Timer, About("-", "longest silence before the first token")] = 60.0
    stream_idle_timeout_s: Annotated[Timer, About("-", "longest silence between two tokens")] = 60.0
    stream_timeout_s: Annotated[Timer, About("-", "longest answer, from its call to its end")] = 600.0
    subscribe_timeout_s: Annotated[
        Timer, About("-", "how long a prepared broadcast waits for its first subscriber")
    ] = 60.0
    send_timeout_s: Annotated[
        Timer, About("-", "a reader that takes nothing for so long is cut; it may resume")
    ] = 10.0
    drain_timeout_s: Annotated[Span, About("-", "SIGTERM: streams may finish for so long")] = 30.0

    # -- interest and retention
    abandon_grace_s: Annotated[
        Span, About("-", "a native request stays interested for so long after its last stream closed")
    ] = 5.0
    abandon_policy: Annotated[
        Policy,
        About("-", "an answer nobody waits for: `cancel` it, or `finish` it if it is already streaming"),
    ] = "cancel"
    retention_s: Annotated[Timer, About("-", "how long an ended native request can be read and replayed")] = (
        600.0
    )
    retention_bytes: Annotated[
        Size, About("-", "ended requests kept, in all; beyond it the oldest answer 410")
    ] = 256 * _MIB

    # -- the answer cache
    cache_ttl_s: Annotated[Span, About("shared", "how long an answer is kept (0 = no cache)")] = 86400.0
    cache_max_entry_bytes: Annotated[
        Size, About("shared", "largest answer that is cached; a running one is shared up to 4 times this")
    ] = _MIB
    key_normalization: Annotated[
        Normalization,
        About("-", "which questions are the same: `exact`, or `loose` (letters and digits only, lower case)"),
    ] = "exact"
    share_scope: Annotated[
        ShareScope, About("-", "who may share answers: callers of one `tenant`, or all (`global`)")
    ] = "tenant"

    # -- preparation and the upstream
    prepare_url: Annotated[
        PrivateHttpUrl | None, About("-", "a preparation hook: each leader's request is posted there")
    ] = None
    prepare_model: Annotated[
        Text | None, About("-", "a planning call to this model before each answer, under `llm_calls`")
    ] = None
    tools: Annotated[Text | None, About("-", "tools in Python: `package.module:NAME` of a list of them")] = (
        None
    )
    tools_file: Annotated[Path | None, About("-", "a YAML file of HTTP endpoints that are tools")] = None
    max_concurrent_tools: Annotated[
        Count, About("process", "tools that run at once, all requests together")
    ] = 32
    tool_rounds: Annotated[
        Count, About("-", "calls of the model that may choose tools, before each answer")
    ] = 4
    workflows: Annotated[
        Path | None, About("-", "a folder of workflow files; each is served as the model `workflow:NAME`")
    ] = None
    workflow_model: Annotated[
        Text | None, About("-", "the model of workflow steps that name none, as their file")
    ] = None
    upstream_cumulative: Annotated[
        Flag, About("-", "1: the upstream repeats the full text in every chunk; send on only the growth")
    ] = False

    # -- conversations
    conversation_queue: Annotated[
        Room, About("-", "turns of one conversation that may wait for the one before them")
    ] = 4
    conversation_ttl_s: Annotated[
        Timer, About("shared", "how long a conversation is remembered after its last turn")
    ] = 86400.0
    conversation_max_turns: Annotated[
        Count, About("shared", "turns kept of one conversation; beyond it the oldest is forgotten")
    ] = 100
    conversation_max_bytes: Annotated[Size, About("shared", "bytes kept of one conversation, likewise")] = (
        _MIB
    )
    context_tokens: Annotated[
        Count,
        About("-", "the model's window, in estimated tokens: what of a conversation goes into a prompt"),
    ] = 8192

    # -- the door
    max_body_bytes: Annotated[Size, About("-", "largest request body")] = 20 * _MIB
    api_keys: Annotated[
        ApiKeys,
        About("-", "`tenant:key` pairs, comma-separated; none: open, with the one tenant `public`"),
    ] = ()
    api_keys_file: Annotated[
        Path | None, About("-", "a file of such pairs instead, one per line or comma-separated")
    ] = None
    admin_key: Annotated[LongSecret | None, About("-", "guards `/`, `/pipeline` and `/metrics`")] = None

    # -- shared state
    durable: Annotated[Flag, About("shared", "1: running answers are written to Redis as they grow")] = False
    lease_s: Annotated[
        Lease, About("shared", "leases of flights and slots: after it, what a dead worker held is free")
    ] = 15.0
    embedded_redis_bytes: Annotated[
        Size, About("instance", "memory of the embedded Redis; its cache is lost on restart")
    ] = 256 * _MIB

    # -- names other programs use too
    openai_base_url: Annotated[
        BaseUrl | None, About("-", "the upstream, an OpenAI-compatible API", name="OPENAI_BASE_URL")
    ] = None
    openai_api_key: Annotated[
        Secret | None,
        About("-", f"the upstream's key; alone, it selects {_OPENAI}", name="OPENAI_API_KEY"),
    ] = None
    redis_url: Annotated[
        RedisUrl | None, About("shared", "the Redis to use; none: an embedded one", name="REDIS_URL")
    ] = None
    host: Annotated[Text, About("instance", "address to listen on", name="", flag="--host")] = "127.0.0.1"
    port: Annotated[Port, About("instance", "port to listen on", name="PORT", flag="--port")] = 8484
    web_concurrency: Annotated[
        Count, About("instance", "worker processes", name="WEB_CONCURRENCY", flag="--workers")
    ] = 1

    @property
    def upstream_base_url(self) -> str | None:
        """The upstream's address without a slash at its end; None if none is configured."""
        if self.openai_base_url is None and self.openai_api_key is not None:
            return _OPENAI
        return self.openai_base_url

    @model_validator(mode="after")
    def _timers_are_in_order(self) -> Self:
        # An outer timer that ends first hides the inner one: every failure would carry the wrong name.
        order = (
            ("first_token_timeout_s", "stream_timeout_s"),
            ("stream_idle_timeout_s", "stream_timeout_s"),
            ("send_timeout_s", "stream_idle_timeout_s"),
        )
        problems = [
            f"REFRAIN_{inner.upper()} ({getattr(self, inner):g}) must be less than"
            f" REFRAIN_{outer.upper()} ({getattr(self, outer):g})."
            for inner, outer in order
            if getattr(self, inner) >= getattr(self, outer)
        ]
        if problems:
            raise ValueError(*problems)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keywords only: the process's own environment read behind `load` would pass its checks by."""
        return (init_settings,)
