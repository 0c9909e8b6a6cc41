"""An endpoint that was edited is another one: no answer that was made with the old one is found."""

from __future__ import annotations

from typing import Any

import pytest

from processing.tools.endpoint import endpoint_tool
from processing.tools.form import Endpoint
from tests.fakes.endpoints import FakeHttp
from tests.fakes.tools import Bench


def fingerprint(**fields: Any) -> str:
    given = {
        "name": "price",
        "description": "The price.",
        "url": "http://staging/price",
        "cacheable": True,
        "parameters": {"of": {"type": "string"}},
        **fields,
    }
    return Bench(endpoint_tool(Endpoint(**given), {}, FakeHttp())).toolbox.fingerprint


@pytest.mark.parametrize(
    "edit",
    [
        {"url": "http://prod/price"},
        {"method": "POST", "stateful": False},
        {"headers": {"Authorization": "OTHER"}},
        {"max_bytes": 1000},
        {"parameters": {"of": {"type": "string", "in": "json"}}, "method": "POST", "stateful": False},
    ],
)
def test_an_edit_of_an_endpoint_finds_no_old_answer(edit: dict[str, Any]) -> None:
    """Row 12: the fingerprint is in the key of every answer; what the model reads is a part of it."""
    assert fingerprint(**edit) != fingerprint()
    assert fingerprint() == fingerprint(), "and without an edit it stays"


def test_where_an_argument_goes_is_an_edit() -> None:
    """Row 12: the same method and the same schema, asked in another way."""
    ways = [{"of": {"type": "string", "in": place}} for place in ("query", "json")]
    said = {fingerprint(method="POST", stateful=False, parameters=way) for way in ways}
    assert len(said) == 2
