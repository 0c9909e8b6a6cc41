"""Bounds of what a tool says and takes: the last one allowed is, one more is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.tools import tool
from processing.tools.json_schema import SchemaReader, faults
from processing.tools.options import Options
from processing.tools.results import MAX_TEXT, Enough, Output, Result, Status, as_text, refused
from processing.tools.tool import MAX_ARGUMENTS, ArgumentsRefused, Tool
from runtime.nesting import MAX_DEPTH
from tests.fakes.tools import Bench
from tests.virtual_time import virtual


def test_an_output_is_full_with_its_last_character() -> None:
    """What just fits is whole; what does not is cut there, and marked."""
    output = Output(5)
    assert (output.add("abc"), output.add("de"), output.add("")) == ("abc", "de", "")
    assert (output.text, output.cut) == ("abcde", False)
    with pytest.raises(Enough):
        output.add("f")
    assert (output.text, output.cut) == ("abcde", True)
    assert MAX_TEXT == 65_536


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (None, ""), (3, "3"), ({"a": [True, None]}, '{"a":[true,null]}'), ("", "")],
)
def test_what_is_no_text_is_told_as_json(value: object, text: str) -> None:
    """A function may return anything."""
    assert as_text(value) == text


def test_a_summary_has_milliseconds_and_a_reason_if_there_is_one() -> None:
    """It stands in the answer's account."""
    made = Result("t", Status.OK, tries=2, waited_s=1.23456, ran_s=0.98765)
    assert made.summary() == {"tool": "t", "status": "ok", "tries": 2, "seconds": 0.988, "waited_s": 1.235}
    assert made.ok
    no = refused("t", "because")
    assert no.summary()["why"] == "t was not run: because"
    assert (no.tries, no.ok, no.final, no.content) == (0, False, True, "[t was not run: because]")


@virtual
async def test_what_is_cut_off_is_said() -> None:
    """The model must not take a part for the whole; a whole one has no note."""

    async def long(size: int) -> str:
        """Long."""
        return "x" * size

    bench = Bench(tool(long, cacheable=True))
    assert (await bench.one("long", size=MAX_TEXT)).note == ""
    cut = await bench.one("long", size=MAX_TEXT + 1)
    assert (cut.status, len(cut.text)) == (Status.OK, MAX_TEXT)
    assert cut.note == "the output of long is longer, the rest was cut off"


@pytest.mark.parametrize(
    ("field", "least", "most", "below", "above"),
    [
        ("timeout_s", 0.001, 3600.0, 0.0, 3600.1),
        ("retries", 0, 5, -1, 6),
        ("limit", 1, 10_000, 0, 10_001),
        ("rate", 0.001, 100_000.0, 0.0, 100_001.0),
        ("burst", 1, 10_000, 0, 10_001),
    ],
)
def test_an_option_has_its_bounds(field: str, least: float, most: float, below: float, above: float) -> None:
    """Just these: an operator's file must mean the same after an update."""
    given: dict[str, Any] = {"cacheable": True, "rate": 1.0}
    for value in (least, most):
        assert getattr(Options(**{**given, field: value}), field) == value
    for value in (below, above):
        with pytest.raises(ValueError, match=field):
            Options(**{**given, field: value})


def test_what_an_option_is_when_nobody_says() -> None:
    """The page names them."""
    made = Options(cacheable=True).model_dump()
    assert made == {
        "timeout_s": 30.0, "retries": 0, "limit": 8, "rate": None, "burst": 1, "stateful": False,
        "cacheable": True, "time_bound": None, "user_bound": False, "direct_stream": False,
    }  # fmt: skip
    assert Options(time_bound=0.0).ttl_s == 0.0
    with pytest.raises(ValueError, match="time_bound"):
        Options(time_bound=-0.1)


def test_a_tool_that_asks_who_calls_is_for_its_caller() -> None:
    """Else the answer for one would be shared with others."""
    reader = SchemaReader({"type": "object"})
    given: dict[str, Any] = {
        "name": "a", "description": "A.", "kind": tool(test_a_tool_that_asks_who_calls_is_for_its_caller,
        name="k", cacheable=True).kind, "function": print, "reader": reader, "caller_as": "who",
    }  # fmt: skip
    assert Tool(**given, options=Options(user_bound=True)).caller_as == "who"
    with pytest.raises(ValueError, match="it must be user_bound"):
        Tool(**given, options=Options(cacheable=True))
    with pytest.raises(ValueError, match="needs a description"):
        Tool(**{**given, "description": " \n"}, options=Options(user_bound=True))


