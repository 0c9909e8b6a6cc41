"""Rows 54, 77 and 102, part 2 of the issue: `refrain check`, and starts that are refused with a sentence."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import ROOT, GatewayProcess, fetch
from tests.system.scene import Simulate, Start

START_S = 60.0


def refrain(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False
    )


# the setting, its value, and what the sentence has to say besides the name
REFUSED: list[tuple[str, str, str]] = [
    ("REFRAIN_MAX_CONCURENT_LEADERS", "5", "REFRAIN_MAX_CONCURRENT_LEADERS"),
    ("REFRAIN_OPENAI_API_KEY", "secret-value", "OPENAI_API_KEY"),
    ("REFRAIN_NO_SUCH_THING", "secret-value", "not a setting"),
    ("REFRAIN_MAX_CONCURRENT_LEADERS", "0", "whole number"),
    ("REFRAIN_MAX_CONCURRENT_LEADERS", "-1", "whole number"),
    ("REFRAIN_MAX_CONCURRENT_LEADERS", "many", "whole number"),
    ("REFRAIN_MAX_CONCURRENT_LEADERS", "1_000", "whole number"),
    ("REFRAIN_MAX_CONCURRENT_LLM_STREAMS", "1.5", "whole number"),
    ("REFRAIN_QUEUE_TIMEOUT_S", "0", "seconds"),
    ("REFRAIN_QUEUE_TIMEOUT_S", "nan", "seconds"),
    ("REFRAIN_STREAM_TIMEOUT_S", "inf", "seconds"),
    ("REFRAIN_ABANDON_GRACE_S", "-1", "seconds"),
    ("REFRAIN_ABANDON_POLICY", "forget", "cancel or finish"),
    ("REFRAIN_SHARE_SCOPE", "everybody", "tenant or global"),
    ("REFRAIN_KEY_NORMALIZATION", "Exact", "exact or loose"),
    ("REFRAIN_UPSTREAM_CUMULATIVE", "yes", "0 or 1"),
    ("REFRAIN_MAX_BODY_BYTES", "0", "bytes"),
    ("REFRAIN_MAX_BODY_BYTES", "20MBit", "bytes"),
    ("REFRAIN_API_KEYS", "secret-value-without-a-tenant", "tenant:key"),
    ("REFRAIN_API_KEYS", "acme:short", "8 or more"),
    ("REFRAIN_API_KEYS", "acme:secret-value,globex:secret-value", "twice"),
    ("REFRAIN_API_KEYS", ",", "no tenant:key"),
    ("REFRAIN_API_KEYS_FILE", "/nonexistent/keys", "cannot be read"),
    ("REFRAIN_ADMIN_KEY", "short", "8 characters"),
    ("REFRAIN_PREPARE_URL", "ftp://secret-value@host/", "http"),
    ("OPENAI_BASE_URL", "localhost:8000", "http"),
    ("OPENAI_API_KEY", "secret-value with a space", "ASCII"),
    ("REDIS_URL", "http://:secret-value@host", "redis://"),
    ("PORT", "65536", "65535"),
    ("REFRAIN_FIRST_TOKEN_TIMEOUT_S", "600", "REFRAIN_STREAM_TIMEOUT_S"),
    ("REFRAIN_STREAM_IDLE_TIMEOUT_S", "700", "REFRAIN_STREAM_TIMEOUT_S"),
    ("REFRAIN_SEND_TIMEOUT_S", "60", "REFRAIN_STREAM_IDLE_TIMEOUT_S"),
]
#: Judged against another setting, so each in a run of its own.
ALONE = {name for name, _, _ in REFUSED[-3:]} | {"REFRAIN_API_KEYS_FILE"}


def _rounds() -> Iterator[dict[str, tuple[str, str]]]:
    """REFUSED in few runs: each has any name once, since all that is wrong is told at once."""
    rest = REFUSED
    while rest:
        batch: dict[str, tuple[str, str]] = {}
        later = []
        for name, value, says in rest:
            if name in batch or (batch and (name in ALONE or ALONE & batch.keys())):
                later.append((name, value, says))
            else:
                batch[name] = (value, says)
        yield batch
        rest = later


def test_a_start_that_cannot_be_meant_is_refused_with_a_sentence() -> None:
    """Rows 54, 77, 102: it names the setting and what would do, tells no secret, shows no stack, exits 2."""
    for batch in _rounds():
        done = refrain("check", **{name: value for name, (value, _) in batch.items()})
        assert (done.returncode, done.stdout) == (2, ""), done
        sentences = {line.split()[0]: line for line in done.stderr.splitlines()}
        assert sentences.keys() == batch.keys()
        for name, (_, says) in batch.items():
            assert says in sentences[name]
            assert sentences[name].endswith((".", "?")), sentences[name]
        assert "secret-value" not in done.stderr


def test_serve_refuses_what_check_refuses_and_tells_all_at_once() -> None:
    """Three mistakes are three sentences, in one go; nothing was started for it."""
    done = refrain(
        "serve", "--port", "0", REFRAIN_NO_SUCH="1", REFRAIN_QUEUE_SIZE="-1", REFRAIN_DURABLE="maybe"
    )
    assert done.returncode == 2
    assert sorted(line.split()[0] for line in done.stderr.splitlines()) == [
        "REFRAIN_DURABLE",
        "REFRAIN_NO_SUCH",
        "REFRAIN_QUEUE_SIZE",
    ]
    assert "Traceback" not in done.stderr + done.stdout


def test_check_prints_effective_values_origins_and_scopes() -> None:
    """Whoever wonders which value counts gets one line for each setting; secrets are masked."""
    env = {
        "REFRAIN_MAX_CONCURRENT_LEADERS": "5",
        "REFRAIN_API_KEYS": "acme:canary-tenant",
        "REFRAIN_ADMIN_KEY": "canary-admin",
        "OPENAI_API_KEY": "canary-upstream",
        "REDIS_URL": "redis://user:canary-redis@host:6379/0",
        "REFRAIN_PREPARE_URL": "http://canary-user:pw@hook/?token=canary-hook",
        "WEB_CONCURRENCY": "",
    }
    done = refrain("check", "--port", "9000", **env)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: re.split(r"\s{2,}", line) for line in done.stdout.splitlines()}
    assert lines["REFRAIN_MAX_CONCURRENT_LEADERS"][1:4] == ["5", "environment", "process"]
    assert lines["REFRAIN_MAX_CONCURRENT_LLM_STREAMS"][1:4] == ["64", "default", "shared"]
    assert lines["REFRAIN_LOCAL_CACHE_BYTES"][1] == "64 MiB"
    assert lines["PORT"][1:3] == ["9000", "command line"]
    assert lines["WEB_CONCURRENCY"][2] == "default", "an empty value is none"
    assert lines["REFRAIN_API_KEYS"][1] == "acme:***"
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"REFRAIN_MAX_CONCURRENT_FOLLOWERS": "3"}, "REFRAIN_MAX_CONCURRENT_FOLLOWERS"),
        ({"REFRAIN_MAX_PENDING": "10"}, "REFRAIN_MAX_PENDING"),
        ({"REFRAIN_PREPARE_MODEL": "m", "REFRAIN_MAX_CONCURRENT_LLM_CALLS": "2"}, "REFRAIN_PREPARE_MODEL"),
        ({"REFRAIN_ABANDON_POLICY": "finish", "REFRAIN_CACHE_TTL_S": "0"}, "REFRAIN_ABANDON_POLICY"),
        ({"REFRAIN_EMBEDDED_REDIS_BYTES": "1MiB"}, "REFRAIN_EMBEDDED_REDIS_BYTES"),
    ],
)
def test_check_warns_of_pools_that_contradict_each_other(env: dict[str, str], named: str) -> None:
    """Row 102: it may be right for somebody, so it is a warning; the defaults deserve none."""
    done = refrain("check", **env)
    assert done.returncode == 0
    warnings = [line for line in done.stdout.splitlines() if line.startswith("Warning:")]
    assert warnings
    assert named in warnings[0]


def test_the_defaults_deserve_no_warning_and_the_open_door_does() -> None:
    """Beyond loopback without keys everybody is the tenant `public`: the operator has to be told."""
    assert "Warning" not in refrain("check").stdout
    warned = refrain("check", "--host", "0.0.0.0").stdout
    assert len(re.findall("^Warning: ", warned, re.MULTILINE)) == 2
    keys = {"REFRAIN_API_KEYS": "acme:tenant-key", "REFRAIN_ADMIN_KEY": "admin-key-1"}
    assert "Warning" not in refrain("check", "--host", "0.0.0.0", **keys).stdout


def test_a_key_file_is_read_and_not_shown(tmp_path: Path) -> None:
    """One pair per line, comments allowed: what a secret mount gives; both sources at once are refused."""
    path = tmp_path / "keys"
    path.write_text("# ours\nacme:canary-one\nglobex:canary-two\n", encoding="utf-8")
    done = refrain("check", REFRAIN_API_KEYS_FILE=str(path))
    assert "acme:***, globex:***" in done.stdout
    assert "canary" not in done.stdout
    both = refrain("check", REFRAIN_API_KEYS_FILE=str(path), REFRAIN_API_KEYS="acme:canary-one")
    assert both.returncode == 2


def test_an_address_that_is_taken_is_a_sentence_and_not_a_stack() -> None:
    """The most common failure of all."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refrain("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_command_that_is_none_is_refused_with_the_usage() -> None:
    """Also a flag or a value that does not exist; and --version tells one."""
    for arguments in (("surf",), ("serve", "--fast"), ("cache",), ("sim", "--tps", "fast"), ()):
        done = refrain(*arguments)
        assert done.returncode == 2
        assert "usage: refrain" in done.stderr
        assert "Traceback" not in done.stderr
    for arguments in (("serve", "--workers", "0"), ("serve", "--port", "http"), ("check", "--port", "-1")):
        done = refrain(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(arguments[1])
    assert re.fullmatch(r"refrain \d+\.\d+\.\d+\S*\n", refrain("--version").stdout)


def test_settings_are_read_once_and_only_from_the_environment(simulate: Simulate, start: Start) -> None:
    """The start says where the answers come from; a simulated model is never taken for a real one."""
    simulated: GatewayProcess = start(None)
    assert "SIMULATED" in simulated.output
    assert simulated.get("/pipeline")["model"] == "simulated"
    simulator = simulate(ttft=0, tps=0)
    real = start(simulator)
    assert "SIMULATED" not in real.output
    assert simulator.base_url in real.output
    assert real.get("/pipeline")["model"] == "upstream"
    assert b"# TYPE refrain_stage_capacity gauge" in fetch(real.url + "/metrics")
