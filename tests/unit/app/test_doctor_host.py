"""What `refrain doctor` says of this machine: keys, open files, the gateway on PORT, the embedded Redis."""

from __future__ import annotations

import resource
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from app.doctor import embedded, host
from app.doctor.finding import Level
from app.doctor.reach import Unreached, reach
from app.listening import listen
from cache.embedded import ServerBinary
from config.settings import Settings
from tests.fakes.upstream import CLOSE, Script, ScriptedUpstream, reply
from tests.unit.app.test_doctor_redis import FAILED, OK, WARNING, told

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({}, OK, "none can go astray"),
        ({"openai_base_url": "http://h/v1"}, OK, "none can go astray"),
        ({"openai_api_key": "s3cret-key"}, OK, "api.openai.com"),
        (
            {"openai_api_key": "s3cret-key", "openai_base_url": "http://127.0.0.1:1/v1"},
            WARNING,
            "this machine",
        ),
        ({"openai_api_key": "s3cret-key", "openai_base_url": "http://h/v1"}, WARNING, "without TLS"),
        ({"openai_api_key": "s3cret-key", "openai_base_url": "https://h/v1"}, OK, "over TLS"),
    ],
)
def test_where_the_key_goes(settings: dict[str, str], level: Level, words: str) -> None:
    """A key that is left in the environment goes to whatever the base URL names."""
    finding = host.key(Settings.model_validate(settings))
    told(finding, level, words)
    assert "s3cret" not in finding.line


@pytest.mark.parametrize(
    ("limit", "level", "words"),
    [
        (20_000, OK, "20,000"),
        (resource.RLIM_INFINITY, OK, "no limit"),
        (2212, OK, "2,212"),
        (2211, WARNING, "ulimit -n 2212"),
        (212, WARNING, "each follower one more"),
        (211, FAILED, "the pools alone"),
    ],
)
def test_open_files_against_the_pools(limit: int, level: Level, words: str) -> None:
    """A connection that cannot be opened is a client that gets no answer at all."""
    told(host.files(Settings(), limit), level, words)


def test_every_advice_is_a_finding() -> None:
    """What `refrain check` warns about, and one line if it warns of nothing."""
    found = list(host.settings_findings(Settings(host="0.0.0.0")))
    advice = [finding for finding in found if finding.check == "settings.advice"]
    assert [finding.level for finding in advice] == [WARNING, WARNING]
    assert "whoever reaches it" in advice[0].says
    assert next(iter(host.settings_findings(Settings()))).level is OK


@pytest.mark.parametrize(
    ("status", "body", "level", "words"),
    [
        (200, b'{"status":"ok","components":{"redis":"ok"}}', OK, "ok"),
        (
            200,
            b'{"status":"degraded","components":{"redis":"unreachable","upstream":"ok"}}',
            WARNING,
            "redis is",
        ),
        (503, b'{"status":"draining"}', WARNING, "not ready: draining"),
        (200, b"<html>", FAILED, "not a gateway"),
        (404, b'{"status":"ok"}', FAILED, "not a gateway"),
    ],
)
def test_what_readiness_means(status: int, body: bytes, level: Level, words: str) -> None:
    """A gateway that runs has its own say; something else on the port keeps `serve` from starting."""
    told(host.ready("h:1", status, body), level, words)


async def test_a_free_port_is_fine() -> None:
    """Nothing listens: that is where a gateway starts."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        told(await host.gateway("0.0.0.0", unused.getsockname()[1]), OK, "can be started there")


async def test_a_gateway_is_asked_and_a_stranger_is_known() -> None:
    """Over a real socket: an answer, one that is no HTTP, and a connection that breaks."""
    good = reply("200 OK", b'{"status":"ok","components":{}}')
    cases: tuple[tuple[Script, Level, str], ...] = (
        ([good], OK, "A gateway is on"),
        ([b"SSH-2.0\r\n", CLOSE], FAILED, "not a gateway"),
        ([CLOSE], FAILED, "not a gateway"),
    )
    for script, level, words in cases:
        async with ScriptedUpstream([script]) as server:
            told(await host.gateway("127.0.0.1", server.port), level, words)


async def test_a_name_server_that_hangs_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo cannot be interrupted: neither this look nor the end of the program waits for it."""
    asked, over = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        asked.set()
        over.wait(30)
        raise socket.gaierror(-3, "late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(Unreached, match="was not looked up within"):
        await reach("hangs.example", 1, seconds=0.05)
    assert asked.is_set()
    over.set()


async def test_the_steps_of_reaching_are_told_apart() -> None:
    """Name, connection, TLS: each is mended by somebody else."""
    with pytest.raises(Unreached, match="not known here"):
        await reach("no-such-host.invalid", 1)
    told(await host.gateway("no-such-host.invalid", 1), FAILED, "another --host")
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreached, match="nothing listens"):
            await reach("127.0.0.1", unused.getsockname()[1])
    async with ScriptedUpstream([[]], greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as plain:
        await reach("127.0.0.1", plain.port)
        with pytest.raises(Unreached, match="TLS handshake"):
            await reach("127.0.0.1", plain.port, tls=True)


def test_the_server_to_embed() -> None:
    """None is a gateway without a cache."""
    told(embedded.binary(ServerBinary(Path("/x/redis-server"), (7, 0, 15))), OK, "7.0.15")
    told(embedded.binary(None), FAILED, "set REDIS_URL")


def test_the_folder_of_its_socket(tmp_path: Path) -> None:
    """Too long a path, a file in its place: a socket cannot be there. What is tried leaves nothing behind."""
    root = tmp_path / "r"
    root.mkdir()
    told(embedded.folder(root), OK, str(root))
    assert [path.name for base in root.iterdir() for path in base.iterdir()] == [".lock"]
    (tmp_path / "file").write_text("")
    told(embedded.folder(tmp_path / "file"), FAILED, "XDG_RUNTIME_DIR")
    told(embedded.folder(tmp_path / ("x" * 100)), FAILED, "too long")


async def test_no_instance_is_fine(tmp_path: Path) -> None:
    """The doctor may come before the first start."""
    told(await embedded.instance(tmp_path, 8484), OK, "No instance on port 8484")


async def test_a_port_that_is_taken_by_a_silent_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that hangs still holds its port."""
    monkeypatch.setattr(host, "LOOK_S", 0.05)
    with closing(listen("127.0.0.1", 0)) as silent:
        told(await host.gateway("127.0.0.1", silent.getsockname()[1]), FAILED, "did not answer")


def test_tools_and_workflows_are_looked_at(tmp_path: Path) -> None:
    """A gateway does not start with wrong ones, so a doctor that is content would be wrong itself."""
    assert list(host.library(Settings())) == []
    (tmp_path / "one.yaml").write_text("name: one\nsteps: [{name: a, prompt: x}]")
    [good] = host.library(Settings(workflows=tmp_path, workflow_model="m"))
    assert (good.level, good.says) == (OK, "Tools: 0, workflows: 1.")
    [bad] = host.library(Settings(workflows=tmp_path))
    assert bad.level == FAILED
    assert "one.yaml:2: step 'a' has no model" in bad.says
