"""The pulse: one timer that looks at every member, however many come and go meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from app.pulse import BEAT_S, Pulse
from runtime.supervisor import Supervisor
from tests.virtual_time import virtual


@dataclass(eq=False)
class Member:
    beats: list[float] = field(default_factory=list)

    def beat(self, now: float) -> None:
        self.beats.append(now)


@virtual
async def test_every_member_is_looked_at_four_times_a_second() -> None:
    """With the loop's own time, which is what sends and silences are measured by."""
    pulse, members, supervisor = Pulse(), [Member(), Member()], Supervisor()
    for member in members:
        pulse.add(member)
    started = asyncio.get_running_loop().time()
    supervisor.own("pulse", pulse.run())
    await asyncio.sleep(1.0 + BEAT_S / 2)
    assert [member.beats for member in members] == [[started + BEAT_S * n for n in (1, 2, 3, 4)]] * 2
    pulse.discard(members[0])
    pulse.discard(members[0])
    await asyncio.sleep(BEAT_S)
    assert [len(member.beats) for member in members] == [4, 5]
    assert len(pulse) == 1
    await supervisor.close()


@virtual
async def test_members_may_leave_and_come_during_a_beat() -> None:
    """A cut connection takes itself out while the others are being looked at."""
    pulse, supervisor = Pulse(), Supervisor()

    class Leaving(Member):
        def beat(self, now: float) -> None:
            super().beat(now)
            pulse.discard(self)

    class Inviting(Leaving):
        def beat(self, now: float) -> None:
            super().beat(now)
            pulse.add(Member())
            pulse.add(Member())

    members = [*(Leaving() for _ in range(5)), Inviting()]
    for member in members:
        pulse.add(member)
    supervisor.own("pulse", pulse.run())
    await asyncio.sleep(BEAT_S * 2.5)
    assert supervisor.healthy
    assert [len(member.beats) for member in members] == [1] * 6
    assert len(pulse) == 2
    await supervisor.close()
