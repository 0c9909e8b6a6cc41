"""Workflow files of the system tests, one for each pattern: what their steps are asked can be foretold."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

from tests.system.prompts import answer_to, saying

#: The model of all steps that name none.
INNER = "inner-model"
BRANCHES = ("one", "two", "three", "four", "five")
PLAN = saying(json.dumps([{"worker": "digger", "task": "dig"}, {"worker": "filler", "task": "fill"}]))
NEWS = saying(json.dumps([{"topic": "news", "text": "it rains"}]))

#: Every last step waits at the hold `end`, so that streams can be told from the calls before them.
PATTERNS = {
    "pipeline": """
        steps:
          - {name: facts, prompt: "Facts: {{ question }}"}
          - {name: outline, prompt: "Outline {{ results.facts }} {{ question }}"}
          - {name: text, prompt: "Write {{ results.outline }} {{ question }} [[sim hold=end]]"}
        """,
    "parallel": """
        steps:
          - {name: left, prompt: "Left: {{ question }}"}
          - {name: middle, prompt: "Middle: {{ question }}"}
          - {name: right, prompt: "Right: {{ question }}"}
        """,
    "fork_join": """
        branches:
          - {name: one, prompt: "Branch one: {{ question }}"}
          - {name: two, prompt: "Branch two: {{ question }}"}
          - {name: three, prompt: "Branch three: {{ question }}"}
          - {name: four, prompt: "Branch four: {{ question }}"}
          - {name: five, prompt: "Branch five: {{ question }}"}
        answer:
          name: joined
          prompt: >-
            {{ question }} [[sim hold=end]]{% for name, said in results.items() %}
            {{- ' ' }}{{ name }}={{ said }}{% endfor %}
        """,
    "debate": """
        rounds: 2
        debaters:
          - {name: for, prompt: "For, round {{ round }}: {{ question }}"}
          - {name: against, prompt: "Against, round {{ round }}: {{ question }}"}
        answer:
          name: moderator
          prompt: "Weigh {{ results.for }} {{ results.against }} {{ question }} [[sim hold=end]]"
        """,
    "hub_and_spoke": f"""
        coordinator: {{name: hub, prompt: "Plan: {{{{ question }}}} [[sim text={PLAN}]]"}}
        workers:
          - {{name: digger, does: dig, prompt: "Do {{{{ task }}}} for {{{{ question }}}}"}}
          - {{name: filler, does: fill, prompt: "Do {{{{ task }}}} for {{{{ question }}}}"}}
          - {{name: idler, does: nothing, prompt: "Idle for {{{{ question }}}}"}}
        answer: {{name: report, prompt: "Told {{{{ results.digger }}}} {{{{ question }}}} [[sim hold=end]]"}}
        """,
    "publish_subscribe": f"""
        rounds: 2
        agents:
          - {{name: reporter, topics: [question], prompt: "Report: {{{{ question }}}} [[sim text={NEWS}]]"}}
          - name: reader
            topics: [news]
            prompt: "React to {{{{ inbox[0].text }}}}: {{{{ question }}}} [[sim text={NEWS}]]"
        answer:
          name: editor
          prompt: "Edit {{{{ results.reporter }}}} {{{{ question }}}} [[sim hold=end]]"
        """,
    "graph": """
        steps:
          - {name: root, prompt: "Root: {{ question }}"}
          - {name: west, depends_on: [root], prompt: "West of {{ results.root }}: {{ question }}"}
          - {name: east, depends_on: [root], prompt: "East of {{ results.root }}: {{ question }}"}
          - name: top
            depends_on: [west, east]
            prompt: "Top of {{ results.west }}: {{ question }} [[sim hold=end]]"
        """,
}
NESTED = """
    name: nested
    steps:
      - {name: below, workflow: parallel, prompt: "Below: {{ question }}"}
      - {name: deeper, workflow: debate-below, prompt: "Deeper: {{ question }}"}
      - name: last
        depends_on: [below, deeper]
        workflow: pipeline
        prompt: "{{ results.below | length > 0 }} {{ question }}"
    """
#: Its last step is not the last of the run that nests it, so nothing holds it at the `end`.
BELOW = "name: debate-below\npattern: debate\n" + dedent(PATTERNS["debate"]).replace("[[sim hold=end]]", "")
#: Calls of the model: inside a run under `llm_calls`, and at its end under `llm_streams`.
COST = {
    "pipeline": (2, 1),
    "parallel": (3, 0),
    "fork-join": (5, 1),
    "debate": (4, 1),
    "hub-and-spoke": (3, 1),
    "publish-subscribe": (2, 1),
    "graph": (3, 1),
    "nested": (3 + 5 + 2, 1),
}


def every_pattern(folder: Path) -> Path:
    """A file for each pattern, by its name with hyphens, and one that nests others."""
    for pattern, rest in PATTERNS.items():
        name = pattern.replace("_", "-")
        write(folder, name, f"name: {name}\npattern: {pattern}\n{dedent(rest)}")
    write(folder, "nested", NESTED)
    write(folder, "debate-below", BELOW)
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    """One file more; the folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(dedent(text))
    return folder


def joined(question: str, tokens: int, end: str = " [[sim hold=end]]") -> str:
    """What the last step of `fork-join` is asked, with every branch in declared order."""
    said = (f" {name}={answer_to(f'Branch {name}: {question}', tokens)}" for name in BRANCHES)
    return f"{question}{end}{''.join(said)}"
