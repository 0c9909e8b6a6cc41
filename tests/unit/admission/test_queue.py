"""A waiting room: sorted, and exact about who is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from admission.queue import WaitingRoom


class Guest:
    def __init__(self, order: float, number: int) -> None:
        self.rank = (order, number)


def room_of(*orders: float) -> tuple[WaitingRoom[Guest], list[Guest]]:
    room: WaitingRoom[Guest] = WaitingRoom()
    guests = [Guest(order, number) for number, order in enumerate(orders)]
    for guest in guests:
        room.add(guest)
    return room, guests


@given(st.lists(st.integers(0, 5)))
def test_guests_leave_by_order_and_equals_by_arrival(orders: list[int]) -> None:
    """First by turn, then first come first served."""
    room, guests = room_of(*orders)
    left = [room.pop() for _ in guests]
    assert left == sorted(guests, key=lambda guest: guest.rank)
    assert len(room) == 0


@given(st.lists(st.integers(0, 3), min_size=1), st.data())
def test_exactly_the_one_who_gives_up_leaves(orders: list[int], data: st.DataObject) -> None:
    """Also among many with the same turn, and only once."""
    room, guests = room_of(*orders)
    leaver = data.draw(st.sampled_from(guests))

    assert room.discard(leaver)
    assert not room.discard(leaver)

    assert set(room) == set(guests) - {leaver}


def test_a_moved_guest_has_its_new_place_and_the_others_keep_theirs() -> None:
    """Its running number stays: among equals it is as old as it was."""
    room, (a, b, c) = room_of(1, 2, 3)
    room.move(c, (1, c.rank[1]))
    assert [room.ahead_of(guest) for guest in (a, c, b)] == [0, 1, 2]

    room.move(c, (0, c.rank[1]))
    assert list(room) == [c, a, b]


def test_one_who_does_not_wait_is_not_moved() -> None:
    """A reorder that comes after the grant has nothing to do, and nobody enters by it."""
    room, (a, b) = room_of(1, 2)
    room.discard(b)
    room.move(b, (0, 0))
    assert list(room) == [a]
    assert b.rank == (2, 1)
