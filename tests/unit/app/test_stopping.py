"""What SIGTERM and Ctrl-C mean, at each time of the process's life."""

from __future__ import annotations

import asyncio
import signal

import pytest

from app.stopping import SIGNALS, Stop

pytestmark = pytest.mark.anyio


async def test_a_signal_means_what_it_means_now() -> None:
    """It is delivered in the loop, to whoever answers for it at that moment."""
    stop, heard = Stop(), []
    stop.means(lambda number: heard.append(("starting", number)))
    stop._handle(signal.SIGTERM, None)
    await asyncio.sleep(0)
    stop.means(lambda number: heard.append(("serving", number)))
    stop._handle(signal.SIGINT, None)
    await asyncio.sleep(0)
    stop.means(None)
    stop._handle(signal.SIGTERM, None)
    await asyncio.sleep(0)
    assert heard == [("starting", signal.SIGTERM), ("serving", signal.SIGINT)]
    assert stop.asked


def test_after_the_loop_a_signal_changes_nothing() -> None:
    """The clean-up of the process is not cut short by one signal more."""
    stop = Stop()

    async def live() -> None:
        stop.means(None)

    asyncio.run(live())
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop.install()
    try:
        for number in SIGNALS:
            signal.raise_signal(number)
        stop.ignore()
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stop.asked
