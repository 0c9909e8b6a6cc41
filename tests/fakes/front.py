"""The routes on top of the played pipeline: everything of the gateway that a virtual clock allows.

    async with front(streams=1) as gate:
        peer = await gate.post("/chat", {"message": "a question"})

Only the gateway object itself is put together here, from the real parts; leaving the block checks that no
stream is open and no watcher runs, and then what `tests.fakes.pipeline` checks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.routing import Router
from starlette.types import ASGIApp

from app.auth import Auth
from app.connection import Connections
from app.gateway import Gateway
from app.observer import PipelineObserver
from app.parsing import with_model
from app.pulse import BEAT_S, Pulse
from app.routes.chat import ChatRoutes
from app.routes.conversations import ConversationRoutes
from app.routes.openai import OpenAIRoutes
from chatbot.record import Record
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import Via
from chatbot.waiting import Waiting
from runtime.metrics import Metrics
from runtime.supervisor import Supervisor
from tests.fakes.asgi import Peer
from tests.fakes.conversations import conversations
from tests.fakes.model import Call
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle

MODEL = "played-model"
COMPLETIONS = "/v1/chat/completions"


class Models:
    """What the gateway asks of the upstream besides answers."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def models(self) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return [{"id": MODEL, "object": "model"}]


class Front:
    """What the routes use of a `Gateway`, and a client's calls on them. `app` is the router."""

    def __init__(
        self, pipe: Pipeline, supervisor: Supervisor, *, keys: dict[str, str], send_timeout_s: float
    ) -> None:
        self.pipe = pipe
        self.model = pipe.model
        self.supervisor = supervisor
        self.pulse = Pulse()
        self.connections = Connections(supervisor, self.pulse, send_timeout_s)
        self.auth = Auth(keys, None)
        self.observer = PipelineObserver(Metrics())
        self.manager = pipe.manager
        self.conversations = conversations(pipe)
        self._note_prompts()
        self.max_body_bytes = 10_000
        self.client = Models()
        gateway = cast(Gateway, self)  # duck-typed: the real one builds real connections
        self.app: ASGIApp = Router(
            [
                *OpenAIRoutes(gateway).routes(),
                *ChatRoutes(gateway).routes(),
                *ConversationRoutes(gateway).routes(),
            ]
        )

    async def models(self) -> list[dict[str, Any]]:
        return await self.client.models()

    async def with_default_model(self, request: ChatRequest) -> ChatRequest:
        if request.body.get("model"):
            return request
        return with_model(request, (await self.client.models())[0]["id"])

    def traced(self, route: str, app: ASGIApp) -> ASGIApp:
        return app

    # -- what a client does -------------------------------------------------------------------
    def asking(self, target: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Peer:
        """A POST that is not sent yet."""
        return Peer("POST", target, headers=headers or {}, body=json.dumps(body).encode())

    async def post(
        self, target: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Peer:
        return await self._call(self.asking(target, body, headers))

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Peer:
        return await self._call(Peer("GET", target, headers=headers or {}))

    async def head(self, target: str) -> Peer:
        return await self._call(Peer("HEAD", target))

    async def submit(self, message: str, **fields: Any) -> Any:
        """`POST /chat`: what it answered."""
        accepted = await self.post("/chat", {"message": message, **fields})
        assert accepted.status in (200, 202), accepted.body
        return accepted.json

    def open(self, group: asyncio.TaskGroup, peer: Peer) -> Peer:
        """Start a call; `settle` lets it come as far as it can without a timer."""
        group.create_task(self._call(peer), name=f"peer {peer.scope['path']}")
        return peer

    async def listen(self, group: asyncio.TaskGroup, target: str, **headers: str) -> Peer:
        """An open stream, as far as it comes without a timer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        peer = self.open(group, Peer("GET", target, headers=named))
        await settle()
        return peer

    async def hold(self, group: asyncio.TaskGroup, prompt: str = "holds a slot") -> Call:
        """Take a slot of the model with an answer that is played by hand; `complete()` gives it back."""
        self.model.by_hand.add(prompt)
        group.create_task(self.pipe.ask_and_read(prompt), name="holder")
        return await self.model.call(prompt)

    async def asked(self, group: asyncio.TaskGroup, prompt: str, **fields: object) -> tuple[Peer, Call]:
        """An open `/v1` call, and the model's side of it, played by hand."""
        self.model.by_hand.add(prompt)
        peer = self.open(group, self.asking(COMPLETIONS, openai_body(prompt, **fields)))
        return peer, await self.model.call(prompt)

    async def bring_to(self, group: asyncio.TaskGroup, phase: str) -> tuple[Callable[[], None], str]:
        """A request that stays in this phase once its stream is opened: what releases it, and its URL.

        For a front with `leaders=1, streams=1, hook=True`.
        """
        prompt = "the one"
        hook = self.pipe.hook
        if phase in ("queued", "preparing"):
            hook.gate.clear()
            if phase == "queued":
                await self.submit("prepares for ever")
            return hook.gate.set, (await self.submit(prompt))["stream_url"]
        if phase == "waiting_slot":
            holder = await self.hold(group)
            return holder.complete, (await self.submit(prompt))["stream_url"]
        self.model.by_hand.add(prompt)
        target = (await self.submit(prompt))["stream_url"]
        return lambda: self.model.asked(prompt)[0].complete(), target

    def record(self, id: str, tenant: str = "public") -> Record:
        return self.manager.find(id, tenant)

    async def _call(self, peer: Peer) -> Peer:
        return await peer.call(self.app)

    def _note_prompts(self) -> None:
        """The invariants ask what each request was about."""
        submit = self.pipe.manager.submit

        async def noting(request: ChatRequest, ticket: Ticket, via: Via) -> tuple[Record, bool]:
            self.pipe.prompts[ticket.id] = request.body["messages"][-1]["content"]
            return await submit(request, ticket, via)

        self.pipe.manager.submit = noting  # type: ignore[method-assign]
        converse = self.conversations.submit

        async def noting_turns(request: ChatRequest, ticket: Ticket) -> tuple[Record | Waiting, bool]:
            self.pipe.prompts[ticket.id] = request.body["messages"][-1]["content"]
            return await converse(request, ticket)

        self.conversations.submit = noting_turns  # type: ignore[method-assign]


async def beat() -> None:
    """Just over one beat of the pulse."""
    await asyncio.sleep(BEAT_S * 1.1)
    await settle()


def openai_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": message}], **fields}


@asynccontextmanager
async def front(
    *, keys: dict[str, str] | None = None, send_timeout_s: float = 10.0, **limits: Any
) -> AsyncIterator[Front]:
    """A running front; at rest when it is left."""
    async with pipeline(**limits) as pipe:
        supervisor = Supervisor()
        gate = Front(pipe, supervisor, keys=keys or {}, send_timeout_s=send_timeout_s)
        supervisor.own("pulse", gate.pulse.run())
        try:
            yield gate
            await settle()
            assert len(gate.connections) == 0, "streams are still open"
            assert len(supervisor) == 1, f"watchers are left: {supervisor!r}"
        finally:
            await supervisor.close()
