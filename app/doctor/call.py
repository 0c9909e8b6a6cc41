"""One tiny answer, by the way that every answer goes: ModelClient, under a permit of an LLM stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from admission import Stage
from app.doctor.finding import LOOK_S, Finding, failed, ok, plain, skipped, warning
from config.settings import Settings
from runtime.errors import (
    FirstTokenTimeout,
    GatewayError,
    StreamIdleTimeout,
    StreamTimeout,
    UpstreamAuth,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTruncated,
)
from runtime.supervisor import Supervisor
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.deadlines import Timeouts

_QUESTION: Final = "Count from one to twenty."


@dataclass(slots=True)
class Heard:
    """What came of the answer. `marked`: whether `[DONE]` came; None if the client does not tell."""

    pieces: list[str] = field(default_factory=list)
    first_ms: float | None = None
    total_ms: float = 0.0
    usage: bool = False
    marked: bool | None = None

    async def listen(self, answer: AsyncIterator[list[Chunk]], begun: float) -> None:
        now = asyncio.get_running_loop().time
        async for batch in answer:
            for chunk in batch:
                if chunk.content and self.first_ms is None:
                    self.first_ms = 1000 * (now() - begun)
                self.usage = self.usage or chunk.usage is not None
                self.pieces += [chunk.text] if chunk.text else []
        self.total_ms = 1000 * (now() - begun)
        self.marked = getattr(answer, "marked", None)


class _Turn:
    """The only one in its stage."""

    order = 0.0


async def ask(settings: Settings, base: str, model: str, tokens: int) -> list[Finding]:
    """Make the call; the stage is our own, for no gateway's permits are counted here."""
    supervisor = Supervisor()
    client = ModelClient(
        base,
        settings.openai_api_key.get_secret_value() if settings.openai_api_key else None,
        supervisor=supervisor,
        connections=1,
        timeouts=Timeouts(connect=LOOK_S, first_token=LOOK_S, idle=LOOK_S, total=LOOK_S),
    )
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": tokens,
    }
    heard = Heard()
    try:
        async with Stage("llm_streams", 1).admit(_Turn()) as permit:
            begun = asyncio.get_running_loop().time()
            async with client.stream(permit, body) as answer:
                await heard.listen(answer, begun)
    except GatewayError as error:
        return [trouble(error, model)]
    finally:
        await client.close()
        await supervisor.close()
    return judged(heard, model, cumulative=settings.upstream_cumulative)


def judged(heard: Heard, model: str, *, cumulative: bool) -> list[Finding]:
    """What a complete answer says about the upstream."""
    if heard.first_ms is None:
        text = f"{plain(model)} ended after {heard.total_ms:.0f} ms, complete but without any text."
    else:
        first = f"first token after {heard.first_ms:.0f} ms"
        text = f"{plain(model)} answered: {first}, complete after {heard.total_ms:.0f} ms."
    return [ok("upstream.call", text), usage(heard), done(heard), repeats(heard.pieces, expected=cumulative)]


def usage(heard: Heard) -> Finding:
    if heard.usage:
        return ok("upstream.usage", "The answer came with its usage.")
    says = "The answer came without usage, although it was asked for: its tokens are not counted."
    return warning("upstream.usage", says, "Switch stream_options.include_usage on there, if it can be.")


def done(heard: Heard) -> Finding:
    if heard.marked is None:
        return skipped(
            "upstream.done", "Whether it ended with [DONE] is not told; it ended with a finish reason."
        )
    if heard.marked:
        return ok("upstream.done", "The answer ended with [DONE].")
    says = "The answer ended without [DONE]; a finish reason and an orderly end are taken for it."
    return ok("upstream.done", says)


def repeats(pieces: Sequence[str], *, expected: bool) -> Finding:
    """Never certain from the text alone, hence a suggestion: an honest model may say "ha", then "ha ha"."""
    check = "upstream.cumulative"
    if len(pieces) < 2:
        return skipped(check, "Whether pieces repeat the text cannot be told from one.", "Try --call 16.")
    found = pieces[-1] != pieces[0] and all(later.startswith(former) for former, later in pairwise(pieces))
    if found and not expected:
        says = "Each piece repeats the text before it: readers would see it again and again."
        return warning(check, says, "Set REFRAIN_UPSTREAM_CUMULATIVE=1.")
    if expected and not found:
        says = (
            "REFRAIN_UPSTREAM_CUMULATIVE is 1, but its pieces do not repeat the text: every answer will fail."
        )
        return failed(check, says, "Unset it.")
    return ok(check, "Its pieces repeat the text, and that is set." if found else "Its pieces are growth.")


def trouble(error: GatewayError, model: str) -> Finding:
    """Why there was no complete answer."""
    check, name = "upstream.call", plain(model)
    if isinstance(error, FirstTokenTimeout | StreamTimeout | StreamIdleTimeout):
        says = f"{name} gave no complete answer within {LOOK_S:g} s."
        return warning(check, says, "It may be loading, or busy; ask again in a minute.")
    if isinstance(error, UpstreamRateLimited):
        return warning(
            check, f"{name} limits our rate.", "Lower REFRAIN_MAX_CONCURRENT_LLM_STREAMS, or wait."
        )
    for kind, says, do in _TROUBLES:
        if isinstance(error, kind):
            return failed(check, f"{name} ({error.code}): {says}", do)
    return failed(check, f"{name} ({error.code}): {error.message}", "See the log of that server.")


_TROUBLES: Final[tuple[tuple[type[GatewayError], str, str], ...]] = (
    (UpstreamAuth, "the key may list models, but not use this one.", "Look at the key's rights there."),
    (
        UpstreamTruncated,
        "the answer ended without a finish reason; a gateway takes that for a failure.",
        "See whether a proxy before it cuts streams, or update that server.",
    ),
    (
        UpstreamRejected,
        "it refused a plain request with max_tokens.",
        "Is its first model one for chat? Other models may do; name them in requests.",
    ),
)
