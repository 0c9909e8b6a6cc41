"""The gateways that are compared: how each is started, and what has to be said to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.harness import servers
from bench.harness.servers import CHAT, LOAD_CORE, UPSTREAM, UPSTREAM_PORT, Server

HERE: Final = Path(__file__).resolve().parent
#: Streams that the model serves at once, where its queue is compared.
LIMIT: Final = 4
#: Requests that Refrain lets wait for them.
ROOM: Final = 16
#: LiteLLM takes a minute to start on a busy machine.
SLOW_START_S: Final = 180.0


class SlowServer(Server):
    """One that may take longer to start than those of the harness."""

    async def _ready(self, process: asyncio.subprocess.Process, log: Path) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SLOW_START_S
        while True:
            try:
                return await super()._ready(process, log)
            except servers.DidNotStart:
                if process.returncode is not None or loop.time() > until:
                    raise


@dataclass(frozen=True)
class Peer:
    """`limited` and `limited_model`: where it holds the limit on the model; none if it cannot."""

    name: str
    servers: tuple[Server, ...]
    url: str
    limited: str
    version: str
    headers: dict[str, str] = field(default_factory=dict)
    limited_model: str = "sim"


def peers(scratch: Path) -> list[Peer]:
    """All that are installed; `COMPARE_LITELLM` and `COMPARE_PORTKEY` name the folders of two of them."""
    found = [_refrain(scratch), *_nginx(scratch), _varnish(scratch), _litellm(scratch), _portkey()]
    return [peer for peer in found if peer is not None]


def _refrain(scratch: Path) -> Peer:
    limits = {"REFRAIN_MAX_CONCURRENT_LLM_STREAMS": str(LIMIT), "REFRAIN_MAX_PENDING": str(ROOM)}
    wide = servers.refrain("refrain", 8484, scratch)
    tight = servers.refrain("refrain-limited", 8485, scratch, limits)
    # Redis holds the limit for all gateways on it, so the tight one has a Redis of its own, an embedded one.
    tight.env.pop("REDIS_URL")
    return Peer("Refrain", (wide, tight), at(8484), at(8485), _said("git", "rev-parse", "--short", "HEAD"))


def _nginx(scratch: Path) -> list[Peer]:
    if (program := _program("nginx")) is None:
        return []
    folder = scratch / "nginx"
    folder.mkdir()
    folder.chmod(0o777)  # its worker runs as another user
    scratch.chmod(0o755)
    config = _written(folder, "nginx.conf", RUN=str(folder))
    command = [program, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    server = Server("nginx", command, 8101)
    version = _said(program, "-v").rpartition("/")[2]
    return [
        Peer("nginx, pass-through", (server,), at(8101), at(8111), version),
        Peer("nginx, cache with lock", (server,), at(8102), "", version),
    ]


def _varnish(scratch: Path) -> Peer | None:
    if (program := _program("varnishd")) is None:
        return None
    config = _written(scratch, "varnish.vcl", PORT=str(UPSTREAM_PORT))
    # A thread for each client: the default of 100 to start with would be measured instead of the proxy.
    command = [program, "-F", "-a", "127.0.0.1:8104", "-f", str(config), "-s", "malloc,256m"]
    command += ["-n", str(scratch / "varnish"), "-p", "thread_pools=1", "-p", "thread_pool_min=700"]
    limited = f"http://127.0.0.1:8104/limited{CHAT}"
    version = _said(program, "-V").partition("varnish-")[2].partition(" ")[0]
    return Peer("Varnish", (Server("varnish", command, 8104),), at(8104), limited, version)


def _litellm(scratch: Path) -> Peer | None:
    if (folder := os.environ.get("COMPARE_LITELLM")) is None:
        return None
    config = _written(scratch, "litellm.yaml")
    command = [f"{folder}/bin/litellm", "--config", str(config), "--host", "127.0.0.1", "--port", "4000"]
    command += ["--num_workers", "1", "--telemetry", "False"]
    env = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    version = _said(
        f"{folder}/bin/python", "-c", "import importlib.metadata as m; print(m.version('litellm'))"
    )
    server = SlowServer("litellm", command, 4000, env=env)
    return Peer("LiteLLM", (server,), at(4000), at(4000), version, limited_model="limited")


def _portkey() -> Peer | None:
    if (folder := os.environ.get("COMPARE_PORTKEY")) is None or (node := shutil.which("node")) is None:
        return None
    package = Path(folder) / "node_modules/@portkey-ai/gateway"
    command = [node, str(package / "build/start-server.js"), "--port=8787", "--headless"]
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    config = {"provider": "openai", "api_key": "any", "custom_host": f"{UPSTREAM}/v1"}
    version = json.loads((package / "package.json").read_text())["version"]
    headers = {"x-portkey-config": json.dumps(config)}
    server = SlowServer("portkey", command, 8787, env=env)
    return Peer("Portkey", (server,), at(8787), at(8787), version, headers)


def simulator() -> Server:
    """`refrain sim`, which sees every caller leave; the Go one of the harness sees only those that stream."""
    command = [sys.executable, "-m", "app.cli", "sim", "--port", str(UPSTREAM_PORT)]
    return Server("simulator", command, UPSTREAM_PORT, LOAD_CORE)


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}{CHAT}"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _written(folder: Path, name: str, **values: str) -> Path:
    """The configuration of this folder, with its @NAMES@ replaced."""
    text = (HERE / name).read_text()
    for word, value in {"UPSTREAM": UPSTREAM.removeprefix("http://"), "LIMIT": str(LIMIT), **values}.items():
        text = text.replace(f"@{word}@", value)
    path = folder / name
    path.write_text(text)
    return path


def _said(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return (run.stdout or run.stderr).strip().splitlines()[0]
