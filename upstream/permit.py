"""What a call must hold: every call of a model is made under a permit of one of the two LLM stages."""

from __future__ import annotations

from typing import Final, Protocol

from upstream.errors import PermitRequired

LLM_STAGES: Final = frozenset({"llm_streams", "llm_calls"})


class LlmPermit(Protocol):
    """The part of `admission`'s permit that is looked at here."""

    @property
    def held(self) -> bool: ...

    @property
    def stage(self) -> str: ...


def require(permit: LlmPermit) -> None:
    """Raise `PermitRequired` unless `permit` is held and belongs to an LLM stage."""
    if permit.stage not in LLM_STAGES:
        raise PermitRequired(f"a permit of stage {permit.stage!r} does not allow a model call")
    if not permit.held:
        raise PermitRequired(f"the permit of stage {permit.stage!r} is not held any more")
