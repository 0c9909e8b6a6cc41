"""Prompt templates: Jinja2 in a sandbox that has only what a prompt needs, with bounds on work and size.

A template is written by the operator; what it is filled with is written by users and models. The values
are data and never templates, so none of them can reach the sandbox. The bounds are for mistakes: a loop in
a loop over a long conversation would otherwise stop every request of this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS: Final = 1_000_000
MAX_TURNS: Final = 100_000
MAX_RANGE: Final = 1_000
#: What every template may use.
VARIABLES: Final = frozenset(
    {"question", "messages", "results", "missing", "history", "round", "task", "inbox"}
)
_FILTERS: Final = (
    "abs", "capitalize", "count", "d", "default", "first", "int", "items", "join", "last", "length", "list",
    "lower", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "sort",
    "string", "title", "tojson", "trim", "truncate", "unique", "upper",
)  # fmt: skip
#: What looks at every item: counted like a loop.
_GOING_THROUGH: Final = frozenset(
    {"join", "list", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "unique"}
)
_REFUSED: Final = (
    nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.Import, nodes.FromImport, nodes.Include,
    nodes.Extends, nodes.Block,
)  # fmt: skip
#: Methods that a template may call: none of them makes a text longer.
_METHODS: Final = frozenset(
    {
        "cycle",
        "endswith",
        "get",
        "items",
        "keys",
        "lower",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "upper",
        "values",
    }
)
_ABILITIES: Final = frozenset({"get", "items", "keys", "values"})
_TURNS: Final = "turns of all loops"


#: What a template may meet in values of other types than its author thought of.
_FAULTS: Final = (
    TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip


class TemplateProblem(Exception):
    """A template that cannot be used. `line` is its own, from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class TemplateFailed(Exception):
    """A template that could not be filled; the message has no text of a user."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Without repetition, which makes any text of any length, and with every loop counted."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise SecurityError(f"{operator} is for numbers" if operator != "**" else "** is not there")
        return super().call_binop(context, operator, left, right)

    def is_safe_callable(self, obj: Any) -> bool:
        return obj is _range or (getattr(obj, "__name__", "") in _METHODS and super().is_safe_callable(obj))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A step may be called `items`: what a mapping holds comes before what it can do."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_REFUSED):
            raise TemplateSyntaxError(f"{type(node).__name__.lower()} is not for prompts", node.lineno)
        for each in list(tree.find_all(nodes.Filter)):
            if each.name in _GOING_THROUGH and each.node is not None:
                each.node = nodes.Filter(each.node, "counted", [], [], None, None, lineno=each.lineno)
        for loop in tree.find_all(nodes.For):
            if loop.recursive:
                raise TemplateSyntaxError("a loop must not be recursive", loop.lineno)
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
        return tree


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    turns: list[int] = context[_TURNS]
    for item in items:
        turns[0] += 1
        if turns[0] > MAX_TURNS:
            raise SecurityError(f"its loops take more than {MAX_TURNS} turns")
        yield item


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"a range has more than {MAX_RANGE} numbers")
    return numbers


def _sandbox() -> _Sandbox:
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
    sandbox.globals = {"range": _range}
    sandbox.filters = {name: sandbox.filters[name] for name in _FILTERS} | {"counted": _counted}
    return sandbox


_SANDBOX: Final = _sandbox()


class Template:
    """One text with holes, compiled when it is read."""

    __slots__ = ("_compiled", "mentions", "source")

    def __init__(self, source: str) -> None:
        """Raises TemplateProblem for what can be seen without filling it."""
        self.source = source
        try:
            tree = _SANDBOX.parse(source)
            self._compiled = _SANDBOX.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateProblem(error.lineno, f"template: {error.message}") from None
        except RecursionError:
            raise TemplateProblem(1, "template: nested too deeply") from None
        #: the steps whose results it names, each with the line
        self.mentions = _mentions(tree)
        unknown = sorted(meta.find_undeclared_variables(tree) - VARIABLES - _SANDBOX.globals.keys())
        if unknown:
            raise TemplateProblem(_line_of(tree, unknown[0]), _unknown(unknown, tree))

    def __repr__(self) -> str:
        return f"<Template {len(self.source)} characters>"

    def fill(self, values: Mapping[str, Any]) -> str:
        """Raises TemplateFailed."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._compiled.generate({**values, _TURNS: [0]}):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_CHARACTERS:
                    raise TemplateFailed(f"a prompt of more than {MAX_CHARACTERS} characters")
        except _FAULTS as error:
            raise TemplateFailed(_reason(error)) from None
        return "".join(pieces)


def _reason(error: BaseException) -> str:
    """Only our own words and Jinja's about names: a Python error's message may quote a value."""
    return str(error) if isinstance(error, TemplateError) else type(error).__name__


def _mentions(tree: nodes.Template) -> tuple[tuple[str, int], ...]:
    """Every `results.NAME` and `results["NAME"]`."""
    found = []
    reads: list[nodes.Getattr | nodes.Getitem] = [
        *tree.find_all(nodes.Getattr),
        *tree.find_all(nodes.Getitem),
    ]
    for node in reads:
        if isinstance(node.node, nodes.Name) and node.node.name == "results":
            named = _named(node)
            if named is not None:
                found.append((named, node.lineno))
    return tuple(found)


def _named(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return None if node.attr in _ABILITIES else node.attr
    value = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return value if isinstance(value, str) else None


def _line_of(tree: nodes.Template, name: str) -> int:
    return next((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), 1)


def _unknown(names: list[str], tree: nodes.Template) -> str:
    known = ", ".join(sorted(VARIABLES))
    said = f"template: there is no variable {', '.join(map(repr, names))}; there are {known}"
    if any(isinstance(each.left, nodes.Getattr) for each in tree.find_all(nodes.Sub)):
        said += "; a name with a hyphen is written results['a-b']"
    return said
