"""The `[[sim key=value …]]` directive with which one prompt scripts its own answer.

docs/simulator.md tells what each key does; a test keeps the two in step.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from upstream.simulator.refusal import Refusal

_OPENING = "[[sim "
# No bracket inside, and one way only to match a blank: a prompt full of openings costs linear time.
_DIRECTIVE = re.compile(r"\[\[sim ([^\[\]]*)\]\]")
_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Rate = Annotated[float, Meta(ge=0, le=1e6)]
Count = Annotated[int, Meta(ge=0, le=100_000)]
Positive = Annotated[int, Meta(ge=1, le=100_000)]
ErrorStatus = Annotated[int, Meta(ge=400, le=599)]


class Directive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one prompt asks of the simulator. A key left out leaves the matter to the `Behaviour`."""

    ttft: Seconds | None = None
    tps: Rate | None = None
    tokens: Positive | None = None

    status: ErrorStatus | None = None
    code: str | None = None
    times: Count = 0
    retry_after: Count | None = None

    hang: bool = False
    truncate: Count | None = None
    reset: Count | None = None
    stall: Count | None = None
    error_frame: Count | None = None
    garbage: bool = False

    empty: bool = False
    text: str | None = None
    cut: Positive = 4
    tool: bool = False
    calls: str | None = None
    rounds: Count = 1
    reasoning: bool = False
    cumulative: bool = False
    usage_inline: bool = False

    hold: str | None = None
    hold_after: Count = 0

    prepare_delay: Seconds | None = None
    prepare_status: ErrorStatus | None = None
    prepare_store: bool = True
    prepare_ttl: Rate | None = None
    prepare_model: str | None = None
    prepare_hold: str | None = None
    prepare_garbage: bool = False

    def exact_text(self) -> str | None:
        """The decoded `text`; None without one. Raises `Refusal` (400) if it is not base64url of UTF-8."""
        return None if self.text is None else _decoded(self.text, "text")

    def scripted_calls(self) -> list[tuple[str, str]]:
        """The names and arguments in `calls`. Raises `Refusal` (400) for what is of no such form."""
        if self.calls is None:
            return []
        pairs = [call.partition(":") for call in self.calls.split(",")]
        if not all(_NAME.fullmatch(name) for name, _, _ in pairs):
            raise _invalid("calls must be NAME[:BASE64URL], with commas between them")
        return [(name, _decoded(given, "arguments") if given else "{}") for name, _, given in pairs]

    @property
    def dictates(self) -> bool:
        """Whether it says itself what the answer is made of."""
        return self.tool or self.empty or self.text is not None


def _decoded(value: str, what: str) -> str:
    padded = value + "=" * (-len(value) % 4)
    try:
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise _invalid(f"{what} must be base64url of UTF-8") from None


_NONE = Directive()


def parse_directive(text: str) -> Directive:
    """The directive in `text`; several count as one, the last value of a key wins.

    Raises `Refusal` (400, `invalid_directive`): a misspelt directive that were silently ignored would
    turn the test that uses it into one that proves nothing.
    """
    if _OPENING not in text:
        return _NONE
    found = _DIRECTIVE.findall(text)
    if len(found) < text.count(_OPENING):
        raise _invalid("it is not closed by ]]")
    words = " ".join(found).split()
    pairs = dict(word.partition("=")[::2] for word in words)
    try:
        return msgspec.convert(pairs, Directive, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def without_directives(text: str) -> str:
    """What is left for a reader."""
    return _DIRECTIVE.sub(" ", text) if _OPENING in text else text


def _invalid(reason: str) -> Refusal:
    return Refusal(400, f"Invalid [[sim]] directive: {reason}.", code="invalid_directive")
