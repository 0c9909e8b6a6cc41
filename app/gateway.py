"""The gateway: every part of one process, built once and in one place.

Each limit exists once: a semaphore per object would multiply it. Nothing here reads the environment;
nothing below here reads settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from admission import Stage
from app.auth import Auth
from app.connection import Connections
from app.conversing import Conversing
from app.hub import Alone, Hub
from app.observer import PipelineObserver
from app.parsing import with_model
from app.preparation_watch import PreparationWatch
from app.preparing import Preparing
from app.pulse import Pulse
from app.saturation import SaturationWatch
from app.sharing import Sharing
from app.telemetry.tracing import Tracing
from app.telemetry.watched import TracedBroadcasts, TracedClient, TracedWatch
from broadcast.answering import Answering
from broadcast.bounds import Bounds
from broadcast.broadcast import Broadcast
from broadcast.claim import ClaimTimers
from broadcast.manager import BroadcastManager
from broadcast.sealing import Sealing
from cache.clustered import answer_store
from cache.fastlane import FastLane
from cache.keys import SharingKeys
from cache.processes import new_proc
from cache.redis import RedisConnection
from cache.targets import RedisTarget
from chatbot.manager import ChatManager
from chatbot.records import Records
from chatbot.request import ChatRequest
from chatbot.shared import SharedChatManager
from config.settings import Settings
from processing.flights import Flights
from runtime.errors import GatewayError
from runtime.metrics import Metrics
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.deadlines import Timeouts
from upstream.retry import RetryPolicy

#: Pooled upstream connections beside those of the two LLM stages: for /models and for closing ones.
SPARE_CONNECTIONS = 4
#: A running answer is shared up to so many times the size of the largest that is cached.
LOG_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this process finds what it needs; decided before it starts. `simulated`: the model is ours.

    `shared`: other processes use the same Redis, and running answers, limits and records are theirs too.
    `worker` numbers the processes of one instance from 1. `traced`: what happens here is told to a collector.
    """

    upstream_url: str
    redis: RedisTarget
    simulated: bool = False
    shared: bool = False
    proc: str = field(default_factory=new_proc)
    worker: int = 1
    workers: int = 1
    traced: bool = False


