"""A search of a disk by somebody who has every key: opens whatever any key opens, and looks for words in what comes out."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smppd.records.lookup import LogReader
from smppd.store.sqlite.filing import Filing, unpack
from smppd.store.sqlite.journal import CORE
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.blocks import open_blob, split_row_id
from smppd.vault.kek import Kek, VaultError
from smppd.vault.keys import KeyRing
from smppd.vault.seal import SECRETS_BYTES, iter_records, open_record, read_header
from tests.store.journals import cores_of, rows_of


def wrapped_keys(directory: Path) -> dict[bytes, bytes]:
    """scope -> wrapped key, as they stand in keys.db."""
    db = sqlite3.connect(f"file:{directory / 'keys.db'}?mode=ro", uri=True)
    rows = dict(db.execute("SELECT scope, wrapped FROM keys").fetchall())
    db.close()
    return rows


def raw(*directories: Path) -> bytes:
    """Every octet of every file, free pages and write-ahead logs too."""
    paths = sorted(path for one in directories for path in one.rglob("*") if path.is_file())
    return b"".join(path.read_bytes() for path in paths)


def opened(data: Path, keys: Path, kek: Kek) -> Iterator[bytes]:
    """The plaintext of every spool block and cold row, under any key there is, and of every record."""
    ring = [
        AESGCM(kek.unwrap(scope, wrapped))
        for scope, wrapped in wrapped_keys(keys).items()
        if scope.startswith(b"segment/")
    ]
    db = sqlite3.connect(f"file:{data / 'data.db'}?mode=ro", uri=True)
    for seq, sealed in rows_of(data):
        for aead in ring:
            with suppress(VaultError):
                yield open_blob(aead, split_row_id(seq)[1], b"spool", sealed)
    yield from in_cores(data, keys, kek)
    for kind, owner, identity, sealed in db.execute("SELECT kind, owner, id, data FROM cold").fetchall():
        for aead in ring:
            try:
                yield aead.decrypt(sealed[:12], sealed[12:], b"cold %d %s %d" % (kind, owner.encode(), identity))
            except InvalidTag:
                continue
    records = db.execute("SELECT records FROM log").fetchall()
    db.close()
    if data == keys:
        with LogReader(SqliteRecords(data), kek) as reader:
            for (block,) in records:
                for packed in iter_records(block):
                    found = reader.record(read_header(packed).record_id)
                    if found is not None and found.record.numbers is not None:
                        yield found.record.numbers.addresses
                    if found is not None and found.record.body is not None:
                        yield found.record.body


def in_cores(data: Path, keys: Path, kek: Kek) -> Iterator[bytes]:
    """What the blocks of the journal have beside the spool: who has a block needs no row of `secrets` for its records."""
    ring = [
        AESGCM(kek.unwrap(scope, wrapped))
        for scope, wrapped in wrapped_keys(keys).items()
        if scope.startswith(b"segment/")
    ]
    for block in cores_of(data):
        for aead in ring:
            with suppress(VaultError):
                core = unpack(open_blob(aead, block.counter + 1, CORE % block.sequence, block.core))
                yield from (row.data for row in core.cold)
                yield from (item.data for item in core.damaged)
                yield core.events
                yield from in_core(kek, keys, core)


def in_core(kek: Kek, keys: Path, core: Filing) -> Iterator[bytes]:
    """What the records of a block say, by the secrets beside them."""
    rows = ReadOnlyKeys(keys)
    try:
        ring = KeyRing(kek, rows)
        for place, packed in enumerate(iter_records(core.records)):
            secrets = core.secrets[place * SECRETS_BYTES : (place + 1) * SECRETS_BYTES]
            with suppress(VaultError):
                record = open_record(packed, ring, secrets)
                if record.numbers is not None:
                    yield record.numbers.addresses
                if record.body is not None:
                    yield record.body
    finally:
        rows.close()


def disguises(word: bytes) -> list[bytes]:
    """A word as it may stand in something: plain, UTF-16, hexadecimal, base64, packed GSM septets, semi-octets."""
    text = word.decode()
    forms = [word, text.encode("utf-16-be"), text.encode("utf-16-le"), word.hex().encode(), word.hex().upper().encode()]
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + word)
        forms.append(coded[-(-8 * shift // 6) : (len(word) + shift) * 8 // 6])
    bits = sum(octet << 7 * at for at, octet in enumerate(word))
    for shift in range(8):
        packed = (bits << shift).to_bytes(len(word) + 1, "little")
        forms.append(packed[1 : len(word) * 7 // 8 - 1])  # without what neighbours share
    if text.isdigit():
        digits = text + "f" * (len(text) % 2)
        forms.append(bytes.fromhex("".join(digits[at + 1] + digits[at] for at in range(0, len(digits), 2))))
    return forms


def seen(words: list[bytes], plain: bytes) -> list[bytes]:
    """Which of the words are in it, in any disguise."""
    return [word for word in words if any(form in plain for form in disguises(word))]
