"""The image: its Dockerfile carried out in a chroot, tried from outside; and no package is published."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def rehearse(*arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/image-rehearsal"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/nonexistent")},
        timeout=timeout,
        check=False,
    )


def test_the_image_is_built_and_serves() -> None:
    """Each step of the Dockerfile, then: not root, root read-only, healthy, an answer, an end by SIGTERM."""
    devices = sorted(os.listdir("/dev"))
    run = rehearse(timeout=280.0)
    assert run.returncode == 0, run.stdout + run.stderr
    steps = re.findall(r"^(?:RUN|COPY) .*$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^step +\w+: (.*)$", run.stdout, re.MULTILINE) == steps
    assert "answered as user 10001:10001, root read-only, Redis ok" in run.stdout
    assert "stopped  SIGTERM reached it, and it ended with status 0" in run.stdout
    assert "differs  the base is this machine's system" in run.stdout
    assert sorted(os.listdir("/dev")) == devices


@pytest.mark.parametrize(
    ("there", "instead", "words"),
    [
        ("USER 10001:10001", "USER root", "USER is root"),
        ("USER 10001:10001", "USER 0:0", "USER is 0"),
        ("USER 10001:10001\n", "", "no USER"),
        ('ENTRYPOINT ["refrain"]', "ENTRYPOINT refrain", "ENTRYPOINT is not in exec form"),
        ('"--host", "0.0.0.0"', '"--port", "8484"', "does not bind 0.0.0.0"),
        ("HEALTHCHECK", "LABEL", "LABEL is no instruction that is known here"),
        ("FROM python:3.12-slim\n", "", "one stage only"),
    ],
)
def test_a_wrong_dockerfile_is_refused(there: str, instead: str, words: str, tmp_path: Path) -> None:
    """The rehearsal reads the file; one that repeated its steps would pass whatever stands there."""
    wrong = tmp_path / "Dockerfile"
    assert there in DOCKERFILE
    wrong.write_text(DOCKERFILE.replace(there, instead), encoding="utf-8")
    run = rehearse(str(wrong))
    assert run.returncode == 1, run.stdout + run.stderr
    assert words in run.stdout


def test_no_package_is_published() -> None:
    """It runs from its repository or its image: packages with such common names are not for an index."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not re.search(r"^(\.pypirc|setup\.cfg|\.github/workflows/.*publish.*)$", tracked, re.MULTILINE)
    places = [
        *ROOT.glob("Makefile"),
        *ROOT.glob("pyproject.toml"),
        *ROOT.glob(".ci/*"),
        *ROOT.glob("scripts/*"),
    ]
    said = "\n".join(path.read_text(encoding="utf-8") for path in places if path.is_file())
    assert "refrain" in said
    assert not re.search(r"\b(twine|docker push|(flit|poetry|uv|hatch) publish)\b", said)
