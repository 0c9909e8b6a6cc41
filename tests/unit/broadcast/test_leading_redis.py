"""What Redis says of a led broadcast: that it has forgotten it, that another leads, who follows."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.leading import Leading
from broadcast.lifecycle import Phase
from broadcast.owner import Finish
from cache.flights import Led, Refused
from cache.views import Others
from tests.fakes.flights import chunk, pulse, raw
from tests.fakes.turns import settle, turns
from tests.unit.broadcast.relays import KEY, RelayScene
from tests.virtual_time import virtual

FOLLOWED = Others(1, 1, 1)


def says(leading: Leading, *texts: str) -> None:
    leading.broadcast.append([chunk(text) for text in texts])


def now() -> float:
    return asyncio.get_running_loop().time()


# -- a loss of memory -------------------------------------------------------------------------
@virtual
async def test_what_nobody_followed_is_made_known_again_without_its_text() -> None:
    """Lazy after a loss of memory too; who follows then gets all of it."""
    scene = RelayScene()
    leading = scene.leads()
    says(leading, "a", "b")
    leading.beaten(pulse(epoch=0, owner=""), now(), "me")
    await settle()
    ((_, epoch, _, options),) = scene.flights.named("reseed")
    assert (epoch, options["published"], options["chunks"]) == (5, False, [])
    leading.publish()
    await asyncio.sleep(1)
    assert [call[2] for call in scene.flights.named("append")] == [1]


@virtual
async def test_what_is_seeded_is_not_written_again() -> None:
    """The text goes with it, so the next entry begins behind it."""
    scene = RelayScene()
    scene.flights.replies["append"] = [FOLLOWED] * 9
    leading = scene.leads()
    leading.publish()
    await asyncio.sleep(1)
    says(leading, "a", "b")
    leading.forgotten()
    await asyncio.sleep(1)
    assert scene.flights.named("reseed")[0][-1]["chunks"] == [raw("a"), raw("b")]
    says(leading, "c")
    leading.touch()
    await asyncio.sleep(1)
    appended = [(first, chunks) for _, _, first, _, chunks in scene.flights.named("append")]
    assert appended == [(1, []), (3, []), (3, [raw("c")])]


@pytest.mark.parametrize("detail", ["4", "0"])
def test_a_redis_that_has_gone_back_behind_us_is_told_again(detail: str) -> None:
    """An older epoch there is what a failover has lost of ours: nobody has overruled anybody."""

    @virtual
    async def told() -> None:
        scene = RelayScene()
        leading = scene.leads()
        scene.flights.replies["append"] = [Refused("FENCED", detail), FOLLOWED]
        says(leading, "a")
        leading.publish()
        await asyncio.sleep(1)
        assert len(scene.flights.named("reseed")) == 1
        assert not leading.detached

    told()


@pytest.mark.parametrize("reply", [Refused("FENCED", "5"), Refused("ENDED")])
def test_whoever_else_leads_or_has_ended_it_overrules_us(reply: Refused) -> None:
    """Our own epoch in another's hands, or an end that is not ours: what has text goes on here alone."""

    @virtual
    async def overruled() -> None:
        scene = RelayScene()
        leading = scene.leads()
        scene.flights.replies["append"] = [reply]
        says(leading, "a")
        leading.publish()
        await asyncio.sleep(1)
        assert leading.detached
        assert scene.flights.named("reseed") == []

    overruled()


@virtual
async def test_a_seed_that_is_refused_makes_us_nobodys_leader() -> None:
    """Another led while Redis did not know us: it is not ours any more, and not known as ours."""
    scene = RelayScene()
    leading = scene.leads()
    says(leading, "a")
    scene.flights.replies["reseed"] = [Refused("FENCED", "9")]
    leading.forgotten()
    await asyncio.sleep(1)
    assert leading.detached
    assert not leading.registered
    assert scene.called() == ["reseed"]


@pytest.mark.parametrize("found", [pulse(epoch=9, owner="me"), pulse(epoch=5, owner="other")])
def test_a_beat_that_finds_another_makes_us_look(found: object) -> None:
    """Another epoch under our own name is none of ours either."""

    @virtual
    async def looks() -> None:
        scene = RelayScene()
        leading = scene.leads()
        leading.beaten(found, now(), "me")  # type: ignore[arg-type]
        await settle()
        assert scene.called()[0] == "attach"
        await asyncio.sleep(1)

    looks()


