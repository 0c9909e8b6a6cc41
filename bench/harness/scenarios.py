"""What is measured: each scenario says how the upstream behaves, what the load is and who takes part."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from bench.harness.load import Sample, Target, load


@dataclass(frozen=True, slots=True)
class Scenario:
    """`warm`: mode and options of a first run whose numbers are thrown away; it fills caches, if `keys`
    says that the same questions come back, and otherwise only opens connections.
    """

    name: str
    what: str
    who: tuple[str, ...]
    mode: str
    options: dict[str, str]
    upstream: dict[str, str] = field(default_factory=dict)
    warm: tuple[str, dict[str, str]] | None = None

    async def run(self, target: Target) -> Sample:
        salt = f"{self.name.replace(' ', '')}-{time.time_ns():x}"
        if self.warm is not None:
            mode, options = self.warm
            await load(target, mode, {"salt": salt if "keys" in self.options else f"{salt}-warm"} | options)
        return await load(target, self.mode, {"salt": salt} | self.options)


_PACED: Final = {"tps": "50"}
_SHARED: Final = {"tps": "50", "ttft": "300ms"}
_HITS: Final = {"keys": "zipf", "keyspace": "100", "d": "3s"}
_FILL: Final = {"keys": "seq", "keyspace": "100", "n": "200", "c": "8", "d": "20s"}
_UNARY: Final = ("unary", {"c": "8", "n": "400", "d": "2s"})
_PLAIN: Final = {"c": "64", "d": "3s", "verify": "false"}

REFRAIN, L2 = "refrain", "refrain, no L1"
AIOHTTP, COALESCE = "py_aiohttp", "py_coalesce"
NGINX, NGINX_CACHE = "nginx", "nginx proxy_cache"
RELAYS = (REFRAIN, AIOHTTP, NGINX, "direct")


def _hits(name: str, what: str, mode: str, connections: str, who: tuple[str, ...]) -> Scenario:
    return Scenario(name, what, who, mode, _HITS | {"c": connections}, warm=(mode, _FILL))


SCENARIOS: Final = (
    Scenario("hello", "a fixed answer from raw ASGI, 64 connections", ("uvicorn",), "unary", _PLAIN),
    Scenario("FastAPI", "a chat body in, a model out, no upstream", ("fastapi",), "unary", _PLAIN),
    Scenario(
        "S1 c=1",
        "whole answers, unique prompts, 1 connection",
        RELAYS,
        "unary",
        {"c": "1", "d": "3s"},
        warm=_UNARY,
    ),
    Scenario("S1 c=32", "the same, 32 connections", RELAYS, "unary", {"c": "32", "d": "3s"}, warm=_UNARY),
    Scenario(
        "S2 low",
        "10 new streams a second, 100 tokens at 50/s",
        RELAYS,
        "stream",
        {"c": "48", "rate": "10", "n": "40", "d": "8s"},
        _PACED,
    ),
    Scenario(
        "S2 c=64",
        "64 streams of 100 tokens at 50/s",
        RELAYS,
        "stream",
        {"c": "64", "n": "128", "d": "20s"},
        _PACED,
    ),
    Scenario(
        "S2 c=512",
        "512 at once",
        RELAYS,
        "stream",
        {"c": "512", "n": "512", "d": "20s", "grace": "60s"},
        _PACED,
    ),
    Scenario("S2 burst", "unpaced streams, 32 connections", RELAYS[:3], "stream", {"c": "32", "d": "3s"}),
    _hits(
        "S3 c=32",
        "cached answers as JSON, 100 prompts by zipf 1.1",
        "unary",
        "32",
        (REFRAIN, COALESCE, NGINX_CACHE),
    ),
    _hits(
        "S3 c=64",
        "the same, 64 connections, with and without the in-process layer",
        "unary",
        "64",
        (REFRAIN, L2),
    ),
    _hits("S3s c=32", "cached answers as SSE", "stream", "32", (REFRAIN, L2, COALESCE, NGINX_CACHE)),
    Scenario(
        "S4 n=500",
        "500 identical streams at once, first token after 300 ms",
        (REFRAIN, COALESCE, NGINX),
        "dup",
        {"c": "500", "d": "30s", "grace": "60s"},
        _SHARED,
    ),
    Scenario(
        "S4 late",
        "500 identical streams that arrive over 1.5 s",
        (REFRAIN, COALESCE),
        "dup",
        {"c": "500", "rate": "333", "keys": "same", "d": "30s", "grace": "60s", "stamp": "true"},
        _SHARED | {"stamp": "1"},
    ),
)
