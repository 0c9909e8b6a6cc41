"""Rows 84, 85, part 10 of the issue: hostile requests are refused by name, at once, and cost nothing."""

from __future__ import annotations

import json
import time

import pytest

from tests.system.processes import GatewayProcess, SimulatorProcess
from tests.system.raw import Answer, exchange, head, post
from tests.system.scene import SOON_S, Simulate, Start

pytestmark = pytest.mark.anyio

#: "A fraction of a second", on a machine that is busy with other things.
HEALTH_S = 0.75
CHAT, OPENAI = "/chat", "/v1/chat/completions"
_USER = b'{"role":"user","content":"x"}'

# what, route, body, status, param
HOSTILE: list[tuple[str, str, bytes, int, str | None]] = [
    ("empty body", CHAT, b"", 400, None),
    ("not JSON", CHAT, b"message=hi", 400, None),
    ("cut off", CHAT, b'{"message":"hi"', 400, None),
    ("two objects", CHAT, b'{"message":"hi"}{"message":"hi"}', 400, None),
    ("byte order mark", CHAT, b'\xef\xbb\xbf{"message":"hi"}', 400, None),
    ("UTF-16", CHAT, '{"message":"hi"}'.encode("utf-16"), 400, None),
    ("Latin-1", CHAT, b'{"message":"h\xe9"}', 400, None),
    ("surrogate in raw bytes", CHAT, b'{"message":"\xed\xa0\x80"}', 400, None),
    ("control character", CHAT, b'{"message":"a\x00b"}', 400, None),
    ("leading zero", CHAT, b'{"message":"hi","seed":01}', 400, None),
    ("a list", CHAT, b'[{"message":"hi"}]', 422, None),
    ("a string", CHAT, b'"hi"', 422, None),
    ("null", OPENAI, b"null", 422, None),
    ("half a surrogate pair", CHAT, b'{"message":"hi \\ud83d"}', 422, "message"),
    (
        "surrogates crossed",
        OPENAI,
        b'{"messages":[{"role":"user","content":"\\udc00\\ud800"}]}',
        422,
        "messages[0].content",
    ),
    ("NaN", CHAT, b'{"message":"hi","temperature":NaN}', 422, "temperature"),
    ("NaN, deep", OPENAI, b'{"messages":[%b],"x":{"y":[1,NaN]}}' % _USER, 422, "x.y[1]"),
    ("Infinity", CHAT, b'{"message":"hi","top_p":-Infinity}', 422, "top_p"),
    ("1e999", CHAT, b'{"message":"hi","top_p":1e999}', 422, "top_p"),
    ("5,000 digits", CHAT, b'{"message":"hi","seed":%b}' % (b"9" * 5000), 422, "seed"),
    ("5,000 digits, unknown", OPENAI, b'{"messages":[%b],"x":[%b]}' % (_USER, b"9" * 5000), 422, "x[0]"),
    ("nested 65 deep", CHAT, b'{"message":"hi","x":%b1%b}' % (b"[" * 64, b"]" * 64), 422, "x"),
    ("nested without an end", OPENAI, b'{"messages":%b' % (b"[" * 30_000), 422, "messages"),
    ("nested objects", OPENAI, b'{"x":' * 20_000, 422, "x"),
    ("missing message", CHAT, b"{}", 422, "message"),
    ("blank message", CHAT, b'{"message":" \\n\\t\\u2003"}', 422, "message"),
    ("message a number", CHAT, b'{"message":5}', 422, "message"),
    ("both forms", CHAT, b'{"message":"hi","messages":[%b]}' % _USER, 422, "message"),
    ("conversation", CHAT, b'{"message":"hi","conversation_id":"a b"}', 422, "conversation_id"),
    ("priority", CHAT, b'{"message":"hi","priority":"urgent"}', 422, "priority"),
    ("cache", CHAT, b'{"message":"hi","cache":"never"}', 422, "cache"),
    ("request_id", CHAT, b'{"message":"hi","request_id":7}', 422, "request_id"),
    ("request_id too long", CHAT, b'{"message":"hi","request_id":"%b"}' % (b"r" * 256), 422, "request_id"),
    ("two samples", CHAT, b'{"message":"hi","n":2}', 422, "n"),
    ("messages missing", OPENAI, b"{}", 422, "messages"),
    ("messages null", OPENAI, b'{"messages":null}', 422, "messages"),
    ("messages empty", OPENAI, b'{"messages":[]}', 422, "messages"),
    ("messages an object", OPENAI, b'{"messages":{"0":%b}}' % _USER, 422, "messages"),
    ("a message that is none", OPENAI, b'{"messages":[%b,7]}' % _USER, 422, "messages[1]"),
    ("role missing", OPENAI, b'{"messages":[{"content":"x"}]}', 422, "messages[0].role"),
    ("role a list", OPENAI, b'{"messages":[{"role":["user"],"content":"x"}]}', 422, "messages[0].role"),
    ("content a number", OPENAI, b'{"messages":[{"role":"user","content":1}]}', 422, "messages[0].content"),
    (
        "last one blank",
        OPENAI,
        b'{"messages":[%b,{"role":"user","content":""}]}' % _USER,
        422,
        "messages[1].content",
    ),
    (
        "text of a part",
        OPENAI,
        b'{"messages":[{"role":"user","content":[{"type":"text","text":["x"]}]}]}',
        422,
        "messages[0].content[0].text",
    ),
    ("model a number", OPENAI, b'{"model":1,"messages":[%b]}' % _USER, 422, "model"),
    ("no sample", OPENAI, b'{"n":0,"messages":[%b]}' % _USER, 422, "n"),
    ("1,000,000,000 samples", OPENAI, b'{"n":1000000000,"messages":[%b]}' % _USER, 422, "n"),
    ("n as text", OPENAI, b'{"n":"1","messages":[%b]}' % _USER, 422, "n"),
    ("n true", OPENAI, b'{"n":true,"messages":[%b]}' % _USER, 422, "n"),
    ("stop of numbers", OPENAI, b'{"stop":["a",1],"messages":[%b]}' % _USER, 422, "stop[1]"),
    ("metadata", OPENAI, b'{"metadata":[],"messages":[%b]}' % _USER, 422, "metadata"),
    ("tools", OPENAI, b'{"tools":["hammer"],"messages":[%b]}' % _USER, 422, "tools[0]"),
    ("stream as text", OPENAI, b'{"stream":"yes","messages":[%b]}' % _USER, 422, "stream"),
    (
        "usage as text",
        OPENAI,
        b'{"stream_options":{"include_usage":"yes"},"messages":[%b]}' % _USER,
        422,
        "stream_options.include_usage",
    ),
    ("bias", OPENAI, b'{"logit_bias":["50256"],"messages":[%b]}' % _USER, 422, "logit_bias"),
    ("name that breaks a line", CHAT, b'{"message":"hi","a\\r\\nb":[NaN]}', 422, "?[0]"),
]


