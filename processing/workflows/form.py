"""What a workflow's file may say: one shape for each pattern. Nothing here knows how it is run."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints
from pydantic_core import PydanticCustomError

from processing.workflows.template import Template, TemplateProblem

MAX_STEPS: Final = 64
MAX_ROUNDS: Final = 8
#: A request's own, or the engine's: no step may set them.
RESERVED: Final = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "n",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
    }
)


def _template(value: Any) -> Template:
    if not isinstance(value, str):
        raise PydanticCustomError("template", "a template is a text")
    try:
        return Template(value)
    except TemplateProblem as problem:
        raise PydanticCustomError(
            "template", "{what}", {"what": str(problem), "line": problem.line}
        ) from None


def _parameters(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise PydanticCustomError("parameters", "parameters are a mapping, as in a request's body")
    if taken := sorted(RESERVED & value.keys()):
        raise PydanticCustomError("parameters", "a step cannot set {taken}", {"taken": ", ".join(taken)})
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
Topic = Name
Model = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Prompt = Annotated[Template, PlainValidator(_template)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Parameters = Annotated[dict[str, Any], PlainValidator(_parameters)]


class Strict(BaseModel):
    """Nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class Step(Strict):
    """One call of a model, or with `workflow` a whole workflow whose question the prompt is."""

    name: Name
    prompt: Prompt
    system: Prompt | None = None
    model: Model | None = None
    fallback: Model | None = None
    workflow: Name | None = None
    tools: Annotated[tuple[ToolName, ...], Field(strict=False, max_length=64)] = ()
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 0
    fatal: bool = False
    parameters: Parameters = Field(default_factory=dict)


#: What a step that runs a workflow cannot have.
OF_A_CALL: Final = frozenset({"system", "model", "fallback", "tools", "timeout_s", "retries", "parameters"})


class NeedingStep(Step):
    depends_on: Annotated[tuple[Name, ...], Field(strict=False, max_length=MAX_STEPS)] = ()


class Worker(Step):
    """`does` is what the coordinator is told of it."""

    does: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Agent(Step):
    """Reacts to `topics`; `question` is the topic of what the user said."""

    topics: Annotated[tuple[Topic, ...], Field(strict=False, min_length=1, max_length=16)]


class Limits(Strict):
    """`calls` of a model during one run, retries and nested ones too; `depth` of nesting below this file."""

    calls: Annotated[int, Field(ge=1, le=1000)] = 50
    depth: Annotated[int, Field(ge=0, le=5)] = 2


class _File(Strict):
    name: Name
    description: Annotated[str, StringConstraints(max_length=1000)] = ""
    model: Model | None = None
    limits: Limits = Limits()


Steps = Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=MAX_STEPS)]
Several = Annotated[tuple[Step, ...], Field(strict=False, min_length=1, max_length=32)]
Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS)]


class GraphFile(_File):
    pattern: Literal["graph"] = "graph"
    steps: Annotated[tuple[NeedingStep, ...], Field(strict=False, min_length=1, max_length=MAX_STEPS)]


class PipelineFile(_File):
    pattern: Literal["pipeline"]
    steps: Steps


class ParallelFile(_File):
    pattern: Literal["parallel"]
    steps: Several


class ForkJoinFile(_File):
    pattern: Literal["fork_join"]
    branches: Several
    answer: Step


class DebateFile(_File):
    pattern: Literal["debate"]
    rounds: Rounds
    debaters: Annotated[tuple[Step, ...], Field(strict=False, min_length=2, max_length=8)]
    answer: Step


class HubFile(_File):
    pattern: Literal["hub_and_spoke"]
    coordinator: Step
    workers: Annotated[tuple[Worker, ...], Field(strict=False, min_length=1, max_length=32)]
    answer: Step


class PublishFile(_File):
    pattern: Literal["publish_subscribe"]
    rounds: Rounds
    agents: Annotated[tuple[Agent, ...], Field(strict=False, min_length=1, max_length=8)]
    answer: Step


File = GraphFile | PipelineFile | ParallelFile | ForkJoinFile | DebateFile | HubFile | PublishFile
FILES: Final[dict[str, type[_File]]] = {
    "graph": GraphFile,
    "pipeline": PipelineFile,
    "parallel": ParallelFile,
    "fork_join": ForkJoinFile,
    "debate": DebateFile,
    "hub_and_spoke": HubFile,
    "publish_subscribe": PublishFile,
}
#: The fields in which a file has its steps, in the order of a run.
PARTS: Final = ("coordinator", "steps", "branches", "debaters", "workers", "agents", "answer")
