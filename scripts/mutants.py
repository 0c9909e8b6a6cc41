"""Every way in which a module can be a little wrong: its mutants, in the order of its text.

A mutant changes one expression or one statement, in place, so that all line numbers before it stay what they
were. Left out, because no test is meant to fail: docstrings, texts, annotations, asserts, `__repr__`,
protocols and what only a type checker reads.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

Change = tuple[ast.AST, str]  #: what is replaced, and by which text

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_DELETED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`lines`: a test that executes none of them cannot tell it from the original; empty: any test might."""

    path: str
    place: str  #: the function or class that it is in
    line: int
    before: str
    after: str
    lines: tuple[int, ...]
    source: str

    @property
    def fresh(self) -> bool:
        """Seen only by a program that is imported with it. `super()` is a variable of its function's own."""
        return not self.lines or "super()" in self.before

    @property
    def what(self) -> str:
        return f"`{_brief(self.before)}` → `{_brief(self.after)}`"


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where the walk is."""

    place: str
    lines: tuple[int, ...]
    inside: bool  #: of a function


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """All mutants of one module; none is the module itself or another one's twin."""
    seen = {ast.dump(ast.parse(source))}
    for spot, (node, text) in _walk(ast.parse(source).body, _Spot("", (), inside=False)):
        mutated = _replaced(source, node, text)
        shape = ast.dump(ast.parse(mutated))
        if shape not in seen:
            seen.add(shape)
            before = ast.get_source_segment(source, node) or ""
            yield Mutant(path, spot.place, _first(node), before, text, spot.lines, mutated)


# -- the walk ---------------------------------------------------------------------------------
def _walk(body: Sequence[ast.stmt], spot: _Spot) -> Iterator[tuple[_Spot, Change]]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _definition(statement, spot)
        elif not _silent(statement):
            yield from _statement(statement, spot)


def _definition(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, spot: _Spot
) -> Iterator[tuple[_Spot, Change]]:
    if node.name == "__repr__" or (isinstance(node, ast.ClassDef) and _is_protocol(node)):
        return
    place = f"{spot.place}.{node.name}".lstrip(".")
    if isinstance(node, ast.ClassDef):
        yield from _walk(node.body, _Spot(place, (), inside=False))
        return
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if default is not None:
            yield from ((_Spot(place, (), inside=False), change) for change in _expression(default))
    yield from _walk(node.body, _Spot(place, (), inside=True))


def _statement(node: ast.stmt, spot: _Spot) -> Iterator[tuple[_Spot, Change]]:
    here = _Spot(spot.place, _header(node) if spot.inside else (), spot.inside)
    if spot.inside and _deletable(node):
        yield here, (node, "pass")
    for change in _of_statement(node):
        yield here, change
    for child in _own_expressions(node):
        for change in _expression(child):
            yield here, change
    for block in ("body", "orelse", "finalbody"):
        yield from _walk(getattr(node, block, []), spot)
    for handler in getattr(node, "handlers", []):
        lines = tuple(range(handler.lineno, handler.end_lineno + 1))
        if ast.unparse(handler.body[0]) != "raise":
            yield _Spot(spot.place, lines, spot.inside), (handler.body[0], "raise")
        yield from _walk(handler.body, spot)


def _header(node: ast.stmt) -> tuple[int, ...]:
    """The lines of a statement itself, without those of its blocks."""
    body: list[ast.stmt] = getattr(node, "body", [])
    last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
    return tuple(range(node.lineno, max(last, node.lineno) + 1))


def _own_expressions(node: ast.stmt) -> Iterator[ast.AST]:
    skipped = getattr(node, "annotation", None)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler) and child is not skipped:
            yield child


