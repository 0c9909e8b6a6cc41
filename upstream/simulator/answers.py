"""What the simulated model says: a pure function of the prompt, so that a test can foretell it.

The first token carries a digest of the whole prompt: two prompts that differ anywhere never get the
same answer, and an answer that reached the wrong reader gives itself away.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

MODEL = "refrain-sim"
#: As many characters of what a tool said are repeated.
_HEARD = 160

_SENTENCE: tuple[tuple[str, ...], ...] = (
    (" The", " Every", " One", " Some"),
    (" patient", " quiet", " silver", " distant", " clever", " early", " gentle", " northern"),
    (" river", " singer", " lantern", " engine", " garden", " sailor", " clock", " forest"),
    (" carries", " follows", " answers", " remembers", " repeats", " watches", " crosses", " finds"),
    (" a", " the", " another", " its"),
    (" narrow", " familiar", " golden", " hidden", " simple", " winding", " open", " second"),
    (" bridge", " melody", " letter", " harbour", " window", " story", " valley", " chorus"),
    (".", " again.", " today.", " slowly."),
)


def prompt_digest(messages: Sequence[Mapping[str, Any]]) -> str:
    """12 hex digits over every field of every message; the order of a JSON object's keys is no difference."""
    canonical = msgspec.json.encode(messages, order="sorted")
    return hashlib.blake2b(canonical, digest_size=6).hexdigest()


def answer_tokens(messages: Sequence[Mapping[str, Any]], n: int) -> list[str]:
    """The `n` tokens of the answer to this prompt; the answer's text is their concatenation.

    A shorter answer is a prefix of a longer one. The first token is `Simulated answer <digest>:`, then one
    for each tool that has spoken since the last user message, with what it said, shortened. All others are
    words that start with their space (or a sentence's end).
    """
    digest = prompt_digest(messages)
    words = _words(random.Random(digest))
    begin = [f"Simulated answer {digest}:", *_heard(messages)]
    return [*begin, *(next(words) for _ in range(n - len(begin)))][:n]


def _heard(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in since_last_user(messages):
        if message.get("role") == "tool":
            yield f" The tool said: {_shortened(content_text(message)).rstrip('.')}."


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _HEARD else text[: _HEARD - 1] + "…"


def _words(chance: random.Random) -> Iterator[str]:
    while True:
        for choices in _SENTENCE:
            # random() alone is promised to repeat for a seed on every Python; choice() is not.
            yield choices[int(chance.random() * len(choices))]


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """The usage figure: the words of all texts, at least 1. A rough count, but the same every time."""
    return max(1, sum(len(content_text(message).split()) for message in messages))


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message of role `user`, "" if there is none."""
    place = _last_user(messages)
    return "" if place is None else content_text(messages[place])


def since_last_user(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What stands behind the last message of role `user`; everything if there is none."""
    place = _last_user(messages)
    return messages if place is None else messages[place + 1 :]


def _last_user(messages: Sequence[Mapping[str, Any]]) -> int | None:
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].get("role") == "user":
            return place
    return None


def content_text(message: Mapping[str, Any]) -> str:
    """A message's text: its content string, or its text parts joined by a line break."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
