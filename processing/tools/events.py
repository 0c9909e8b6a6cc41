"""What is told of the tools' life: the names of the events, the log lines, and the port for whoever counts.

No arguments and no output, only names from the registry: nothing of a question gets into a log or a label.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from processing.tools.results import Result, Status

INVOKED: Final = "tool.invoked"  #: a model has asked for it, with arguments that it takes
STARTED: Final = "tool.started"  #: a try has its slots
COMPLETED: Final = "tool.completed"  #: with a full result
FAILED: Final = "tool.failed"  #: with any other: failed, timed_out, refused or cancelled
#: What a call of a tool that does not exist is counted under.
UNKNOWN: Final = "unknown"

log = logging.getLogger("refrain.tools")


class Observer(Protocol):
    """Whoever counts. `tool` is a name of the registry, or `UNKNOWN`."""

    def started(self, tool: str, waited_s: float) -> None:
        """A try begins, after so long in queues."""
        ...

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        """A call is over; `shared`: it took part in a run that another had begun."""
        ...


class Unobserved:
    """Nobody counts."""

    def started(self, tool: str, waited_s: float) -> None:
        return

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        return


class Events:
    """Logs, and tells the observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def invoked(self, tool: str) -> None:
        log.info(INVOKED, extra={"tool": tool})

    def started(self, tool: str, attempt: int, waited_s: float) -> None:
        log.info(STARTED, extra={"tool": tool, "try": attempt, "waited_s": round(waited_s, 3)})
        self._observer.started(tool, waited_s)

    def ended(self, tool: str, result: Result, *, shared: bool = False) -> None:
        log.info(
            COMPLETED if result.ok else FAILED,
            extra={
                "tool": tool,
                "status": str(result.status),
                "tries": result.tries,
                "ran_s": round(result.ran_s, 3),
                "shared": shared,
            },
        )
        self._observer.ended(tool, result.status, result.ran_s, shared=shared)
