"""The native routes as a client meets them: what each answers, to whom, and in which shape."""

from __future__ import annotations

import asyncio

import pytest

from app.wire import Accepted, ChatRecord
from runtime.errors import UpstreamUnreachable
from tests.fakes.front import MODEL, front
from tests.fakes.turns import settle
from tests.virtual_time import virtual

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}
KEYS = {"key-of-ada": "ada", "key-of-bob": "bob"}
ADA, BOB = {"authorization": "Bearer key-of-ada"}, {"authorization": "Bearer key-of-bob"}


@virtual
async def test_a_submit_is_accepted_before_the_model_is_asked() -> None:
    """Row 1 and 19: 202, a role, a place to listen; the model is paid for when somebody does."""
    async with front() as gate:
        accepted = await gate.post("/chat", {"message": "q"})
        assert accepted.status == 202
        Accepted.model_validate(accepted.json)
        assert (accepted.json["status"], accepted.json["role"]) == ("ready", "leader")
        assert accepted.json["id"].startswith("chat_")
        assert len(accepted.json["id"]) == len("chat_") + 32
        await asyncio.sleep(30.0)
        assert gate.model.calls == []
        assert (await gate.get(accepted.json["stream_url"])).end.name == "done"
        assert len(gate.model.calls) == 1


@virtual
async def test_a_waiting_submit_knows_its_place() -> None:
    """Row 62: `queue_position` from 1 in the queue it waits in, null where it waits in none."""
    async with front(leaders=1, hook=True) as gate:
        gate.pipe.hook.gate.clear()
        chats = []
        for number in range(3):
            chats.append(await gate.submit(f"q{number}"))
            await settle()
        assert [chat["queue_position"] for chat in chats] == [None, 1, 2]
        gate.pipe.hook.gate.set()


@virtual
async def test_a_hit_is_completed_at_once_and_waits_for_its_reader() -> None:
    """Row 9 and 10: the id is bound to the sealed log, for as long as the record is kept."""
    async with front(retention_s=600.0) as gate:
        first = await gate.get((await gate.submit("q"))["stream_url"])
        hit = await gate.submit("q")
        assert (hit["status"], hit["role"], hit["queue_position"]) == ("completed", "cached", None)
        await asyncio.sleep(500.0)
        second = await gate.get(hit["stream_url"])
        assert (second.text, second.end.json["cache"]) == (first.text, "hit")
        assert second.headers["cache-status"].startswith("refrain; hit; ttl=")
        assert len(gate.model.calls) == 1


@virtual
async def test_the_headers_of_a_stream_are_those_of_the_contract() -> None:
    """No length, no compression, nothing cached; who made it, and how long each stage took."""
    async with front() as gate:
        chat = await gate.submit("q")
        peer = await gate.get(chat["stream_url"])
        assert STREAM_HEADERS.items() <= peer.headers.items()
        assert peer.headers["x-refrain-id"] == chat["id"]
        assert peer.headers["cache-status"] == "refrain; fwd=miss"
        assert peer.headers["server-timing"].startswith("cache;dur=")
        assert not {"content-length", "content-encoding", "connection"} & peer.headers.keys()


@virtual
async def test_the_first_frame_is_the_cursor_and_goes_out_with_the_first_status() -> None:
    """Rule 7: `retry` and `id` before any event; `<epoch>-0` for a fresh reader."""
    async with front() as gate:
        chat = await gate.submit("q")
        epoch = gate.record(chat["id"]).broadcast.log.epoch
        peer = await gate.get(chat["stream_url"])
        first = peer.pieces[0]
        retry, cursor, blank, name, *_ = first.split(b"\n")
        assert retry.startswith(b"retry: ")
        assert cursor == b"id: %d-0" % epoch
        assert (blank, name) == (b"", b"event: status")
        assert peer.body.endswith(b"\n\n")


@virtual
async def test_head_of_a_stream_is_its_headers_and_subscribes_nobody() -> None:
    """Rule 18: the headers of GET, no body, no length; and the model is not asked for it."""
    async with front() as gate:
        chat = await gate.submit("q")
        peer = await gate.head(chat["stream_url"])
        assert peer.status == 200
        assert STREAM_HEADERS.items() <= peer.headers.items()
        assert "content-length" not in peer.headers
        assert (peer.body, peer.complete) == (b"", True)
        await settle()
        assert gate.record(chat["id"]).claim.connections == 0
        assert gate.model.calls == []


