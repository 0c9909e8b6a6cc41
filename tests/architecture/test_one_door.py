"""One door: whatever reaches the model is a `ModelClient.stream`, under a permit of an LLM stage."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from admission import Admission, Stage
from tests.architecture.tree import PACKAGES, ROOT, parsed, sources
from tests.fakes.turn import FakeTurn
from upstream.errors import PermitRequired
from upstream.permit import LLM_STAGES, require

#: Opens connections of its own to say what is wrong with a set-up: a command, which serves nobody.
DOCTOR = "app/doctor/"
#: Modules of the standard library and beyond by which one could speak HTTP, or call out at all.
CLIENTS = frozenset(
    {
        "aiohttp", "ftplib", "http.client", "httpcore", "httpx", "openai", "requests", "urllib.request",
        "urllib3", "websockets", "xmlrpc.client", "niquests", "pycurl", "anthropic", "litellm",
    }
)  # fmt: skip
#: What knows of a door, who may, and why.
CALLING_OUT = {
    "app/doctor/reach.py": "asks whether a host answers",
    "app/simulate.py": "asks whether our own simulator has started",
    "upstream/reach.py": "readiness asks whether the model's host answers",
}
TRANSPORT = {"app/doctor/host.py", "app/doctor/upstream.py"}
MAKES_A_CLIENT = {"app/telemetry/watched.py", "app/doctor/call.py", "app/gateway.py"}
STREAMS_UNDER_ITS_PERMIT = {
    "app/doctor/call.py", "app/telemetry/watched.py", "broadcast/answering.py", "processing/calls.py",
}  # fmt: skip


def outside() -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours but those of `upstream`, by its path."""
    for path in sources(package for package in PACKAGES if package != "upstream"):
        yield str(path.relative_to(ROOT)), parsed(path)


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a function or a method with this name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if getattr(call.func, "attr", getattr(call.func, "id", None)) == name]


def named(tree: ast.AST, names: set[str]) -> bool:
    """Whether any of these names is used in any way."""
    return any(
        getattr(node, "attr", None) in names or getattr(node, "id", None) in names for node in ast.walk(tree)
    )


def test_nothing_outside_upstream_knows_a_way_to_speak_http() -> None:
    """No library, no transport of ours, no socket that is opened: but by the few that are named here."""
    libraries = {path for path, tree in outside() if CLIENTS & set(imported(tree))}
    assert libraries == set()
    inner = ("upstream.transport", "upstream.endpoint", "upstream.reach", "upstream.catalogue")
    knowing = {path for path, tree in outside() if any(name in imported(tree) for name in inner)}
    assert knowing == TRANSPORT
    opening = {"open_connection", "create_connection", "sock_connect", "urlopen"}
    openers = {str(path.relative_to(ROOT)) for path in sources(PACKAGES) if named(parsed(path), opening)}
    assert openers == set(CALLING_OUT)


def test_a_client_is_made_where_it_is_watched_and_asked_where_a_permit_is_held() -> None:
    """Whoever else made a client, or asked one, would be a second door, or one that nobody counts."""
    makers = {path for path, tree in outside() if "upstream.client.ModelClient" in imported(tree)}
    made = {path for path in makers if calls(parsed(ROOT / path), "ModelClient")}
    assert made <= MAKES_A_CLIENT
    asking = {
        path
        for path, tree in outside()
        for call in calls(tree, "stream")
        if call.args and getattr(call.args[0], "id", None) == "permit"
    }
    assert asking == STREAMS_UNDER_ITS_PERMIT
    assert {path for path in makers if calls(parsed(ROOT / path), "stream")} <= STREAMS_UNDER_ITS_PERMIT


def test_the_door_looks_at_the_permit_before_anything_else() -> None:
    """In `upstream` one method posts to the model, and whoever gets there is asked for the permit first."""
    posting = {
        str(path.relative_to(ROOT)): len(found)
        for path in sources(["upstream"])
        if "simulator" not in path.parts and (found := calls(parsed(path), "post"))
    }
    assert posting == {"upstream/client.py": 1}
    methods = _methods(ROOT / "upstream" / "client.py", "ModelClient")
    assert [name for name, method in methods.items() if calls(method, "post")] == ["_open"]
    assert [name for name, method in methods.items() if calls(method, "_open")] == ["_answering"]
    assert [name for name, method in methods.items() if calls(method, "_answering")] == ["stream"]
    documented, first, *_ = methods["stream"].body
    assert isinstance(documented, ast.Expr)
    assert ast.unparse(first) == "require(permit)"


def _methods(path: Path, name: str) -> dict[str, ast.AsyncFunctionDef]:
    (found,) = [n for n in parsed(path).body if isinstance(n, ast.ClassDef) and n.name == name]
    return {node.name: node for node in found.body if isinstance(node, ast.AsyncFunctionDef)}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["cache", "leaders", "followers", "tools", "tool:llm_calls", "llm_streams "])
async def test_a_permit_of_another_stage_opens_nothing(name: str) -> None:
    """A real one, that is held: a tool's or a leader's slot is none of the model's."""
    async with Stage(name, 1).admit(FakeTurn()) as permit:
        with pytest.raises(PermitRequired):
            require(permit)


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(LLM_STAGES))
async def test_a_permit_opens_as_long_as_it_is_held(name: str) -> None:
    """Both LLM stages do, and neither after its release."""
    admission: Admission = Stage(name, 1).admit(FakeTurn())
    async with admission as permit:
        require(permit)
    with pytest.raises(PermitRequired):
        require(permit)
