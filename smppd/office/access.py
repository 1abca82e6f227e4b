"""An operator's way into the sealed log: opens store, keys and audit trail, and says who looked at what, and why, first.

Whatever shows protected content goes through `Access.record`: when the entry cannot be written, nothing is shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from types import TracebackType
from typing import Final, NamedTuple, Self

from smppd.audit.trail import current_actor
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.message import Address
from smppd.numbering import normalise
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Authority
from smppd.protocol.longmessage import UdhError, parse_udh
from smppd.protocol.text import Alphabet, decode, is_text
from smppd.protocol.wire import UDHI, BodyError, Sm
from smppd.records.looks import LookKey, Shown, facts_of, key_of
from smppd.records.lookup import Found, LogReader
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.log import States
from smppd.store.opening import installation
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import VaultError
from smppd.vault.seal import Content, NumbersPart, OpenRecord, SealError, join_pdu

REASONS: Final = ("contract", "support", "quality", "law", "security")
_ALPHABETS: Final = {
    "gsm": Alphabet.GSM,
    "gsm_packed": Alphabet.GSM_PACKED,
    "latin1": Alphabet.LATIN1,
    "ascii": Alphabet.ASCII,
}
BINARY: Final = "binary, in hexadecimal"
"""Remark on a text that is none."""
_WHOLE: Final = (AuditEvent.REVEAL, AuditEvent.EXPORT, AuditEvent.EVIDENCE)
"""Looks at whole records: their entries name the parties, hashed."""
_NO_ADDRESSES: Final = bytes(6)


class Why(NamedTuple):
    """Why somebody looks: one of REASONS, and in words."""

    reason: str
    note: str


class Access:
    """The opened log and the trail on which looks at it are recorded."""

    def __init__(self, settings: Settings, authority: Authority | None = None) -> None:
        """authority: on whose word (`cli.authority.authorise`, a session of the console); None: nobody logged in. Raises
        OfficeError with status 2 when the store, its keys or its audit trail are missing or do not fit."""
        self.settings = settings
        self.authority = Authority(current_actor()) if authority is None else authority
        self._look_key: LookKey | None = None
        try:
            self.store = store = installation(settings)
            self.directory = directory = store.directory
            kek, install = unlock(settings)
            if not (directory / AUDIT_FILE).exists():
                raise VaultError(f"{directory / AUDIT_FILE}: there is no audit trail, so nothing may be looked at")
            self.chain_keys = ChainKeys(install.audit, install.checkpoint)
            self.reader = LogReader(store.records(), kek, self.chain_keys)
            try:
                self.trail = witnessed_trail(store, install)
            except VaultError:
                self.reader.close()
                raise
        except (VaultError, StoreError, OSError) as error:
            raise OfficeError(f"the log cannot be read: {error}", WRONG) from None
        self._kek = kek
        self._audit_key = install.audit
        self._alphabets = {account.system_id: _ALPHABETS[account.default_alphabet] for account in settings.accounts}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.trail.close()
        self.reader.close()

    def states(self) -> States:
        """What the parts of the store say of each other; the caller closes it."""
        return self.store.states()

    @property
    def look_key(self) -> LookKey:
        """The key under which this month's looks name people; made durable before its first hash is written."""
        if self._look_key is None:
            with guarded():
                rows = self.store.keys()
                try:
                    self._look_key = key_of(self._kek, rows, time.time())
                finally:
                    rows.close()
        return self._look_key

    def subject(self, form: bytes) -> str:
        """A number as the audit trail names it: the same all month, and not to be guessed without that month's key."""
        return self.look_key.hash(form)

    def older_subject(self, form: bytes) -> str:
        """The same as versions before 0.3 named it, under a key that does not die."""
        return blake2b(form, key=self._audit_key, digest_size=16, person=b"smppd-subject").hexdigest()

    def shown(self, found: Found) -> Shown:
        """A record as `record` takes it when it is shown whole."""
        header, numbers = found.record.header, found.record.numbers
        if numbers is None:
            return Shown(header.record_id)
        region = region_of(self.settings, header.account)
        parties = tuple(dict.fromkeys(form_of(one, region) for one in addresses_of(numbers)))
        return Shown(header.record_id, parties)

    def record(
        self,
        event: str,
        why: Why,
        what: Mapping[str, str | int],
        ids: Iterable[int | Shown],
        result: str,
    ) -> None:
        """Puts a look on the audit trail: who, from where, why, what, which records. On
        stable storage when it returns; OfficeError if it cannot be written: then show nothing.

        ids: of the records; of those that are shown whole (reveals, exports) `Shown`, so that their parties can be told later
        who looked at them."""
        who, source = self.authority.who, self.authority.actor.source
        listed = [one if isinstance(one, Shown) else Shown(one) for one in ids]
        facts: dict[str, str | int] = {"reason": why.reason, "note": why.note, **what, **self.authority.facts}
        whole = event in _WHOLE
        key = self.look_key if whole or "number" in what else None
        more: dict[str, str | int] = {"records": len(listed)}
        for portion in facts_of(listed, key, whole):
            self._append(event, who, facts | more | portion, result, source)
            more = {"continued": 1}

    def _append(self, event: str, who: str, facts: Mapping[str, str | int], result: str, source: str) -> None:
        try:
            self.trail.append(event, who, facts, result, source=source)
        except VaultError as error:
            raise OfficeError(f"nothing is shown, because the look cannot be recorded: {error}") from None

    def text(self, record: OpenRecord) -> TextShown:
        """The text of a record in its account's alphabet."""
        return text_of(record, self.alphabet(record.header.account))

    def alphabet(self, account: str) -> Alphabet:
        """What data_coding 0 means on an account's sessions."""
        return self._alphabets.get(account, Alphabet.GSM)