@pytest.mark.parametrize("how", ["done", "cancelled", "failed"])
@virtual
async def test_a_reader_that_has_seen_the_end_gets_204(how: str) -> None:
    """Rule 10: what stops EventSource; an empty answer without a length."""
    async with front() as gate:
        if how == "failed":
            gate.model.errors["q"].append(UpstreamUnreachable(retryable=False))
            gate.model.errors["q"] *= 9
        chat = await gate.submit("q")
        if how == "cancelled":
            await gate.post(f"/chat/{chat['id']}/cancel", {})
        end = (await gate.get(chat["stream_url"])).end
        assert end.name == how
        peer = await gate.get(chat["stream_url"], {"last-event-id": end.id})
        assert (peer.status, peer.body, peer.header_lines) == (204, b"", [])
        by_query = await gate.get(f"{chat['stream_url']}&after={end.id}")
        assert by_query.status == 204


@pytest.mark.parametrize("cursor", ["nonsense", "1-2-3", "99999999999999-1"])
@virtual
async def test_a_bad_cursor_is_a_400_before_the_headers(cursor: str) -> None:
    """Never a silent full replay."""
    async with front() as gate:
        chat = await gate.submit("q")
        await gate.get(chat["stream_url"])
        peer = await gate.get(chat["stream_url"], {"last-event-id": cursor})
        assert (peer.status, peer.error["code"]) == (400, "bad_cursor")
        assert peer.headers["x-should-retry"] == "false"


@virtual
async def test_a_cursor_of_an_older_epoch_gets_reset_and_the_whole_text() -> None:
    """What it has is void; primed with its own old cursor, which the `reset` replaces."""
    async with front() as gate:
        chat = await gate.submit("q")
        whole = await gate.get(chat["stream_url"])
        epoch = gate.record(chat["id"]).broadcast.log.epoch
        peer = await gate.get(chat["stream_url"], {"last-event-id": f"{epoch - 1}-5"})
        assert b"id: %d-5\n\n" % (epoch - 1) in peer.pieces[0]
        assert (peer.events[0].name, peer.events[0].json) == ("reset", {"epoch": epoch})
        assert peer.events[0].id == f"{epoch}-0"
        assert peer.text == whole.text


@virtual
async def test_every_cursor_resumes_to_the_same_text() -> None:
    """Row 43: cut after each event, resumed by its id: no gap and no repeat."""
    async with front() as gate:
        chat = await gate.submit("q")
        whole = await gate.get(chat["stream_url"])
        deltas = [event for event in whole.events if event.name == "delta"]
        for seen in range(1, len(deltas) + 1):
            resumed = await gate.get(chat["stream_url"], {"last-event-id": deltas[seen - 1].id})
            before = "".join(event.json["text"] for event in deltas[:seen])
            assert before + resumed.text == whole.text
            assert (resumed.end.data, resumed.end.id) == (whole.end.data, whole.end.id)


@virtual
async def test_the_record_walks_and_is_what_it_is_documented_to_be() -> None:
    """Row 3: every status has the documented shape, and none goes back."""
    async with front(streams=1) as gate, asyncio.TaskGroup() as group:
        holder = await gate.hold(group)
        gate.model.by_hand.add("q")
        chat = await gate.submit("q")
        seen = []

        async def look() -> None:
            await settle()
            record = (await gate.get(f"/chat/{chat['id']}")).json
            ChatRecord.model_validate(record)
            seen.append((record["status"], record["stage"], record["queue_position"], record["text"]))

        await look()
        await gate.listen(group, chat["stream_url"])
        await look()
        holder.complete()
        call = await gate.model.call("q")
        call.say("text")
        await look()
        call.complete()
        await look()
        assert seen == [
            ("ready", "subscriber", None, ""),
            ("waiting_slot", "llm_streams", 1, ""),
            ("streaming", "streaming", None, "text"),
            ("completed", "ended", None, "text"),
        ]


