"""What a coordinator and an agent say to the graph: JSON in a reply, bounded, and never trusted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

MAX_CHARACTERS: Final = 65_536
MAX_ITEMS: Final = 64
NOT_UNDERSTOOD: Final = "its assignments were not understood: every worker got the question"
NOT_PUBLISHED: Final = "its reply was not understood: it published nothing"

_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)```", re.DOTALL)


def assignments(text: str, workers: Collection[str]) -> Mapping[str, str] | None:
    """`[{"worker", "task"}]` as worker → task; several for one worker are joined. None: nonsense.

    A list that names an unknown worker, or nobody, is nonsense as a whole: a part of it would be work that
    somebody meant to be done and nobody does.
    """
    items = _items(text)
    if not items:
        return None
    tasks: dict[str, str] = {}
    for item in items:
        worker, task = item.get("worker"), item.get("task")
        if not isinstance(worker, str) or worker not in workers or not isinstance(task, str):
            return None
        if not task.strip():
            return None
        tasks[worker] = f"{tasks[worker]}\n{task}" if worker in tasks else task
    return tasks


def publications(text: str) -> list[tuple[str, str]] | None:
    """`{"topic", "text"}` or a list of such as (topic, text); an empty list is silence. None: nonsense."""
    items = _items(text)
    if items is None:
        return None
    pairs = [(item.get("topic"), item.get("text")) for item in items]
    if not all(isinstance(topic, str) and isinstance(said, str) for topic, said in pairs):
        return None
    return [(str(topic), str(said)) for topic, said in pairs]


def _items(text: str) -> list[dict[str, Any]] | None:
    """The JSON list of objects in `text`, which may stand in a code fence; one object is a list of one."""
    if len(text) > MAX_CHARACTERS:
        return None
    fenced = _FENCED.search(text)
    try:
        value = msgspec.json.decode((fenced.group(1) if fenced else text).encode())
    except (ValueError, RecursionError):
        return None
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        return None
    return items if all(isinstance(item, dict) for item in items) else None
