"""What is known of a setting beside its value: its names, its scope and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic.fields import FieldInfo

Scope = Literal["process", "instance", "shared", "-"]


@dataclass(frozen=True, slots=True)
class About:
    """One setting's entry: stands beside its value in `Settings`, and nowhere else.

    `scope` tells whom a limit binds: one process, one `serve` with its workers, all that share one
    Redis; `-` where that question has no meaning. `name` is the environment variable: "" if only the
    command line sets it, REFRAIN_ and the field's name if left out. `flag` is `refrain serve`'s option.
    """

    scope: Scope
    what: str
    name: str | None = None
    flag: str = ""


def entries(fields: Mapping[str, FieldInfo]) -> dict[str, About]:
    """Field name → its About, with the variable's name filled in, in the order of declaration."""
    found = {}
    for field, info in fields.items():
        [about] = [item for item in info.metadata if isinstance(item, About)]
        found[field] = about if about.name is not None else replace(about, name=f"REFRAIN_{field.upper()}")
    return found
