"""The tools and the workflow of the gateway that prepares, and questions that make use of all of them."""

from __future__ import annotations

from pathlib import Path

from processing.tools import tool
from tests.system.client import Client
from tests.system.flows import write
from tests.system.prompts import prompt
from tests.system.scene import together
from tests.system.toolkit import block, look, refuse
from tests.system.workplace import Workplace, calling

TOOLS = [
    tool(look, cacheable=True, limit=1),
    tool(refuse, cacheable=True),
    tool(block, name="stuck", cacheable=True, timeout_s=0.2),
]
#: Two steps that ask the same, and one whose first choice always refuses.
FLOW = """
    name: review
    pattern: fork_join
    branches:
      - {name: one, prompt: "Read: {{ question }}"}
      - {name: two, prompt: "Read: {{ question }}"}
      - {name: three, prompt: "Again: {{ question }} [[sim status=400 times=1]]", fallback: other}
      - {name: four, prompt: "Never: {{ question }} [[sim status=400]]"}
    answer: {name: sum, prompt: "Sum up {{ question }}"}
    """


def settings(folder: Path) -> dict[str, object]:
    return {
        "TOOLS": "tests.ops.prepared:TOOLS",
        "WORKFLOWS": write(folder, "review", FLOW),
        "WORKFLOW_MODEL": "refrain-sim",
    }


async def wave(client: Client, work: Workplace, name: str) -> None:
    """A tool that is shared, one that fails, one that nobody has, and a workflow."""
    await together(
        (
            client.complete(calling(f"Look {name}", work("look", name), work("look", name))),
            client.complete(calling(f"Refused {name}", work("refuse", name), work("nothing", name))),
            client.complete(f"Review {name}", model="workflow:review"),
        )
    )


def overdue(work: Workplace) -> str:
    """A question whose tool outlives its time until its door is opened."""
    return prompt("Dig", calls=work("stuck", "overdue", door="overdue"))