def read(schema: dict[str, Any], text: str) -> Any:
    return SchemaReader(schema).read(text).values


def refusal(schema: dict[str, Any], text: str) -> str:
    with pytest.raises(ArgumentsRefused) as why:
        SchemaReader(schema).read(text)
    return str(why.value)


def test_arguments_are_read_up_to_their_length_and_depth() -> None:
    """One more is not."""
    most = json.dumps({"a": "x" * (MAX_ARGUMENTS - 9)})
    assert len(read({}, most)["a"]) == MAX_ARGUMENTS - 9
    assert refusal({}, most + " ") == f"the arguments are longer than {MAX_ARGUMENTS} characters"
    deepest = '{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"
    assert read({}, deepest)["a"]
    assert refusal({}, '{"a":[' + deepest + "]}") == "the arguments are nested too deeply"
    assert len(read({}, json.dumps({"a": [[]] * 200}))["a"]) == 200


def test_three_faults_are_told() -> None:
    """The model mends one call, it does not read a report."""
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in "abcd"}}
    said = refusal(schema, json.dumps(dict.fromkeys("abcd", "x")))
    assert said == "; ".join(f"{name}: 'x' is not of type 'integer'" for name in "abc")
    assert refusal({"required": ["a"]}, "{}") == "arguments: 'a' is a required property"
    inner = {"properties": {"a": {"items": {"type": "integer"}}}}
    assert refusal(inner, '{"a": [1, "x"]}') == "a.1: 'x' is not of type 'integer'"


def test_a_default_is_for_what_is_not_given() -> None:
    """Also of a property that has no type; what is given stays, and so does null."""
    schema = {"properties": {"a": {"default": 1}, "b": {"default": 2}, "c": True}}
    assert read(schema, '{"a": null, "c": 3}') == {"a": None, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("items", "ok"),
    [
        ([1, 2], True),
        ([1, 1], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([], True),
        ([[1], [1]], False),
    ],
)
def test_unique_items_are_unique(items: list[Any], ok: bool) -> None:
    """However they are written; and only where it is asked for."""
    text = json.dumps({"a": items})
    assert read({"properties": {"a": {"uniqueItems": False}}}, text)["a"] == items
    schema = {"properties": {"a": {"uniqueItems": True}}}
    if ok:
        assert read(schema, text)["a"] == items
    else:
        assert refusal(schema, text) == "a: there are items in it twice"
    assert read(schema, '{"a": "aa"}')["a"] == "aa"


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"$ref": "#/a"}, []),
        ({"$ref": "http://h.test/"}, [(["$ref"], "$ref may only point into this schema, with #")]),
        (
            {"anyOf": [{}, {"items": {"$dynamicRef": "x"}}]},
            [(["anyOf", 1, "items", "$dynamicRef"], "$dynamicRef may only point into this schema, with #")],
        ),
        ({"type": "text"}, [(["type"], "'text' is not valid under any of the given schemas")]),
    ],
)
def test_a_schema_points_nowhere_else(schema: dict[str, Any], found: list[Any]) -> None:
    """Nothing is fetched to check a call; where the fault is, is told to the last part of the way."""
    assert list(faults(schema)) == found


def test_a_fault_with_a_long_value_is_told_without_it() -> None:
    """Two hundred characters are read to the model, never the value that is wrong with all its text."""
    schema = {"properties": {"a": {"type": "integer"}}}
    rest = len("'' is not of type 'integer'")
    assert (
        refusal(schema, json.dumps({"a": "x" * (200 - rest)}))
        == f"a: '{'x' * (200 - rest)}' is not of type 'integer'"
    )
    assert refusal(schema, json.dumps({"a": "x" * (201 - rest)})) == "a: does not satisfy type: 'integer'"
    many = {"properties": {"a": {"enum": ["y" * 300]}}}
    assert len(refusal(many, json.dumps({"a": "x"}))) == len("a: ") + 200
