"""An entry of a file of endpoints: what only just passes, and what only just does not."""

from __future__ import annotations

from typing import Any

import pytest

from processing.tools.form import Endpoint, entry_faults, parameters

BLANKS = "a URL has no fragment, no blanks and no control characters"
CREDENTIALS = "a URL holds no credentials: use headers"
ONLY_PATH = "only the path has {placeholders}"
STRING = {"type": "string"}


def endpoint(**fields: Any) -> Endpoint:
    given = {"name": "a", "description": "Does a.", "url": "http://h.test/p", "cacheable": True}
    return Endpoint(**{**given, **fields})


def said(**fields: Any) -> list[str]:
    return [what for _, what in entry_faults(endpoint(**fields))]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://u@h.test/", CREDENTIALS),
        ("http://:p@h.test/", CREDENTIALS),
        ("http://h.test/a b", BLANKS),
        ("http://h.test/a\u200bb", BLANKS),
        ("http://h.test/?q={x", ONLY_PATH),
        ("http://h.test/?q=x}", ONLY_PATH),
        ("https://h.test:1/", None),
        ("http://h.test:65535/?q=1", None),
    ],
)
def test_each_part_of_a_url_is_looked_at(url: str, fault: str | None) -> None:
    """A user without a password is a credential too, and half a placeholder would be sent as it stands."""
    assert said(url=url) == ([fault] if fault else [])


def test_what_else_a_schema_says_is_kept() -> None:
    """A schema may have definitions that its properties point to: without them no call could be checked."""
    given = {
        "type": "object",
        "$defs": {"city": STRING},
        "properties": {"where": {"$ref": "#/$defs/city", "in": "query"}},
        "dependentRequired": {"where": []},
    }
    assert said(parameters=given) == []
    assert parameters(endpoint(parameters=given)).schema == {
        **given,
        "properties": {"where": {"$ref": "#/$defs/city"}},
        "required": [],
        "additionalProperties": False,
    }


def test_the_model_is_not_told_where_its_arguments_go() -> None:
    """`in` and `required` beside a type are ours: the schema's own `required` is a list."""
    read = parameters(endpoint(parameters={"x": {**STRING, "in": "query", "required": False}, "y": STRING}))
    assert read.schema["properties"] == {"x": STRING, "y": STRING}
    assert read.schema["required"] == ["y"]
    assert read.places == {"x": "query", "y": "query"}


def test_a_default_makes_a_parameter_optional() -> None:
    """Unless it is said to be required."""
    given = {"x": {**STRING, "default": "a"}, "y": {**STRING, "default": "a", "required": True}}
    assert parameters(endpoint(parameters=given)).schema["required"] == ["y"]


@pytest.mark.parametrize(
    ("method", "place"),
    [("GET", "query"), ("DELETE", "query"), ("POST", "json"), ("PUT", "json"), ("PATCH", "json")],
)
def test_an_argument_goes_where_its_method_has_room(method: str, place: str) -> None:
    """What the file does not say: a body where there is one."""
    entry = endpoint(method=method, url="http://h.test/{x}", parameters={"x": STRING, "y": STRING})
    assert parameters(entry).places == {"x": "path", "y": place}


def test_arguments_that_are_no_object_are_one_fault() -> None:
    """What stands below it would be judged by rules that do not hold."""
    given = {"type": "array", "properties": {"x": 3}}
    assert said(parameters=given) == ["the arguments of a call are an object"]


def test_a_body_is_for_methods_that_have_one() -> None:
    """Said openly it is what would have been taken anyhow."""
    given = {"x": {**STRING, "in": "json"}}
    assert said(method="POST", stateful=False, parameters=given) == []
    assert said(method="GET", parameters=given) == ["x: a GET has no body"]


def test_in_a_schema_required_is_the_schemas_own_word() -> None:
    """A list, also within a property that is an object; among bare properties it is true or false."""
    nested = {"type": "object", "properties": {"y": STRING}, "required": ["y"]}
    assert said(parameters={"type": "object", "properties": {"x": nested}}) == []
    assert said(parameters={"x": nested}) == ["x: required is true or false"]


@pytest.mark.parametrize(
    "name", ["HOST", "Content-Length", "transfer-encoding", "Connection", "Accept-Encoding"]
)
def test_no_header_of_the_transport_is_set(name: str) -> None:
    """Two of a kind would let a request be read in two ways."""
    assert said(headers={name: "VARIABLE"}) == [f"{name} is not yours to set"]
