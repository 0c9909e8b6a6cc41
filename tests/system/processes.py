"""Real processes under test: the gateway and the simulated model, each with an environment of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
#: `TEST_WORKERS=3`: each gateway that says nothing of workers itself gets `--workers 3`.
WORKERS = os.environ.get("TEST_WORKERS", "")
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def workers() -> int:
    """How many processes answer for a gateway that says nothing of workers itself."""
    return int(WORKERS or 1)


def fetch(url: str, *, timeout: float = 10.0, headers: dict[str, str] | None = None) -> bytes:
    """GET, synchronously; HTTPError for a status that is not 2xx."""
    request = urllib.request.Request(url, headers=headers or {})
    with _NO_PROXY.open(request, timeout=timeout) as reply:
        body: bytes = reply.read()
        return body


class Process:
    """One `refrain` command; `url` is the address it printed, `output` all that it has printed so far."""

    def __init__(self, *arguments: str, **env: object) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/nonexistent"),
            "PYTHONPATH": str(ROOT),
            **{name: str(value) for name, value in env.items()},
        }
        self.lines: list[str] = []
        self._found = threading.Event()
        self.url = ""
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        self._pump = threading.Thread(target=self._read, daemon=True)
        self._pump.start()
        if not self._found.wait(START_S) or not self.url:
            self.kill()
            raise AssertionError(f"it did not start:\n{self.output}")

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The structured lines."""
        return [json.loads(line) for line in list(self.lines) if line.startswith('{"')]

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        status = self.popen.wait(timeout)
        self._pump.join(5.0)
        return status

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, then wait; the exit status."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)
        self._pump.join(5.0)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip("\n"))
                found = re.search(r" is at (http://[^\s/]+)", line)
                if found and not self.url:
                    self.url = found.group(1)
                    self._found.set()
        self._found.set()


class SimulatorProcess(Process):
    """`refrain sim`: flags by name, for instance `SimulatorProcess(tps=0, max_streams=2)`."""

    def __init__(self, **flags: object) -> None:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        super().__init__("sim", "--port", "0", *arguments)

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(fetch(self.url + "/stats"))
        return stats

    def config(self, **values: object) -> None:
        fetch(self.url + "/config?" + "&".join(f"{name}={value}" for name, value in values.items()))

    def release(self, name: str) -> None:
        request = urllib.request.Request(f"{self.url}/release?name={name}", method="POST", data=b"")
        _NO_PROXY.open(request, timeout=10).close()

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}/reset", method="POST", data=b"")
        _NO_PROXY.open(request, timeout=10).close()


class GatewayProcess(Process):
    """`refrain serve` with these settings, its own without REFRAIN_: `GatewayProcess(url, QUEUE_SIZE=4)`.

    `workers` is the flag; without it and without `WEB_CONCURRENCY` the suite's own number holds.
    """

    _PLAIN = (
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "REDIS_URL",
        "PORT",
        "WEB_CONCURRENCY",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
    )

    def __init__(
        self, upstream: str | None = None, *, workers: int | None = None, **settings: object
    ) -> None:
        env = {name if name in self._PLAIN else f"REFRAIN_{name}": value for name, value in settings.items()}
        if upstream is not None:
            env["OPENAI_BASE_URL"] = upstream
        number = workers or ("" if "WEB_CONCURRENCY" in settings else WORKERS)
        super().__init__("serve", "--port", "0", *(["--workers", str(number)] if number else []), **env)

    def get(self, path: str) -> Any:
        return json.loads(fetch(self.url + path))

    def metrics(self) -> dict[str, float]:
        """Series, as `name{label="value"}`, to their values."""
        text = fetch(self.url + "/metrics").decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def stage(self, name: str) -> dict[str, Any]:
        stages: list[dict[str, Any]] = self.get("/pipeline")["stages"]
        return next(stage for stage in stages if stage["name"] == name)

    def at_rest(self) -> bool:
        """I3 and I4, as far as they are visible from outside."""
        seen = self.get("/pipeline")
        idle = all(stage["in_use"] == 0 and stage["waiting"] == 0 for stage in seen["stages"])
        totals = seen["totals"]
        return (
            idle
            and not totals["broadcasts"]
            and not totals["subscribers"]
            and not totals["upstream_in_flight"]
        )
