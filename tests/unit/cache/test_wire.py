"""Calls to replies: one round trip, in order; a forgotten script goes with its body, trouble is its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, NoScriptError, ResponseError

from cache.scripts import Script
from cache.wire import Call, Wire, Word
from tests.virtual_time import virtual

SCRIPT = Script.of("forget")


class FakeClient:
    """Answers by the command's name. `answers[name]` is a value or an error; `sent` is per round trip."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[list[tuple[Any, ...]]] = []

    def _answer(self, command: tuple[Any, ...]) -> Any:
        return self.answers.get(command[0], command[-1])

    async def execute_command(self, *command: Any) -> Any:
        self.sent.append([command])
        answer = self._answer(command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        assert not transaction, "MULTI would cost, and a cluster refuses it"
        return FakePipeline(self)


class FakePipeline:
    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error, "one error would take the others' replies with it"
        self._client.sent.append(self._commands)
        return [self._client._answer(command) for command in self._commands]


def call(*words: Word, script: Script | None = None) -> Call:
    return Call("op", words, script, asyncio.get_running_loop().create_future())


def eval_call() -> Call:
    return call("EVALSHA", SCRIPT.sha, 1, "key", "value", script=SCRIPT)


@virtual
async def test_many_calls_are_one_round_trip_in_order() -> None:
    """And one alone needs no pipeline."""
    client = FakeClient()
    wire = Wire(client, clustered=False)
    assert await wire.round_trip([call("ECHO", n) for n in range(3)]) == [0, 1, 2]
    assert await wire.round_trip([call("ECHO", 9)]) == [9]
    assert [len(batch) for batch in client.sent] == [3, 1]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("clustered", [False, True])
def test_a_script_that_is_not_known_goes_with_its_body(clustered: bool, count: int) -> None:
    """Only that one, with the same keys and words; its reply stands where it belongs."""

    @virtual
    async def sent_again() -> None:
        client = FakeClient(EVALSHA=NoScriptError("no"), EVAL=b"done")
        calls = [call("ECHO", n) for n in range(count - 1)] + [eval_call()]
        replies = await Wire(client, clustered=clustered).round_trip(calls)
        assert replies == [*range(count - 1), b"done"]
        assert client.sent[-1] == [("EVAL", SCRIPT.body, 1, "key", "value")]
        assert sum(len(batch) for batch in client.sent) == count + 1

    sent_again()


@virtual
async def test_a_refusal_is_one_calls_own() -> None:
    """It comes back in its place, and is not raised."""
    error = ResponseError("no")
    replies = await Wire(FakeClient(BAD=error), clustered=False).round_trip([call("BAD", 1), call("ECHO", 2)])
    assert replies == [error, 2]
    assert await Wire(FakeClient(BAD=error), clustered=False).round_trip([call("BAD", 1)]) == [error]


@virtual
async def test_a_broken_connection_is_everybodys() -> None:
    """On one server it is raised, so that the whole batch is sent once more on another connection."""
    with pytest.raises(ConnectionError):
        await Wire(FakeClient(ECHO=ConnectionError("cut")), clustered=False).round_trip([call("ECHO", 1)])


@virtual
async def test_one_nodes_trouble_is_not_the_others() -> None:
    """In a cluster a lost primary costs its own partitions alone."""
    error = ConnectionError("cut")
    wire = Wire(FakeClient(SAD=error), clustered=True)
    assert await wire.round_trip([call("ECHO", 1), call("SAD", 2), call("ECHO", 3)]) == [1, error, 3]


@virtual
async def test_a_call_is_answered_once() -> None:
    """A late reply finds it settled; one whose caller has left is let go, and no error stays unseen."""
    settled, left, failed = call("A"), call("B"), call("C")
    settled.settle(1)
    settled.settle(2)
    left.reply.cancel()
    left.settle(3)
    failed.settle(ResponseError("nobody looks at it"))
    assert settled.reply.result() == 1
    assert left.reply.cancelled()


@virtual
async def test_a_call_knows_about_how_large_it_is() -> None:
    """A batch is bounded by bytes as well as by number."""
    assert call("SET", b"12345", 7, "678").size == 11
