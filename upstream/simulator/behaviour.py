"""How the simulated model behaves unless a prompt's directive says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any


class BehaviourError(ValueError):
    """A setting that does not exist, cannot be read, or is out of range; the message names it."""


def _setting(default: float, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata={"kind": type(default), "low": low, "high": high, "help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Each field is a flag of `refrain sim` and a parameter of `/config`.

    A field's `metadata` holds its `kind` (int or float), `low`, `high` and `help`. Durations are
    seconds, rates are probabilities from 0 to 1. Raises `BehaviourError` for a value out of range.
    """

    ttft: float = _setting(0.3, 0, 3600, "seconds from the call to the first token")
    tps: float = _setting(30.0, 0, 1e6, "tokens per second of each stream; 0 = all at once")
    tokens: int = _setting(60, 1, 100_000, "tokens of an answer, unless the request asks for fewer")
    max_streams: int = _setting(0, 0, 1_000_000, "calls served at once, beyond it 429; 0 = no limit")
    retry_after: int = _setting(1, 0, 86_400, "seconds that a 429 tells the caller to wait")
    fail_rate: float = _setting(0.0, 0, 1, "share of calls answered 503")
    truncate_rate: float = _setting(0.0, 0, 1, "share of answers that end early without a finish reason")
    stall_rate: float = _setting(0.0, 0, 1, "share of answers that fall silent and stay open")
    prepare_delay: float = _setting(0.0, 0, 3600, "seconds that the preparation hook takes")
    prepare_fail_rate: float = _setting(0.0, 0, 1, "share of preparations answered 503")
    seed: int = _setting(0, 0, 2**63, "seed of the decisions that the rates make")

    def __post_init__(self) -> None:
        for spec in fields(self):
            value, low, high = getattr(self, spec.name), spec.metadata["low"], spec.metadata["high"]
            # Written so that NaN, which compares as false with everything, is refused too.
            if not low <= value <= high:
                raise BehaviourError(f"{spec.name} must be from {low:g} to {high:g}, not {value}.")

    def changed(self, values: Mapping[str, str]) -> Behaviour:
        """This behaviour with the named settings read from text: all of them, or an error and none."""
        kinds = {spec.name: spec.metadata["kind"] for spec in fields(self)}
        parsed: dict[str, Any] = {}
        for name, text in values.items():
            if name not in kinds:
                raise BehaviourError(f"There is no setting {name}; there are: {', '.join(kinds)}.")
            try:
                parsed[name] = kinds[name](text)
            except ValueError:
                raise BehaviourError(f"{name} must be a number, not {text!r}.") from None
        return replace(self, **parsed)
