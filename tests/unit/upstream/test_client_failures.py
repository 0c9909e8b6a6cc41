"""The client over real sockets: every way in which a call can fail has its own error, and its own count."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from runtime.errors import (
    FirstTokenTimeout,
    StreamIdleTimeout,
    StreamTimeout,
    UpstreamAuth,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from runtime.supervisor import Supervisor
from tests.fakes.permit import FakePermit
from tests.fakes.upstream import (
    CLOSE,
    END,
    HANG,
    RESET,
    STREAM_HEAD,
    Gate,
    Script,
    ScriptedUpstream,
    answer,
    delta,
    event,
    head,
    piece,
    reply,
)
from upstream.client import ModelClient
from upstream.deadlines import Timeouts
from upstream.retry import is_transient

pytestmark = pytest.mark.anyio


class Call:
    """One call against a script: the text that came, the error it ended in, how it was counted."""

    def __init__(self, *script: Any, **options: Any) -> None:
        self._script: Script = script
        self._options = options
        self.text = ""
        self.error: UpstreamError | None = None
        self.outcomes: list[str] = []
        self.requests = 0

    async def run(self) -> Call:
        async with ScriptedUpstream([self._script]) as upstream:
            client = ModelClient(
                upstream.base_url, supervisor=Supervisor(), on_call=self.outcomes.append, **self._options
            )
            try:
                async with client.stream(FakePermit(), {"messages": []}) as batches:
                    async for batch in batches:
                        self.text += "".join(chunk.text for chunk in batch)
            except UpstreamError as error:
                self.error = error
            assert client.stats().in_flight == 0
            await client.close()
            self.requests = len(upstream.requests)
        return self


async def failed(*script: Any, **options: Any) -> Call:
    call = await Call(*script, **options).run()
    assert call.error is not None
    return call


@pytest.mark.parametrize(
    "ending",
    [
        [event(b"[DONE]") + END],
        [END],
        [CLOSE],
        [RESET],
        [event(delta(finish="stop")), CLOSE],
        [event(delta(finish="stop", index=1)) + event(b"[DONE]") + END],
        [event(delta(finish="stop")) + piece(b'data: {"choices":[],"us') + END],
    ],
)
async def test_an_answer_without_a_proper_end_is_truncated(ending: list[Any]) -> None:
    """Complete means: a finish reason for every choice, and an orderly end. The text so far is kept."""
    gate = Gate()
    gate.open()
    call = await failed(STREAM_HEAD, event(delta("abc")), gate, *ending)
    assert type(call.error) is UpstreamTruncated
    assert call.outcomes == ["failed"]
    if ending != [RESET]:  # a reset may overtake what was sent just before it
        assert call.text == "abc"


async def test_what_came_before_a_reset_is_kept() -> None:
    """Once it has been read, nothing takes it back."""
    gate = Gate()
    async with ScriptedUpstream([[STREAM_HEAD, event(delta("abc")), gate, RESET]]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor())
        async with client.stream(FakePermit(), {}) as batches:
            assert (await anext(batches))[0].text == "abc"
            gate.open()
            with pytest.raises(UpstreamTruncated):
                await anext(batches)
        await client.close()


@pytest.mark.parametrize("body", [END, event(b"[DONE]") + END, event({"choices": [], "usage": {}}) + END])
async def test_an_answer_without_any_choice_is_truncated(body: bytes) -> None:
    """Nothing is not a complete something."""
    assert type((await failed(STREAM_HEAD, body)).error) is UpstreamTruncated


@pytest.mark.parametrize(
    "script",
    [
        [reply("200 OK", b'{"choices":[]}')],
        [reply("200 OK", b"<html>", "text/html")],
        [head(Content_Encoding="gzip", Transfer_Encoding="chunked"), END],
        [STREAM_HEAD, event(b"garbage"), HANG],
        [STREAM_HEAD, event(b"[1]"), HANG],
        [STREAM_HEAD, *[piece(b"x" * 65_536)] * 70, HANG],
        [b"SSH-2.0-OpenSSH\r\n\r\n", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", CLOSE],
    ],
)
async def test_what_is_no_event_stream_is_a_bad_response(script: list[Any]) -> None:
    """JSON, HTML, compressed bytes, garbage, endless lines, another protocol."""
    call = await failed(*script)
    assert type(call.error) is UpstreamBadResponse
    assert call.outcomes == ["failed"]


@pytest.mark.parametrize(
    ("frame", "kind", "outcome"),
    [
        ({"error": {"message": "secret"}}, UpstreamError, "failed"),
        ({"error": {"code": 429}}, UpstreamRateLimited, "rate_limited"),
        ({"error": {"code": "content_filter"}}, UpstreamRejected, "rejected"),
    ],
)
async def test_an_error_in_the_stream_ends_it(
    frame: dict[str, Any], kind: type[UpstreamError], outcome: str
) -> None:
    """After the text that came before it, in the same read."""
    call = await failed(STREAM_HEAD + event(delta("abc")) + event(frame) + event(delta("never")) + END)
    assert type(call.error) is kind
    assert (call.text, call.outcomes) == ("abc", [outcome])
    assert "secret" not in str(call.error)


@pytest.mark.parametrize(
    ("status", "kind", "outcome", "transient"),
    [
        ("400 Bad Request", UpstreamRejected, "rejected", False),
        ("401 Unauthorized", UpstreamAuth, "failed", False),
        ("429 Too Many Requests", UpstreamRateLimited, "rate_limited", True),
        ("500 Oops", UpstreamError, "failed", False),
        ("503 Unavailable", UpstreamError, "failed", True),
        ("302 Found", UpstreamError, "failed", False),
    ],
)
async def test_a_refusal_becomes_its_error(
    status: str, kind: type[UpstreamError], outcome: str, transient: bool
) -> None:
    """With nothing of the upstream's own text in it; a redirect is not followed."""
    body = json.dumps({"error": {"message": "secret", "code": "model_not_found", "param": "model"}}).encode()
    call = await failed(reply(status, body, Retry_After="2", Location="/elsewhere"))
    assert isinstance(call.error, kind)
    assert is_transient(call.error) is transient
    assert (call.outcomes, call.requests) == ([outcome], 1)
    assert "secret" not in repr(call.error)


