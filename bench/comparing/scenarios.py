"""The three questions: 500 identical streams, a client that leaves, a full queue."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from typing import Final

import aiohttp

from bench.comparing.asking import LOOK_EVERY_S, Caller, counts, model
from bench.comparing.peers import LIMIT, Peer
from bench.harness.load import Target, configure, load

CROWD: Final = 500
QUEUE: Final = 40
#: An answer of 100 tokens takes 2.3 s; in the queue, one of 50 tokens takes 1.3 s.
PACED: Final = {"ttft": 0.3, "tps": 50, "tokens": 100, "max_streams": 0}
LEAVES_AFTER_S: Final = 0.6
_UNTIL_S: Final = 10.0

Row = dict[str, str]


async def identical(peer: Peer) -> Row:
    """500 clients ask the same question in the same moment."""
    configure(ttft="300ms", tps="50")
    options = {"c": str(CROWD), "d": "30s", "grace": "90s"}
    target = Target(peer.name, peer.url)
    for name, value in peer.headers.items():
        options["H"] = f"{name}: {value}"
    sample = await load(target, "dup", options)
    numbers = sample.numbers
    row = {
        "calls of the model": f"{numbers.get('upstream.requests', 0):.0f}",
        "whole, right texts": f"{numbers.get('ok', 0):.0f}",
        "first text, p50": f"{numbers.get('ttft.p50_ms', 0) / 1000:.2f} s",
        "all over after": f"{numbers.get('wall_s', 0):.1f} s",
    }
    return row | ({"errors": str(sample.errors)} if sample.errors else {})


async def leaving(peer: Peer) -> Row:
    """What a caller's leaving means to the model, and to somebody who has asked the same."""
    return {
        "alone, streamed": await _leaves(peer, stream=True),
        "alone, not streamed": await _leaves(peer, stream=False),
        "one of two": await _one_of_two(peer),
        "both of two": await _both(peer),
    }


async def _leaves(peer: Peer, *, stream: bool) -> str:
    model(**PACED)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        caller = Caller(peer, _new("alone"), stream=stream)
        task = group.create_task(caller.ask(session))
        await asyncio.sleep(LEAVES_AFTER_S)
        task.cancel()
        return await _aftermath()


async def _aftermath() -> str:
    """Since now: when the model was let go, or that it was not."""
    left = time.monotonic()
    while True:
        seen, took = await asyncio.to_thread(counts), time.monotonic() - left
        if not seen["in_flight"] or took > _UNTIL_S:
            break
        await asyncio.sleep(LOOK_EVERY_S)
    if seen["in_flight"]:
        return f"still at work after {took:.0f} s"
    if not seen["completed"]:
        return f"stopped after {took * 1000:.0f} ms"
    return f"worked on for {took:.1f} s, to the end"


async def _one_of_two(peer: Peer) -> str:
    model(**PACED)
    question = _new("two")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        first, second = Caller(peer, question), Caller(peer, question)
        leaver = group.create_task(first.ask(session))
        await first.begun(LEAVES_AFTER_S)
        stayer = group.create_task(second.ask(session))
        await asyncio.sleep(LEAVES_AFTER_S)
        leaver.cancel()
        await stayer
    shown = "the other gets all of it" if second.whole else f"the other is cut ({second.status})"
    return f"{shown}; {_calls(counts()['calls'])}"


async def _both(peer: Peer) -> str:
    model(**PACED)
    question = _new("both")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(Caller(peer, question).ask(session)) for _ in range(2)]
        await asyncio.sleep(LEAVES_AFTER_S)
        for task in tasks:
            task.cancel()
        return await _aftermath()


async def queue(peer: Peer) -> Row:
    """40 different questions at once, to a model that refuses whatever is beyond its four streams."""
    if not peer.limited:
        return {}
    model(**PACED | {"tokens": 50, "max_streams": LIMIT})
    callers = [Caller(peer, _new(f"queue {number}"), limited=True) for number in range(QUEUE)]
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.ask(session))
    took, seen = time.monotonic() - began, counts()
    waits = [caller.first_s for caller in callers if caller.whole and caller.first_s is not None]
    return {
        "answered": str(len(waits)),
        "refused": _refusals(callers),
        "first text, median (longest)": f"{statistics.median(waits):.1f} s ({max(waits):.1f} s)"
        if waits
        else "",
        "calls of the model": f"{seen['calls']}, refused by it {seen['rate_limited']}",
        "all over after": f"{took:.1f} s",
    }


def _refusals(callers: list[Caller]) -> str:
    """By status, and how many of them said when to come back."""
    failed = [caller for caller in callers if not caller.whole]
    kinds = Counter(caller.status for caller in failed)
    told = sorted({int(caller.retry_after) for caller in failed if caller.retry_after})
    said = ", ".join(f"{number} x {status or 'cut'}" for status, number in sorted(kinds.items()))
    when = f"Retry-After {told[0]} to {told[-1]}" if told else "no Retry-After"
    return f"{said}; {when}" if failed else "none"


def _calls(number: int) -> str:
    return f"{number} call" if number == 1 else f"{number} calls"


def _new(question: str) -> str:
    """Nothing that any cache has seen."""
    return f"{question} {time.time_ns()}"
