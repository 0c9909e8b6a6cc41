"""What `refrain doctor` makes of an upstream: its list of models, and one answer if it was asked for."""

from __future__ import annotations

import json

import pytest

from app.doctor import call, upstream
from app.doctor.finding import Finding, Level
from config.settings import Settings
from tests.fakes.chat_upstream import ChatUpstream
from tests.fakes.upstream import CLOSE, END, HANG, STREAM_HEAD, ScriptedUpstream, answer, delta, event, reply
from tests.unit.app.test_doctor_redis import FAILED, OK, WARNING, told

pytestmark = pytest.mark.anyio

BASE = "http://h:1/v1"
SKIPPED = Level.SKIPPED


@pytest.mark.parametrize(
    ("status", "base", "with_key", "level", "words"),
    [
        (401, BASE, True, FAILED, "OPENAI_API_KEY is wrong"),
        (403, BASE, True, FAILED, "OPENAI_API_KEY is wrong"),
        (401, BASE, False, FAILED, "OPENAI_API_KEY is not set"),
        (404, "http://h:1", True, FAILED, "try http://h:1/v1"),
        (404, BASE, True, FAILED, "OpenAI-compatible"),
        (429, BASE, True, WARNING, "limits our rate"),
        (307, BASE, True, FAILED, "redirect"),
        (500, BASE, True, FAILED, "answers 500"),
    ],
)
def test_what_a_refused_list_means(status: int, base: str, with_key: bool, level: Level, words: str) -> None:
    """The status says who has to mend what."""
    finding, models = upstream.listed(base, status, b"", with_key=with_key)
    told(finding, level, words)
    assert models == ()


@pytest.mark.parametrize(
    ("body", "level", "words"),
    [
        (b'{"data":[{"id":"a"},{"id":"b\\u001b[2J"}]}', OK, "2 models: a, b?[2J. Requests"),
        (b'{"data":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}', OK, "a, b, c …"),
        (b'{"data":[]}', WARNING, "no model"),
        (b"<html>", FAILED, "not with a list"),
        (b'{"data":[{"name":"a"}]}', FAILED, "not with a list"),
    ],
)
def test_what_a_list_means(body: bytes, level: Level, words: str) -> None:
    """A web page with status 200 is what a base URL without /v1 often gives."""
    told(upstream.listed(BASE, 200, body, with_key=False)[0], level, words)


async def look(server: ScriptedUpstream, tokens: int | None = None, **settings: object) -> dict[str, Finding]:
    chosen = Settings.model_validate(
        {"openai_base_url": server.base_url, "openai_api_key": "s3cret-key"} | settings
    )
    found = await upstream.examine(chosen, tokens)
    assert not any("s3cret" in finding.line for finding in found)
    return {finding.check: finding for finding in found}


async def test_no_upstream_is_the_simulated_one() -> None:
    """Nothing to look at, and no fault."""
    [finding] = await upstream.examine(Settings(), None)
    assert finding.level is SKIPPED


async def test_a_list_is_asked_for_with_the_key_and_nothing_else() -> None:
    """No completion without --call: it may cost money."""
    async with ChatUpstream([answer("x")]) as server:
        found = await look(server)
        assert [(request.method, request.path) for request in server.requests] == [("GET", "/v1/models")]
        assert server.requests[0].headers["authorization"] == "Bearer s3cret-key"
    assert found["upstream.reach"].level is OK
    told(found["upstream.models"], OK, "1 model: m.")
    assert found["upstream.call"].level is SKIPPED


@pytest.mark.parametrize(
    ("script", "words"),
    [([CLOSE], "broke the connection"), ([b"+PONG\r\n\r\n", CLOSE], "does not speak HTTP")],
)
async def test_what_is_no_http_is_told(script: list[bytes], words: str) -> None:
    """A TLS port addressed as http:// is the usual reason."""
    async with ScriptedUpstream([script]) as server:
        told((await look(server))["upstream.models"], FAILED, words)


async def test_a_silent_upstream_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the question and says nothing."""
    monkeypatch.setattr(upstream, "LOOK_S", 0.05)
    async with ScriptedUpstream([[HANG]]) as server:
        told((await look(server))["upstream.models"], FAILED, "did not answer")


async def test_one_answer_is_examined() -> None:
    """With --call: one streamed completion of so many tokens, and what there is to say about it."""
    script = answer("one", " two")
    async with ChatUpstream([script]) as server:
        found = await look(server, 7)
        [asked] = server.asked
    body = json.loads(asked.body)
    assert (body["max_tokens"], body["model"], body["stream"]) == (7, "m", True)
    told(found["upstream.call"], OK, "first token after")
    told(found["upstream.usage"], WARNING, "without usage")
    told(found["upstream.cumulative"], OK, "growth")


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [
        ([STREAM_HEAD, event(delta("x")), END], FAILED, "without a finish reason"),
        ([reply("401 Unauthorized", b"{}")], FAILED, "not use this one"),
        ([reply("400 Bad Request", b"{}")], FAILED, "refused a plain request"),
        ([reply("429 Too Many Requests", b"{}")], WARNING, "limits our rate"),
        ([reply("500 Internal Server Error", b"{}")], FAILED, "upstream_error"),
    ],
)
async def test_why_there_was_no_answer(script: list[bytes], level: Level, words: str) -> None:
    """Each is mended by somebody else."""
    async with ChatUpstream([script]) as server:
        told((await look(server, 1))["upstream.call"], level, words)


async def test_an_answer_that_does_not_begin_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that loads is no failure, and nobody waits a minute for it."""
    monkeypatch.setattr(call, "LOOK_S", 0.1)
    async with ChatUpstream([[HANG]]) as server:
        told((await look(server, 1))["upstream.call"], WARNING, "loading")


@pytest.mark.parametrize(
    ("pieces", "expected", "level", "words"),
    [
        (["a", "ab", "abc"], False, WARNING, "REFRAIN_UPSTREAM_CUMULATIVE=1"),
        (["a", "ab", "abc"], True, OK, "that is set"),
        (["a", "b"], True, FAILED, "every answer will fail"),
        (["a", "b"], False, OK, "growth"),
        (["-", "-"], False, OK, "growth"),
        (["a"], False, SKIPPED, "--call 16"),
        ([], True, SKIPPED, "--call 16"),
    ],
)
def test_repetition_is_suggested_not_claimed(
    pieces: list[str], expected: bool, level: Level, words: str
) -> None:
    """Set wrongly, every answer fails; not set, readers see the text again and again."""
    told(call.repeats(pieces, expected=expected), level, words)


@pytest.mark.parametrize(
    ("marked", "level", "words"),
    [(True, OK, "with [DONE]"), (False, OK, "without [DONE]"), (None, SKIPPED, "not told")],
)
def test_the_end_of_an_answer(marked: bool | None, level: Level, words: str) -> None:
    """Both ends are taken; which one it was helps whoever looks at the wire."""
    told(call.done(call.Heard(marked=marked)), level, words)


def test_an_answer_without_text_is_still_complete() -> None:
    """One token of a model that thinks first may hold no text."""
    first, *_ = call.judged(call.Heard(usage=True, total_ms=12), "m", cumulative=False)
    told(first, OK, "without any text")
    told(call.usage(call.Heard(usage=True)), OK, "with its usage")
