"""docs/design/contracts.md calls only what its packages offer."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.pages import section
from tests.architecture.tree import PACKAGES, parsed, sources

PAGE = "docs/design/contracts.md"
DESCRIBED = tuple(package for package in PACKAGES if package not in ("app", "config"))


def offered(package: str) -> set[str]:
    """The names of its public classes, functions and methods."""
    nodes = (node for path in sources([package]) for node in ast.walk(parsed(path)))
    named = (
        node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {node.name for node in named if not node.name.startswith("_")}


def called(package: str) -> set[str]:
    """What the page's example of that package calls, comments left out."""
    blocks = re.findall(r"```python\n(.*?)```", section(PAGE, package), re.DOTALL)
    code = "\n".join(line.split("#")[0] for block in blocks for line in block.splitlines())
    return set(re.findall(r"(\w+)\(", code))


@pytest.mark.parametrize("package", DESCRIBED)
def test_every_package_offers_what_its_contract_calls(package: str) -> None:
    """Whoever builds on that page calls something that is there."""
    assert called(package), "a package without an example has no contract"
    assert called(package) - offered(package) == set()