def _nothing_happened(simulator: SimulatorProcess, gateway: GatewayProcess) -> None:
    """Nothing was queued, and nothing was sent upstream."""
    assert simulator.stats()["calls"] == 0
    totals = gateway.get("/pipeline")["totals"]
    assert (totals["refused"], totals["records"], totals["broadcasts"]) == (totals["requests"], 0, 0)
    assert gateway.metrics()['refrain_stage_admitted_total{stage="leaders"}'] == 0


def _refused(what: str, answer: Answer, status: int, param: str | None) -> None:
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}, what
    assert (answer.status, error["param"], error["type"]) == (status, param, "invalid_request_error"), what
    assert answer.headers["x-should-retry"] == "false", what
    assert answer.headers["x-request-id"], what


def _begin(simulate: Simulate, start: Start, **settings: object) -> tuple[SimulatorProcess, GatewayProcess]:
    simulator = simulate(ttft=0, tps=0)
    return simulator, start(simulator, **settings)


async def test_hostile_bodies_are_refused_by_name(simulate: Simulate, start: Start) -> None:
    """Row 85: the documented status and the field, within a second, nothing queued, nothing sent upstream."""
    simulator, gateway = _begin(simulate, start)
    for what, route, body, status, param in HOSTILE:
        began = time.monotonic()
        answer = await exchange(gateway.url, post(route, body))
        assert time.monotonic() - began < SOON_S, what
        _refused(what, answer, status, param)
    _nothing_happened(simulator, gateway)


@pytest.mark.parametrize("route", [CHAT, OPENAI])
async def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(
    simulate: Simulate, start: Start, route: str
) -> None:
    """Row 85: 413 by the announced length, and when chunks without one grow beyond it; the client sees it."""
    limit = 2000
    simulator, gateway = _begin(simulate, start, MAX_BODY_BYTES=limit)
    empty = json.dumps({"messages": [{"role": "user", "content": ""}]}).encode()
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (limit - len(empty))}]}).encode()
    assert len(body) == limit
    chunked = head("POST", route, "transfer-encoding: chunked", "content-type: application/json")
    for size, sent in (
        (limit, body),
        (limit + 1, body + b" "),
        (4_000_000, body + b" " * (4_000_000 - limit)),
    ):
        pieces = b"".join(
            b"%x\r\n%b\r\n" % (len(piece), piece)
            for piece in (sent[at : at + 1000] for at in range(0, size, 1000))
        )
        for request in (post(route, sent), chunked + pieces + b"0\r\n\r\n"):
            answer = await exchange(gateway.url, request)
            if size == limit:
                assert answer.status in (200, 202)
            else:
                _refused(f"{size}", answer, 413, None)
                assert answer.json["error"]["code"] == "body_too_large"
    # An announcement alone is enough, and who asks first is not invited to send it.
    for headers in (
        (f"content-length: {limit + 1}",),
        (f"content-length: {limit + 1}", "expect: 100-continue"),
    ):
        answer = await exchange(gateway.url, head("POST", route, *headers))
        assert answer.status == 413
    assert simulator.stats()["calls"] <= 1, "the two at the limit are one question"


CONTENT_TYPES = {
    "content-type: text/plain": 415,
    "content-type: application/x-www-form-urlencoded": 415,
    "content-type: multipart/form-data; boundary=x": 415,
    "content-type: application/json; charset=utf-16": 415,
    "content-type: application/jsonp": 415,
    "content-encoding: gzip": 415,
    "content-type: application/json; charset=UTF-8": 202,
    "content-type: Application/JSON": 202,
    "content-type: application/vnd.api+json": 202,
    "content-encoding: identity": 202,
    "accept: */*": 202,
}


async def test_only_json_is_read(simulate: Simulate, start: Start) -> None:
    """A form is what a browser sends across origins without asking: it must never be taken for JSON."""
    simulator, gateway = _begin(simulate, start)
    body = b'{"message":"hi"}'
    for header, status in CONTENT_TYPES.items():
        request = head("POST", CHAT, header, f"content-length: {len(body)}") + body
        answer = await exchange(gateway.url, request)
        if status == 202:
            assert answer.status == 202, answer
        else:
            _refused(header, answer, status, None)
            _nothing_happened(simulator, gateway)
    assert list(CONTENT_TYPES.values()) == sorted(CONTENT_TYPES.values(), reverse=True), "refusals come first"
