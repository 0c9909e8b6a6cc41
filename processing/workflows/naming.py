"""A workflow is asked for like a model, by the name `workflow:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "workflow:"


def asked_for(body: Mapping[str, Any]) -> str | None:
    """The name of the workflow that a request asks for."""
    model = body.get("model")
    return model.removeprefix(PREFIX) if isinstance(model, str) and model.startswith(PREFIX) else None
