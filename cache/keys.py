"""The sharing key: which requests may share one answer.

A keyed hash over the canonical request. Everything that could change the answer is in it: who may
share (the scope), the model, every parameter, known or not, the messages exactly as given, and a
fingerprint of what would prepare and answer it (upstream, hook, planning model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import msgspec

#: Raise it when the canonical form changes, so that old answers are not found under new keys.
KEY_VERSION: Final = "1"
#: The only fields of a request that do not change its answer.
INERT: Final = frozenset({"stream", "stream_options", "request_id", "priority", "cache", "metadata"})
SCOPE_LENGTH: Final = 16
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class SharingKeys:
    """A key is 64 hex digits: 16 of the scope, so that a tenant can be purged, and 48 of the rest."""

    def __init__(
        self,
        *,
        share_globally: bool,
        normalize_loosely: bool,
        fingerprint: Sequence[str],
        versions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`versions`: of the models that are the gateway's own, beside the fingerprint of all."""
        self._share_globally = share_globally
        self._loosely = normalize_loosely
        self._secret = _secret(fingerprint)
        self._secrets = {model: _secret([*fingerprint, version]) for model, version in versions.items()}

    def scope(self, tenant: str) -> str:
        return scope_of(None if self._share_globally else tenant)

    def key(self, tenant: str, body: Mapping[str, Any]) -> str:
        return self.scope(tenant) + self._digest(body, loosely=self._loosely)

    def identity(self, body: Mapping[str, Any]) -> str:
        """Is it the same request? Exact also where sharing is loose."""
        return self._digest(body, loosely=False)

    def _digest(self, body: Mapping[str, Any], *, loosely: bool) -> str:
        canonical = {name: value for name, value in body.items() if name not in INERT}
        if loosely:
            canonical["messages"] = [_loose_message(message) for message in canonical.get("messages", ())]
        secret = self._secrets.get(canonical.get("model", ""), self._secret)
        return blake2b(_ENCODER.encode(canonical), digest_size=24, key=secret).hexdigest()


def beside(key: str, epoch: int) -> str:
    """For whoever may not join that flight of `key`: the same for all of them, of its scope and partition."""
    digest = blake2b(f"{key}|{epoch}".encode(), digest_size=23).hexdigest()
    return key[:SCOPE_LENGTH] + digest + key[-2:]


def _secret(fingerprint: Sequence[str]) -> bytes:
    return blake2b(_ENCODER.encode([KEY_VERSION, *fingerprint]), digest_size=32).digest()


def scope_of(tenant: str | None) -> str:
    """The scope part of a key; None for answers that all tenants share."""
    name = b"*" if tenant is None else b"t:" + tenant.encode()
    return blake2b(name, digest_size=SCOPE_LENGTH // 2).hexdigest()


def _loose_message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": _loose(content)}
    if isinstance(content, list):
        return {**message, "content": [_loose_part(part) for part in content]}
    return message


def _loose_part(part: Any) -> Any:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return {**part, "text": _loose(part["text"])}
    return part


def _loose(text: str) -> str:
    """Letters and digits only, lower case."""
    return "".join(char for char in text.lower() if char.isalnum())
