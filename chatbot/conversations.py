"""Conversations: what was said before is part of each question, one turn after the other.

A turn has its id, and its place in the line, before it has a key: the key is over the history, and that is
known only when the turn before has ended. Meanwhile it holds nothing and is in no stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from cache.conversations import View
from cache.errors import StoreError
from cache.keys import SharingKeys
from cache.names import conversation
from chatbot import history, told
from chatbot.astray import Astray
from chatbot.behind import Around, Found, Turn
from chatbot.manager import CANCELLED
from chatbot.once import RELEASE_S, OnceEverywhere
from chatbot.record import Record
from chatbot.request import ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import NATIVE
from chatbot.waiting import Waiting
from runtime.errors import Conflict, ConversationUnavailable, Draining, NotFound, StateUnavailable

#: At the end of the process: for what Redis has not been told yet.
DRAIN_S: Final = 1.0


class Conversations:
    """State: the turns of this process, from their submit until they have left their line.

    `meet` is for a process that is not alone.
    """

    _astray: Astray | None = None
    _once: OnceEverywhere[Found] | None = None

    def __init__(self, around: Around, keys: SharingKeys) -> None:
        self._around = around
        self._store = around.store
        self._manager = around.manager
        self._keys = keys
        self._turns: dict[str, Turn] = {}

    def __repr__(self) -> str:
        return f"<Conversations [{len(self._turns)} turns]>"

    @property
    def waiting(self) -> int:
        """Turns of this process that have no record yet and whose clients know that they wait."""
        return len(self._around.waiting)

    def meet(self, astray: Astray, once: OnceEverywhere[Found]) -> None:
        self._astray = astray
        self._once = once

    # -- submit -------------------------------------------------------------------------------
    async def submit(self, request: ChatRequest, ticket: Ticket) -> tuple[Found, bool]:
        """As the manager's, of a request with a conversation: what has no record yet is `Waiting`."""
        assert request.conversation is not None
        if self._manager.draining:
            raise Draining()
        name = conversation(ticket.tenant, request.conversation)
        if self._astray is not None:
            ticket = ticket.placed(name)
        if request.request_id is None:
            return await self._begin(name, request, ticket), True
        return await self._begin_once(name, request, request.request_id, ticket)

    async def _begin_once(
        self, name: str, request: ChatRequest, request_id: str, ticket: Ticket
    ) -> tuple[Found, bool]:
        self._manager.forget_old()
        tenant, idempotency = ticket.tenant, self._manager.idempotency
        digest = self._keys.identity({**request.body, "conversation_id": request.conversation})
        known = await idempotency.known(tenant, request_id, digest)
        if known is not None:
            return await self.seek(known, tenant), False
        with idempotency.first(tenant, request_id, digest) as entry:
            if self._once is not None:
                earlier = await self._once.earlier(request_id, ticket, digest)
                if earlier is not None:
                    return earlier, False
            try:
                found = await self._begin(name, request, ticket)
            except BaseException as error:
                await self._release(request_id, ticket, digest, wait=isinstance(error, Exception))
                raise
            entry.record_id = found.ticket.id
        return found, True

    async def _release(self, request_id: str, ticket: Ticket, digest: str, *, wait: bool) -> None:
        if self._once is not None:
            released = self._once.release(request_id, ticket, digest)
            if wait:
                await asyncio.wait({released}, timeout=RELEASE_S)

    async def _begin(self, name: str, request: ChatRequest, ticket: Ticket) -> Found:
        about = told.about_unborn(ticket, name, NATIVE.route, native=True)
        turn = self._turns[ticket.id] = Turn(self._around, name, about, request, ticket)
        self._around.supervisor.spawn("conversation:turn", self._run(ticket.id, turn))
        # Whoever asks may leave: what it has asked goes on, as every native request does.
        return await asyncio.shield(turn.found)

    async def _run(self, id: str, turn: Turn) -> None:
        try:
            await turn.run(NATIVE)
        finally:
            del self._turns[id]

    def look(self, id: str) -> None:
        """The line before that turn has moved."""
        if (turn := self._turns.get(id)) is not None:
            turn.look()

    def look_all(self) -> None:
        """A process is gone, and with it perhaps what somebody waits for."""
        for turn in self._turns.values():
            turn.look()

    # -- by id --------------------------------------------------------------------------------
    async def seek(self, id: str, tenant: str) -> Found:
        """As the manager's, of any request, conversation or not."""
        if (turn := self._mine(id, tenant)) is not None:
            return turn.waiting
        try:
            return await self._manager.seek(id, tenant)
        except NotFound:
            waiting = None if self._astray is None else await self._astray.find(id, tenant)
            if waiting is not None:
                return waiting
            if self._astray is None:
                raise
        # It may have stopped waiting between the two looks.
        return await self._manager.seek(id, tenant)

    async def stop(self, id: str, tenant: str) -> Record:
        """As the manager's, of any request."""
        if self._cancel_mine(id, tenant):
            return self._manager.find(id, tenant)
        if self._astray is not None and isinstance(await self.seek(id, tenant), Waiting):
            await self._astray.cancel(id)
        return await self._manager.stop(id, tenant)

    def cancelled_elsewhere(self, id: str) -> None:
        """Its client has asked another process to cancel what waits here."""
        if (turn := self._turns.get(id)) is not None and turn.undecided:
            turn.end(NATIVE, reason=CANCELLED)

    def _cancel_mine(self, id: str, tenant: str) -> bool:
        turn = self._mine(id, tenant)
        if turn is not None:
            turn.end(NATIVE, reason=CANCELLED)
        return turn is not None

    def _mine(self, id: str, tenant: str) -> Turn | None:
        """A turn of this process that has no record yet."""
        turn = self._turns.get(id)
        if turn is None or turn.waiting.ticket.tenant != tenant or not turn.undecided:
            return None
        return turn

    # -- a whole conversation -----------------------------------------------------------------
    async def show(self, id: str, tenant: str) -> dict[str, Any]:
        """Raises NotFound, alike for a foreign and an unknown one, or ConversationUnavailable."""
        view = await self._view(conversation(tenant, id))
        try:
            turns = [turn.shown() for turn in history.read(view.turns)]
        except msgspec.MsgspecError:
            raise ConversationUnavailable() from None
        return {
            "id": id,
            "turns": turns,
            "running": view.line[0] if view.line else None,
            "waiting": list(view.line[1:]),
            "expires_in_s": max(0, view.left_ms // 1000),
        }

    async def forget(self, id: str, tenant: str) -> None:
        """What runs goes on, and adds nothing. Raises as `show`."""
        try:
            there = await self._store.forget(conversation(tenant, id))
        except StoreError:
            raise ConversationUnavailable() from None
        if not there:
            raise _unknown()

    async def cancel(self, id: str, tenant: str) -> list[str]:
        """Cancel all that runs and waits, wherever it was admitted: their ids. Raises as `show`."""
        view = await self._view(conversation(tenant, id), turns=False)
        cancelled = await self._cancel_all(view.line, tenant)
        return [id for id in view.line if id in cancelled]

    async def _cancel_all(self, line: Sequence[str], tenant: str) -> set[str]:
        """The last one first: none of them begins because the one before it has ended."""
        cancelled, unheard = set(), None
        for id in reversed(line):
            try:
                await self.stop(id, tenant)
                cancelled.add(id)
            except (NotFound, Conflict):
                continue  # it has ended by itself, or was never admitted
            except StateUnavailable as error:
                unheard = error  # its process says nothing: the others are cancelled all the same
        if unheard is not None:
            raise unheard
        return cancelled

    async def _view(self, name: str, *, turns: bool = True) -> View:
        try:
            view = await self._store.view(name, turns=turns)
        except StoreError:
            raise ConversationUnavailable() from None
        if view is None:
            raise _unknown()
        return view

    # -- the end of the process ---------------------------------------------------------------
    def begin_drain(self) -> None:
        """What waits will not be asked any more. What is not told yet that it waits is refused."""
        for turn in list(self._turns.values()):
            if turn.undecided and turn.found.done():
                turn.end(NATIVE, error=Draining())

    async def close(self) -> None:
        """What ended last is written."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._around.supervisor.until_none("conversation:")
        except TimeoutError:
            return


def _unknown() -> NotFound:
    return NotFound("There is no such conversation.")
