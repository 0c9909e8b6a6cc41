"""The row of preparation steps of one process: built once, and closed after the last flight."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from admission import Stage
from app.library import Library, read_library
from app.preparation_watch import PreparationWatch
from broadcast.broadcast import Broadcast
from cache.keys import SharingKeys
from config.settings import Settings
from processing.caller import Caller
from processing.calls import ModelCalls
from processing.hook import HookStep
from processing.planning import PlanningStep
from processing.preparer import Preparer, Prompt, Step, Turn
from processing.tools import Rounds, Toolbox, ToolStep
from processing.tools.bound import BoundRounds
from processing.workflows.naming import PREFIX, asked_for
from processing.workflows.record import Record
from runtime.errors import InvalidRequest, NotFound
from runtime.supervisor import Supervisor
from upstream.client import ModelClient
from upstream.endpoints import Endpoints
from upstream.hook import PreparationHook
from upstream.retry import RetryPolicy

log = logging.getLogger("refrain.workflows")


class Preparing:
    """What a request may need before it is a prompt: the hook, a plan, tools, a workflow; nothing by default.

    Raises SettingsError for tools and workflows that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        client: ModelClient,
        llm_calls: Stage,
        retry: RetryPolicy,
        supervisor: Supervisor,
        watch: PreparationWatch,
    ) -> None:
        s = self._settings = settings
        self._watch = watch
        self._http = Endpoints(s.max_concurrent_tools)
        self.library: Library = read_library(s, self._http)
        self.toolbox = Toolbox(
            self.library.tools,
            slots=s.max_concurrent_tools,
            spawn=supervisor.spawn,
            observer=watch,
            on_wait=watch.waited_for_a_slot,
        )
        self.calls = ModelCalls(client, llm_calls, retry, supervisor.spawn, patience_s=s.prepare_timeout_s)
        self._hook: PreparationHook | None = None
        if s.prepare_url is not None:
            self._hook = PreparationHook(s.prepare_url.get_secret_value(), s.max_concurrent_leaders)

    def preparer(self, keys: SharingKeys) -> Preparer:
        """The steps in order; a plain proxied request has none. `keys` say who may share with whom."""

        def who(prompt: Prompt) -> Caller:
            user = prompt.body.get("user")
            named = isinstance(user, str) and user.strip() != ""
            scope = keys.scope(prompt.tenant)
            if not prompt.store:
                scope += f" {id(prompt.turn)}"  # `no-store` joins nothing, no call of a preparation either
            return Caller(scope, prompt.tenant, user if named else None)

        s, steps, calls = self._settings, list[Step](), self.calls
        rounds = Rounds(self.toolbox, calls, s.tool_rounds)
        if self._hook is not None:
            steps.append(HookStep(self._hook))
        if s.prepare_model is not None:
            steps.append(PlanningStep(s.prepare_model, calls, who))
        if len(self.toolbox):
            steps.append(ToolStep(rounds, who, s.cache_ttl_s))
        if self.library.workflows:
            from processing.workflows.step import WorkflowStep  # see `app.library`

            steps.append(
                WorkflowStep(
                    self.library.workflows,
                    calls,
                    who,
                    lambda caller: BoundRounds(rounds, caller, s.cache_ttl_s),
                    show=self._show,
                    over=self._over,
                    told=self._tell,
                    fell_back=self._watch.fell_back,
                )
            )
        return Preparer(steps)

    # -- sharing keys -------------------------------------------------------------------------
    @property
    def fingerprint(self) -> tuple[str, ...]:
        """Of all that prepares every request: an edit must not serve old answers."""
        s = self._settings
        hook = s.prepare_url.get_secret_value() if s.prepare_url else ""
        tools = f"{self.toolbox.fingerprint} {s.tool_rounds}" if len(self.toolbox) else ""
        # A hook may choose any workflow, whatever model the request names.
        chosen = " ".join(sorted(self.versions.values())) if hook else ""
        return hook, s.prepare_model or "", tools, chosen

    @property
    def versions(self) -> dict[str, str]:
        """Of each workflow, by the model's name that asks for it."""
        default = self._settings.workflow_model or ""
        return {
            PREFIX + name: f"{workflow.version} {default}"
            for name, workflow in self.library.workflows.items()
        }

    # -- models -------------------------------------------------------------------------------
    def models(self) -> list[dict[str, Any]]:
        """The workflows as `/v1/models` lists them."""
        return [
            {
                "id": PREFIX + name,
                "object": "model",
                "created": 0,
                "owned_by": "refrain",
                "description": workflow.description,
            }
            for name, workflow in sorted(self.library.workflows.items())
        ]

    def check(self, body: Mapping[str, Any]) -> None:
        """Before anything is done: NotFound for a workflow that is not there, InvalidRequest for several
        answers of one that has no last step to ask for them.
        """
        name = asked_for(body)
        if name is None:
            return
        workflow = self.library.workflows.get(name)
        if workflow is None:
            raise NotFound("There is no such workflow.", param="model")
        if workflow.graph.last is None and body.get("n") not in (None, 1):
            raise InvalidRequest("This workflow has one answer: n must be 1.", param="n")

    async def close(self) -> None:
        """After the last flight. Idempotent."""
        self.toolbox.close()
        await self._http.close()
        if self._hook is not None:
            await self._hook.close()

    # -- what a workflow tells of itself ------------------------------------------------------
    def _show(self, turn: Turn, where: str) -> None:
        """Every turn here is a broadcast's."""
        cast(Broadcast[Any], turn).show_step(where)
        self._watch.step_began(where)

    def _over(self, turn: Turn, where: str) -> None:
        self._watch.step_ended(where)

    def _tell(self, turn: Turn, record: Record) -> None:
        log.info("workflow.ended", extra=record.summary())
        self._watch.workflow_ended(record)
