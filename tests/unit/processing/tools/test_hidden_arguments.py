"""Arguments that hide something of themselves: two that differ never share a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, PlainSerializer, SecretStr

from processing.tools import tool
from tests.fakes.tools import Bench, call
from tests.virtual_time import virtual


class Account(BaseModel):
    owner: str
    pin: str = Field("", exclude=True)


async def by_secret(pin: SecretStr) -> str:
    """A field that shows itself to nobody."""
    await asyncio.sleep(1)
    return pin.get_secret_value()


async def by_account(account: Account) -> str:
    """A field that is left out."""
    await asyncio.sleep(1)
    return account.pin


async def by_half(pin: Annotated[str, PlainSerializer(lambda pin: pin[:1])]) -> str:
    """A field that is cut."""
    await asyncio.sleep(1)
    return pin


@pytest.mark.parametrize(
    ("made", "first", "second"),
    [
        (by_secret, {"pin": "1111"}, {"pin": "1222"}),
        (by_account, {"account": {"owner": "a", "pin": "1111"}}, {"account": {"owner": "a", "pin": "1222"}}),
        (by_half, {"pin": "1111"}, {"pin": "1222"}),
    ],
)
def test_what_is_hidden_still_tells_two_calls_apart(
    made: Callable[..., object], first: dict[str, object], second: dict[str, object]
) -> None:
    """Row 12: else one caller would get what another's secret has opened. The same secret is one run."""

    @virtual
    async def both() -> None:
        bench = Bench(tool(made, name="open", cacheable=True))
        results = await bench.run(call("open", **first), call("open", **second), call("open", **first))
        assert [result.text for result in results] == ["1111", "1222", "1111"]
        assert bench.toolbox.stats().shared == 1
        bench.assert_at_rest()

    both()


@virtual
async def test_what_hides_nothing_is_the_same_however_it_is_written() -> None:
    """Spaces and defaults make no difference, so that such calls share their run."""

    async def find(about: str, most: int = 3) -> str:
        """Finds."""
        await asyncio.sleep(1)
        return f"{about} {most}"

    bench = Bench(tool(find, cacheable=True))
    results = await bench.run(call("find", about="x"), call("find", most=3, about="x"))
    assert [result.text for result in results] == ["x 3", "x 3"]
    assert bench.toolbox.stats().shared == 1
