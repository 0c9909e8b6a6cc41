"""The OpenAPI document against the program: 5,000 requests that it allows, and ones that it forbids.

Generating a body takes ten times as long as answering it, so the bodies get fewer cases than the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.system.processes import GatewayProcess, SimulatorProcess

IN_ALL = 5000
#: How many positive cases, and how many negative ones: by operation, and for all others.
BODIES = {"POST /v1/chat/completions": (150, 150), "POST /chat": (400, 150)}
OTHERS = (720, 300)
#: A request that has no whole answer by then hangs.
LIMIT_S = 5.0
ENDLESS = "/pipeline/stream"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass
class Findings:
    """What was sent, and each thing that was wrong, once, with how often."""

    session: requests.Session
    url: str
    ids: list[str]
    sent: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def judge(self, case: Case[Any], known: int | None) -> None:
        """Send it, read what comes, and compare it with the document."""
        label = case.operation.label
        if known is not None and "id" in (case.path_parameters or {}):
            case.path_parameters = {"id": self.ids[known % len(self.ids)]}
        self.sent[label] += 1
        try:
            response = self._exchange(case)
        except requests.RequestException as error:
            self.wrong[f"{label}: {type(error).__name__}, {case.as_curl_command()}"] += 1
            return
        if response.status_code >= 500:  # the model is up, nobody drains, and nothing asks for a 504
            self.wrong[f"{label}: {response.status_code} {response.text[:200]}"] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                self.wrong[f"{label}: {response.status_code}, {failure}"] += 1

    def report(self) -> str:
        return "\n\n".join(f"{times} times {what}" for what, times in self.wrong.most_common())

    def _exchange(self, case: Case[Any]) -> requests.Response:
        begun = time.monotonic()
        request = case.as_transport_kwargs(base_url=self.url)
        with self.session.request(**request, timeout=LIMIT_S, stream=True) as response:
            response._content = b"".join(self._pieces(case, response, begun))
        return response

    def _pieces(self, case: Case[Any], response: requests.Response, begun: float) -> Iterator[bytes]:
        for piece in response.iter_content(65536):
            yield piece
            if case.path == ENDLESS and response.ok:
                return
            if time.monotonic() - begun > LIMIT_S:
                raise requests.Timeout(f"no end within {LIMIT_S:g} s")


def cases(operation: Any, mode: GenerationMode) -> int:
    """At most so many: an operation without parameters has but one request."""
    return BODIES.get(operation.label, OTHERS)[mode is GenerationMode.NEGATIVE]


def explore(findings: Findings, operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=cases(operation, mode), suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        known=st.none() | st.integers(min_value=0, max_value=9) if "{id}" in operation.path else st.none(),
    )
    def send(case: Case[Any], known: int | None) -> None:
        findings.judge(case, known)

    try:
        send()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, f"{operation.label}: nothing is allowed"


def chats(gateway: GatewayProcess, session: requests.Session) -> list[str]:
    """Ids of a completed, a cancelled and a waiting chat."""
    made = [session.post(f"{gateway.url}/chat", json={"message": f"chat {n}"}).json() for n in range(3)]
    session.get(gateway.url + made[0]["stream_url"], timeout=LIMIT_S)
    session.post(f"{gateway.url}/chat/{made[1]['id']}/cancel")
    return [chat["id"] for chat in made]


def test_every_answer_is_one_that_the_document_foretells(
    simulate: Callable[..., SimulatorProcess], start: Callable[..., GatewayProcess]
) -> None:
    """Row 85: whatever is sent, it is answered, in time, and as documented: no 5xx, no hang."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator, SUBSCRIBE_TIMEOUT_S=2)
    schema = schemathesis.openapi.from_dict(gateway.get("/openapi.json"))
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    with requests.Session() as session:
        session.trust_env = False
        findings = Findings(session, gateway.url, chats(gateway, session))
        for operation in operations:
            for mode in GenerationMode:
                explore(findings, operation, mode)
    assert not findings.wrong, findings.report()
    assert set(findings.sent) == {operation.label for operation in operations}
    assert findings.sent.total() >= IN_ALL, findings.sent
    assert gateway.get("/healthz") == {"status": "ok"}
