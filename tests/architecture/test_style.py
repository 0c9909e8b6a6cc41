"""What no linter checks: files stay small, and tests do not sleep."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import CODE, ROOT, parsed, sources

LIMIT = 300


def test_every_module_can_be_read_in_one_go() -> None:
    """A file beyond the limit does two things: split it."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(CODE)
    }
    assert {name: length for name, length in lengths.items() if length >= LIMIT} == {}


def real_sleeps(tree: ast.AST, *, virtual: bool = False) -> Iterator[int]:
    """The lines that sleep for a constant time other than 0, outside functions on virtual time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and not virtual and _is_sleep(node):
            yield node.lineno
        decorated = getattr(node, "decorator_list", [])
        yield from real_sleeps(node, virtual=virtual or any(map(_is_virtual, decorated)))


def _is_sleep(call: ast.Call) -> bool:
    delay = call.args[0] if call.args else None
    return (
        ast.unparse(call.func).split(".")[-1] == "sleep"
        and isinstance(delay, ast.Constant)
        and delay.value not in (0, None)
    )


def _is_virtual(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).split(".")[-1] == "virtual"


def _runs_virtually(tree: ast.Module) -> bool:
    """True if the module takes `virtual` or `run` from tests.virtual_time: its helpers run there too."""
    return any(isinstance(node, ast.ImportFrom) and node.module == "tests.virtual_time" for node in tree.body)


def test_no_unit_test_waits_for_real_time() -> None:
    """A test that sleeps is slow on every machine and wrong on a busy one: use virtual time or an event."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(["tests/unit"])
        for tree in [parsed(path)]
        for part in (_tests(tree) if _runs_virtually(tree) else [tree])
        for line in real_sleeps(part)
    ]
    assert found == []


def _tests(tree: ast.Module) -> list[ast.AST]:
    """The async tests that pytest runs on a real loop."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef) and not any(map(_is_virtual, node.decorator_list))
        if node.name.startswith("test_")
    ]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("async def test_a():\n await asyncio.sleep(0.1)", [2]),
        ("def test_a():\n time.sleep(1)", [2]),
        ("async def test_a():\n await sleep(0)\n await asyncio.sleep(delay)", []),
        ("@virtual\nasync def test_a():\n await asyncio.sleep(3600)", []),
        ("@virtual\nasync def test_a():\n async def b():\n  await anyio.sleep(1)", []),
    ],
)
def test_sleeps_are_found_where_they_cost_time(source: str, lines: list[int]) -> None:
    """Virtual sleeps and yielding once are fine; waiting for the clock is not."""
    assert list(real_sleeps(ast.parse(source))) == lines
