"""Seals the documents of an installation (`store.documents`): who its operators are, what was approved, what is held.

Their key is derived from the installation's audit key, so it lives as long as the installation. What is sealed is bound to its
kind and name: a document cannot be put into another's place. That an older state of the same document was put back is not seen
here: each change is on the audit trail, which operators and approvals are held against.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.vault.keys import InstallSecrets
from smppd.vault.seal import SealError

_NONCE: Final = 12
_VERSION: Final = b"\1"


class DocumentSealer:
    """Seals and opens JSON values."""

    __slots__ = ("_aead",)

    def __init__(self, install: InstallSecrets) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"smppd documents v1").derive(install.audit)
        self._aead = AESGCMSIV(key)

    def __repr__(self) -> str:
        return "<DocumentSealer ***>"

    def seal(self, kind: str, name: str, value: Any) -> bytes:
        """A value that JSON can say, sealed: version 1 | nonce 12 | AES-256-GCM-SIV."""
        nonce = secrets.token_bytes(_NONCE)
        plain = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, _bound(kind, name))

    def open(self, kind: str, name: str, sealed: bytes) -> Any:
        """The value. Raises SealError where it was altered, or is another document's."""
        if sealed[:1] != _VERSION:
            raise SealError(f"a document of kind {kind} has an unknown form")
        try:
            plain = self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], _bound(kind, name))
            return json.loads(plain.decode("utf-8", "surrogatepass"))
        except (InvalidTag, ValueError):
            raise SealError(f"a document of kind {kind} was altered, or stands in another's place") from None


def _bound(kind: str, name: str) -> bytes:
    return b"smppd document\0" + kind.encode() + b"\0" + name.encode("utf-8", "surrogatepass")