class TextShown(NamedTuple):
    """A message's text, or None, and why there is none or what form it is in (empty when there is nothing to say)."""

    text: str | None
    remark: str

    def __repr__(self) -> str:
        return "<TextShown ***>"


def addresses_of(numbers: NumbersPart) -> tuple[Address, Address]:
    """(source, destination) of an opened numbers part."""
    octets = numbers.addresses
    end = octets.index(0, 2)
    return (
        Address(octets[0], octets[1], octets[2:end]),
        Address(octets[end + 1], octets[end + 2], octets[end + 3 : octets.index(0, end + 3)]),
    )


def region_of(settings: Settings, account: str) -> str | None:
    """The country of an account's national numbers."""
    mine = next((one.region for one in settings.accounts if one.system_id == account), None)
    return mine or settings.region


def form_of(address: Address, region: str | None) -> bytes:
    """The normal form of an address, under which it is found."""
    return normalise(address.digits, address.ton, address.npi, region)


def text_of(record: OpenRecord, default: Alphabet) -> TextShown:
    """The text of a record whose link has `default` as its alphabet (SMPP 3.4 section 5.2.19)."""
    header = record.header
    if header.content is Content.HIDE:
        return TextShown(None, "no trace of the text is kept (content: hide)")
    if header.content is Content.HASH:
        return TextShown(None, "only a keyed hash of the text is kept for this account (content: hash)")
    if record.body is None:
        return TextShown(None, "the text cannot be read any more: its retention is over, or it was erased")
    try:
        addresses = record.numbers.addresses if record.numbers is not None else _NO_ADDRESSES
        return text_of_sm(Sm(join_pdu(addresses, record.body)), default)
    except (SealError, BodyError):
        return TextShown(None, "the message was malformed, so no text can be shown")


def text_of_sm(sm: Sm, default: Alphabet) -> TextShown:
    """The text of a PDU, whose link has `default` as its alphabet. Raises BodyError where it is malformed."""
    data = sm.body
    length, national = 0, (0, 0)
    if sm.esm_class & UDHI:
        try:
            header_found = parse_udh(data)
        except UdhError:
            header_found = None
        if header_found is not None:
            length, national = header_found.length, header_found.national
    if not is_text(sm.data_coding):
        return TextShown(data[length:].hex(), BINARY)
    return TextShown(decode(data[length:], sm.data_coding, default, national=national, header=length), "")


def printable(text: str) -> str:
    """Text safe for a terminal, in one line: what does not print (escapes, line ends, direction marks) is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def guarded() -> Iterator[None]:
    """Turns what the store and the vault raise into a sentence."""
    try:
        yield
    except (VaultError, StoreError) as error:
        raise OfficeError(str(error)) from None
