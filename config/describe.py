"""The effective settings as lines for a person; `refrain check` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import SecretStr

from config.about import Scope
from config.loading import ABOUT
from config.settings import Settings
from config.urls import masked

Origin = Literal["default", "environment", "command line"]
_NO_FLAGS: Mapping[str, str] = {}


class SettingLine(NamedTuple):
    """One setting: its variable (its flag, if it has none), its value with secrets masked, and its origin."""

    name: str
    value: str
    origin: Origin
    scope: Scope
    what: str


def describe(
    settings: Settings, environ: Mapping[str, str], flags: Mapping[str, str] = _NO_FLAGS
) -> list[SettingLine]:
    """Every setting in the table's order; `environ` and `flags` are those that `load` was given."""
    lines = []
    for field, about in ABOUT.items():
        origin: Origin = "environment" if about.name and environ.get(about.name) else "default"
        origin = "command line" if field in flags else origin
        value = shown(field, getattr(settings, field))
        lines.append(SettingLine(about.name or about.flag, value, origin, about.scope, about.what))
    return lines


def shown(field: str, value: object) -> str:
    """A value the way a person would write it: sizes with their unit, booleans as 0 or 1, no secrets."""
    match value:
        case None | ():
            return "none"
        case SecretStr():
            return masked(value.get_secret_value()) if field.endswith("_url") else "***"
        case tuple():
            return ", ".join(f"{key.tenant}:***" for key in value)
        case bool():
            return str(int(value))
        case int() if field.endswith("_bytes"):
            return _size(value)
        case float():
            return str(value).removesuffix(".0")
        case _:
            return str(value)


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % factor == 0:
            return f"{count // factor} {unit}"
    return str(count)
