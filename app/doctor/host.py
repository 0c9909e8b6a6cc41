"""This machine and these settings: contradictions, keys that go astray, open files, the gateway on PORT."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from app.doctor.finding import LOOK_S, Finding, failed, ok, plain, warning
from app.doctor.reach import NothingThere, Unreached, reach
from app.library import check_library
from config.advice import is_loopback, warnings
from config.loading import SettingsError
from config.settings import Settings
from upstream.transport import Transport, TransportError

#: What a worker opens beside its pools: its own files, sockets to Redis, spare connections.
OWN_FILES = 64
_MAX_BODY = 65_536
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not bound


def settings_findings(settings: Settings) -> Iterator[Finding]:
    advice = warnings(settings)
    for sentence in advice:
        yield warning("settings.advice", sentence, "See docs/settings.md.")
    if not advice:
        yield ok("settings.advice", "The settings are understood, and nothing in them contradicts itself.")
    yield from library(settings)
    yield key(settings)
    yield files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def library(settings: Settings) -> Iterator[Finding]:
    """What would keep `serve` from starting as surely as a wrong setting."""
    try:
        found = check_library(settings)
    except SettingsError as error:
        for problem in error.problems:
            says = f"{problem.rstrip('.')}."
            yield failed("settings.library", says, "See docs/tools.md and docs/workflows.md.")
        return
    if found.tools or found.workflows:
        yield ok("settings.library", f"Tools: {len(found.tools)}, workflows: {len(found.workflows)}.")


def key(settings: Settings) -> Finding:
    """Where the upstream's key would travel to."""
    base = settings.upstream_base_url
    if settings.openai_api_key is None or base is None:
        return ok("settings.key", "No upstream key is set, so none can go astray.")
    parts = urlsplit(base)
    if is_loopback(parts.hostname or ""):
        says = (
            f"OPENAI_API_KEY is set, and OPENAI_BASE_URL is this machine ({base}): the server there gets it."
        )
        return warning("settings.key", says, "Unset the key, if it is another service's.")
    if parts.scheme == "http":
        says = f"OPENAI_API_KEY is sent to {base} without TLS: whoever is on the way can read it."
        return warning("settings.key", says, "Use https://, or a network that nobody else is on.")
    return ok("settings.key", f"OPENAI_API_KEY goes to {parts.hostname}, over TLS.")


def files(settings: Settings, limit: int) -> Finding:
    """One open file per connection of a client, one per call of the model, some for Redis and ourselves."""
    s = settings
    own = OWN_FILES + s.max_concurrent_llm_streams + s.max_concurrent_llm_calls + s.cache_workers
    clients = s.max_concurrent_llm_streams + s.max_pending + s.queue_size
    if limit == resource.RLIM_INFINITY or limit >= own + clients:
        shown = "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,}"
        return ok("settings.files", f"Open files: {shown}; full pools and queues need {own + clients:,}.")
    do = f"Raise it (ulimit -n {own + clients}), or lower the pools and queues."
    if limit < own + s.max_concurrent_llm_streams:
        says = f"Open files: {limit:,}; the pools alone need {own + s.max_concurrent_llm_streams:,}."
        return failed("settings.files", says, do)
    says = f"Open files: {limit:,}; full pools and queues need {own + clients:,}, and each follower one more."
    return warning("settings.files", says, do)


async def gateway(host: str, port: int) -> Finding:
    """Whether something listens where `serve` would, and whether that is a gateway, and well."""
    host = _ANYWHERE.get(host, host)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        await reach(host, port)
    except NothingThere:
        return ok("gateway.port", f"Nothing listens on {shown}: a gateway can be started there.")
    except Unreached as error:
        return failed("gateway.port", error.says, "If it is not this machine's, choose another --host.")
    transport = Transport(1, LOOK_S, keep_alive=False)
    try:
        async with asyncio.timeout(LOOK_S):
            reply = await transport.send("GET", f"http://{shown}/readyz", {})
            try:
                return ready(shown, reply.status, await reply.read_all(_MAX_BODY))
            finally:
                reply.close()
    except TimeoutError:
        says = f"What listens on {shown} took the question and did not answer within {LOOK_S:g} s."
        return failed("gateway.port", says, "If it is a gateway, it hangs: see its log, then restart it.")
    except TransportError:
        return _stranger(shown)
    finally:
        await transport.close()


def ready(shown: str, status: int, body: bytes) -> Finding:
    """What an answer to /readyz means."""
    try:
        told = msgspec.json.decode(body, type=_Readiness)
    except (ValueError, RecursionError):
        return _stranger(shown)
    state = plain(told.status)
    if status == 200 and state == "ok":
        return ok("gateway.port", f"A gateway is on {shown}: ok.")
    if status == 200:
        bad = ", ".join(
            f"{plain(name)} is {plain(how)}" for name, how in told.components.items() if how != "ok"
        )
        return warning(
            "gateway.port", f"A gateway is on {shown}: {state}, {bad}.", "See what is found below."
        )
    if status == 503:
        do = "Wait; if it stays so, see its log."
        return warning("gateway.port", f"A gateway is on {shown}, and it is not ready: {state}.", do)
    return _stranger(shown)


class _Readiness(msgspec.Struct):
    status: str
    components: dict[str, str] = {}


def _stranger(shown: str) -> Finding:
    says = f"Something that is not a gateway listens on {shown}: `refrain serve` cannot."
    return failed("gateway.port", says, "Stop it, or choose another PORT.")
