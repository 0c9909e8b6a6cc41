"""A round's odd calls as they are counted and logged, and a message that lacks its role."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from pydantic import AfterValidator

from processing.ready import Ready
from processing.tools import Toolbox, tool
from tests.fakes.tools import Bench, Played, Scene, Witness, call, said
from tests.virtual_time import virtual


def broken(value: str) -> str:
    raise KeyError("secret")


def test_a_check_that_breaks_is_told_with_its_type(caplog: pytest.LogCaptureFixture) -> None:
    """Ours or a hint's: the line names the tool and the error, and it is a run of nobody else."""
    witness = Witness()

    @virtual
    async def runs() -> None:
        async def checked(value: Annotated[str, AfterValidator(broken)]) -> str:
            """Checked."""
            return value

        await Bench(tool(checked, cacheable=True), observer=witness).one("checked", value="x")

    runs()
    assert witness.ends == [("checked", "failed", False)]
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (vars(line)["tool"], vars(line)["error"]) == ("checked", "KeyError")
    assert "secret" not in str(vars(line))


@virtual
async def test_who_shares_a_run_is_counted_as_sharing() -> None:
    """And only who came later."""
    witness = Witness()
    bench = Bench(Played().sleeper(), observer=witness)
    await bench.run(call("sleep"), call("sleep", "d"))
    assert sorted(witness.ends) == [("sleep", "ok", False), ("sleep", "ok", True)]
    assert bench.toolbox.stats().shared == 1


@virtual
async def test_a_message_without_a_role_is_the_assistants() -> None:
    """Some servers leave it out; clients read it."""
    reply = msgspec.structs.replace(said("so"), message={"content": "so"})
    prepared = await Scene(reply, tools=(Played().sleeper(),)).run()
    assert isinstance(prepared.direct, Ready)
    delta = msgspec.json.decode(prepared.direct.chunks[0].raw)["choices"][0]["delta"]
    assert delta == {"role": "assistant", "content": "so"}


@virtual
async def test_the_fingerprint_is_of_every_tool_in_its_order() -> None:
    """The model reads them in that order."""
    played = Played()
    a, b = played.sleeper("a"), played.sleeper("b")
    prints = {Bench(*tools).toolbox.fingerprint for tools in ((a, b), (b, a), (a,), ())}
    assert len(prints) == 4
    assert all(len(each) == 32 for each in prints)
    assert isinstance(Bench().toolbox, Toolbox)
