"""What operators, sessions, attempts and approvals stand on: sealed documents of the store, and keyed hashes for what is only
compared.

A name that somebody tried to log in with, a session's token and a recovery code are never kept; their hashes are under a key of
the installation, so nobody without it can try them out on a copy of the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.store.documents import FOREVER, Documents
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import InstallSecrets

_HASH_BYTES: Final = 16


class Paper(NamedTuple):
    """A document that was opened. sealed: as it was read, for whoever puts another into its place."""

    name: str
    value: Any
    sealed: bytes

    def __repr__(self) -> str:
        return "<Paper ***>"


class Desk:
    """The documents of an installation, opened and sealed on their way. For one thread; raises StoreError and SealError."""

    def __init__(self, documents: Documents, install: InstallSecrets) -> None:
        """documents: closed with this."""
        self._documents = documents
        self._sealer = DocumentSealer(install)
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"smppd operators v1").derive(install.audit)

    def __repr__(self) -> str:
        return "<Desk ***>"

    def close(self) -> None:
        """Lets the store go."""
        self._documents.close()

    # -- documents -----------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Paper | None:
        """One document."""
        sealed = self._documents.get(kind, name)
        return None if sealed is None else Paper(name, self._sealer.open(kind, name, sealed), sealed)

    def all(self, kind: str) -> Iterator[Paper]:
        """All of a kind, in order of name."""
        for name, sealed in self._documents.all(kind):
            yield Paper(name, self._sealer.open(kind, name, sealed), sealed)

    def has(self, kind: str) -> bool:
        """Whether there is any of a kind."""
        return bool(self._documents.all(kind))

    def add(self, kind: str, name: str, value: Any, until: float = FOREVER) -> bool:
        """Adds one; False where there is one of this name. until: epoch seconds."""
        return self._documents.add(kind, name, self._sealer.seal(kind, name, value), int(until))

    def replace(self, kind: str, before: Paper, value: Any, until: float = FOREVER) -> bool:
        """Puts a value into the place of what was read before; False where that has changed since."""
        sealed = self._sealer.seal(kind, before.name, value)
        return self._documents.replace(kind, before.name, before.sealed, sealed, int(until))

    def remove(self, kind: str, name: str) -> bool:
        """Deletes one; False where there is none."""
        return self._documents.remove(kind, name)

    def number(self, kind: str) -> int:
        """A new number for a document of a kind."""
        return self._documents.number(kind)

    def expire(self, now: float) -> int:
        """Deletes what has ended; how many."""
        return self._documents.expire(now)

    # -- keyed hashes --------------------------------------------------------------------------------------------------

    def hash(self, purpose: str, *texts: str) -> str:
        """The keyed hash of some texts for one purpose (at most 10 letters), 32 hexadecimal digits."""
        plain = json.dumps(texts, ensure_ascii=True).encode()
        return blake2b(
            plain, key=self._key, digest_size=_HASH_BYTES, person=b"smppd-" + purpose.encode("ascii")
        ).hexdigest()

    def digest(self, kind: str, who: str, what: Mapping[str, str | int]) -> str:
        """The keyed hash of an act that somebody wants to do: the same for exactly the same act, whatever the order of its
        facts."""
        return self.hash("act", kind, who, json.dumps(dict(what), sort_keys=True, ensure_ascii=True))
