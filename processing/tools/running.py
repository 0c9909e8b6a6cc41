"""One try of one tool, by the kind of its function: timed, its output kept, its failure a result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from functools import partial
from typing import Any

from processing.tools.results import Enough, Output, Result, Status, ToolFailed, as_text
from processing.tools.threads import Job, Threads
from processing.tools.tool import Kind, Tool

OnJob = Callable[[Job[None]], None]


async def one_try(tool: Tool, values: Mapping[str, Any], threads: Threads, on_job: OnJob) -> Result:
    """Called when the slots are held: the timer starts now. Raises nothing but a cancellation.

    `on_job` is told of work in a thread: it may outlive the try.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    output = Output()
    status, note, final = await _judged(tool, values, output, threads, on_job)
    if output.cut:
        note = "; ".join(filter(None, [note, f"the output of {tool.name} is longer, the rest was cut off"]))
    return Result(tool.name, status, output.text, note, tries=1, ran_s=loop.time() - began, final=final)


async def _judged(
    tool: Tool, values: Mapping[str, Any], output: Output, threads: Threads, on_job: OnJob
) -> tuple[Status, str, bool]:
    """How it ended, what is to be said about that, and whether it is final."""
    scope = asyncio.timeout(tool.options.timeout_s)
    try:
        async with scope:
            await run(tool, values, output, threads, on_job)
    except Enough:
        return Status.OK, "", True
    except asyncio.CancelledError:
        if cancelled():
            raise
        # The function's own: something of its that it has cancelled itself. Nobody has cancelled us.
        return Status.FAILED, f"{tool.name} failed{_rest(output)}", False
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if scope.expired():
            said = f"timed out after {tool.options.timeout_s:g} s"
            return Status.TIMED_OUT, f"{tool.name} {said}{_rest(output)}", True
        return (
            Status.FAILED,
            f"{tool.name} failed{_why(error)}{_rest(output)}",
            getattr(error, "final", False),
        )
    return Status.OK, "", True


def _why(error: BaseException) -> str:
    """An error's own text may hold anything, unless it was meant to be told; its type is enough."""
    return f": {as_text(str(error))}" if isinstance(error, ToolFailed) else f" ({type(error).__name__})"


def _rest(output: Output) -> str:
    return "; what is above is incomplete" if output.text else ""


def cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run(tool: Tool, values: Mapping[str, Any], output: Output, threads: Threads, on_job: OnJob) -> None:
    match tool.kind:
        case Kind.ASYNC:
            output.add(await tool.function(**values))
        case Kind.ASYNC_STREAM:
            async with aclosing(tool.function(**values)) as pieces:
                async for piece in pieces:
                    output.add(piece)
        case _:
            job = threads.begin(partial(_block, tool, values, output))
            on_job(job)
            await job.result()


def _block(tool: Tool, values: Mapping[str, Any], output: Output, left: threading.Event) -> None:
    """In the thread. One that puts out pieces is stopped between two of them."""
    if tool.kind is Kind.BLOCKING:
        output.add(tool.function(**values))
        return
    with closing(tool.function(**values)) as pieces:
        for piece in pieces:
            output.add(piece)
            if left.is_set():
                return
