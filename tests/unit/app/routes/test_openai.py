"""The OpenAI routes: admission, models, and the same rules for all who ask."""

from __future__ import annotations

import pytest

from runtime.errors import UpstreamUnreachable
from tests.fakes.front import MODEL, front, openai_body
from tests.fakes.turns import settle
from tests.virtual_time import virtual

KEYS = {"key-of-ada": "ada"}
ADA = {"authorization": "Bearer key-of-ada"}
COMPLETIONS = "/v1/chat/completions"


@virtual
async def test_the_models_are_the_upstreams() -> None:
    """In the list object that SDKs expect."""
    async with front() as gate:
        peer = await gate.get("/v1/models")
        assert (peer.status, peer.json) == (
            200,
            {"object": "list", "data": [{"id": MODEL, "object": "model"}]},
        )


@virtual
async def test_models_that_cannot_be_had_are_a_503() -> None:
    """Typed, and worth a retry."""
    async with front() as gate:
        gate.client.error = UpstreamUnreachable()
        peer = await gate.get("/v1/models")
        assert (peer.status, peer.error["code"]) == (503, "upstream_unreachable")
        assert peer.headers["x-refrain-reason"] == "upstream_unreachable"
        assert "x-should-retry" not in peer.headers


@pytest.mark.parametrize(("method", "target"), [("GET", "/v1/models"), ("POST", COMPLETIONS)])
@virtual
async def test_nothing_is_open_without_a_key(method: str, target: str) -> None:
    """Row 84: and a stream's ticket opens none of it."""
    async with front(keys=KEYS) as gate:
        peer = await (gate.get(target) if method == "GET" else gate.post(target, openai_body("q")))
        assert (peer.status, peer.error["type"]) == (401, "authentication_error")
        allowed = await (
            gate.get(target, ADA) if method == "GET" else gate.post(target, openai_body("q"), ADA)
        )
        assert allowed.status == 200


@virtual
async def test_native_and_openai_callers_share_one_call() -> None:
    """Row 101: whichever wire, streamed or not."""
    async with front() as gate:
        whole = await gate.post(COMPLETIONS, openai_body("q"))
        streamed = await gate.post(COMPLETIONS, openai_body("q", stream=True))
        native = await gate.get((await gate.submit("q"))["stream_url"])
        text = whole.json["choices"][0]["message"]["content"]
        assert native.text == text
        assert (
            "".join(
                chunk["choices"][0]["delta"].get("content", "")
                for event in streamed.events[:-1]
                for chunk in [event.json]
                if chunk["choices"]
            )
            == text
        )
        assert len(gate.model.calls) == 1


@virtual
async def test_an_openai_request_leaves_no_record() -> None:
    """Only native requests are kept: after its end the id is unknown."""
    async with front() as gate:
        peer = await gate.post(COMPLETIONS, openai_body("q"))
        await settle()
        assert (await gate.get(f"/chat/{peer.headers['x-refrain-id']}")).status == 404


@virtual
async def test_only_if_cached_is_a_504_and_asks_nobody() -> None:
    """RFC 9111: the caller wants what is there, or nothing."""
    async with front() as gate:
        directive = {"cache-control": "only-if-cached"}
        peer = await gate.post(COMPLETIONS, openai_body("q", stream=True), directive)
        assert (peer.status, peer.error["code"]) == (504, "not_cached")
        assert gate.model.calls == []
        await gate.post(COMPLETIONS, openai_body("q"))
        assert (await gate.post(COMPLETIONS, openai_body("q"), directive)).status == 200


@virtual
async def test_several_samples_are_never_shared() -> None:
    """`n` above 1 asks for different answers: no look-up, no twin, no store."""
    async with front() as gate:
        for _ in range(2):
            peer = await gate.post(COMPLETIONS, openai_body("q", n=2))
            assert peer.headers["cache-status"] == "refrain; fwd=bypass"
        assert len(gate.model.calls) == 2
