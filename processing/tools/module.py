"""Tools of the operator's own Python: a module, and the name of the list in it."""

from __future__ import annotations

import importlib
from traceback import extract_tb

from processing.tools.tool import Tool


def tools_of(address: str) -> list[Tool]:
    """`package.module:NAME`, where NAME is a list of what `tool(…)` makes. It is imported now, once.

    Raises ValueError, saying what is wrong; what the module itself raises is its cause.
    """
    module_name, colon, name = address.partition(":")
    if not (module_name and colon and name) or "/" in module_name:
        raise ValueError("the address of tools is package.module:NAME, with dots and without .py")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        what = f"{type(error).__name__}: {error}{_where(error)}"
        raise ValueError(f"{module_name} cannot be imported ({what})") from error
    found = getattr(module, name, None)
    if not isinstance(found, list | tuple) or not found:
        raise ValueError(f"{module_name} has no list of tools {name}")
    for position, each in enumerate(found):
        if not isinstance(each, Tool):
            raise ValueError(f"{address}: item {position} is no tool; make it one by tool(…)")
    return list(found)


def _where(error: Exception) -> str:
    """The operator's own line, if it got as far as that."""
    last = extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith("<") or last.filename in (__file__, importlib.__file__)
    return "" if ours else f", at {last.filename}:{last.lineno}"
