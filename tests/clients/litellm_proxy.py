"""LiteLLM's proxy as a process of its own environment, made by scripts/clients-setup."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import yaml

from tests.clients.scripts import environment
from tests.system.processes import ROOT, fetch

START_S = 300.0
POLL_S = 0.1
#: It refuses to start without one, and with a short one.
KEY = "sk-" + secrets.token_hex(32)

SWITCHES = {
    "litellm_settings": {"telemetry": False, "num_retries": 0},
    # One gateway is one deployment: a refusal of one request must not close it to all others.
    "router_settings": {"disable_cooldowns": True},
}


def program() -> Path:
    """`CLIENTS_LITELLM=…` names another environment than the one of scripts/clients-setup."""
    return Path(os.environ.get("CLIENTS_LITELLM", ROOT / ".venv-litellm")) / "bin/litellm"


def deployment(name: str, url: str) -> dict[str, Any]:
    """A model of this name that is asked at this base URL."""
    params = {"model": "openai/refrain-sim", "api_base": url, "api_key": "any"}
    return {"model_name": name, "litellm_params": params}


@contextmanager
def litellm(folder: Path, port: int, models: dict[str, str]) -> Iterator[str]:
    """A proxy that serves each of these model names from the base URL beside it; yields its own base URL."""
    config = folder / "litellm.yaml"
    listed = [deployment(name, url) for name, url in models.items()]
    config.write_text(
        yaml.safe_dump({"model_list": listed, "general_settings": {"master_key": KEY}, **SWITCHES})
    )
    command = [str(program()), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd=folder)
    try:
        _until_ready(process, port, folder / "litellm.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait(10)


def _until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            fetch(f"http://127.0.0.1:{port}/health/liveliness", timeout=2)
        except (URLError, OSError):
            time.sleep(POLL_S)  # noqa: TID251 - no loop runs here
        else:
            return
    raise AssertionError(f"LiteLLM did not start:\n{log.read_text()[-3000:]}")
