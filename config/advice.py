"""What is allowed, but hardly meant: pools that contradict each other, doors left open.

Only a warning, because each of these can be right for somebody; what cannot be is refused by `load`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from config.settings import Settings

# An empty Redis 6.2 takes about 0.9 MiB of its own limit before the first answer is stored.
_REDIS_OWN_BYTES = 2 << 20


def warnings(settings: Settings) -> list[str]:
    """One sentence per contradiction; none for the defaults."""
    found = (_pools, _idle, _memory, _policies, _doors)
    return [sentence for each in found for sentence in each(settings)]


def _pools(s: Settings) -> Iterator[str]:
    if s.max_concurrent_followers < s.max_concurrent_leaders:
        yield (
            f"REFRAIN_MAX_CONCURRENT_FOLLOWERS ({s.max_concurrent_followers}) is less than"
            f" REFRAIN_MAX_CONCURRENT_LEADERS ({s.max_concurrent_leaders}): a hot question's followers will"
            " queue although joining costs almost nothing."
        )
    for name, size in (
        ("REFRAIN_MAX_CONCURRENT_LLM_STREAMS", s.max_concurrent_llm_streams),
        ("REFRAIN_MAX_CONCURRENT_LEADERS", s.max_concurrent_leaders),
    ):
        if size > s.max_pending:
            yield (
                f"{name} ({size}) is more than REFRAIN_MAX_PENDING ({s.max_pending}): requests will be"
                " refused while slots are free."
            )
    inner = ("prepare_model", "tools", "tools_file", "workflows")
    asking = next((f"REFRAIN_{name.upper()}" for name in inner if getattr(s, name)), None)
    chosen = s.model_fields_set & {"max_concurrent_llm_calls", "max_concurrent_leaders"}
    if asking and chosen and s.max_concurrent_llm_calls < s.max_concurrent_leaders:
        yield (
            f"{asking} is set and REFRAIN_MAX_CONCURRENT_LLM_CALLS"
            f" ({s.max_concurrent_llm_calls}) is less than REFRAIN_MAX_CONCURRENT_LEADERS"
            f" ({s.max_concurrent_leaders}): leaders will hold their slots while they wait for each other's"
            " calls of the model."
        )


def _idle(s: Settings) -> Iterator[str]:
    """What was set, and bounds nothing."""
    for field, bounded, there in (
        ("max_concurrent_tools", "REFRAIN_TOOLS or REFRAIN_TOOLS_FILE", s.tools or s.tools_file),
        ("tool_rounds", "REFRAIN_TOOLS or REFRAIN_TOOLS_FILE", s.tools or s.tools_file),
        ("workflow_model", "REFRAIN_WORKFLOWS", s.workflows),
    ):
        if field in s.model_fields_set and not there:
            yield f"REFRAIN_{field.upper()} is set and has no effect without {bounded}."


def _memory(s: Settings) -> Iterator[str]:
    if 0 < s.local_cache_bytes < s.cache_max_entry_bytes:
        yield (
            "REFRAIN_LOCAL_CACHE_BYTES is less than REFRAIN_CACHE_MAX_ENTRY_BYTES: the largest answers never"
            " fit in the in-process layer."
        )
    if s.retention_bytes < s.cache_max_entry_bytes:
        yield (
            "REFRAIN_RETENTION_BYTES is less than REFRAIN_CACHE_MAX_ENTRY_BYTES: a large answer is gone the"
            " moment it ends, so nobody can resume it."
        )
    if s.redis_url is None and s.embedded_redis_bytes < s.cache_max_entry_bytes + _REDIS_OWN_BYTES:
        yield (
            "REFRAIN_EMBEDDED_REDIS_BYTES leaves no room for one answer of REFRAIN_CACHE_MAX_ENTRY_BYTES"
            " beside what Redis needs itself: the cache will hardly hold anything."
        )


def _policies(s: Settings) -> Iterator[str]:
    if s.abandon_policy == "finish" and s.cache_ttl_s == 0:
        yield (
            "REFRAIN_ABANDON_POLICY is finish and REFRAIN_CACHE_TTL_S is 0: abandoned answers are paid for to"
            " the end and then thrown away."
        )
    if s.admin_key is not None and any(key.key == s.admin_key for key in s.api_keys):
        yield "REFRAIN_ADMIN_KEY is also one of the tenants' API keys: that tenant is an administrator."


def _doors(s: Settings) -> Iterator[str]:
    if is_loopback(s.host):
        return
    if not s.api_keys:
        yield f"No API keys are set and {s.host} is not loopback: whoever reaches it is the tenant public."
    if s.admin_key is None:
        yield f"No REFRAIN_ADMIN_KEY is set and {s.host} is not loopback: the pipeline and metrics are open."


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback addresses; any other name may resolve to anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
