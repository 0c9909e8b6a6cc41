"""What every test stands on: one backend, reproducible examples, and the mark of the system tests."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# No luck in tests: the same examples on every run, and no example fails for being slow on a busy machine.
hypothesis.settings.register_profile("refrain", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("refrain")

_SYSTEM = Path(__file__).parent / "system"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Refrain runs on asyncio, so its tests do not run on trio as well."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _SYSTEM in item.path.parents:
            item.add_marker(pytest.mark.system)
