"""Run as a script: bind this process's life to its parent's, then become the program in its arguments.

    python child_exec.py <pid of the parent> <program> [argument ...]

A launcher instead of preexec_fn, which may deadlock in a process with threads. It imports nothing of
the project, so that it starts in milliseconds and works whatever the working directory is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, also by kill -9. Linux only.

    Exits if the parent is gone already: no signal would come for a death before the prctl.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is what we want
