"""An endpoint as a tool: replies become output, trouble becomes a failure, and no argument leaves its
place.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.tools.endpoint import endpoint_tool
from processing.tools.form import Endpoint
from processing.tools.json_schema import SchemaReader
from processing.tools.tool import MAX_ARGUMENTS, ArgumentsRefused
from tests.fakes.endpoints import FakeHttp
from tests.fakes.tools import Bench
from tests.virtual_time import virtual
from upstream.endpoints import EndpointFailed

LOST = EndpointFailed("there was no reply", again=True)


def bench(http: FakeHttp, **fields: Any) -> Bench:
    given = {"name": "a", "description": "Does a.", "url": "http://h.test/p", "cacheable": True, **fields}
    return Bench(endpoint_tool(Endpoint(**given), {}, http))


@virtual
async def test_a_reply_is_the_output() -> None:
    """Decoded as it comes, also where a character is cut by a packet, and whatever is no UTF-8 is marked."""
    http = FakeHttp((200, [b"caf\xc3", b"\xa9 \xff!"]))
    assert (await bench(http).one("a")).text == "café \ufffd!"
    assert http.open == 0


@pytest.mark.parametrize(
    ("reply", "tries", "content"),
    [
        ((404, [b"secret"]), 1, "[a failed: status 404]"),
        ((302, []), 1, "[a failed: status 302]"),
        ((503, []), 3, "[a failed: status 503]"),
        ((429, []), 3, "[a failed: status 429]"),
        (LOST, 3, "[a failed: there was no reply]"),
        (EndpointFailed("the reply is not HTTP", again=False), 1, "[a failed: the reply is not HTTP]"),
        (
            (200, [b"half", EndpointFailed("the reply broke off", again=True)]),
            3,
            "half\n[a failed: the reply broke off; what is above is incomplete]",
        ),
    ],
)
def test_trouble_is_a_failure_that_says_what_it_was(reply: Any, tries: int, content: str) -> None:
    """Tried again where that may help, and never with the endpoint's own words."""

    @virtual
    async def failing() -> None:
        http = FakeHttp(*[reply] * 3)
        result = await bench(http, retries=2).one("a")
        assert (len(http.asked), result.content) == (tries, content)
        assert http.open == 0

    failing()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a b", "/v/a%20b/x"),
        ("a/../../admin", "/v/a%2F..%2F..%2Fadmin/x"),
        ("%2e%2e", "/v/%252e%252e/x"),
        ("?q=1#f", "/v/%3Fq%3D1%23f/x"),
        ("...", "/v/.../x"),
        ("..", None),
        (".", None),
        ("", None),
    ],
)
def test_an_argument_stays_within_its_part_of_the_path(value: str, path: str | None) -> None:
    """A model, or whoever talks to it, must not reach another address than the file's."""

    @virtual
    async def stays() -> None:
        http = FakeHttp()
        parameters = {"part": {"type": "string"}}
        tools = bench(http, url="http://h.test/v/{part}/x", parameters=parameters, retries=2)
        result = await tools.one("a", part=value)
        if path is None:
            assert (http.asked, result.tries, result.ok) == ([], 1, False)
        else:
            assert http.asked == [("GET", f"http://h.test{path}", None)]

    stays()


@virtual
async def test_two_harmless_parts_make_no_harmful_one() -> None:
    """A dot and a dot are a way out only together."""
    http = FakeHttp()
    dot = {"type": "string"}
    tools = bench(http, url="http://h.test/v/{a}{b}/x", parameters={"a": dot, "b": dot})
    assert not (await tools.one("a", a=".", b=".")).ok
    assert http.asked == []


@virtual
async def test_a_parameter_may_have_any_name() -> None:
    """Also `self`, and the names of our own."""
    http = FakeHttp()
    parameters = {"self": {"type": "integer"}, "x-y": {"type": ["null", "number"]}}
    given: dict[str, Any] = {"self": 1, "x-y": None}
    assert (await bench(http, parameters=parameters).one("a", **given)).ok
    assert http.asked[0][1] == "http://h.test/p?self=1"


@virtual
async def test_a_post_without_arguments_has_a_body() -> None:
    """Where the file says that something goes there; else there is none."""
    http = FakeHttp()
    optional = {"x": {"type": "integer", "required": False}}
    assert (await bench(http, method="POST", stateful=False, parameters=optional).one("a")).ok
    assert (await bench(http, method="POST", stateful=False).one("a")).ok
    assert [body for _, _, body in http.asked] == [b"{}", None]


def test_a_call_shows_no_secret() -> None:
    """Its repr may end up in a log."""
    endpoint = Endpoint(name="a", description="Does a.", url="http://h.test/p", cacheable=True)
    assert (
        repr(endpoint_tool(endpoint, {"Authorization": "s3cret"}, FakeHttp()).function) == "<EndpointCall a>"
    )


READER = SchemaReader(
    {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}, "additionalProperties": False}
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": "\ud800"}', "not JSON"),
        ('{"a": "x"}', "a: 'x' is not of type 'integer'"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested too deeply"),
        ('{"a": ' + "[" * 30_000 + "]" * 30_000 + "}", "not JSON|nested"),
        ('{"a": "' + "x" * MAX_ARGUMENTS + '"}', "longer than"),
        ('{"a": "' + "x" * 60_000 + '"}', "a: does not satisfy type: 'integer'"),
    ],
)
def test_hostile_arguments_are_refused(text: str, why: str) -> None:
    """Deep, huge, of the wrong type or no JSON at all: a reason of bounded length."""
    with pytest.raises(ArgumentsRefused, match=why) as refused:
        READER.read(text)
    assert len(str(refused.value)) < 300


def test_items_that_must_be_unique_are_checked_without_comparing_all_of_them() -> None:
    """Thousands of objects that are all different: it takes the loop milliseconds, not half a minute."""
    reader = SchemaReader({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}})
    many = [{"a": number} if number % 2 else number for number in range(5000)]
    assert reader.read(json.dumps({"a": many})).values["a"] == many
    for twice in ([1, 2, 1], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]):
        with pytest.raises(ArgumentsRefused, match="a: there are items in it twice"):
            reader.read(json.dumps({"a": twice}))


def test_the_same_arguments_have_the_same_form() -> None:
    """Defaults and white space make no difference to what is shared."""
    assert READER.read("").canonical == READER.read(' { "a" : 1 } ').canonical == b'{"a":1}'
