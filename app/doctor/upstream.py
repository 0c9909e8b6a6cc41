"""The upstream: reached, asked for its models, and only if told so for one tiny answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from app.doctor.call import ask
from app.doctor.finding import LOOK_S, Finding, failed, ok, plain, skipped, warning
from app.doctor.reach import Unreached, reach
from config.settings import Settings
from runtime.errors import UpstreamBadResponse, UpstreamError
from upstream.endpoint import Endpoint
from upstream.transport import Transport, TransportError

_MAX_BODY: Final = 4 << 20
_SHOWN_MODELS: Final = 3
_NO_CALL: Final = "No completion was asked for."


async def examine(settings: Settings, tokens: int | None) -> list[Finding]:
    """`tokens`: how long the one answer may be; None for no call at all."""
    base = settings.upstream_base_url
    if base is None:
        says = "No upstream is configured (OPENAI_BASE_URL): answers come from the built-in simulated model."
        return [skipped("upstream.reach", says)]
    parts = urlsplit(base)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    try:
        await reach(host, port, tls=secure)
    except Unreached as error:
        return [failed("upstream.reach", error.says, error.do)]
    findings = [ok("upstream.reach", f"{host}:{port} takes connections{' over TLS' if secure else ''}.")]
    finding, models = await _models(base, settings)
    findings.append(finding)
    if tokens is None:
        return [*findings, skipped("upstream.call", _NO_CALL, "--call makes one; it may cost money.")]
    if not models:
        says = "No completion was asked for, since no model is known to ask."
        return [*findings, skipped("upstream.call", says)]
    return [*findings, *await ask(settings, base, models[0], tokens)]


async def _models(base: str, settings: Settings) -> tuple[Finding, Sequence[str]]:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    transport = Transport(1, LOOK_S, keep_alive=False)
    try:
        async with asyncio.timeout(LOOK_S):
            reply = await Endpoint(base, key, transport).get("/models")
            try:
                body = await reply.read_all(_MAX_BODY)
            finally:
                reply.close()
        return listed(base, reply.status, body, with_key=key is not None)
    except TimeoutError:
        says = f"{base}/models did not answer within {LOOK_S:g} s."
        return failed("upstream.models", says, "The server hangs or is overloaded: see its log."), ()
    except UpstreamBadResponse:
        says = f"What answers at {base} does not speak HTTP."
        return failed(
            "upstream.models", says, "Is it one with TLS? Then the address begins with https://."
        ), ()
    except (UpstreamError, TransportError):
        says = f"{base}/models broke the connection before it had answered."
        return failed("upstream.models", says, "See the log of that server, or of the proxy before it."), ()
    finally:
        await transport.close()


def listed(base: str, status: int, body: bytes, *, with_key: bool) -> tuple[Finding, Sequence[str]]:
    """What an answer to GET /models means, and the models in it."""
    if status != 200:
        return _refused(base, status, with_key), ()
    try:
        ids = [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (ValueError, RecursionError):
        says = f"{base}/models answers 200, but not with a list of models."
        return failed("upstream.models", says, _base_url_hint(base)), ()
    if not ids:
        says = f"{base} lists no model: a request that names none will fail."
        return warning("upstream.models", says, "Load a model there, or name one in every request."), ()
    shown = ", ".join(plain(each) for each in ids[:_SHOWN_MODELS]) + (
        " …" if len(ids) > _SHOWN_MODELS else ""
    )
    count = f"{len(ids)} model{'s' if len(ids) > 1 else ''}"
    return ok("upstream.models", f"{count}: {shown}. Requests that name none get the first."), ids


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _refused(base: str, status: int, with_key: bool) -> Finding:
    check, says = "upstream.models", f"{base}/models answers {status}"
    if status in (401, 403):
        if with_key:
            return failed(check, f"{says}: OPENAI_API_KEY is wrong there.", "Set the key of that service.")
        return failed(check, f"{says}: it wants a key, and OPENAI_API_KEY is not set.", "Set it.")
    if status == 404:
        return failed(check, f"{says}: there is no such path.", _base_url_hint(base))
    if status == 429:
        return warning(
            check, f"{says}: it limits our rate.", "Wait; if it stays so, look at the account there."
        )
    if 300 <= status < 400:
        return failed(
            check, f"{says}: a redirect, which is not followed.", "Put its target in OPENAI_BASE_URL."
        )
    return failed(check, f"{says}.", "See the log of that server, or of the proxy before it.")


def _base_url_hint(base: str) -> str:
    if base.endswith("/v1"):
        return "Is that an OpenAI-compatible API? Ask its documentation for the base URL."
    return f"OPENAI_BASE_URL probably lacks its end: try {base}/v1."
