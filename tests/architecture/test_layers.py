"""Imports point down the pipeline, and they point at this repository."""

from __future__ import annotations

import importlib

import pytest
from importlinter.cli import lint_imports

from tests.architecture.tree import PACKAGES, ROOT


def test_the_import_contracts_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contracts in pyproject.toml: layers, and who may know which library."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_in_this_repository(package: str) -> None:
    """`config` and `cache` are common names: another package of that name must not be taken for ours."""
    assert importlib.import_module(package).__file__ == str(ROOT / package / "__init__.py")
