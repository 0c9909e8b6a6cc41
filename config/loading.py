"""From an environment to Settings, or to sentences that tell the operator what to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.about import About, entries
from config.api_keys import read_file
from config.settings import Settings

_PREFIX = "REFRAIN_"
ABOUT: Mapping[str, About] = entries(Settings.model_fields)
_FIELDS = {about.name: field for field, about in ABOUT.items() if about.name}
_NO_FLAGS: Mapping[str, str] = {}


class SettingsError(Exception):
    """The environment is not usable. `problems` holds one sentence each; none of them shows a secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def load(environ: Mapping[str, str], flags: Mapping[str, str] = _NO_FLAGS) -> Settings:
    """The settings that `environ` gives, and nothing else: no `.env`, no process environment.

    `flags` are those of the command line, by field (`host`, `port`, `web_concurrency`); they win over
    the environment. An empty value means not set. Raises SettingsError with every problem found.
    """
    problems = [
        _unknown(name) for name in sorted(environ) if name.startswith(_PREFIX) and name not in _FIELDS
    ]
    given: dict[str, object] = {field: environ[name] for name, field in _FIELDS.items() if environ.get(name)}
    given |= flags
    problems += _take_key_file(given)
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        # From None: the chained error would print its inputs, secrets among them.
        problems += [sentence for detail in error.errors() for sentence in _sentences(detail, given, flags)]
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _unknown(name: str) -> str:
    bare = name.removeprefix(_PREFIX)
    near = [bare] if bare in _FIELDS else difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.75)
    return f"{name} is not a setting of Refrain" + (f"; did you mean {near[0]}?" if near else ".")


def _take_key_file(given: dict[str, object]) -> list[str]:
    """Puts the file's text in place of the pairs; returns what is wrong with it."""
    path = given.get("api_keys_file")
    if path is None:
        return []
    if "api_keys" in given:
        return ["REFRAIN_API_KEYS and REFRAIN_API_KEYS_FILE are both set; set one of them."]
    try:
        given["api_keys"] = read_file(Path(str(path)))
    except ValueError as problem:
        return [f"REFRAIN_API_KEYS_FILE {problem}."]
    return []


def _sentences(detail: ErrorDetails, given: Mapping[str, object], flags: Mapping[str, str]) -> list[str]:
    phrase = detail.get("ctx", {}).get("error", detail["msg"])
    if not detail["loc"]:
        return [str(sentence) for sentence in phrase.args]
    field = str(detail["loc"][0])
    about = ABOUT[field]
    name = about.flag if field in flags else about.name
    if field == "api_keys" and "api_keys_file" in given:
        name = "REFRAIN_API_KEYS_FILE"
    shown = "" if _is_secret(field) else f", not {str(given[field])[:80]!r}"
    return [f"{name} {phrase}{shown}."]


def _is_secret(field: str) -> bool:
    return field == "api_keys" or "SecretStr" in str(Settings.model_fields[field].annotation)
