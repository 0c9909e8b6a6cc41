"""Questions whose answers are known: a prompt scripts the simulated model, and foretells what it says."""

from __future__ import annotations

import base64

from upstream.simulator.answers import answer_tokens, prompt_digest


def prompt(words: str, **directive: object) -> str:
    """The words, and what the simulated model shall do with them: `prompt("Sing!", hold="a", tokens=9)`."""
    pairs = " ".join(f"{name}={value}" for name, value in directive.items())
    return f"{words} [[sim {pairs}]]" if pairs else words


def saying(text: str) -> str:
    """The value of the directive's `text`: the model answers exactly this."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def tokens_of(question: str, count: int) -> list[str]:
    """The `count` tokens that the simulated model answers a lone user message with."""
    return answer_tokens([{"role": "user", "content": question}], count)


def answer_to(question: str, count: int) -> str:
    return "".join(tokens_of(question, count))


def digest_of(question: str) -> str:
    """Its name in the simulated model's `calls_by_prompt`."""
    return prompt_digest([{"role": "user", "content": question}])