async def test_a_rejection_and_a_rate_limit_carry_their_details() -> None:
    """Status, code and field of the one; the wait of the other."""
    body = json.dumps({"error": {"code": "model_not_found", "param": "model"}}).encode()
    rejected = (await failed(reply("404 Not Found", body))).error
    limited = (await failed(reply("429 Slow Down", b"", Retry_After="2"))).error
    assert rejected is not None
    assert (rejected.status, rejected.code, rejected.param) == (404, "model_not_found", "model")
    assert limited is not None
    assert limited.retry_after == 2.0


async def test_an_endless_error_body_is_not_read_to_its_end() -> None:
    """The status is enough."""
    endless = head("400 Bad Request", "application/json", Transfer_Encoding="chunked")
    call = await failed(endless, *[piece(b"x" * 65_536)] * 3, HANG)
    assert type(call.error) is UpstreamRejected


@pytest.mark.parametrize("script", [[RESET], [CLOSE], [b"HTTP/1.1 200 OK\r\nContent-", RESET]])
async def test_an_upstream_that_closes_before_its_headers_is_unreachable(script: list[Any]) -> None:
    """No byte of an answer came, so another try cannot repeat one."""
    call = await failed(*script)
    assert type(call.error) is UpstreamUnreachable
    assert is_transient(call.error)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/v1", f"http://{'x' * 70}.invalid/v1", "https://127.0.0.1:{port}"]
)
async def test_an_upstream_without_connection_is_unreachable(address: str) -> None:
    """Refused, no such name, no TLS."""
    async with ScriptedUpstream([[HANG]], greeting=b"no TLS here") as upstream:
        client = ModelClient(address.format(port=upstream.port), supervisor=Supervisor())
        with pytest.raises(UpstreamUnreachable):
            async with client.stream(FakePermit(), {}):
                pass
        await client.close()


@pytest.mark.parametrize(
    "script",
    [
        [HANG],
        [STREAM_HEAD, HANG],
        [STREAM_HEAD, event({"choices": [{"delta": {"role": "assistant"}}]}), HANG],
        [STREAM_HEAD, piece(b": ping\n\n"), HANG],
    ],
)
async def test_no_first_token_in_time_has_its_error(script: list[Any]) -> None:
    """Before the headers or after, with a role or a comment or without: no token is no token."""
    call = await failed(*script, timeouts=Timeouts(first_token=0.05))
    assert type(call.error) is FirstTokenTimeout
    assert not is_transient(call.error)
    assert call.outcomes == ["failed"]


async def test_a_stream_that_falls_silent_has_its_error() -> None:
    """The text so far is kept; comments do not count as progress."""
    script = [STREAM_HEAD, event(delta("abc")), piece(b": ping\n\n"), HANG]
    call = await failed(*script, timeouts=Timeouts(idle=0.05))
    assert type(call.error) is StreamIdleTimeout
    assert call.text == "abc"


@pytest.mark.parametrize("script", [[HANG], [STREAM_HEAD, event(delta("abc")), HANG]])
async def test_an_answer_that_takes_too_long_has_its_error(script: list[Any]) -> None:
    """However busy the stream is."""
    call = await failed(*script, timeouts=Timeouts(total=0.05))
    assert type(call.error) is StreamTimeout


@contextmanager
def deaf_port() -> Iterator[int]:
    """A listening port whose queue is full: further connects are neither accepted nor refused."""
    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


async def test_no_connection_in_time_is_unreachable() -> None:
    """The time for it is apart from that for the first token."""
    with deaf_port() as port:
        client = ModelClient(
            f"http://127.0.0.1:{port}/v1", supervisor=Supervisor(), timeouts=Timeouts(connect=0.05)
        )
        with pytest.raises(UpstreamUnreachable):
            async with client.stream(FakePermit(), {}):
                pass
        await client.close()


async def test_a_complete_answer_counts_as_completed() -> None:
    """Once."""
    assert (await Call(*answer("x")).run()).outcomes == ["completed"]


async def test_closing_the_client_ends_the_calls_that_run() -> None:
    """They are told; none waits for ever."""
    async with ScriptedUpstream([[STREAM_HEAD, event(delta("a")), HANG]]) as upstream:
        client = ModelClient(upstream.base_url, supervisor=Supervisor())
        async with client.stream(FakePermit(), {}) as batches:
            await anext(batches)
            await client.close()
            with pytest.raises(UpstreamTruncated):
                await anext(batches)
        await upstream.until(lambda: upstream.open == 0)
