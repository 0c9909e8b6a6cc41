"""The live page: its parts are there, come from nowhere else, and it asks a browser for the admin key."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from app.routes.page import FOLDER
from tests.fakes.running_app import application

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PARTS = sorted(path.name for path in FOLDER.iterdir())


def named(text: str) -> set[str]:
    """What a part refers to."""
    return set(re.findall(r"""(?:src=|href=|\bfrom |\burl\()["']([^"'\n]+)["']""", text))


def test_a_browser_gets_the_page_under_a_strict_policy() -> None:
    """No inline script, nothing from elsewhere, in nobody's frame; and no script could be slipped in."""
    with TestClient(application()) as client:
        reply = client.get("/", headers=BROWSER)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<style" not in reply.text
    assert " style=" not in reply.text
    assert re.findall(r"<script(?![^>]* src=)", reply.text) == []
    assert re.findall(r"\son[a-z]+=", reply.text) == []


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_served_and_refers_to_parts_that_exist(part: str) -> None:
    """A module that was renamed would leave a blank page; an address elsewhere would be a leak."""
    with TestClient(application()) as client:
        reply = client.get(f"/page/{part}")
        assert (reply.status_code, reply.content) == (200, (FOLDER / part).read_bytes())
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["cache-control"] == "no-cache"
        for name in named(reply.text):
            if name.startswith("#"):
                continue
            assert name.startswith(("./", "/")), name
            assert not name.startswith("//"), name
            target = f"/page/{name[2:]}" if name.startswith("./") else name
            assert client.get(target).status_code == 200, name


def test_markup_of_the_model_stays_text() -> None:
    """Row 46 for eyes: nothing on the page parses what it is given as HTML."""
    for part in PARTS:
        text = (FOLDER / part).read_text(encoding="utf-8")
        for parser in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert parser not in text


@pytest.mark.parametrize("path", ["/page/", "/page/..%2fmain.py", "/page/../main.py", "/page/none.js"])
def test_nothing_but_its_parts_is_served(path: str) -> None:
    """The folder beside it holds the program."""
    with TestClient(application()) as client:
        reply = client.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "not_found"


def test_a_browser_is_asked_for_the_admin_key_and_a_program_is_refused() -> None:
    """Row 84: 401 for both; who can read a page gets one, with a field for the key and no traffic."""
    with TestClient(application(admin_key="an-admin-key")) as client:
        asked = client.get("/", headers=BROWSER)
        assert (asked.status_code, 'id="admin-key"' in asked.text) == (401, True)
        refused = client.get("/")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/", headers={"authorization": "Bearer an-admin-key"}).status_code == 200
