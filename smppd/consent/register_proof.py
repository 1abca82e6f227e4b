"""A consent as its proof has it, and how it is sealed and hashed: under keys of the register's own, for no other purpose.

The number is found by a keyed hash of account and number. A consent's scopes are keyed hashes too, each of a class of message
and a sender. Nothing of it is readable in the store.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.message import masked
from smppd.numbering import normalise
from smppd.store.consents import FOREVER, ConsentRow
from smppd.vault.seal import SealError

PURPOSE: Final = "consents v1"
"""Of the register's key (`InstallSecrets.for_purpose`)."""
ANY: Final = "*"
"""The class or the sender of a consent that is about every one."""
WITHDRAWAL: Final = "withdrawal"
"""The form of what is only a withdrawal, by somebody who is in the register with no consent."""
CLASSES: Final = frozenset({"transactional", "service", "promotional", "one_time_code", "government", ANY})
"""Of messages, and `*` for all."""
HASH: Final = 16
_NONCE: Final = 12
_MEMO: Final = 4096
_VERSION: Final = b"\1"


@dataclass(frozen=True, slots=True)
class Consent:
    """What is on record. number: international digits; form: `electronic`, `written` or `withdrawal`; at, imported, withdrawn:
    ISO 8601 in UTC, empty for none; text: the version of the words that were agreed to; guardian: somebody who answers for a
    minor gave it; classes: of messages (`*` for all); sender: `*` for every one; evidence: where the proof lies;
    withdrawal: why or how it was withdrawn."""

    account: str
    number: str
    form: str
    at: str
    ip: str = ""
    browser: str = ""
    language: str = ""
    device: str = ""
    text: str = ""
    guardian: bool = False
    classes: tuple[str, ...] = ("promotional",)
    sender: str = ANY
    evidence: str = ""
    imported: str = ""
    withdrawn: str = ""
    withdrawal: str = ""

    def __repr__(self) -> str:
        return f"<Consent of {masked(self.number)}>"


class ConsentKeys:
    """Hashes and seals consents. Any thread. ``key``: of `PURPOSE`, 32 octets."""

    __slots__ = ("_aead", "_hash", "_scopes", "_subjects")

    def __init__(self, key: bytes) -> None:
        def derived(what: bytes) -> bytes:
            return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"smppd consents " + what).derive(key)

        self._hash = derived(b"hash")
        self._aead = AESGCMSIV(derived(b"seal"))
        self._scopes: dict[tuple[str, bytes], bytes] = {}
        self._subjects: dict[str, blake2b] = {}

    def __repr__(self) -> str:
        return "<ConsentKeys ***>"

    def subject(self, account: str, number: bytes) -> bytes:
        """The keyed hash of a person for an account. number: in its normal form."""
        state = self._subjects.get(account)
        if state is None:
            if len(self._subjects) >= _MEMO:
                self._subjects.clear()
            state = blake2b(account.encode() + b"\0", key=self._hash, digest_size=HASH)
            self._subjects[account] = state
        state = state.copy()
        state.update(number)
        return state.digest()

    def scope(self, message_class: str, sender: bytes) -> bytes:
        """The keyed hash of a class and a sender in its normal form; either may be `*`."""
        known = self._scopes.get((message_class, sender))
        if known is None:
            if len(self._scopes) >= _MEMO:
                self._scopes.clear()
            octets = b"scope\0" + message_class.encode() + b"\0" + sender
            known = blake2b(octets, key=self._hash, digest_size=HASH).digest()
            self._scopes[message_class, sender] = known
        return known

    def row(self, consent: Consent, given: int, region: str | None) -> ConsentRow:
        """A consent as it is added. given: epoch seconds; region: of the account's national numbers."""
        sender = sender_form(consent.sender, region)
        scopes = b"".join(self.scope(one, sender) for one in consent.classes)
        subject = self.subject(consent.account, consent.number.encode())
        facts = {**asdict(consent), "imported": "", "classes": list(consent.classes)}
        plain = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
        digest = blake2b(plain, key=self._hash, digest_size=HASH).digest()
        return ConsentRow(digest, consent.account, subject, scopes, -given, FOREVER, self.seal(consent, digest))

    def seal(self, consent: Consent, digest: bytes) -> bytes:
        """The whole of it, sealed: version 1 | nonce 12 | AES-256-GCM-SIV; bound to its account and digest."""
        nonce = secrets.token_bytes(_NONCE)
        plain = json.dumps(asdict(consent), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, _bound(consent.account, digest))

    def open(self, row: ConsentRow) -> Consent:
        """What a row holds. SealError where it was altered, or stands in another's place."""
        sealed = row.sealed
        try:
            if sealed[:1] != _VERSION:
                raise ValueError
            plain = self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], _bound(row.account, row.digest))
            facts: dict[str, Any] = json.loads(plain.decode("utf-8", "surrogatepass"))
            return Consent(**{**facts, "classes": tuple(facts["classes"])})
        except (InvalidTag, ValueError, TypeError, KeyError):
            raise SealError(f"consent {row.number} was altered, or stands in another's place") from None


def _bound(account: str, digest: bytes) -> bytes:
    return b"smppd consent\0" + account.encode() + b"\0" + digest


def sender_form(sender: str, region: str | None) -> bytes:
    """A consent's sender as messages have it."""
    return ANY.encode() if sender == ANY else normalise(sender.encode("utf-8", "replace"), 0, 0, region)


def scopes_of(scopes: bytes) -> list[bytes]:
    """The single ones of a row."""
    return [scopes[at : at + HASH] for at in range(0, len(scopes), HASH)]
