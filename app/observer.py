"""What the pipeline reports, as metrics and as the one closing line of each request."""

from __future__ import annotations

import logging

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.record import Record, Role, usage
from runtime.errors import GatewayError
from runtime.metrics import Metrics

log = logging.getLogger("refrain.request")

#: Refusals for want of room; all others are the request's own fault, or the upstream's.
_SHED = frozenset({"queue_full", "queue_timeout", "draining"})
_SOURCE = {Role.LEADER: "llm", Role.FOLLOWER: "coalesced", Role.CACHED: "cache"}


class PipelineObserver:
    """Totals since the start, for `/pipeline`; the same events as in `Metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.totals: dict[str, int | float] = {
            "requests": 0,
            "hits": 0,
            "joins": 0,
            "refused": 0,
            "tokens": 0,
            "tokens_saved": 0,
            "seconds_saved": 0.0,
            **{outcome.value: 0 for outcome in Outcome},
        }

    def refused(self, route: str, tenant: str | None, error: GatewayError) -> None:
        """Before it became a request: shed for want of room, or failed for what it was."""
        outcome = Outcome.SHED if error.code in _SHED else Outcome.FAILED
        self.totals["requests"] += 1
        self.totals["refused"] += 1
        self.totals[outcome.value] += 1
        self._metrics.requests.labels(route, "none", outcome.value).inc()
        log.info(
            "request ended",
            extra={"tenant": tenant, "route": route, "outcome": outcome.value, "code": error.code},
        )

    def joined(self, phase: Phase) -> None:
        self.totals["joins"] += 1
        self._metrics.joins.labels(phase.value).inc()

    def ended(self, record: Record) -> None:
        end = record.claim.ended
        assert end is not None
        timings = record.timings()
        self.totals["requests"] += 1
        self.totals[end.outcome.value] += 1
        self.totals["hits"] += record.role is Role.CACHED
        self._metrics.requests.labels(record.route, record.role.value, end.outcome.value).inc()
        self._metrics.cache_results[record.cache.value].inc()
        if (ttft := timings["ttft_ms"]) is not None:
            self._metrics.ttft.observe(ttft / 1000)
        if end.outcome is Outcome.COMPLETED:
            self._count_tokens(record)
            self._count_seconds(record)
        log.info(
            "request ended",
            extra={
                "request_id": record.request_id,  # its own, whoever's task ends it
                "id": record.ticket.id,
                "tenant": record.ticket.tenant,
                "route": record.route,
                "role": record.role.value,
                "cache": record.cache.value,
                "outcome": end.outcome.value,
                **({"code": end.error.code} if end.error else {}),
                **({"reason": end.reason} if end.reason else {}),
                **{name: value for name, value in timings.items() if value is not None},
            },
        )

    def _count_tokens(self, record: Record) -> None:
        tokens = (usage(record.broadcast.log.events) or {}).get("completion_tokens")
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
            return
        self.totals["tokens"] += tokens
        self._metrics.tokens[_SOURCE[record.role]].inc(tokens)
        if record.role is not Role.LEADER:
            self.totals["tokens_saved"] += tokens
            self._metrics.tokens_saved.inc(tokens)

    def _count_seconds(self, record: Record) -> None:
        """Of LLM streams: what those who share an answer would have taken for themselves."""
        if record.role is not Role.LEADER:
            self.totals["seconds_saved"] += record.broadcast.log.made_s
            self._metrics.seconds_saved.inc(record.broadcast.log.made_s)
