"""The names of spans and attributes are in one module and on one page."""

from __future__ import annotations

import re

from app.telemetry import names
from tests.architecture.tree import ROOT

PAGE = (ROOT / "docs/tracing.md").read_text(encoding="utf-8")


def listed(section: str) -> list[str]:
    """The first cells of the tables below that heading."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_the_page_lists_every_name() -> None:
    """Dashboards are made from that list; a name that is not on it may change unseen."""
    assert listed("Spans") == [*names.SPANS, names.FIRST_TOKEN]
    assert sorted(listed("Attributes")) == sorted(names.ATTRIBUTES)


def test_every_name_is_in_the_one_module() -> None:
    """A name in quotes elsewhere would be on no list."""
    quoted = re.compile(r'"(gen_ai|refrain|http|url|server|error)\.[a-z_.]+"')
    allowed = {"refrain.tracing", "http.response.start"}  # a logger, and a message of ASGI
    found = [
        f"{path.name}: {match.group(0)}"
        for path in (ROOT / "app/telemetry").glob("*.py")
        if path.name != "names.py"
        for match in quoted.finditer(path.read_text(encoding="utf-8"))
        if match.group(0).strip('"') not in allowed
    ]
    assert found == []


def test_the_genai_names_are_those_of_the_conventions() -> None:
    """A tool that knows the conventions must know ours; a slip of the pen is found by nobody else."""
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {getattr(gen_ai_attributes, name) for name in dir(gen_ai_attributes) if name.isupper()}
    ours = {name for name in names.ATTRIBUTES if name.startswith("gen_ai.")}
    assert len(ours) == 11
    assert ours <= known
