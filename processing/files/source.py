"""One YAML file as values, and the line on which each of them stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from processing.files.problems import BadFile, Problem

#: No file that a person reads is longer; every character beyond it is parsed at start for nothing.
MAX_CHARACTERS: Final = 262_144
#: Aliases may make a small file a large value: each is written out once more when it is read.
MAX_ALIASES: Final = 100

Path = tuple[str | int, ...]


class Source:
    """`value` is what the file says; `shape` says what it should be. Raises BadFile if it is no mapping."""

    def __init__(self, file: str, text: str, shape: str) -> None:
        self.file = file
        if len(text) > MAX_CHARACTERS:
            raise BadFile([self.problem(1, f"the file has more than {MAX_CHARACTERS} characters")])
        try:
            self._root, self.value = _read(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise BadFile([self.problem(line, f"not YAML: {_said(error)}")]) from None
        except yaml.YAMLError as error:
            raise BadFile([self.problem(1, f"not YAML: {error}")]) from None
        except (RecursionError, ValueError):
            raise BadFile([self.problem(1, "not YAML that can be read: a value is impossible")]) from None
        if not isinstance(self.value, dict):
            raise BadFile([self.problem(1, f"the file must be {shape}")])

    def problem(self, line: int, what: str) -> Problem:
        return Problem(self.file, line, what)

    def line(self, path: Sequence[str | int]) -> int:
        """The line of the key, or list item, at `path`; of the last part that is there, if it is missing."""
        node, line = self._root, self._root.start_mark.line
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            node, line = found
        return int(line) + 1

    def text_line(self, path: Sequence[str | int], line: int) -> int:
        """The file's line of the `line`th line of a text: a block's text begins below its key."""
        node = self._root
        for part in path:
            found = _child(node, part)
            if found is None:
                return self.line(path)
            node = found[0]
        block = getattr(node, "style", None) in ("|", ">")
        first = int(node.start_mark.line) + (2 if block else 1)
        return min(first + line - 1, int(node.end_mark.line) + 1)

    def repeated(self) -> Iterator[Problem]:
        """Keys that a mapping has twice: the reader would silently take the last."""
        seen: set[int] = set()
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                nodes += node.value
            elif isinstance(node, yaml.MappingNode):
                yield from self._repeated(node)
                nodes += [value for _, value in node.value]

    def _repeated(self, node: yaml.MappingNode) -> Iterator[Problem]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in keys:
                    yield self.problem(key.start_mark.line + 1, f"the key {key.value!r} is here twice")
                keys.add(key.value)


def _said(error: yaml.MarkedYAMLError) -> str:
    """A text that begins with {{ is the commonest mistake, and YAML's words for it tell nobody."""
    hint = "; a text that begins with { needs quotes" if error.problem == "found unhashable key" else ""
    return f"{error.problem}{hint}"


def _read(text: str) -> tuple[yaml.Node, Any]:
    aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    if aliases > MAX_ALIASES:
        raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        raise yaml.YAMLError("the file is empty")
    if _size(root, {}) > 4 * MAX_CHARACTERS:
        raise yaml.YAMLError("its aliases make it too large")
    return root, yaml.safe_load(text)


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """In characters, with every alias written out; a value inside itself has no end."""
    if id(node) not in known:
        known[id(node)] = math.inf
        if isinstance(node, yaml.MappingNode):
            inner = [_size(each, known) for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = [_size(each, known) for each in node.value]
        else:
            inner = [len(node.value)]
        known[id(node)] = 1 + sum(inner)
    return known[id(node)]


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if key.value == part:
                return value, key.start_mark.line
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found = node.value[part]
        return found, found.start_mark.line
    return None
