"""The scripts of a conversation on a real Redis: the line, the leases, what is kept and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cache.conversations import Bounds, Place, SharedConversations
from cache.link import Link
from cache.names import conversation, conversation_keys, whereabouts_key
from cache.scripts import Script
from tests.fakes.shared_redis import Proc, all_of, forever, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
NAME = conversation("t", "c")
#: In the conversation's partition, as every id of its turns is.
A, B, C, D, E, F = (f"chat_{letter * 32}{NAME[-2:]}" for letter in "abcdef")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


def store_of(
    proc: Proc, *, dead: tuple[str, ...] = (), turns: int = 100, most: int = 1 << 20, ttl_s: float = 60.0
) -> SharedConversations:
    async def link() -> Link:
        return proc.link

    return SharedConversations(
        link, proc.name, Bounds(ttl_s, 4, turns, most), known_s=60.0, dead=lambda: dead
    )


def lapse(server: RedisServer, *ids: str) -> None:
    """Their processes have not said anything for a lease."""
    line = conversation_keys(NAME)[0]
    with server.client as client:
        for id in ids:
            number, _, proc = str(client.hget(line, f"m:{id}")).split("|")
            client.hset(line, f"m:{id}", f"{number}|1|{proc}")


async def enter(store: SharedConversations, id: str) -> Place:
    place = await store.enter(NAME, id, b"about")
    assert place is not None
    return place


async def line_of(store: SharedConversations) -> tuple[str, ...]:
    view = await store.view(NAME)
    return () if view is None else view.line


async def test_one_runs_and_four_wait_in_order(server: RedisServer) -> None:
    """Also where each comes through another process; a fifth is refused, and a repeat is the same place."""
    async with processes(server) as procs:
        one, two = map(store_of, procs)
        for number, id in enumerate((A, B, C, D, E)):
            for _ in range(2):
                place = await enter((one, two)[number % 2], id)
                assert (place.position, place.number) == (number, number + 1)
        assert await one.enter(NAME, F, b"about") is None
        assert await line_of(two) == (A, B, C, D, E)


async def test_who_leaves_first_hands_over_with_what_it_said(server: RedisServer) -> None:
    """The next one is told in the same step, wherever it is, and reads all turns; no key lives for ever."""
    async with processes(server) as procs:
        told: list[str] = []
        procs[1].link.listen("V", told.append)
        one, two = map(store_of, procs)
        first, second = await enter(one, A), await enter(two, B)
        assert await two.whereabouts(B) == (procs[1].name, b"about")
        assert await one.finish(NAME, A, first, b"said") == (True, B)
        await procs[1].has_heard_all()
        assert told == [B]
        found = await two.beat(NAME, B, second, runs=False)
        assert found is not None
        assert (found.position, found.turns) == (0, (b"said",))
        await two.finish(NAME, B, found, b"more")
        view = await one.view(NAME)
        assert view is not None
        assert (view.line, view.turns) == ((), (b"said", b"more"))
        assert 50_000 < view.left_ms <= 60_000
        assert await two.whereabouts(B) is None
        with server.client as client:
            assert forever(client) == []


async def test_an_end_is_written_once(server: RedisServer) -> None:
    """A batch may be sent twice: the second time it is still true that it was kept, and it is there once."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        place = await enter(store, A)
        for _ in range(3):
            assert await store.finish(NAME, A, place, b"said") == (True, "")
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"said",)


async def test_who_has_left_does_not_come_back(server: RedisServer) -> None:
    """What was sent before its end and arrives after it would block the conversation for a lease."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        place = await enter(store, A)
        await store.finish(NAME, A, place, b"said")
        assert await store.beat(NAME, A, place, runs=True) is None
        assert await line_of(store) == ()


async def test_a_silent_turn_lets_the_next_one_on(server: RedisServer) -> None:
    """Killed with -9, say. What it says later has been overtaken: the next one was asked without it."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        gone, waits = await enter(store, A), await enter(store, B)
        lapse(server, A)
        found = await store.beat(NAME, B, waits, runs=False)
        assert found is not None
        assert found.position == 0
        assert (await store.finish(NAME, A, gone, b"late"))[0] is False
        assert await store.finish(NAME, B, found, b"said") == (True, "")
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"said",)


async def test_a_turn_that_was_only_silent_goes_on(server: RedisServer) -> None:
    """Redis was away for longer than a lease: whoever is back first does not push the others out."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        runs, waits = await enter(store, A), await enter(store, B)
        lapse(server, A, B)
        kept = await store.beat(NAME, A, runs, runs=True)
        behind = await store.beat(NAME, B, waits, runs=False)
        assert kept is not None
        assert behind is not None
        assert (kept.position, behind.position) == (0, 1)
        lapse(server, A)
        assert await store.finish(NAME, A, runs, b"said") == (True, B), "nobody was let in before it"


async def test_whoever_waits_keeps_its_place_over_a_silence(server: RedisServer) -> None:
    """The order is that of the submits, not of who speaks first afterwards."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        places = {id: await enter(store, id) for id in (A, B, C)}
        lapse(server, A, B, C)
        for id in (C, B, A):
            await store.beat(NAME, id, places[id], runs=id == A)
        assert await line_of(store) == (A, B, C)