class Gateway:
    """All parts of one process. `start` and `close` are the lifespan's."""

    def __init__(self, settings: Settings, addresses: Addresses, on_crash: Callable[[str], None]) -> None:
        s = settings
        self.settings = s
        self.addresses = addresses
        self.state = "starting"
        self.upstream_calls = 0  #: that have ended
        self.max_body_bytes = s.max_body_bytes
        self.metrics = metrics = Metrics()
        self.supervisor = Supervisor(on_crash)
        self.auth = Auth(
            {entry.key.get_secret_value(): entry.tenant for entry in s.api_keys},
            s.admin_key.get_secret_value() if s.admin_key else None,
        )
        self.sharing = Sharing(s, addresses, self.supervisor, self._redis_error) if addresses.shared else None
        self.pulse = Pulse()
        self.connections = Connections(self.supervisor, self.pulse, s.send_timeout_s)

        self.leaders = self._stage("leaders", s.max_concurrent_leaders, s.queue_size)
        self.followers = self._stage("followers", s.max_concurrent_followers, s.queue_size)
        self.llm_streams = self._llm_stage("llm_streams", s.max_concurrent_llm_streams)
        self.llm_calls = self._llm_stage("llm_calls", s.max_concurrent_llm_calls)
        self.stages = (self.leaders, self.followers, self.llm_streams, self.llm_calls)

        self._redis = RedisConnection(addresses.redis, on_error=self._redis_error)
        self.lane = FastLane(
            answer_store(self._redis, s.cache_max_entry_bytes),
            workers=s.cache_workers,
            queue_size=s.queue_size,
            local_bytes=s.local_cache_bytes,
            enabled=s.cache_ttl_s > 0,
            claims=self.sharing,
            on_wait=metrics.stage_wait["cache"].observe,
            on_error=self._redis_error,
        )
        self.retry = RetryPolicy(_now)
        self.client = (TracedClient if addresses.traced else ModelClient)(
            addresses.upstream_url,
            s.openai_api_key.get_secret_value() if s.openai_api_key else None,
            supervisor=self.supervisor,
            connections=s.max_concurrent_llm_streams + s.max_concurrent_llm_calls + SPARE_CONNECTIONS,
            timeouts=Timeouts(
                first_token=s.first_token_timeout_s, idle=s.stream_idle_timeout_s, total=s.stream_timeout_s
            ),
            cumulative=s.upstream_cumulative,
            on_call=self._upstream_call,
        )
        self.preparation = (TracedWatch if addresses.traced else PreparationWatch)(metrics.preparation)
        self.preparing = Preparing(
            s, self.client, self.llm_calls, self.retry, self.supervisor, self.preparation
        )
        self.preparation.expect(self.preparing.toolbox.names, self.preparing.library.workflows.values())
        self.saturation = SaturationWatch((*self.stages, *self.preparing.toolbox.stages))
        self.keys = self._keys()
        flights: Flights[Broadcast[Chunk]] = Flights()
        sealing = Sealing(self.lane, s.cache_ttl_s)
        if self.sharing is not None:
            self.sharing.build(flights, sealing)
        max_log_bytes = LOG_FACTOR * s.cache_max_entry_bytes
        self.broadcasts = (TracedBroadcasts if addresses.traced else BroadcastManager)(
            flights,
            self.leaders,
            self.llm_streams,
            self.preparing.preparer(self.keys),
            Answering(
                self.client,
                self.llm_streams,
                self.retry,
                slot_s=s.slot_timeout_s,
            ),
            sealing,
            self.supervisor,
            Bounds(
                max_pending=s.max_pending,
                max_log_bytes=max_log_bytes,
                queue_s=s.queue_timeout_s,
                slot_s=s.slot_timeout_s,
                prepare_s=s.prepare_timeout_s,
            ),
            finish_unwatched=s.abandon_policy == "finish",
            elsewhere=None if self.sharing is None else self.sharing.relay,
        )
        self.records = Records(s.retention_s, s.retention_bytes)
        self.observer = PipelineObserver(metrics)
        timers = ClaimTimers(
            queue_s=s.queue_timeout_s,
            slot_s=s.slot_timeout_s,
            subscribe_s=s.subscribe_timeout_s,
            grace_s=s.abandon_grace_s,
        )
        self.manager = (ChatManager if self.sharing is None else SharedChatManager)(
            self.keys,
            self.lane,
            flights,
            self.followers,
            self.broadcasts,
            self.records,
            timers,
            self.observer,
        )
        self.tracing = Tracing.exporting(addresses, self.broadcasts) if addresses.traced else None
        self.hub: Hub = Alone(self)
        if self.sharing is not None and isinstance(self.manager, SharedChatManager):
            self.sharing.meet(self.broadcasts, flights, self.records, self.manager, timers)
        self.conversations = Conversing(self)

    async def with_default_model(self, request: ChatRequest) -> ChatRequest:
        """The request itself, or, where it names no model, the same for the upstream's first.

        Raises NotFound for a workflow that is not there.
        """
        if request.body.get("model"):
            self.preparing.check(request.body)
            return request
        return with_model(request, await self.client.default_model())

    async def models(self) -> list[dict[str, Any]]:
        """The upstream's, and the gateway's own."""
        return [*await self.client.models(), *self.preparing.models()]

    # -- lifespan -----------------------------------------------------------------------------
    async def start(self) -> None:
        if self.sharing is not None:
            await self.sharing.start()
        self.lane.start(self.supervisor)
        self.supervisor.own("pulse", self.pulse.run())
        self.supervisor.own("saturation", self.saturation.run())
        self.supervisor.own("retention", self._forget())
        if isinstance(self.hub, Alone):
            self.supervisor.own("history", self.hub.remember())
        self.supervisor.spawn("first models", self._learn_models())
        if self.state == "starting":
            self.state = "ready"

    def begin_drain(self) -> None:
        """Readiness first, then the door: whoever balances the load is told before anybody is refused."""
        self.state = "draining"
        self.manager.begin_drain()
        self.conversations.begin_drain()

    async def close(self) -> None:
        """After the last answer: the tasks, then what they used."""
        self.lane.close()
        await self.conversations.close()
        if self.sharing is not None:
            await self.sharing.drain()
        await self.supervisor.close()
        await self.preparing.close()
        await self.client.close()
        if self.sharing is not None:
            await self.sharing.close()
        await self._redis.close()
        if self.tracing is not None:
            await self.tracing.close()

    def traced(self, route: str, app: ASGIApp) -> ASGIApp:
        return app if self.tracing is None else self.tracing.route(route, app)

    # -- building -----------------------------------------------------------------------------
    def _stage(self, name: str, capacity: int, max_waiting: int | None) -> Stage:
        return Stage(name, capacity, max_waiting, on_wait=self.metrics.stage_wait[name].observe)

    def _llm_stage(self, name: str, capacity: int) -> Stage:
        if self.sharing is None:
            return self._stage(name, capacity, None)
        return self.sharing.stage(name, capacity, self.metrics.stage_wait[name].observe)

    def _keys(self) -> SharingKeys:
        s = self.settings
        preparing = self.preparing
        return SharingKeys(
            # What is meant for one user is not even shared between tenants that use the same name for him.
            share_globally=s.share_scope == "global" and not preparing.library.private,
            normalize_loosely=s.key_normalization == "loose",
            fingerprint=(
                # A simulated model's address changes with each start; its answers do not.
                "simulated" if self.addresses.simulated else self.addresses.upstream_url,
                *preparing.fingerprint,
                str(int(s.upstream_cumulative)),
            ),
            versions=preparing.versions,
        )

    async def _learn_models(self) -> None:
        """So that the first request that names no model need not wait for the list."""
        with suppress(GatewayError):
            await self.client.models()

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.manager.forget_old()

    @property
    def redis_state(self) -> str:
        """ok; unreachable: all is a miss; not_shared: hits are served, flights and limits are our own."""
        if not self.lane.healthy:
            return "unreachable"
        return "ok" if self.sharing is None or self.sharing.link.up else "not_shared"

    def _redis_error(self, op: str) -> None:
        self.metrics.redis_errors.labels(op).inc()

    def _upstream_call(self, outcome: str) -> None:
        self.upstream_calls += 1
        self.metrics.upstream_calls[outcome].inc()


def _now() -> float:
    return asyncio.get_running_loop().time()
