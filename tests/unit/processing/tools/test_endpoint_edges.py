"""An endpoint's request and reply: every header, every status, and an address just as the file has it."""

from __future__ import annotations

from typing import Any

import pytest

from processing.tools.endpoint import endpoint_tool
from processing.tools.form import Endpoint
from tests.fakes.endpoints import FakeHttp
from tests.fakes.tools import Bench
from tests.unit.processing.tools.test_endpoint import bench
from tests.virtual_time import virtual


@virtual
async def test_a_request_says_what_it_takes_and_keeps_its_headers() -> None:
    """With a body as without one: a key that is left out there is a 401."""
    http = FakeHttp()
    given: dict[str, Any] = {"description": "Does a.", "url": "http://h.test/", "stateful": True}
    parameters = {"x": {"type": "string"}}
    post = Endpoint(name="a", method="POST", parameters=parameters, **given)
    tools = Bench(endpoint_tool(post, {"Authorization": "s3cret"}, http))
    assert (await tools.one("a", x="y")).ok
    assert http.headers == [
        {
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.5",
            "Authorization": "s3cret",
            "Content-Type": "application/json",
        }
    ]


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (299, True), (300, False)])
def test_only_a_2xx_is_a_result(status: int, ok: bool) -> None:
    """The model must not read an error's page as an answer."""

    @virtual
    async def replies() -> None:
        assert (await bench(FakeHttp((status, [b"text"]))).one("a")).ok is ok

    replies()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """And nothing else: a 400 stays one."""

    @virtual
    async def passing() -> None:
        http = FakeHttp((status, []))
        assert (await bench(http, retries=1).one("a")).ok
        assert len(http.asked) == 2

    passing()


@virtual
async def test_a_reply_that_ends_within_a_character_says_so() -> None:
    """Not a shorter text that looks whole."""
    assert (await bench(FakeHttp((200, [b"caf\xc3"]))).one("a")).text == "caf\ufffd"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://h.test/p?q=1", "http://h.test/p?q=1"),
        ("http://h.test/p?", "http://h.test/p?"),
        ("http://h.test/p", "http://h.test/p"),
        ("http://h.test/see/http://other.test/p", "http://h.test/see/http://other.test/p"),
        ("http://h.test", "http://h.test"),
    ],
)
def test_without_arguments_the_address_is_that_of_the_file(url: str, asked: str) -> None:
    """Its query, and a path that holds another address, are the operator's words."""

    @virtual
    async def asks() -> None:
        http = FakeHttp()
        assert (await bench(http, url=url).one("a")).ok
        assert http.asked == [("GET", asked, None)]

    asks()