def _silent(node: ast.stmt) -> bool:
    """Nothing in it is meant to be tested."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    slots = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__slots__", "__all__")
    return text or typing or slots or isinstance(node, ast.Assert | ast.Import | ast.ImportFrom)


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def _deletable(node: ast.stmt) -> bool:
    if isinstance(node, ast.AnnAssign):
        return node.value is not None
    if isinstance(node, ast.Return):
        return node.value is None
    return isinstance(node, _DELETED)


# -- what can be wrong ------------------------------------------------------------------------
def _of_statement(node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.If | ast.While) and not _turned_anyway(node.test):
        yield node.test, f"not ({ast.unparse(node.test)})"
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield node.value, "None"
    if isinstance(node, ast.AugAssign) and (other := _OPERATORS.get(type(node.op))):
        changed = copy(node)
        changed.op = other()  # type: ignore[assignment]
        yield node, ast.unparse(changed)


def _turned_anyway(test: ast.expr) -> bool:
    """A change of the expression itself is its negation."""
    if isinstance(test, ast.Compare):
        return isinstance(test.ops[0], ast.Is | ast.IsNot | ast.Eq | ast.NotEq | ast.In | ast.NotIn)
    return isinstance(test, ast.Constant | ast.UnaryOp)


def _expression(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.JoinedStr):  # its parts have no places of their own
        return
    if changes := _CHANGES.get(type(node)):
        yield from ((node, f"({text})") for text in changes(node))
    if isinstance(node, ast.comprehension):
        yield from ((test, f"(not ({ast.unparse(test)}))") for test in node.ifs)
    for child in ast.iter_child_nodes(node):
        yield from _expression(child)


def _compare(node: ast.Compare) -> Iterator[str]:
    for index, operator in enumerate(node.ops):
        changed = copy(node)
        changed.ops = [*node.ops[:index], _OPERATORS[type(operator)](), *node.ops[index + 1 :]]  # type: ignore[list-item]
        yield ast.unparse(changed)


def _boolean(node: ast.BoolOp) -> Iterator[str]:
    changed = copy(node)
    changed.op = _OPERATORS[type(node.op)]()  # type: ignore[assignment]
    yield ast.unparse(changed)
    for index in range(len(node.values)):
        rest = node.values[:index] + node.values[index + 1 :]
        yield ast.unparse(ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0])


def _unary(node: ast.UnaryOp) -> Iterator[str]:
    yield ast.unparse(node.operand)


def _binary(node: ast.BinOp) -> Iterator[str]:
    if other := _OPERATORS.get(type(node.op)):
        changed = copy(node)
        changed.op = other()  # type: ignore[assignment]
        yield ast.unparse(changed)


def _constant(node: ast.Constant) -> Iterator[str]:
    if isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node.value, int | float):
        yield str(node.value + 1)
        yield str(node.value - 1)


def _call(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and (other := _NAMES.get(node.func.id)):
        changed = copy(node)
        changed.func = ast.Name(other)
        yield ast.unparse(changed)


def _choice(node: ast.IfExp) -> Iterator[str]:
    yield ast.unparse(ast.IfExp(node.test, node.orelse, node.body))


def _table(node: ast.Dict) -> Iterator[str]:
    """One row is missing."""
    for index in range(len(node.keys)):
        keys = node.keys[:index] + node.keys[index + 1 :]
        yield ast.unparse(ast.Dict(keys, node.values[:index] + node.values[index + 1 :]))


def _members(node: ast.Set) -> Iterator[str]:
    for index in range(len(node.elts)):
        rest = node.elts[:index] + node.elts[index + 1 :]
        yield ast.unparse(ast.Set(rest)) if rest else "set()"


_CHANGES: dict[type[ast.AST], Callable[[Any], Iterator[str]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.IfExp: _choice,
    ast.Dict: _table,
    ast.Set: _members,
}


# -- text -------------------------------------------------------------------------------------
def _replaced(source: str, node: ast.AST, text: str) -> str:
    """Columns count bytes."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    whole = source.encode()
    return (whole[:begin] + text.encode() + whole[end:]).decode()


def _first(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _brief(text: str) -> str:
    return " ".join(text.split())
