"""Admission, the way both wires share: in order, counted once, and nothing left of what was refused."""

from __future__ import annotations

import asyncio

import pytest

from runtime.errors import UpstreamUnreachable
from tests.fakes.asgi import Peer
from tests.fakes.front import Front, front, openai_body
from tests.fakes.turns import settle
from tests.virtual_time import virtual

KEYS = {"key-of-ada": "ada"}
ADA = {"authorization": "Bearer key-of-ada"}
ROUTES = [("/chat", "chat"), ("/v1/chat/completions", "openai")]


def refusals(gate: Front) -> dict[str, int | float]:
    return {name: count for name, count in gate.observer.totals.items() if count}


@pytest.mark.parametrize(("target", "route"), ROUTES)
@virtual
async def test_a_stranger_is_refused_before_its_body_is_looked_at(target: str, route: str) -> None:
    """No key, no work: not even the bytes are read."""
    async with front(keys=KEYS) as gate:
        peer = Peer("POST", target, body=b"{", unfinished=True)
        await peer.call(gate.app)
        assert peer.status == 401
        assert refusals(gate) == {"requests": 1, "refused": 1, "failed": 1}


@pytest.mark.parametrize(("target", "route"), ROUTES)
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"{}", {}, 422),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b" " * 10_001, {}, 413),
        (b"{}", {"content-length": "10001"}, 413),
    ],
)
@virtual
async def test_a_body_that_is_refused_is_counted_once_and_leaves_nothing(
    target: str, route: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Row 85: no queue entry, no record, no look-up; one request that failed."""
    async with front() as gate:
        peer = await Peer("POST", target, headers=headers, body=body).call(gate.app)
        assert peer.status == status
        assert peer.error.keys() == {"message", "type", "param", "code"}
        assert refusals(gate) == {"requests": 1, "refused": 1, "failed": 1}
        assert gate.pipe.records.made == []
        assert gate.pipe.store.batches == []


@pytest.mark.parametrize(("target", "route"), ROUTES)
@virtual
async def test_a_full_queue_sheds_at_once_with_a_time_to_come_back(target: str, route: str) -> None:
    """Row 50: 429 without a wait, nothing stays behind, and those inside are not disturbed."""
    async with front(leaders=1, queue=1, hook=True) as gate:
        gate.pipe.hook.gate.clear()
        inside = [await gate.submit(f"q{number}") for number in range(2)]
        before = asyncio.get_running_loop().time()
        peer = await gate.post(
            target,
            {"message": "too many", **openai_body("too many")}
            if route == "openai"
            else {"message": "too many"},
        )
        assert asyncio.get_running_loop().time() == before
        assert (peer.status, peer.error["code"], peer.error["type"]) == (
            429,
            "queue_full",
            "rate_limit_error",
        )
        assert int(peer.headers["retry-after"]) >= 1
        assert peer.headers["x-refrain-reason"] == "queue_full"
        assert "x-should-retry" not in peer.headers
        assert refusals(gate)["shed"] == 1
        assert len(gate.pipe.records.made) == 2
        gate.pipe.hook.gate.set()
        await settle()
        assert [(await gate.get(chat["stream_url"])).end.name for chat in inside] == ["done", "done"]


@pytest.mark.parametrize(("target", "route"), ROUTES)
@virtual
async def test_a_draining_gateway_refuses_new_work_by_name(target: str, route: str) -> None:
    """Row 87: 503 draining, with the reason; what runs is still read and cancelled."""
    async with front() as gate:
        chat = await gate.submit("q")
        gate.manager.begin_drain()
        peer = await gate.post(target, {"message": "q"} if route == "chat" else openai_body("q"))
        assert (peer.status, peer.error["code"]) == (503, "draining")
        assert peer.headers["x-refrain-reason"] == "draining"
        assert refusals(gate)["shed"] == 1
        assert (await gate.get(chat["stream_url"])).end.name == "done"


@virtual
async def test_a_model_that_cannot_be_found_out_is_a_503_and_consumes_no_request_id() -> None:
    """A refused submit may be sent again as it was."""
    async with front() as gate:
        gate.client.error = UpstreamUnreachable()
        refused = await gate.post("/chat", {"message": "q", "request_id": "r"})
        assert (refused.status, refused.error["code"]) == (503, "upstream_unreachable")
        gate.client.error = None
        assert (await gate.post("/chat", {"message": "q", "request_id": "r"})).status == 202


@pytest.mark.parametrize(("target", "route"), ROUTES)
@virtual
async def test_a_client_that_leaves_while_it_sends_is_no_request(target: str, route: str) -> None:
    """Nobody is answered, nothing is counted, nothing runs."""
    async with front() as gate, asyncio.TaskGroup() as group:
        peer = gate.open(group, Peer("POST", target, body=b"{", unfinished=True))
        await settle()
        peer.leave()
        await settle()
        assert not peer.started
        assert refusals(gate) == {}


@virtual
async def test_no_refusal_repeats_what_was_asked() -> None:
    """I5: prompts and keys are in no error, on no path."""
    async with front(keys=KEYS) as gate:
        secret = "a-secret-prompt"
        peers = [
            await gate.post("/chat", {"message": secret, "temperature": secret}, ADA),
            await gate.post("/v1/chat/completions", {"messages": secret}, ADA),
            await gate.post("/chat", {"message": "q", "priority": secret}, ADA),
            await gate.post("/chat", {"message": "q"}, {"authorization": f"Bearer {secret}"}),
            await gate.get(f"/chat/{secret}", ADA),
        ]
        for peer in peers:
            assert peer.status >= 400
            assert secret.encode() not in peer.body
            assert secret not in str(peer.header_lines)
