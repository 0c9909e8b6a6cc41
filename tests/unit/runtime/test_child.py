"""A child that is kept running, that stops when told, and that never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.child import BackOff, ChildProcess
from runtime.supervisor import Supervisor
from tests.fakes.eventually import eventually
from tests.fakes.real_redis import supervised

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.defpath}
FOR_EVER = "import signal; signal.pause()"
STUBBORN = (
    "import signal, sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').close(); signal.pause()"
)


async def at_once() -> bool:
    return True


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def is_gone(pid: int) -> bool:
    """Ended, whether or not its new parent has taken notice yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


async def started(supervisor: Supervisor, child: ChildProcess) -> int:
    assert await child.start(supervisor)
    assert child.pid is not None
    return child.pid


async def test_child_runs_until_it_is_stopped() -> None:
    """And stopping twice is fine."""
    async with supervised() as supervisor:
        child = ChildProcess("pause", python(FOR_EVER), ENV, at_once)
        pid = await started(supervisor, child)
        assert not is_gone(pid)

        await child.stop()
        await child.stop()

        assert is_gone(pid)
        assert child.restarts == 0


async def test_stopped_child_can_be_started_again() -> None:
    """Stopping is not the end of the loop that keeps it."""
    async with supervised() as supervisor:
        child = ChildProcess("pause", python(FOR_EVER), ENV, at_once)
        first = await started(supervisor, child)
        await child.stop()
        second = await started(supervisor, child)

        assert second != first
        await child.stop()


async def test_child_is_not_ready_because_its_predecessor_was() -> None:
    """Each life has to show by itself that it does its job."""
    lives: list[bool] = [True]

    async def ready() -> bool:
        return lives[-1]

    async with supervised() as supervisor:
        child = ChildProcess("pause", python(FOR_EVER), ENV, ready)
        await started(supervisor, child)
        await child.stop()
        lives.append(False)

        assert not await child.start(supervisor, timeout_s=0.05)
        await child.stop()


async def test_child_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    """Stop always ends with no child."""
    flag = tmp_path / "ready"

    async def ready() -> bool:
        return flag.exists()

    async with supervised() as supervisor:
        child = ChildProcess("stubborn", python(STUBBORN, str(flag)), ENV, ready)
        pid = await started(supervisor, child)
        await child.stop()

        assert is_gone(pid)


async def test_killed_child_is_respawned_and_told() -> None:
    """Another process takes its place, and whoever uses it hears of it once it is ready."""
    restarts: list[int] = []
    async with supervised() as supervisor:
        child = ChildProcess("pause", python(FOR_EVER), ENV, at_once, on_restart=lambda: restarts.append(1))
        first = await started(supervisor, child)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: restarts)

        assert child.pid not in (None, first)
        assert (child.restarts, len(restarts)) == (1, 1)
        await child.stop()


async def test_child_that_never_gets_ready_does_not_hold_up_the_start() -> None:
    """The caller is told no in time, and the child is kept all the same."""

    async def never() -> bool:
        return False

    async with supervised() as supervisor:
        child = ChildProcess("pause", python(FOR_EVER), ENV, never)
        assert not await child.start(supervisor, timeout_s=0.05)
        await eventually(lambda: child.pid is not None)
        await child.stop()
        await eventually(lambda: child.pid is None)


async def test_program_that_is_missing_is_tried_again_and_never_ready() -> None:
    """No crash of the loop: the program may come back with the next deployment."""

    async def never() -> bool:
        return False

    async with supervised() as supervisor:
        child = ChildProcess("nothing", ["/nonexistent/program"], ENV, never)
        assert not await child.start(supervisor, timeout_s=0.05)
        await eventually(lambda: child.restarts >= 2)
        await child.stop()


async def test_supervisor_that_closes_ends_the_child() -> None:
    """Nothing has to be stopped by hand when the process ends."""
    supervisor = Supervisor()
    child = ChildProcess("pause", python(FOR_EVER), ENV, at_once)
    pid = await started(supervisor, child)
    await supervisor.close()

    assert is_gone(pid)
    assert supervisor.crashed is None


async def test_child_gets_the_given_environment_and_descriptors_alone(tmp_path: Path) -> None:
    """A server has no business with our secrets, nor with our sockets or our terminal."""
    code = (
        "import os, signal, sys\n"
        "os.write(int(sys.argv[1]), repr((sorted(os.environ), os.getsid(0) == os.getpid())).encode())\n"
        "os.close(int(sys.argv[1])); signal.pause()"
    )
    reading, writing = os.pipe()
    async with supervised() as supervisor:
        child = ChildProcess("tell", python(code, str(writing)), {"GIVEN": "1"}, at_once, pass_fds=[writing])
        await started(supervisor, child)
        os.set_blocking(reading, False)
        told: list[bytes] = []

        def has_told() -> bool:
            try:
                told.append(os.read(reading, 1000))
            except BlockingIOError:
                return False
            return True

        await eventually(has_told)
        await child.stop()
    os.close(reading)
    os.close(writing)

    assert b"'GIVEN'" in told[0]
    assert told[0].endswith(b"True)")
    assert b"PATH" not in told[0]


def test_back_off_doubles_to_its_limit_and_a_long_life_resets_it() -> None:
    """A child that dies at once is started ever more slowly; one that had lived comes back at once."""
    back_off = BackOff()

    assert [back_off.after(0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [back_off.after(lived) for lived in (60.0, 0.0, 5.0, 5.1)] == [0.1, 0.2, 0.4, 0.1]


PARENT = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
from runtime.child import ChildProcess
from runtime.supervisor import Supervisor

async def at_once():
    return True

async def main():
    child = ChildProcess("pause", [sys.executable, "-I", "-S", "-c", sys.argv[2]], {}, at_once)
    assert await child.start(Supervisor())
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_child_dies_with_a_parent_that_is_killed() -> None:
    """Not even kill -9 of the gateway leaves its server behind."""
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, root, FOR_EVER], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        await eventually(lambda: is_gone(pid))


async def test_launcher_whose_parent_is_gone_runs_nothing(tmp_path: Path) -> None:
    """Between our fork and the kernel's promise we may have died: then the program must not start."""
    launcher = Path(__file__).parents[3] / "runtime" / "child_exec.py"
    flag = tmp_path / "ran"
    run = subprocess.run([sys.executable, str(launcher), "0", "/bin/sh", "-c", f"touch {flag}"], check=False)

    assert run.returncode == 1
    assert not flag.exists()


async def test_supervisor_that_closes_ends_a_stubborn_child_too(tmp_path: Path) -> None:
    """SIGTERM that is ignored is followed by SIGKILL, also where the keeper itself is being cancelled."""
    supervisor = Supervisor()
    mark = tmp_path / "deaf"
    child = ChildProcess("stubborn", python(STUBBORN, str(mark)), ENV, at_once)
    pid = await started(supervisor, child)
    await eventually(mark.exists)
    await supervisor.close()

    assert is_gone(pid)
