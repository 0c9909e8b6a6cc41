"""docs/api.md against the application: routes, fields, statuses, events, commands."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.routing import Route

from app import cli, sse
from app.gateway import Addresses
from app.main import create_app
from app.wire import ChatBody, ChatRecord, Timings
from cache.targets import RedisTarget
from chatbot.record import _SHOWN
from config import load
from tests.architecture.pages import quoted, section, table, text_of
from tests.architecture.tree import ROOT

PAGE = "docs/api.md"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The application, as far as it can be looked at without being started."""
    nowhere = Addresses("http://127.0.0.1:9/v1", RedisTarget("unix:///nonexistent/refrain.sock"))
    return create_app(load({}), nowhere)


def described(app: FastAPI) -> set[str]:
    """Every operation of the OpenAPI document, as `METHOD /path`."""
    return {
        f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
    }


def raw(app: FastAPI) -> set[str]:
    """The routes that FastAPI does not know of; HEAD goes with GET and is not listed."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    return {f"{method} {route.path}" for route in routes for method in (route.methods or set()) - {"HEAD"}}


def test_the_api_page_lists_every_route(app: FastAPI) -> None:
    """None missing, none too many, methods included."""
    assert {quoted(row[0])[0] for row in table(section(PAGE, "Routes"))} == described(app) | raw(app)


def test_the_openapi_document_has_the_raw_routes_too(app: FastAPI) -> None:
    """They are described by hand, so a new one would be forgotten."""
    assert raw(app) - described(app) == {"GET /openapi.json"}


def test_the_api_page_lists_every_field_of_a_native_submit() -> None:
    """Those that mean something to the gateway have a row, the model's own are named together."""
    named = {word for row in table(section(PAGE, "Submit")) for word in quoted(row[0])}
    passed_on = set(
        quoted(next(line for line in section(PAGE, "Submit").splitlines() if "| any other" in line))
    )
    assert named | passed_on | {"n"} == set(ChatBody.model_fields)


def test_the_api_page_shows_a_record_as_it_is() -> None:
    """The example has every field of the model, in its order."""
    example = re.findall(r'"(\w+)":', section(PAGE, "Record"))
    expected = [name for field in ChatRecord.model_fields for name in (field, *_inner(field))]
    assert example == expected


def _inner(field: str) -> list[str]:
    return list(Timings.model_fields) if field == "timings" else []


def test_the_api_page_lists_every_status_with_its_stage() -> None:
    """A dashboard's author relies on them; the order is the way that a request goes."""
    rows = [
        (quoted(row[0]), [stage.partition(":")[0] for stage in quoted(row[1])])
        for row in table(section(PAGE, "Record"))
    ]
    running = [(status[0], stages[0]) for status, stages in rows[:-1]]
    assert running == list(_SHOWN.values())
    assert rows[-1] == (["completed", "failed", "cancelled", "expired"], ["ended"])


def test_the_api_page_lists_every_event() -> None:
    """An EventSource needs a listener for each of them, and for no other."""
    source = (ROOT / "app/sse.py").read_text(encoding="utf-8")
    sent = set(re.findall(r"event\(\s*\"(\w+)\"", source))
    assert {quoted(row[0])[0] for row in table(section(PAGE, "Subscribe"))} == sent


def test_the_api_page_names_the_headers_of_streams() -> None:
    """Proxies are configured by them."""
    for name, value in sse.HEADERS:
        assert f"`{name.decode()}: {value.decode()}`" in text_of(PAGE)


def test_the_api_page_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What `refrain --help` offers is what the page offers."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    offered = set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE))
    listed = {quoted(row[0])[0].split()[1] for row in table(section(PAGE, "Commands"))}
    assert listed - {"--version"} == offered
