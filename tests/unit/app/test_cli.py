"""The command line: every command's words, its output, and its exit status."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest

from app.cli import main
from app.listening import listen
from app.version import VERSION
from upstream.simulator import Behaviour


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of this machine's settings; folders of our own."""
    for name in list(os.environ):
        if name.startswith("REFRAIN_") or name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "REDIS_URL", "PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """`serve` takes the process's logging over, and this process has other tests to run."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    others = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")]
    states = [(list(logger.handlers), logger.propagate, logger.level) for logger in others]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, (its_handlers, propagate, its_level) in zip(others, states, strict=True):
        logger.handlers[:] = its_handlers
        logger.propagate = propagate
        logger.setLevel(its_level)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with closing(listen("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`refrain --version`."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"refrain {VERSION}\n"


@pytest.mark.parametrize(
    "argv", [[], ["sing"], ["serve", "--prot", "1"], ["cache"], ["cache", "warm"], ["check", "x"]]
)
def test_what_is_not_understood_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, on stderr, with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: refrain" in capsys.readouterr().err


def test_check_shows_every_setting_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 77: what is in force, where it comes from; secrets are not shown."""
    monkeypatch.setenv("REFRAIN_QUEUE_SIZE", "7")
    monkeypatch.setenv("REFRAIN_ADMIN_KEY", "an-admin-secret")
    assert main(["check", "--port", "9001"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["REFRAIN_QUEUE_SIZE"].split()[1:3] == ["7", "environment"]
    assert lines["PORT"].split()[1:4] == ["9001", "command", "line"]
    assert "default" in lines["REFRAIN_CACHE_WORKERS"]
    assert "secret" not in "".join(lines.values())


def test_check_warns_of_pools_that_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 102: only warns, and is still a success."""
    monkeypatch.setenv("REFRAIN_MAX_CONCURRENT_FOLLOWERS", "1")
    assert main(["check"]) == 0
    assert "Warning: " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFRAIN_QUEUE_SIZ", "7"),
        ("REFRAIN_QUEUE_SIZE", "-1"),
        ("REFRAIN_STREAM_IDLE_TIMEOUT_S", "600"),
        ("REFRAIN_API_KEYS", "s3cret"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(
    command: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 54 and 77: status 2, one sentence that names it, and no secret in it."""
    monkeypatch.setenv(name, value)
    assert main([command, "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert "s3cret" not in said
    assert "Traceback" not in said


def test_serve_says_what_it_cannot_listen_on(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, before anything else has been started."""
    assert main(["serve", "--port", str(taken)]) == 1
    assert f"Cannot listen on 127.0.0.1:{taken}" in capsys.readouterr().err


def test_sim_says_what_it_cannot_listen_on(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence and a status, no traceback."""
    assert main(["sim", "--port", str(taken)]) != 0
    assert "in use" in capsys.readouterr().err


def test_every_behaviour_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/simulator.md: each setting is a flag, with its default in the help."""
    with pytest.raises(SystemExit) as ended:
        main(["sim", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for spec in fields(Behaviour):
        assert f"--{spec.name.replace('_', '-')} N" in shown


def test_a_behaviour_out_of_range_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """And no socket is opened for it."""
    assert main(["sim", "--port", "0", "--fail-rate", "2"]) == 2
    assert "fail_rate" in capsys.readouterr().err


def test_purge_tells_when_redis_does_not_go_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1: nothing was purged, and nobody shall think so."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("REDIS_URL", f"redis://user:s3cret@127.0.0.1:{unused.getsockname()[1]}/0")
        assert main(["cache", "purge"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Redis did not go along" in said.err
    assert "s3cret" not in said.err


def test_purge_of_nothing_that_runs_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    """An instance on another port has its own cache: say that none was found."""
    assert main(["cache", "purge", "--tenant", "t"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "nothing was purged" in said.err
