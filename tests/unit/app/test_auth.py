"""Who is asking: keys, tickets, and the operator."""

from __future__ import annotations

import pytest

from app.auth import OPEN_TENANT, Auth
from app.exchange import Exchange
from runtime.errors import Unauthorized
from tests.fakes.asgi import Peer

KEYS = {"key-of-ada": "ada", "another-of-ada": "ada", "key-of-bob": "bob"}
ID = "chat_" + "0" * 32


def asking(authorization: str | None = None, target: str = "/") -> Exchange:
    headers = {} if authorization is None else {"authorization": authorization}
    peer = Peer(target=target, headers=headers)
    return Exchange(peer.scope, peer.receive, peer.send)


def test_without_keys_all_are_one_tenant() -> None:
    """Open means open: whatever a client sends, a stale key among it, is not looked at."""
    auth = Auth({}, None)
    assert auth.open
    for authorization in (None, "Bearer anything", "Basic x"):
        assert auth.tenant(asking(authorization)) == OPEN_TENANT
        assert auth.reader(asking(authorization), ID) == OPEN_TENANT


@pytest.mark.parametrize(
    ("authorization", "tenant"),
    [
        ("Bearer key-of-ada", "ada"),
        ("bearer another-of-ada", "ada"),
        ("BEARER  key-of-bob ", "bob"),
    ],
)
def test_a_key_is_its_tenants(authorization: str, tenant: str) -> None:
    """A tenant may have several keys; the scheme is case-insensitive."""
    assert Auth(KEYS, None).tenant(asking(authorization)) == tenant


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer key-of-eve",
        "Bearer KEY-OF-ADA",
        "key-of-ada",
        "Basic key-of-ada",
        "Bearer \xff",
    ],
)
def test_anything_else_is_refused(authorization: str | None) -> None:
    """One answer for no key, a wrong key and the wrong scheme."""
    auth = Auth(KEYS, None)
    with pytest.raises(Unauthorized):
        auth.tenant(asking(authorization))
    with pytest.raises(Unauthorized):
        auth.reader(asking(authorization), ID)


def test_a_ticket_opens_its_one_stream() -> None:
    """EventSource cannot send headers: the ticket in the URL says who may read."""
    auth = Auth(KEYS, None)
    ticket = auth.ticket("ada", ID)
    assert auth.reader(asking(target=f"/?ticket={ticket}"), ID) == "ada"
    assert auth.reader(asking(target=f"/?after=1-0&ticket={ticket}"), ID) == "ada"


def test_a_ticket_opens_nothing_else() -> None:
    """Bound to tenant, id and the instance's keys: no other stream, no other tenant, no other route."""
    auth = Auth(KEYS, None)
    ticket = auth.ticket("ada", ID)
    mac = ticket.removeprefix("ada.")
    forged = (
        f"bob.{mac}",
        f"ada.{mac[:-1]}",
        f"ada.{mac}0",
        f".{mac}",
        mac,
        "ada.",
        "ada",
        "",
        "\u00e4.\u00e4",
    )
    for given in forged:
        with pytest.raises(Unauthorized):
            auth.reader(asking(target=f"/?ticket={given}"), ID)
    with pytest.raises(Unauthorized):
        auth.reader(asking(target=f"/?ticket={ticket}"), ID.replace("0", "1"))
    with pytest.raises(Unauthorized):
        auth.tenant(asking(target=f"/?ticket={ticket}"))
    with pytest.raises(Unauthorized):
        Auth({**KEYS, "key-of-eve": "eve"}, None).reader(asking(target=f"/?ticket={ticket}"), ID)


def test_a_ticket_is_good_in_every_process_with_the_same_keys() -> None:
    """A stream may be read through any worker, and after a restart."""
    ticket = Auth(KEYS, "key-of-admin").ticket("ada", ID)
    assert (
        Auth(dict(reversed(KEYS.items())), "key-of-admin").reader(asking(target=f"/?ticket={ticket}"), ID)
        == "ada"
    )


def test_tenant_and_id_of_a_ticket_cannot_be_shifted() -> None:
    """The two are told apart, or a tenant called `a` could forge tickets of one called `a.b`."""
    auth = Auth(KEYS, None)
    assert auth.ticket("a", "b") != auth.ticket("a.b", "")
    assert auth.ticket("a.b", "c").rpartition(".")[2] != auth.ticket("a", "b.c").rpartition(".")[2]


def test_a_wrong_key_is_not_saved_by_a_good_ticket() -> None:
    """Whoever shows a key is judged by it."""
    auth = Auth(KEYS, None)
    target = f"/?ticket={auth.ticket('ada', ID)}"
    with pytest.raises(Unauthorized):
        auth.reader(asking("Bearer key-of-eve", target), ID)
    assert auth.reader(asking("Bearer key-of-bob", target), ID) == "bob"


def test_the_admin_key_is_read_like_any_other() -> None:
    """One scheme for all keys; a tenant's key is no operator's."""
    auth = Auth(KEYS, "key-of-admin")
    auth.require_admin("Bearer key-of-admin")
    auth.require_admin("bearer  key-of-admin")
    for given in ("", "key-of-admin", "Basic key-of-admin", "Bearer key-of-ada", "Bearer key-of-admin2"):
        with pytest.raises(Unauthorized):
            auth.require_admin(given)
    Auth(KEYS, None).require_admin("")


def test_no_key_is_kept() -> None:
    """I5: a dump of the process's objects shows digests."""
    kept = repr(vars(Auth(KEYS, "key-of-admin")))
    assert "key-of" not in kept
