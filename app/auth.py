"""Who is asking: a tenant key, or the ticket of one stream, or nobody where no keys are configured."""

from __future__ import annotations

import hmac
from hashlib import blake2b, sha256
from typing import Final
from urllib.parse import parse_qs

from app.exchange import Exchange
from runtime.errors import Unauthorized

OPEN_TENANT: Final = "public"


class Auth:
    """Keys are kept as digests only. Tickets are good for GET of one stream, while the keys stay."""

    def __init__(self, keys: dict[str, str], admin_key: str | None) -> None:
        """`keys` maps key → tenant."""
        self._tenants = {_digest(key): tenant for key, tenant in keys.items()}
        self._admin = _digest(admin_key) if admin_key else None
        # The same in every process that has the same keys: a ticket is good for whichever is asked.
        known = sorted([*self._tenants, self._admin or b""])
        self._secret = blake2b(b"".join(known), digest_size=32, person=b"refrain-tickets").digest()

    @property
    def open(self) -> bool:
        return not self._tenants

    def tenant(self, exchange: Exchange) -> str:
        """The tenant of the bearer key; Unauthorized without a good one."""
        if self.open:
            return OPEN_TENANT
        tenant = self._tenants.get(_digest(_bearer(exchange.header(b"authorization"))))
        if tenant is None:
            raise Unauthorized()
        return tenant

    def reader(self, exchange: Exchange, id: str) -> str:
        """As `tenant`, for the stream of `id`: EventSource cannot send headers, so its ticket will do."""
        if self.open or exchange.header(b"authorization"):
            return self.tenant(exchange)
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
        given = query.get("ticket", [""])[0]
        tenant: str
        tenant, _, mac = given.rpartition(".")
        if not tenant or not hmac.compare_digest(mac.encode(), self._mac(tenant, id).encode()):
            raise Unauthorized()
        return tenant

    def ticket(self, tenant: str, id: str) -> str:
        """What makes a `stream_url` readable: bound to the tenant and the id."""
        return f"{tenant}.{self._mac(tenant, id)}"

    def require_admin(self, authorization: str) -> None:
        """Raises Unauthorized unless the header carries the admin key, where one is configured."""
        if self._admin is not None:
            given = _digest(_bearer(authorization))
            if not hmac.compare_digest(given, self._admin):
                raise Unauthorized()

    def _mac(self, tenant: str, id: str) -> str:
        return hmac.new(self._secret, f"{tenant}\n{id}".encode(), sha256).hexdigest()[:40]


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=32).digest()
