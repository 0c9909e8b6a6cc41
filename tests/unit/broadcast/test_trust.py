"""Who may join what is made here: not what another may have answered while this process was frozen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcast.lifecycle import Phase
from broadcast.owner import Finish
from cache.errors import StoreDown, StoreError
from tests.fakes.flights import pulse
from tests.fakes.turns import settle
from tests.unit.broadcast.relays import KEY, LEASE_S, RelayScene, joins
from tests.virtual_time import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_within_its_lease_what_is_made_here_may_be_joined() -> None:
    """Not a moment longer: then another may lead, and a newcomer must get that one's answer."""
    scene = RelayScene()
    leading = scene.leads()
    await asyncio.sleep(LEASE_S - 0.01)
    assert scene.relay.trust.in_(leading.broadcast) is True
    await asyncio.sleep(0.01)
    assert now() - leading.renewed_at == pytest.approx(LEASE_S)
    leading.renewed_at = now() - LEASE_S
    assert scene.relay.trust.in_(leading.broadcast) is False
    scene.link.fall()
    assert scene.relay.trust.in_(leading.broadcast) is True, "without Redis each trusts itself"


@virtual
async def test_what_redis_does_not_know_or_another_makes_has_no_lease_to_lose() -> None:
    """It is joined: there is nobody whom it could be void for."""
    scene = RelayScene()
    scene.flights.replies["join"] = [StoreDown("away")]
    unknown = scene.leads(registered=False)
    await asyncio.sleep(10 * LEASE_S)
    assert scene.relay.trust.in_(unknown.broadcast) is True
    assert scene.relay.trust.in_(scene.follows("other").broadcast) is True


@pytest.mark.parametrize(
    ("sealed", "leased", "trusted"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_while_its_end_is_told_only_an_answer_may_be_joined(
    sealed: bool, leased: bool, trusted: bool
) -> None:
    """It is complete, and within the lease nobody else can have one; what is being given up is waited for."""

    @virtual
    async def judged() -> None:
        scene = RelayScene()
        leading = scene.leads()
        if sealed:
            leading.finish = Finish("completed", b"{}")
            leading.broadcast.phase = Phase.SEALED
        else:
            leading.confirming = True
        await asyncio.sleep(0 if leased else LEASE_S + 1)
        assert scene.relay.trust.in_(leading.broadcast) is trusted

    judged()


async def settling(scene: RelayScene, broadcast: Any) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(scene.relay.trust.settle(broadcast))
    await settle()
    return task


@virtual
async def test_whose_lease_has_run_out_is_asked_about_and_nothing_else() -> None:
    """One flight, one call: a newcomer waits for it."""
    scene = RelayScene()
    leading = scene.leads()
    joins(leading.broadcast)
    scene.leads("another-0b")
    scene.follows("followed-0a")
    await asyncio.sleep(LEASE_S + 1)
    scene.flights.replies["beat"] = [[pulse(owner="me")]]
    task = await settling(scene, leading.broadcast)
    assert task.done()
    assert [flights for _, flights in scene.flights.named("beat")] == [[(KEY, "L5")]]
    assert scene.relay.trust.in_(leading.broadcast) is True
    scene.flights.replies["beat"] = [StoreDown("away")]
    failed = await settling(scene, leading.broadcast)
    assert isinstance(failed.exception(), StoreError)


@virtual
async def test_what_is_under_way_is_waited_for_without_a_call() -> None:
    """An end that is being told, until it is settled, however often there is a word before that."""
    scene = RelayScene()
    leading = scene.leads()
    leading.confirming = True
    task = await settling(scene, leading.broadcast)
    leading.tell()
    await settle()
    assert not task.done()
    leading.confirming = False
    leading.tell()
    await settle()
    assert task.done()
    assert scene.flights.calls == []
    nobody = await settling(scene, scene.broadcast("nobody's"))
    assert nobody.done()


@virtual
async def test_nobody_waits_for_a_redis_that_has_gone() -> None:
    """Its line is down: each process decides alone."""
    scene = RelayScene()
    leading = scene.leads()
    leading.confirming = True
    task = await settling(scene, leading.broadcast)
    scene.link.fall()
    await settle()
    assert task.done()
