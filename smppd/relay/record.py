"""The sealed record of each message, in the batch that accepts it."""

from __future__ import annotations

import os
from typing import Final

from smppd.numbering import normalise
from smppd.protocol.wire import UDHI, Sm
from smppd.relay.context import Context
from smppd.relay.state.model import Account
from smppd.vault.keys import Part
from smppd.vault.seal import NONCES_BYTES, SECRETS_BYTES, Content, Direction, pack_numbers, seal_record, split_pdu

_CONTENT: Final = {"encrypt": Content.ENCRYPT, "hash": Content.HASH, "hide": Content.HIDE}
_RANDOM_POOL: Final = 64
# The usual user data header of a part: 5 octets long, one element, concatenation with an 8-bit reference, of 3 octets
# (3GPP TS 23.040 section 9.2.3.24.1). Reference, number of parts and place follow.
_CONCATENATION: Final = b"\x05\x00\x03"
_NUMBER_OF_PARTS: Final = 4


def _parts(sm: Sm) -> int:
    """Of how many parts its long message has, as the record says it: looked at in the usual header only, since the whole one
    costs more than it is worth for each message. 1 for a message that is no part, or has another header."""
    text = sm.short_message
    if sm.esm_class & UDHI and text.startswith(_CONCATENATION) and len(text) > len(_CONCATENATION) + 2:
        return text[_NUMBER_OF_PARTS]
    return 1


class Recorder:
    """Seals messages into log records of the current batch. It draws random octets for many records at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._random = b""
        self._at = 0

    def record(
        self,
        identity: int,
        account: Account,
        sm: Sm,
        direction: Direction,
        ip: bytes,
        region: str | None = None,
        hide: bool = False,
    ) -> None:
        """Appends the sealed record of one message, and the secrets it was sealed with. ``region``: of its national numbers,
        where that is not the account's. ``hide``: without its text, whatever the account says."""
        context = self._context
        settings = account.settings
        wall = context.wall()
        if self._at >= len(self._random):
            self._random = os.urandom(_RANDOM_POOL * (SECRETS_BYTES + NONCES_BYTES))
            self._at = 0
        at = self._at
        batch = context.store.batch
        secrets = self._random[at : at + SECRETS_BYTES]
        nonces = self._random[at + SECRETS_BYTES : at + SECRETS_BYTES + NONCES_BYTES]
        self._at = at + SECRETS_BYTES + NONCES_BYTES
        kept = settings.kept
        content = Content.HIDE if hide else _CONTENT[settings.content]
        when = int(wall)
        ring = context.ring
        addresses, body = split_pdu(sm.raw)
        if content is Content.HIDE:
            body_key, body = None, b""
        else:
            body_key = ring.period(account.name, Part.BODY, when, kept.new_body)
            if content is Content.HASH:
                body = sm.body
        region = region or account.region
        record = seal_record(
            identity,
            int(wall * 1000),
            direction,
            content,
            _parts(sm),
            sm.data_coding,
            ring.period(account.name, Part.NUMBERS, when, kept.numbers),
            body_key,
            normalise(sm.source_digits, sm.source_ton, 0, region),
            normalise(sm.destination_digits, sm.destination_ton, 0, region),
            pack_numbers(addresses, ip),
            body,
            secrets,
            nonces,
        )
        batch.records.append(record)
        batch.recorded.append(identity)
        batch.secrets.append(secrets)
