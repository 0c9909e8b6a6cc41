"""What was said between a model and its tools before an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from processing.preparer import Prompt


@dataclass(frozen=True)
class Heard:
    """What the calls used, as far as the model told, and `said`: a prompt with all of it, and with the
    answer if that came.
    """

    usages: Sequence[dict[str, Any]]
    said: Callable[[Prompt], Prompt]