@virtual
async def test_for_a_lease_after_that_only_interest_is_believed() -> None:
    """Row 55: those who follow say so again one by one, and the first is as good as all."""
    scene = RelayScene()
    leading = scene.leads()
    leading.broadcast.foreign = FOLLOWED
    leading.forgotten()
    await settle()
    lease_s = scene.flights.lease_ms / 1000
    leading.heard(Others(3, 0, 0))
    assert leading.broadcast.foreign == FOLLOWED
    leading.heard(Others(1, 1, 0))
    assert leading.broadcast.foreign == Others(1, 1, 0)
    await asyncio.sleep(lease_s - 0.01)
    assert leading.unsure
    await asyncio.sleep(0.01)
    assert not leading.unsure
    leading.heard(Others(3, 0, 0))
    assert leading.broadcast.foreign == Others(3, 0, 0)
    assert leading.confirming
    await settle()


# -- who follows ------------------------------------------------------------------------------
@virtual
async def test_what_a_beat_finds_is_heard_and_renews_the_lease() -> None:
    """From the moment at which Redis was asked: it may have been slow to answer."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["append"] = [FOLLOWED]
    asked_at = now() + 3
    leading.beaten(pulse(owner="me", others=FOLLOWED), asked_at, "me")
    assert leading.broadcast.foreign == FOLLOWED
    assert leading.renewed_at == asked_at
    await asyncio.sleep(9)
    assert leading.renewed_at == asked_at - 3, "the publication was asked for at once"
    leading.beaten(pulse(owner="me", state="completed", others=Others(2, 2, 2)), now(), "me")
    assert leading.renewed_at == asked_at - 3
    assert leading.broadcast.foreign == FOLLOWED


@virtual
async def test_a_lease_begins_when_redis_first_knows_it() -> None:
    """As it is led, or as it is registered later."""
    scene = RelayScene()
    await asyncio.sleep(5)
    assert scene.leads("aa").renewed_at == now()
    scene.flights.replies["join"] = [Led(9)]
    late = scene.leads("bb", registered=False)
    assert late.renewed_at == float("-inf")
    await settle()
    assert late.renewed_at == now()


@virtual
async def test_a_beat_without_anybody_is_no_dismissal() -> None:
    """Only an explicit cancel stops what runs on unwatched."""
    scene = RelayScene()
    leading = scene.leads()
    scene.driver.finish_unwatched = True
    leading.broadcast.show(Phase.LIVE)
    leading.beaten(pulse(owner="me"), now(), "me")
    await settle()
    assert leading.broadcast.running


@pytest.mark.parametrize("state", ["remote", "confirming", "ended"])
def test_what_is_found_out_already_or_not_ours_is_not_judged_again(state: str) -> None:
    """An older word must not overtake the reply that is under way."""

    @virtual
    async def unjudged() -> None:
        scene = RelayScene()
        leading = scene.leads()
        leading.broadcast.foreign = FOLLOWED
        if state == "remote":
            leading.broadcast.remote = True
        elif state == "confirming":
            leading.confirming = True
        else:
            leading.broadcast.abandon(expired=False)
        leading.heard(Others(2, 2, 2))
        assert leading.broadcast.foreign == FOLLOWED

    unjudged()


@virtual
async def test_an_idle_end_is_over_unless_somebody_is_there_or_it_is_unknown() -> None:
    """Fenced or ended by another, it may end here: nobody follows ours."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["idle"] = [Refused("FENCED", "9"), Others(1, 1, 0), Refused("GONE")]
    answers = [await leading.confirm_idle("cancelled", b"{}") for _ in range(3)]
    assert answers == [True, False, False]
    assert leading.unsure
    await turns(1)
    await settle()


@virtual
async def test_it_is_settled_unless_an_end_is_under_way() -> None:
    """A newcomer waits for what is being found out, or being told, and for nothing else."""
    scene = RelayScene()
    leading = scene.leads()
    assert leading.settled is True
    leading.confirming = True
    assert leading.settled is False
    leading.confirming, leading.finish = False, Finish("completed", b"")
    assert leading.settled is False
    for state in ("over", "detached"):
        setattr(leading, state, True)
        assert leading.settled is True
        setattr(leading, state, False)
    assert scene.relay.leads[KEY] is leading
