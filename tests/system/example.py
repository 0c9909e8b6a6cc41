"""One of the worked examples, served by its own command."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.servers import free_port
from tests.system.processes import workers
from tests.system.typed import Terminal, clone


class Example:
    """`make example-NAME`, typed in a clone in that folder. `printed` is what it shows until it is up."""

    def __init__(self, folder: Path, name: str, **settings: object) -> None:
        clone(folder)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/nonexistent"),
            "PORT": str(free_port()),
            "WEB_CONCURRENCY": str(workers()),
            **{setting: str(value) for setting, value in settings.items()},
        }
        self._terminal = Terminal(folder, environment)
        self.printed = self._terminal.start(f"make example-{name}")
        self.url = re.findall(r" is at (http://[^\s/]+)", self.printed)[-1]

    def stop(self) -> None:
        self._terminal.interrupt()
