"""Running work that is shared: begun once, ended when nobody wants it, never remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from admission import Stage
from processing.twins import Company, Twins
from runtime.errors import Draining
from runtime.supervisor import Supervisor
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.invariants import assert_free
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.virtual_time import virtual


class Shop:
    """Work that takes a second and counts itself."""

    def __init__(self, spawn: Callable[..., asyncio.Task[None]] | None = None) -> None:
        self.supervisor = Supervisor()
        self.twins: Twins[int] = Twins(spawn or self.supervisor.spawn, "work")
        self.begun = self.cleaned = 0
        self.error: Exception | None = None

    async def work(self, company: Company) -> int:
        self.begun += 1
        number = self.begun
        try:
            await asyncio.sleep(1)
            if self.error is not None:
                raise self.error
            return number
        finally:
            self.cleaned += 1

    async def ask(
        self,
        key: str = "k",
        turn: FakeTurn | None = None,
        work: Callable[[Company], Awaitable[int]] | None = None,
    ) -> int:
        return await self.twins.join(key, turn or FakeTurn(), work or self.work).result()

    def assert_empty(self) -> None:
        assert (len(self.twins), len(self.supervisor)) == (0, 0)
        assert self.begun == self.cleaned


@virtual
async def test_who_asks_for_the_same_at_the_same_time_shares_one_run() -> None:
    """The point of it: three questions, one piece of work."""
    shop = Shop()
    async with asyncio.TaskGroup() as group:
        same = [group.create_task(shop.ask()) for _ in range(3)]
        other = group.create_task(shop.ask("other"))
    assert [task.result() for task in same] == [1, 1, 1]
    assert other.result() == 2
    assert shop.twins.joins == 2
    shop.assert_empty()


@virtual
async def test_nothing_is_remembered() -> None:
    """Not a cache: whoever asks after the end begins anew."""
    shop = Shop()
    assert [await shop.ask(), await shop.ask()] == [1, 2]
    assert shop.twins.joins == 0


@virtual
async def test_a_failure_is_shared() -> None:
    """Else each of those who wait would try it again, all at the same time."""
    shop = Shop()
    shop.error = ValueError("broken")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(failing(shop.ask())) for _ in range(3)]
    assert [task.result() for task in tasks] == [shop.error] * 3
    assert shop.begun == 1
    shop.assert_empty()


async def failing(ask: Awaitable[int]) -> Exception:
    with pytest.raises(ValueError, match="broken") as raised:
        await ask
    return raised.value


@virtual
async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    """Not even the one that began it."""
    shop = Shop()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(shop.ask())
        second = group.create_task(shop.ask())
        await settle()
        first.cancel()
    assert first.cancelled()
    assert second.result() == 1
    shop.assert_empty()


@virtual
async def test_the_last_one_who_leaves_ends_it_and_waits_for_its_cleanup() -> None:
    """Nothing runs for nobody, and what it held is back before its last member is gone."""
    shop = Shop()
    gone_at: list[float] = []
    clock = asyncio.get_running_loop().time

    async def slow_to_end(company: Company) -> int:
        try:
            return await shop.work(company)
        finally:
            await asyncio.sleep(0.2)

    async def member() -> None:
        try:
            await shop.ask(work=slow_to_end)
        finally:
            gone_at.append(clock() - began)

    began = clock()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(member()) for _ in range(2)]
        await settle()
        for task in tasks:
            task.cancel()
    assert gone_at == [0, pytest.approx(0.2)]
    assert shop.cleaned == 1
    shop.assert_empty()


@virtual
async def test_a_newcomer_does_not_join_what_is_being_cancelled() -> None:
    """It would be handed a cancellation that nobody meant for it."""
    shop = Shop()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(shop.ask())
        await settle()
        first.cancel()
        await asyncio.sleep(0)
        second = group.create_task(shop.ask())
    assert second.result() == 2
    shop.assert_empty()


@virtual
async def test_work_that_is_ended_by_the_process_says_so() -> None:
    """A member must not take the end of the process for a cancel of its own."""
    shop = Shop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(draining(shop))
        await settle()
        await shop.supervisor.close()
    assert task.result()
    shop.assert_empty()


async def draining(shop: Shop) -> bool:
    with pytest.raises(Draining):
        await shop.ask()
    return True


@virtual
async def test_the_work_has_the_best_turn_of_its_members() -> None:
    """No inversion: what an urgent request waits for does not wait behind others as if it were not urgent."""
    shop = Shop()
    stage = Stage("s", 1)
    holder = stage.admit(FakeTurn(0))
    order: list[str] = []

    def waits(name: str) -> Callable[[Company], Awaitable[int]]:
        async def work(company: Company) -> int:
            company.admission = admission = stage.admit(company)
            async with admission:
                order.append(name)
            return 0

        return work

    late = FakeTurn(30)
    async with asyncio.TaskGroup() as group:
        for name, turn in (("a", FakeTurn(10)), ("b", FakeTurn(20)), ("c", late)):
            group.create_task(shop.ask(name, turn, waits(name)))
        await settle()
        group.create_task(shop.ask("b", FakeTurn(5), waits("b")))
        await settle()
        late.order = 7
        shop.twins._running["c"].company.reorder()
        holder.withdraw()
    assert order == ["b", "c", "a"]
    assert_free(stage)


@virtual
async def test_a_good_turn_leaves_with_its_member() -> None:
    """Else asking urgently and giving up at once would buy a better place for whoever stays."""
    company, stage = Company(), Stage("s", 1)
    holder, other = stage.admit(FakeTurn(0)), stage.admit(FakeTurn(20))
    urgent = FakeTurn(1)
    company.enter(FakeTurn(30))
    company.admission = admission = stage.admit(company)
    company.enter(urgent)
    assert (admission.position, other.position) == (1, 2)
    company.leave(urgent)
    assert (admission.position, other.position) == (2, 1)
    for each in (admission, other, holder):
        each.withdraw()


@virtual
async def test_a_place_in_a_company_looks_like_a_place_in_a_queue() -> None:
    """A flight shows and moves whatever stands in its admission, and must not take this for a permit."""
    company = Company()
    turn = FakeTurn(3)
    assert (company.order, company.position, company.permit) == (float("inf"), 0, None)
    company.enter(turn)
    stage = Stage("s", 1)
    with_permit = stage.admit(FakeTurn(0))
    company.admission = admission = stage.admit(company)
    assert (company.order, company.position, company.told(company.position)) == (3, 1, 1)
    company.withdraw()
    assert stage.stats().waiting == 1
    company.leave(turn)
    company.reorder()
    admission.withdraw()
    with_permit.withdraw()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
@pytest.mark.parametrize("company", [False, True])
def test_a_cancel_leaves_nothing_behind(company: bool, moment: Moment, again: bool) -> None:
    """Row 76: alone and among others, while it runs and in the turn of its end."""

    @virtual
    async def cancelled_everywhere() -> None:
        shop = Shop()
        shop.error = ValueError()

        async def ask() -> None:
            try:
                await shop.ask()
            except ValueError:
                return

        async def check(n: int) -> None:
            await asyncio.sleep(5)
            shop.assert_empty()

        async def with_company() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask())
                await ask()

        make = with_company if company else ask
        assert await cancel_at_every_await(make, check, moment=moment, again=again) >= 1

    cancelled_everywhere()


@virtual
async def test_a_member_has_waited_only_since_it_came() -> None:
    """The clock of a try stands still while its call waits for a permit, whoever had asked for it first."""
    loop = asyncio.get_running_loop()
    stage = Stage("llm_calls", 1)
    holder = stage.admit(FakeTurn(-1))
    twins: Twins[str] = Twins(Supervisor().spawn, "test")

    async def work(company: Company) -> str:
        company.admission = admission = stage.admit(company)
        async with admission:
            await asyncio.sleep(5)
        return "done"

    async def member(after_s: float) -> tuple[float, float]:
        await asyncio.sleep(after_s)
        since = loop.time()
        place = twins.join("key", FakeTurn(0), work)
        company = place.company
        loop.call_later(1, lambda: waited.append(company.queued_s(since, loop.time())))
        await place.result()
        return after_s, company.queued_s(since, loop.time())

    waited: list[float] = []
    loop.call_later(10, holder.withdraw)
    async with asyncio.TaskGroup() as group:
        members = [group.create_task(member(after_s)) for after_s in (0, 4, 12)]
    assert [task.result() for task in members] == [(0, 10), (4, 6), (12, 0)]
    assert waited == [1, 1, 0]
    assert_free(stage)
