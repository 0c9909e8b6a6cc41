"""Imports point down the pipeline, and they point at this repository."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from tests.architecture.tree import PACKAGES, ROOT


def test_the_import_contracts_hold() -> None:
    """The contracts in pyproject.toml: layers, and who may know which library."""
    # In a process of its own: it switches off every logger that it finds.
    check = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_in_this_repository(package: str) -> None:
    """`config` and `cache` are common names: another package of that name must not be taken for ours."""
    assert importlib.import_module(package).__file__ == str(ROOT / package / "__init__.py")
