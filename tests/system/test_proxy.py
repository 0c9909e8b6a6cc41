"""deploy/nginx.conf, run for real in front of two gateways."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fakes.eventually import eventually
from tests.servers import free_port, until
from tests.system.client import Client
from tests.system.processes import GatewayProcess, fetch
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, held

pytestmark = pytest.mark.anyio

CONF = Path(__file__).parents[2] / "deploy/nginx.conf"


@dataclass
class Proxy:
    url: str
    folder: Path

    @property
    def logged(self) -> str:
        """All that it has written to its logs, of every level."""
        return (self.folder / "access.log").read_text() + (self.folder / "error.log").read_text()


@contextmanager
def nginx(gateways: list[GatewayProcess]) -> Iterator[Proxy]:
    """The configuration as it is, but for where it listens, where the gateways are, and its folder."""
    port = free_port()
    ports = iter(gateway.url.rpartition(":")[2] for gateway in gateways)
    conf = re.sub(r"listen \d+;", f"listen 127.0.0.1:{port};", CONF.read_text())
    servers = re.findall(r"( *server gateway-\d:\d+ (.*)\n)", conf)
    for line, options in servers:
        there = next(ports, None)
        conf = conf.replace(line, f"server 127.0.0.1:{there} {options}\n" if there else "")
    with TemporaryDirectory(prefix="rf-") as folder:
        conf = conf.replace("/var/log/nginx", folder)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf = conf.replace("http {\n", f"http {{\n{paths}", 1)
        path = Path(folder) / "nginx.conf"
        path.write_text(f"daemon off;\npid {folder}/pid;\n{conf}")
        # Until the configuration is read it logs to the place it was built with.
        command = ["nginx", "-p", folder, "-c", str(path), "-e", f"{folder}/error.log"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), "nginx serves")
            yield Proxy(f"http://127.0.0.1:{port}", Path(folder))
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
    with nginx([start(simulator)]) as proxy:
        async with Client(proxy.url) as client, asyncio.timeout(20):
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
    with nginx(gateways) as proxy:
        gateways[0].kill()
        async with Client(proxy.url) as client:
            for number in range(6):
                assert (await client.complete(f"Who is left {number}?")).status == 200


async def test_a_gateway_that_drains_refuses_nobody_behind_the_proxy(
    simulate: Simulate, start: Start
) -> None:
    """What it refuses is asked elsewhere while its own stream goes on: an update turns nobody away."""
    simulator = simulate(ttft=0, tps=0)
    question = prompt("Still here?", tps=0, tokens=20, hold="drain", hold_after=3)
    draining, other = start(simulator), start(simulator)
    async with Client(draining.url) as client, asyncio.timeout(20):
        async with asyncio.TaskGroup() as reading:
            stream = reading.create_task(client.ask(question))
            await held(simulator, "drain")
            draining.signal(signal.SIGTERM)
            await eventually(lambda: draining.output.count("draining") > 0)
            with nginx([draining, other]) as proxy:
                async with Client(proxy.url) as caller:
                    for number in range(6):
                        assert (await caller.complete(f"Who takes {number}?")).status == 200
                assert "503, 200" in proxy.logged, "the draining one was never asked"
            simulator.release("drain")
        assert stream.result().text == answer_to(question, 20)


async def test_what_is_cached_is_served_while_the_model_is_away(simulate: Simulate, start: Start) -> None:
    """Each gateway then says 503 to what is new; a proxy that struck them off for it serves nobody."""
    simulator = simulate(ttft=0, tps=0)
    gateways = [start(simulator), start(simulator)]
    with nginx(gateways) as proxy:
        async with Client(proxy.url) as client:
            for gateway in gateways:
                async with Client(gateway.url) as direct:
                    assert (await direct.complete("Known?")).status == 200
            simulator.kill()
            for number in range(3):
                unknown = await client.complete(f"Unknown {number}?")
                assert (unknown.status, unknown.error["code"]) == (503, "upstream_unreachable")
                known = await client.complete("Known?")
                assert known.headers["cache-status"].startswith("refrain; hit")


async def test_the_proxy_logs_no_ticket(simulate: Simulate, start: Start) -> None:
    """A ticket opens a stream to whoever has it; nginx's own formats log it with every request."""
    gateway = start(simulate(ttft=0, tps=0), API_KEYS="one:key-of-tenant-one")
    with nginx([gateway]) as proxy:
        async with Client(proxy.url, "key-of-tenant-one") as client:
            url = (await client.submit("Secret?")).json["stream_url"]
        async with Client(proxy.url) as reader:
            assert (await reader.stream(url)).end.name == "done"
            gateway.kill()
            assert (await reader.call("GET", url)).status == 502
        path, _, ticket = url.partition("?")
        assert proxy.logged.count(f"GET {path}") == 2
        assert ticket not in proxy.logged
        assert ticket.partition("=")[2] not in proxy.logged
