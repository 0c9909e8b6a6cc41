"""A function as a tool: what the model is told of it, what it may hand over, and what is refused at the
start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from processing.tools import Status, tool
from processing.tools.tool import MAX_ARGUMENTS, ArgumentsRefused
from tests.fakes.tools import Bench
from tests.virtual_time import virtual


class Place(BaseModel):
    city: str
    country: str = "de"


async def weather(
    place: Place,
    days: Annotated[int, Field(description="How many days.", ge=1, le=7)] = 1,
    unit: Literal["C", "F"] = "C",
) -> str:
    """The weather of a place.

    Of the coming days.
    """
    return f"{place.city}/{place.country} {days} {unit}"


WEATHER = tool(weather, cacheable=True)


def test_the_model_is_told_what_the_hints_say() -> None:
    """Name, docstring and schema, without what pydantic invents."""
    function = WEATHER.offered["function"]
    assert WEATHER.offered["type"] == "function"
    assert function["name"] == "weather"
    assert function["description"] == "The weather of a place.\n\nOf the coming days."
    schema = function["parameters"]
    assert schema["required"] == ["place"]
    assert schema["additionalProperties"] is False
    assert "title" not in schema
    assert schema["properties"]["days"] == {
        "default": 1,
        "description": "How many days.",
        "maximum": 7,
        "minimum": 1,
        "type": "integer",
    }


@virtual
async def test_arguments_are_what_the_hints_say() -> None:
    """A nested model arrives as one, and what is left out has its default."""
    bench = Bench(WEATHER)
    assert (await bench.one("weather", place={"city": "Ulm"}, days="3")).text == "Ulm/de 3 C"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "place: Field required"),
        ("nonsense", "arguments: Invalid JSON"),
        ("[]", "arguments: Input should be an object"),
        ("null", "arguments: Input should be an object"),
        ('{"place": {"city": "Ulm"}, "days": 8}', "days: Input should be less than or equal to 7"),
        ('{"place": {"city": "Ulm"}, "more": 1}', "more: Extra inputs are not permitted"),
        ('{"place": {}, "days": 0, "unit": "K", "x": 1, "y": 2}', "and 2 more"),
        ('{"place": ' + "[" * 100_000, "longer than"),
        ('{"place": ' + "[" * 10_000, "recursion limit"),
        ('{"days": ' + "9" * 5000 + "}", "out of range"),
        ('{"place": {"city": "' + "x" * MAX_ARGUMENTS + '"}}', "longer than"),
        ('{"place": {"city": "\\ud800"}}', "Invalid JSON"),
        ('{"place": {"city": "\ud800"}}', "unicode"),
    ],
)
def test_hostile_arguments_are_refused_with_a_reason(text: str, why: str) -> None:
    """The model sees why and may mend it; nothing is run, and nothing breaks."""
    with pytest.raises(ArgumentsRefused, match=why) as refused:
        WEATHER.reader.read(text)
    assert len(str(refused.value)) < 500


async def number(value: float) -> str:
    """A number."""
    return str(value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    """It parses, and would fail later, in the middle of somebody's tool."""
    with pytest.raises(ArgumentsRefused, match="finite"):
        tool(number, cacheable=True).reader.read(f'{{"value": {value}}}')


@virtual
async def test_a_parameter_may_have_any_name() -> None:
    """Also one that pydantic's own models use."""

    async def odd(schema: str, model_config: int = 1, copy: str = "c") -> str:
        """Odd."""
        return f"{schema}{model_config}{copy}"

    bench = Bench(tool(odd, cacheable=True))
    assert bench.toolbox["odd"].offered["function"]["parameters"]["required"] == ["schema"]
    assert (await bench.one("odd", schema="s", model_config=2)).text == "s2c"


def check(value: str) -> str:
    raise KeyError("secret")


@virtual
async def test_a_check_that_breaks_is_a_result_like_any_other() -> None:
    """A validator of a hint may raise anything: it must not take the other calls down."""

    async def checked(value: Annotated[str, AfterValidator(check)]) -> str:
        """Checked."""
        return value

    result = await Bench(tool(checked, cacheable=True)).one("checked", value="x")
    assert (result.status, result.content) == (Status.FAILED, "[checked failed (KeyError)]")


def positional(value: int, /) -> None:
    """By place."""


def anything(**values: int) -> None:
    """Anything."""


def untyped(value) -> None:  # type: ignore[no-untyped-def]
    """Untyped."""


def unknown(value: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Unknown."""


def undescribed() -> None: ...


def fine() -> None:
    """Fine."""


@pytest.mark.parametrize(
    ("function", "options", "why"),
    [
        (positional, {"cacheable": True}, "only named arguments"),
        (anything, {"cacheable": True}, "only named arguments"),
        (untyped, {"cacheable": True}, "'value' needs a type hint"),
        (unknown, {"cacheable": True}, "name 'Missing' is not defined"),
        (undescribed, {"cacheable": True}, "needs a description"),
        (fine, {"cacheable": True, "name": "not a name"}, "must be 1 to 64"),
        (fine, {"cacheable": True, "name": "x" * 65}, "must be 1 to 64"),
        (fine, {"cacheable": True, "direct_stream": True}, "must be an async generator"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_once(
    function: Callable[..., Any], options: dict[str, Any], why: str
) -> None:
    """At the start, with the reason, and not when a model first calls it."""
    with pytest.raises(ValueError, match=why):
        tool(function, **options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "say what its use does to the cache"),
        ({"cacheable": True, "time_bound": 5.0}, "not cacheable"),
        ({"cacheable": True, "user_bound": True}, "not cacheable"),
        ({"cacheable": True, "stateful": True}, "not cacheable"),
        ({"stateful": True, "retries": 1}, "not run twice"),
        ({"cacheable": True, "burst": 2}, "needs a rate"),
        ({"cacheable": True, "limit": 0}, "limit"),
        ({"cacheable": True, "timeout_s": 0.0}, "timeout_s"),
        ({"cacheable": True, "timeout_s": float("inf")}, "timeout_s"),
        ({"cacheable": "yes"}, "cacheable"),
        ({"cacheable": True, "chacheable": True}, "there is no option 'chacheable'"),
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, Any], why: str) -> None:
    """What a tool does to the cache is said, not guessed."""
    with pytest.raises(ValueError, match=why) as refused:
        tool(fine, **options)
    assert str(refused.value).startswith("the tool 'fine': ")
    assert "pydantic" not in str(refused.value), "the words are for whoever wrote the call"


@pytest.mark.parametrize(
    ("options", "ttl_s"),
    [
        ({"cacheable": True}, None),
        ({"user_bound": True}, None),
        ({"time_bound": 60.0}, 60),
        ({"time_bound": 60.0, "user_bound": True}, 60),
        ({"stateful": True}, 0),
        ({"stateful": True, "time_bound": 60.0}, 0),
    ],
)
def test_how_long_an_answer_holds(options: dict[str, Any], ttl_s: float | None) -> None:
    """What has an effect must have it again: an answer out of the cache would only claim that it had."""
    assert tool(fine, **options).options.ttl_s == ttl_s
