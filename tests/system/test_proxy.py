"""deploy/nginx.conf, run for real in front of two gateways."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.servers import free_port, until
from tests.system.client import Client
from tests.system.processes import GatewayProcess, fetch
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, held

pytestmark = pytest.mark.anyio

CONF = Path(__file__).parents[2] / "deploy/nginx.conf"


@contextmanager
def nginx(gateways: list[GatewayProcess]) -> Iterator[str]:
    """The configuration as it is, but for where it listens and where the gateways are."""
    port = free_port()
    ports = iter(gateway.url.rpartition(":")[2] for gateway in gateways)
    conf = re.sub(r"listen \d+;", f"listen 127.0.0.1:{port};", CONF.read_text())
    servers = re.findall(r"( *server gateway-\d:\d+ (.*)\n)", conf)
    for line, options in servers:
        there = next(ports, None)
        conf = conf.replace(line, f"server 127.0.0.1:{there} {options}\n" if there else "")
    with TemporaryDirectory(prefix="rf-") as folder:
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf = conf.replace("http {\n", f"http {{\naccess_log off;\n{paths}", 1)
        path = Path(folder) / "nginx.conf"
        path.write_text(f"daemon off;\nerror_log stderr;\npid {folder}/pid;\n{conf}")
        server = subprocess.Popen(["nginx", "-p", folder, "-c", str(path)], stderr=subprocess.DEVNULL)
        try:
            until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), "nginx serves")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def _answers(url: str) -> bool:
    try:
        return fetch(url) == b'{"status":"ok"}'
    except OSError:
        return False


async def test_events_pass_the_documented_proxy_one_by_one(simulate: Simulate, start: Start) -> None:
    """A proxy that buffers shows nothing until the answer is over: here the model is held in the middle."""
    simulator = simulate()
    question = prompt("Through the proxy?", tps=0, tokens=20, hold="half", hold_after=3)
    with nginx([start(simulator)]) as url:
        async with Client(url) as client, asyncio.timeout(20):
            accepted = (await client.submit(question)).json
            text = ""
            async with client.listening(accepted["stream_url"]) as (_, events, _):
                async for event in events:
                    text += event.json["text"] if event.name == "delta" else ""
                    if text == answer_to(question, 3):
                        await held(simulator, "half")
                        simulator.release("half")
            assert text == answer_to(question, 20)


async def test_a_gateway_that_is_gone_is_passed_over(simulate: Simulate, start: Start) -> None:
    """kill -9 of one of two: every request is answered by the other."""
    simulator = simulate(ttft=0, tps=0)
    gateways = [start(simulator), start(simulator)]
    with nginx(gateways) as url:
        gateways[0].kill()
        async with Client(url) as client:
            for number in range(6):
                assert (await client.complete(f"Who is left {number}?")).status == 200
