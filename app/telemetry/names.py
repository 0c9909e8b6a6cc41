"""Every name that a span, an event, a link or an attribute of ours has, and what it means.

The values that OpenTelemetry defines are its semantic conventions' (HTTP: stable; GenAI: in development,
as of version 1.41). `docs/tracing.md` lists all of them; a test compares both.
"""

from __future__ import annotations

from typing import Final

# -- spans ------------------------------------------------------------------------------------
#: A request: the method and the route, such as "POST /chat".
REQUEST: Final = "{method} {route}"
CACHE_LOOKUP: Final = "cache lookup"
FLIGHT: Final = "flight"
WAIT_LEADERS: Final = "wait leaders"
PREPARE: Final = "prepare"
#: One step of preparation: "prepare hook", "prepare tools", "prepare workflow/draft".
STEP: Final = "prepare {step}"
WAIT_SUBSCRIBER: Final = "wait subscriber"
WAIT_LLM_STREAMS: Final = "wait llm_streams"
#: A call of the model: the operation and the model that was asked.
CHAT: Final = "chat {model}"
#: A call of a tool.
TOOL: Final = "execute_tool {tool}"

SPANS: Final = (
    REQUEST, CACHE_LOOKUP, FLIGHT, WAIT_LEADERS, PREPARE, STEP, WAIT_SUBSCRIBER, WAIT_LLM_STREAMS, CHAT, TOOL,
)  # fmt: skip

# -- events -----------------------------------------------------------------------------------
FIRST_TOKEN: Final = "first token"  # noqa: S105 - a token of text

# -- attributes: ours -------------------------------------------------------------------------
CHAT_ID: Final = "refrain.id"
REQUEST_ID: Final = "refrain.request_id"
ROLE: Final = "refrain.role"
CACHE: Final = "refrain.cache"
OUTCOME: Final = "refrain.outcome"
TTFT_MS: Final = "refrain.ttft_ms"
ATTEMPT: Final = "refrain.attempt"
EVENTS: Final = "refrain.events"
#: Of a link.
LINK: Final = "refrain.link"

# -- attributes: HTTP and general conventions -------------------------------------------------
METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
SCHEME: Final = "url.scheme"
PATH: Final = "url.path"
ERROR: Final = "error.type"
SERVER: Final = "server.address"
PORT: Final = "server.port"

# -- attributes: GenAI conventions ------------------------------------------------------------
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"

ATTRIBUTES: Final = (
    CHAT_ID, REQUEST_ID, ROLE, CACHE, OUTCOME, TTFT_MS, ATTEMPT, EVENTS, LINK,
    METHOD, ROUTE, STATUS, SCHEME, PATH, ERROR, SERVER, PORT,
    OPERATION, PROVIDER, REQUEST_MODEL, REQUEST_STREAM, RESPONSE_MODEL, RESPONSE_ID, FINISH_REASONS,
    FIRST_CHUNK_S, INPUT_TOKENS, OUTPUT_TOKENS, TOOL_NAME,
)  # fmt: skip

# -- values -----------------------------------------------------------------------------------
OPERATION_CHAT: Final = "chat"
OPERATION_TOOL: Final = "execute_tool"
#: Who had the run of a tool begun, and who took part in it.
ROLE_BEGAN: Final = "leader"
ROLE_SHARED: Final = "follower"
#: The wire that is spoken; `server.address` says to whom.
PROVIDER_OPENAI: Final = "openai"
PROVIDER_SIMULATED: Final = "refrain.simulated"
LINK_FLIGHT: Final = "flight"
LINK_REQUEST: Final = "request"
LINK_BEFORE: Final = "before"
#: A flight that another process goes on with.
HANDED_OVER: Final = "handed_over"
