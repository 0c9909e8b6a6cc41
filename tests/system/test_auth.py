"""Row 84: keys, tickets, owners. What is not yours does not exist; no secret is written down (I5)."""

from __future__ import annotations

import json

import pytest

from tests.fakes.chat_upstream import ChatUpstream
from tests.fakes.real_redis import admin, real_redis, supervised
from tests.fakes.upstream import answer, reply
from tests.system.client import Client, Reply
from tests.system.processes import GatewayProcess
from tests.system.prompts import answer_to, prompt
from tests.system.scene import Simulate, Start, accepted, at_rest, calls_of, held, together

pytestmark = pytest.mark.anyio

ACME, GLOBEX, ADMIN = "acme-key-with:colon", "globex-key-2", "admin-key-3"
KEYS = f"acme:{ACME},globex:{GLOBEX},acme:acme-second-key"
#: Differs from request to request, whoever asks.
OWN_HEADERS = ("date", "x-request-id")


def _bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {key}"}


def _seen(answer: Reply) -> tuple[int, bytes, dict[str, str]]:
    """All that a client can tell two answers by."""
    return answer.status, answer.body, {n: v for n, v in answer.headers.items() if n not in OWN_HEADERS}


async def test_without_a_good_key_nothing_is_done(simulate: Simulate, start: Start) -> None:
    """401 on every route of both wires, with the way to authenticate, and nothing upstream."""
    simulator = simulate(ttft=0, tps=0)
    gateway = start(simulator, API_KEYS=KEYS)
    wrong = [
        {},
        _bearer("nonsense"),
        _bearer(""),
        _bearer(ACME, "Basic"),
        _bearer(ACME[:-1]),
        _bearer(ACME + "x"),
    ]
    wrong += [{"authorization": ACME}, {"x-api-key": ACME}, _bearer(f"acme:{ACME}"), _bearer("acme")]
    routes = [
        ("POST", "/chat"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/chat/x"),
        ("POST", "/chat/x/cancel"),
        ("GET", "/chat/x/stream"),
    ]
    async with Client(gateway.url) as client:
        for headers in wrong:
            for method, path in routes:
                body = {"messages": [{"role": "user", "content": "hi"}]} if method == "POST" else None
                seen = await client.call(method, path, json=body, headers=headers)
                assert (seen.status, seen.error["code"]) == (401, "invalid_api_key"), (headers, path)
                assert seen.error["type"] == "authentication_error"
                assert seen.headers["www-authenticate"].lower().startswith("bearer")
                assert seen.headers["x-should-retry"] == "false"
        for headers in (_bearer(ACME), _bearer(ACME, "bearer"), _bearer("acme-second-key")):
            assert (await client.complete("hi", headers=headers)).status == 200
    assert simulator.stats()["calls"] == 1, "both keys of a tenant share"


async def test_a_foreign_chat_is_a_chat_that_is_not(simulate: Simulate, start: Start) -> None:
    """Status, stream and cancel of another tenant's id: the very answer of an unknown id; it goes on."""
    simulator = simulate(ttft=0, tps=0, tokens=5)
    gateway = start(simulator, API_KEYS=KEYS)
    question = prompt("mine", hold="owner")
    unknown = "chat_" + "0" * 32
    async with Client(gateway.url, ACME) as owner, Client(gateway.url, GLOBEX) as other:
        mine = await accepted(owner, question)
        async with owner.listening(mine["stream_url"]):
            await held(simulator, "owner")
            for method, path in (
                ("GET", ""),
                ("GET", "/stream"),
                ("POST", "/cancel"),
                ("GET", "/stream?after=1-1"),
            ):
                foreign = await other.call(method, f"/chat/{mine['id']}{path}")
                nothing = await other.call(method, f"/chat/{unknown}{path}")
                assert foreign.status == 404
                assert _seen(foreign) == _seen(nothing), path
            simulator.release("owner")
            assert (await owner.until_status(mine["id"], "completed"))["text"] == answer_to(question, 5)
        foreign = await other.call("GET", f"/chat/{mine['id']}")
        assert _seen(foreign) == _seen(await other.call("GET", f"/chat/{unknown}")), "after its end as well"


async def test_a_ticket_opens_one_stream_and_nothing_else(simulate: Simulate, start: Start) -> None:
    """It is bound to its tenant, its id and to GET of the stream; whoever carries a key is judged by that."""
    gateway = start(simulate(ttft=0, tps=0, tokens=3), API_KEYS=KEYS)
    async with Client(gateway.url, ACME) as owner, Client(gateway.url) as nobody:
        mine, second = await accepted(owner, "one"), await accepted(owner, "two")
        path, _, ticket = mine["stream_url"].partition("?ticket=")
        other = second["stream_url"].partition("?")[0]
        assert (await nobody.stream(mine["stream_url"])).end.name == "done"
        assert (await nobody.stream(mine["stream_url"])).end.name == "done", "reusable until retention ends"
        tenant, _, mac = ticket.rpartition(".")
        forged = [
            "",
            ".",
            tenant,
            mac,
            f".{mac}",
            f"globex.{mac}",
            f"{tenant}.{mac[:-1]}",
            f"{tenant}.{mac}0",
            f"{tenant}.{mac[:-1]}{'1' if mac[-1] == '0' else '0'}",
            f"{tenant}.{'é' * 40}",
            second["stream_url"].partition("=")[2],
        ]
        for ticket_ in forged:
            seen = await nobody.call("GET", path, params={"ticket": ticket_})
            assert seen.status == 401, ticket_
        for method, target in (
            ("GET", other),
            ("GET", path[: -len("/stream")]),
            ("POST", f"/chat/{mine['id']}/cancel"),
        ):
            assert (await nobody.call(method, target, params={"ticket": ticket})).status == 401, target
        async with Client(gateway.url, GLOBEX) as globex:
            assert (await globex.call("GET", path, params={"ticket": ticket})).status == 404
    assert mac not in gateway.output


async def test_tenants_share_only_where_the_operator_said_so(simulate: Simulate, start: Start) -> None:
    """One tenant's answers are no other's, run they or rest they; request_ids are theirs alone as well."""
    for scope, calls in (("tenant", 2), ("global", 1)):
        simulator = simulate(ttft=0, tps=0)
        gateway = start(simulator, API_KEYS=KEYS, SHARE_SCOPE=scope)
        question = prompt("shared?", hold="both")
        async with Client(gateway.url, ACME) as acme, Client(gateway.url, GLOBEX) as globex:
            ids = [(await accepted(client, "id", request_id="same"))["id"] for client in (acme, globex)]
            assert ids[0] != ids[1]

            async def both(question: str = question, acme: Client = acme, globex: Client = globex) -> None:
                replies = await together(client.complete(question) for client in (acme, globex))
                assert {seen.status for seen in replies} == {200}

            simulator.release("both")
            await both()
            await both()
        assert calls_of(simulator, question) == calls


async def test_operators_routes_want_the_admin_key(simulate: Simulate, start: Start) -> None:
    """With one set, `/`, `/pipeline` and `/metrics` need it; a tenant's will not do; health is open."""
    gateway = start(simulate(ttft=0, tps=0), API_KEYS=KEYS, ADMIN_KEY=ADMIN)
    async with Client(gateway.url) as client:
        for path in ("/", "/pipeline", "/metrics", "/pipeline/stream"):
            for headers in ({}, _bearer(ACME), _bearer(ADMIN[:-1]), _bearer(""), _bearer(ADMIN, "Basic")):
                seen = await client.call("GET", path, headers=headers)
                assert (seen.status, seen.error["code"]) == (401, "invalid_api_key"), (path, headers)
            for headers in (_bearer(ADMIN), _bearer(ADMIN, "bearer")):
                async with client.http.get(path, headers=headers) as opened:
                    assert opened.status == 200, (path, headers)
        for path in ("/healthz", "/readyz"):
            assert (await client.call("GET", path)).status == 200
        assert (await client.complete("hi", headers=_bearer(ADMIN))).status == 401, (
            "nor is an operator a tenant"
        )


# -- I5 ---------------------------------------------------------------------------------------
SECRETS = {
    "a prompt": "canary-prompt",
    "a system prompt": "canary-system",
    "an answer": "canary-answer",
    "a user": "canary-user",
    "metadata": "canary-metadata",
    "a request_id": "canary-idempotency",
    "a tenant's key": ACME,
    "a wrong key": "canary-wrong-key",
    "the admin key": ADMIN,
    "the upstream's key": "canary-upstream-key",
    "the upstream's error": "canary-upstream-error",
    "a query": "canary-query",
    "a header": "canary-header",
}


BROKEN = (b'{"message":"canary-prompt', b'{"message":"canary-prompt \\ud800"}', b'["canary-prompt",[NaN]]')


WRONG: tuple[dict[str, object], ...] = (
    {"temperature": "canary-prompt"},
    {"messages": "canary-prompt"},
    {"n": 0},
    {"seed": 2},  # that one gets as far as the model, which fails
)


async def _all_that_can_happen(gateway: GatewayProcess) -> list[Reply]:
    """Answers, failures and refusals, all of them full of secrets; returns those that are errors."""
    messages = [
        {"role": "system", "content": "canary-system"},
        {"role": "user", "content": "canary-prompt"},
    ]
    fields = {"user": "canary-user", "metadata": {"m": "canary-metadata"}, "model": "m"}
    headers = {"x-private": "canary-header", "cookie": "c=canary-header"}
    errors = []
    async with Client(gateway.url, ACME) as client:
        for request_id in ("canary-idempotency", "canary-idempotency", "canary-idempotency-2"):
            body = {"messages": messages, **fields, "request_id": request_id}
            submitted = await client.call("POST", "/chat?canary-query", json=body, headers=headers)
            stream = await client.stream(submitted.json["stream_url"])
            assert stream.end.name == "done"
        conflict = {"messages": messages, **fields, "request_id": "canary-idempotency", "seed": 1}
        errors.append(await client.call("POST", "/chat", json=conflict))
        for extra in WRONG:
            asked: dict[str, object] = {"messages": messages, **fields, **extra}
            errors.append(await client.call("POST", "/v1/chat/completions?canary-query", json=asked))
        json_type = {"content-type": "application/json"}
        for raw in BROKEN:
            errors += [await client.call("POST", "/chat", data=raw, headers=json_type)]
        errors.append(await client.call("GET", "/chat/canary-prompt"))
        errors.append(await client.call("GET", "/canary-query"))
        errors.append(await client.complete("canary-prompt", headers=_bearer("canary-wrong-key")))
        errors.append(await client.call("GET", "/metrics", headers=_bearer("canary-wrong-key")))
    assert all(seen.status >= 400 for seen in errors), [seen.status for seen in errors]
    return errors


async def test_no_secret_is_written_down(start: Start) -> None:
    """I5: not in logs, errors, metrics, the pipeline or Redis key names: canaries in all, none found."""
    failing = [reply("500 Oops", json.dumps({"error": {"message": "canary-upstream-error"}}).encode())]
    good = answer("canary-answer")
    async with (
        supervised() as supervisor,
        real_redis(supervisor) as redis,
        ChatUpstream([good, failing]) as upstream,
    ):
        assert redis.socket_path is not None
        gateway = start(
            None,
            OPENAI_BASE_URL=upstream.base_url,
            OPENAI_API_KEY="canary-upstream-key",
            REDIS_URL=f"unix://{redis.socket_path}",
            API_KEYS=KEYS,
            ADMIN_KEY=ADMIN,
        )
        errors = await _all_that_can_happen(gateway)
        async with Client(gateway.url) as client:
            shown = [
                await client.call("GET", path, headers=_bearer(ADMIN))
                for path in ("/metrics", "/pipeline", "/")
            ]
            shown.append(await client.call("GET", "/openapi.json"))
        assert len(upstream.asked) == 2, "one answer, one failure"
        async with admin(redis.socket_path) as operator:
            names = b" ".join([name async for name in operator.scan_iter()])
        assert names, "the answer was kept"
        gateway.stop()
    places = {
        "the logs": gateway.output.encode(),
        "an error": b" ".join(seen.body + str(seen.headers).encode() for seen in errors),
        "what operators see": b" ".join(seen.body for seen in shown),
        "the names in Redis": names,
    }
    found = [
        f"{what} in {where}"
        for where, text in places.items()
        for what, secret in SECRETS.items()
        if secret.encode() in text
    ]
    assert not found


async def test_errors_tell_nothing_of_the_inside(simulate: Simulate, start: Start) -> None:
    """No path, no module, no class of ours and no stack in any refusal."""
    gateway = start(simulate(ttft=0, tps=0))
    bodies = [b"{", b"[]", b'{"messages":[1]}', b'{"messages":[{"role":"user","content":[1]}]}', b'{"n":[]}']
    async with Client(gateway.url) as client:
        for body in bodies:
            for path in ("/chat", "/v1/chat/completions"):
                seen = await client.call(
                    "POST", path, data=body, headers={"content-type": "application/json"}
                )
                assert seen.status in (400, 422)
                text = seen.body.decode()
                inside = ("Traceback", ".py", "pydantic", "msgspec", "instance of", "app/", "line ")
                assert not [word for word in inside if word in text], text
    await at_rest(gateway)