async def test_nobody_waits_for_a_process_that_is_known_to_be_dead(server: RedisServer) -> None:
    """Its parent saw it die: its lease need not be waited for."""
    async with processes(server) as procs:
        mine, waits = await enter(store_of(procs[0]), A), None
        other = store_of(procs[1], dead=(procs[0].name,))
        waits = await enter(other, B)
        assert mine.position == waits.position == 0
        assert await line_of(other) == (B,)


async def test_what_was_forgotten_is_not_added_to_by_what_ran(server: RedisServer) -> None:
    """The one behind it begins anew, and is kept."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        await store.finish(NAME, A, await enter(store, A), b"old")
        runs, waits = await enter(store, B), await enter(store, C)
        assert await store.forget(NAME)
        assert (await store.finish(NAME, B, runs, b"late"))[0] is False
        found = await store.beat(NAME, C, waits, runs=False)
        assert found is not None
        assert found.turns == ()
        assert (await store.finish(NAME, C, found, b"new"))[0] is True
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"new",)


async def test_an_unknown_conversation_is_none(server: RedisServer) -> None:
    """So is one whose every turn came to nothing, and one that was forgotten."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        assert await store.view(NAME) is None
        assert not await store.forget(NAME)
        await store.finish(NAME, A, await enter(store, A), b"")
        assert await store.view(NAME) is None
        await store.finish(NAME, B, await enter(store, B), b"said")
        assert await store.forget(NAME)
        assert await store.view(NAME) is None


async def test_the_oldest_turns_make_room(server: RedisServer) -> None:
    """By number and by bytes; a turn that is too large by itself is not kept at all."""
    async with processes(server) as procs:
        for store in (store_of(procs[0], turns=2), store_of(procs[0], most=5)):
            for id, turn in ((A, b"1"), (B, b"22"), (C, b"333")):
                await store.finish(NAME, id, await enter(store, id), turn)
            view = await store.view(NAME)
            assert view is not None
            assert view.turns == (b"22", b"333")
            with server.client as client:
                client.flushall()
        store = store_of(procs[0], most=5)
        await store.finish(NAME, A, await enter(store, A), b"too large")
        assert await store.view(NAME) is None
        for id, turn in ((B, b"22"), (C, b"333"), (D, b"4")):
            await store.finish(NAME, id, await enter(store, id), turn)
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"333", b"4"), "what was let go is not counted any more"


async def test_a_turn_that_is_too_large_takes_no_other_with_it(server: RedisServer) -> None:
    """What was said before stays, and whoever said one word too many is told that this was not kept."""
    async with processes(server) as procs:
        store = store_of(procs[0], most=5)
        for id, turn, kept in ((A, b"1", True), (B, b"22", True), (C, b"333333", False), (D, b"4", True)):
            place = await enter(store, id)
            for _ in range(2):
                assert (await store.finish(NAME, id, place, turn))[0] is kept
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"1", b"22", b"4")


async def test_a_number_is_not_given_twice_after_the_line_was_lost(server: RedisServer) -> None:
    """Evicted, say: of two with one number only one is kept. Who still runs says which it has."""
    async with processes(server) as procs:
        store = store_of(procs[0])
        await store.finish(NAME, A, await enter(store, A), b"")
        runs = await enter(store, B)
        with server.client as client:
            client.delete(conversation_keys(NAME)[0])
        await store.beat(NAME, B, runs, runs=True)
        behind = await enter(store, C)
        assert (behind.position, behind.number) == (1, runs.number + 1)
        assert (await store.finish(NAME, B, runs, b"said"))[0]
        assert (await store.finish(NAME, C, behind, b"more"))[0]


async def test_turns_that_have_run_out_are_not_counted(server: RedisServer) -> None:
    """The line may outlive them while somebody stands in it."""
    async with processes(server) as procs:
        store = store_of(procs[0], most=5)
        await store.finish(NAME, A, await enter(store, A), b"12345")
        with server.client as client:
            client.delete(conversation_keys(NAME)[1])
        await store.finish(NAME, B, await enter(store, B), b"1234")
        view = await store.view(NAME)
        assert view is not None
        assert view.turns == (b"1234",)


async def test_of_many_at_once_each_has_a_place_of_its_own(server: RedisServer) -> None:
    """Two submits at the same moment through two processes are two turns, in one order."""
    async with processes(server, 4) as procs:
        stores = [store_of(proc) for proc in procs]
        ids = [A, B, C, D, E]
        places = await all_of(*(stores[n % 4].enter(NAME, id, b"") for n, id in enumerate(ids)))
        assert sorted(place.position for place in places if isinstance(place, Place)) == [0, 1, 2, 3, 4]


def test_all_names_of_a_conversation_share_a_slot() -> None:
    """A cluster refuses a script over two; and whoever has only an id finds where its turn is."""
    tags = {name.partition("}")[0] for name in conversation_keys(NAME, A)}
    assert len(tags) == 1
    assert conversation_keys(NAME, A)[2] == whereabouts_key(A)
    assert conversation("t", "c") != conversation("tc", "")
    assert Script.of("conversation_enter", "conversation").body.startswith("-- What the scripts")
