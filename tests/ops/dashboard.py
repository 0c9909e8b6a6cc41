"""The Grafana dashboard as tests read it: its panels, and their queries with the variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.system.processes import ROOT

DASHBOARDS = ROOT / "deploy/grafana/dashboards"
BOARD: dict[str, Any] = json.loads((DASHBOARDS / "refrain.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
#: Those that show something.
SHOWING = [panel for panel in PANELS if panel["type"] != "row"]


@dataclass(frozen=True)
class Query:
    """One line of one panel."""

    panel: str
    ref: str
    text: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.panel} {self.ref}"

    def filled(self, window: str, whole: str) -> str:
        """With all jobs and instances chosen; `window` is a rate's, `whole` the time that is shown."""
        given = {"job": "refrain", "instance": ".*", "__rate_interval": window, "__range": whole}
        text = re.sub(r"\$(\w+)", lambda name: given.get(name[1], name[0]), self.text)
        assert "$" not in text, text
        return text


def queries() -> Iterator[Query]:
    for panel in SHOWING:
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"], target["instant"])
