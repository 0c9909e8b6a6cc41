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
        if self.text is None:
            return None
        padded = self.text + "=" * (-len(self.text) % 4)
        try:
            return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        except ValueError:
            raise _invalid("text must be base64url of UTF-8") from None


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


def _invalid(reason: str) -> Refusal:
    return Refusal(400, f"Invalid [[sim]] directive: {reason}.", code="invalid_directive")
