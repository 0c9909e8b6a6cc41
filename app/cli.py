"""The command line: serve, check, doctor, sim, workflow show, cache purge."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from app.version import VERSION
from cache.errors import StoreError
from cache.folders import default_root, running_sockets
from cache.keys import scope_of
from cache.purge import purge
from cache.targets import RedisTarget
from config.advice import warnings
from config.describe import describe
from config.loading import SettingsError, load
from config.settings import Settings
from runtime import logs
from upstream.simulator import Behaviour, BehaviourError

USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 not understood."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        return status
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130


@contextmanager
def _loading() -> Iterator[None]:
    """What is loaded stays: the collector would look through all of it again and again, for nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _serve(args: argparse.Namespace) -> int:
    with _loading():
        from app.library import check_library
        from app.serving import run  # what a `check` does not need is not loaded for it

    settings = load(os.environ, _flags(args))
    check_library(settings)
    logs.configure()
    for warning in warnings(settings):
        print(f"Warning: {warning}", file=sys.stderr)
    try:
        return run(settings, _flags(args))
    except OSError as error:
        print(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.", file=sys.stderr)
        return 1


def _worker(args: argparse.Namespace) -> int:
    with _loading():
        from app.worker import run

    logs.configure()
    return run(args.fd, args.control)


def _check(args: argparse.Namespace) -> int:
    from app.library import check_library
    from processing.workflows.naming import PREFIX

    flags = _flags(args)
    settings = load(os.environ, flags)
    lines = describe(settings, os.environ, flags)
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.value:<24}  {line.origin:<12}  {line.scope:<8}  {line.what}")
    for warning in warnings(settings):
        print(f"Warning: {warning}")
    library = check_library(settings)
    for tool in library.tools:
        print(f"Tool: {tool.name}")
    for name in library.workflows:
        print(f"Workflow: {name}, the model {PREFIX}{name}")
    return 0


def _show_workflow(args: argparse.Namespace) -> int:
    from app.library import check_library
    from processing.workflows import drawing
    from processing.workflows.naming import PREFIX

    workflows = check_library(load(os.environ)).workflows
    name = args.name.removeprefix(PREFIX)
    if name not in workflows:
        known = ", ".join(workflows) or "none; REFRAIN_WORKFLOWS names their folder"
        print(f"There is no workflow {name!r}. There are: {known}.", file=sys.stderr)
        return USAGE_ERROR
    draw = drawing.mermaid if args.mermaid else drawing.text
    print(draw(workflows[name]))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from app.doctor.examine import examine
    from app.doctor.finding import Level, as_json, as_text, verdict

    findings = asyncio.run(examine(load(os.environ, _flags(args)), args.call))
    print(as_json(findings) if args.json else as_text(findings))
    return int(verdict(findings) is Level.FAILED)


def _sim(args: argparse.Namespace) -> int:
    from app.listening import listen
    from app.simulate import inherited, simulate

    try:
        behaviour = Behaviour(**{spec.name: getattr(args, spec.name) for spec in fields(Behaviour)})
        sock = inherited(args.fd) if args.fd is not None else listen(args.host, args.port)
    except (BehaviourError, OSError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    host, port = sock.getsockname()[:2]
    print(f"The simulated model is at http://{host}:{port}/v1", flush=True)
    simulate(behaviour, sock)
    return 0


def _purge(args: argparse.Namespace) -> int:
    settings = load(os.environ)
    scope = None if args.tenant is None else scope_of(args.tenant)
    targets = _targets(settings)
    if not targets:
        print(
            f"No instance on port {settings.port} is running here, so nothing was purged: give its PORT,"
            " or REDIS_URL.",
            file=sys.stderr,
        )
        return 1
    try:
        purged = sum(asyncio.run(purge(target, scope)) for target in targets)
    except StoreError as error:
        print(f"Redis did not go along: {error}.", file=sys.stderr)
        return 1
    print(f"{purged} answers purged; running processes may serve their own copies for 5 s more.")
    return 0


def _targets(settings: Settings) -> list[RedisTarget]:
    if settings.redis_url is not None:
        return [RedisTarget(settings.redis_url.get_secret_value())]
    return [RedisTarget.unix(path) for path in running_sockets(default_root(), str(settings.port))]


def _flags(args: argparse.Namespace) -> dict[str, str]:
    named = {"host": args.host, "port": args.port, "web_concurrency": args.workers}
    return {name: value for name, value in named.items() if value is not None}


def _tokens(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError("must be a number from 1 to 64")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refrain", description="An HTTP chatbot gateway.")
    parser.add_argument("--version", action="version", version=f"refrain {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the gateway")
    check = commands.add_parser(
        "check", help="show the effective settings, where they come from, and what looks wrong"
    )
    doctor = commands.add_parser(
        "doctor", help="look at Redis, the upstream and this machine, and say what is wrong"
    )
    for command, run in ((serve, _serve), (check, _check), (doctor, _doctor)):
        command.add_argument("--host", help="address to listen on (127.0.0.1)")
        command.add_argument("--port", help="port to listen on (PORT, 8484)")
        command.add_argument("--workers", help="worker processes (WEB_CONCURRENCY, 1)")
        command.set_defaults(run=run)
    doctor.add_argument(
        "--call",
        nargs="?",
        const=1,
        type=_tokens,
        metavar="TOKENS",
        help="also ask the model for one answer of so many tokens (1); it may cost money",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")

    worker = commands.add_parser("worker")  # started by `serve`, for whom it means something
    worker.add_argument("--fd", type=int, required=True)
    worker.add_argument("--control", type=int, required=True)
    worker.set_defaults(run=_worker)

    sim = commands.add_parser("sim", help="run the simulated model")
    sim.add_argument("--host", default="127.0.0.1")
    sim.add_argument("--port", type=int, default=8485)
    sim.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    for spec in fields(Behaviour):
        sim.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=spec.metadata["kind"],
            default=spec.default,
            metavar="N",
            help=f"{spec.metadata['help']} ({spec.default:g})",
        )
    sim.set_defaults(run=_sim)

    workflow = commands.add_parser("workflow", help="the workflows").add_subparsers(
        required=True, metavar="COMMAND"
    )
    showing = workflow.add_parser("show", help="draw a workflow as a graph of its steps")
    showing.add_argument("name", metavar="NAME")
    showing.add_argument("--mermaid", action="store_true", help="as a mermaid flowchart")
    showing.set_defaults(run=_show_workflow)

    cache = commands.add_parser("cache", help="the answer cache").add_subparsers(
        required=True, metavar="COMMAND"
    )
    purging = cache.add_parser("purge", help="forget all answers, or those of one tenant")
    purging.add_argument("--tenant")
    purging.set_defaults(run=_purge)
    return parser


if __name__ == "__main__":
    sys.exit(main())