@virtual
async def test_cancel_is_idempotent_and_too_late_after_another_end() -> None:
    """Row 38: 200, 200, and 409 for what has ended otherwise; the state stays as it was."""
    async with front() as gate:
        chat, other = await gate.submit("q"), await gate.submit("r")
        for _ in range(2):
            peer = await gate.post(f"/chat/{chat['id']}/cancel", {})
            assert (peer.status, peer.json["status"]) == (200, "cancelled")
            ChatRecord.model_validate(peer.json)
        await gate.get(other["stream_url"])
        late = await gate.post(f"/chat/{other['id']}/cancel", {})
        assert (late.status, late.error["code"]) == (409, "conflict")
        assert (await gate.get(f"/chat/{other['id']}")).json["status"] == "completed"


@virtual
async def test_cancel_needs_no_body_and_reads_none() -> None:
    """`curl -X POST` is enough."""
    async with front() as gate:
        chat = await gate.submit("q")
        peer = gate.asking(f"/chat/{chat['id']}/cancel", {})
        await peer.receive()
        await peer.call(gate.app)
        assert peer.status == 200


@virtual
async def test_a_request_id_is_the_same_record_again() -> None:
    """Row 41: 200 and the same id; another body is a conflict, whatever became of the first."""
    async with front() as gate:
        first = await gate.post("/chat", {"message": "q", "request_id": "r"})
        again = await gate.post("/chat", {"request_id": "r", "message": "q"})
        assert (first.status, again.status) == (202, 200)
        assert again.json["id"] == first.json["id"]
        by_header = await gate.post("/chat", {"message": "q"}, {"idempotency-key": "r"})
        assert (by_header.status, by_header.json["id"]) == (200, first.json["id"])
        other = await gate.post("/chat", {"message": "other", "request_id": "r"})
        assert (other.status, other.error["code"], other.error["param"]) == (409, "conflict", "request_id")


@virtual
async def test_a_foreign_id_is_an_unknown_id() -> None:
    """Row 84: the same 404, byte for byte, on every route, whatever the state of the request."""
    async with front(keys=KEYS) as gate:
        chat = (await gate.post("/chat", {"message": "q"}, ADA)).json
        for method, target in (("GET", ""), ("GET", "/stream"), ("POST", "/cancel")):
            replies = []
            for id in (chat["id"], "chat_" + "0" * 32):
                call = gate.get if method == "GET" else None
                path = f"/chat/{id}{target}"
                peer = await (call(path, BOB) if call else gate.post(path, {}, BOB))
                replies.append((peer.status, peer.header_lines, peer.body))
            assert replies[0] == replies[1]
            assert replies[0][0] == 404
        assert (await gate.get(f"/chat/{chat['id']}", ADA)).json["status"] == "ready"


@virtual
async def test_without_a_key_nothing_opens_but_the_stream_by_its_ticket() -> None:
    """EventSource cannot send headers; a ticket is good for GET of its own stream only."""
    async with front(keys=KEYS) as gate:
        assert (await gate.post("/chat", {"message": "q"})).status == 401
        chat = (await gate.post("/chat", {"message": "q"}, ADA)).json
        path, _, ticket = chat["stream_url"].partition("?")
        refused = [
            await gate.get(path),
            await gate.get(f"/chat/{chat['id']}?{ticket}"),
            await gate.post(f"/chat/{chat['id']}/cancel?{ticket}", {}),
        ]
        for peer in refused:
            assert (peer.status, peer.error["code"]) == (401, "invalid_api_key")
            assert peer.headers["www-authenticate"] == "Bearer"
        assert (await gate.get(chat["stream_url"])).end.name == "done"


@virtual
async def test_history_beyond_the_retention_bytes_is_gone_and_then_unknown() -> None:
    """410 while the id is remembered, 404 afterwards; on every route alike."""
    async with front(retention_s=600.0, retention_bytes=1) as gate:
        chat = await gate.submit("q")
        peer = await gate.get(chat["stream_url"])
        assert peer.end.name == "done"
        paths = (f"/chat/{chat['id']}", chat["stream_url"])
        assert [(await gate.get(path)).status for path in paths] == [410, 410]
        await asyncio.sleep(601.0)
        assert [(await gate.get(path)).status for path in paths] == [404, 404]


@virtual
async def test_a_body_without_a_model_asks_the_upstreams_first() -> None:
    """And whoever names it shares with whoever does not."""
    async with front() as gate:
        await gate.get((await gate.submit("q"))["stream_url"])
        assert gate.model.calls[0].body["model"] == MODEL
        assert (await gate.submit("q", model=MODEL))["role"] == "cached"
