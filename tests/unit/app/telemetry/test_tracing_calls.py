"""What is told of a call of the model, whatever model and caller have written."""

from __future__ import annotations

import json

import pytest

from app.telemetry.calls import LONGEST, Called, answered
from upstream.chunk import Chunk, parse_chunk


def chunk(**fields: object) -> Chunk:
    return parse_chunk(json.dumps({"choices": [], "usage": {}, **fields}).encode())


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("https://api.example/v1", "api.example", 443),
        ("http://10.0.0.7/v1", "10.0.0.7", 80),
        ("http://[::1]:8000/v1", "::1", 8000),
    ],
)
def test_the_server_is_named_without_its_path(url: str, address: str, port: int) -> None:
    """A path or a query may be somebody's deployment, or somebody's key."""
    _, attributes = Called(url, simulated=False).as_span("m")
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)
    assert url not in attributes.values()


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("m", "m"),
        (None, "unknown"),
        ("", "unknown"),
        (7, "unknown"),
        ("x" * 200, "x" * LONGEST),
        ("\ud83d", "?"),
    ],
)
def test_whatever_stands_for_a_model_is_a_short_name(model: object, shown: str) -> None:
    """Half a character cannot be encoded, and would take the whole batch with it."""
    name, attributes = Called("http://h", simulated=False).as_span(model)
    assert (name, attributes["gen_ai.request.model"]) == (f"chat {shown}", shown)


def test_a_simulated_model_is_said_to_be_one() -> None:
    """Nobody may take its figures for those of a real one."""
    assert Called("http://h", simulated=True).as_span("m")[1]["gen_ai.provider.name"] == "refrain.simulated"


@pytest.mark.parametrize("count", [None, -1, True, 1.5, "7", [1]])
def test_a_count_that_is_none_is_left_out(count: object) -> None:
    """A wrong figure is worse than a missing one; an upstream may write anything there."""
    told = answered([chunk(usage={"prompt_tokens": count, "completion_tokens": 4})], None)
    assert told["gen_ai.usage.input_tokens"] is None
    assert told["gen_ai.usage.output_tokens"] == 4


@pytest.mark.parametrize("name", ["model", "id"])
@pytest.mark.parametrize(("given", "told"), [("a", "a"), (5, None), ({}, None), ("y" * 300, "y" * LONGEST)])
def test_what_an_answer_calls_itself_is_short_text_or_nothing(
    name: str, given: object, told: str | None
) -> None:
    """The upstream may write anything there too."""
    assert answered([chunk(**{name: given})], None)[f"gen_ai.response.{name}"] == told


def test_a_call_without_an_answer_tells_nothing() -> None:
    """It has failed before its first chunk."""
    assert set(answered([], None).values()) == {None}
