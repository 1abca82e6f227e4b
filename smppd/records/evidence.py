"""The evidence bundle of a hold: its records as they can be read, with what proves that they are those that were accepted.

A tar, sealed to the authority's key (`vault.bundle`), written as a stream: pieces of bounded size in memory, whatever the hold
keeps.

    README.txt, index.html      what it is, how it is verified; a page to read
    hold.json                   the facts of the hold
    records/000001.jsonl ...    a record a line: what it says, and its proof: packed record, keys of its parts, row and place
    chain/000001.jsonl ...      a log row a line, from each record's up to its checkpoint: digests of all its records, link
    seals.jsonl                 the signed checkpoints that cover these rows
    manifest.json, manifest.sig, installation.pem    size and SHA-256 of every file, signed by the installation

What anybody can verify with it, without keys of the installation: the signature; that each record opens with the keys beside it
to what the record says; that its digest is the one in its row; that the checkpoints are signed. Links are under a key of the
installation, so that nobody can forge a chain: the installation verified them when it made the bundle, and its signature says
so.
"""

from __future__ import annotations

import base64
import html
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.records.held import HeldParts
from smppd.records.holds import Hold
from smppd.records.lookup import Found, LogReader
from smppd.records.verify import row_digests
from smppd.store.holds import HeldRow
from smppd.store.log import LAST_ID, LogRow, Records, read_purged
from smppd.vault.bundle import SealedWriter
from smppd.vault.certificate import PUBLIC_KEY, certify
from smppd.vault.chain import GENESIS, ChainKeys, Seal, chain
from smppd.vault.keys import VaultError
from smppd.vault.seal import (
    NO_KEYS,
    SECRETS_BYTES,
    PartKeys,
    SealError,
    digest_of,
    iter_records,
    open_record,
    read_header,
)

FORMAT: Final = 1
MANIFEST: Final = "manifest"
SHOWN: Final = 500
"""So many records are on the page; all are in the files."""
_LINES: Final = 1000
_OCTETS: Final = 1 << 22
_PAGE: Final = 256
_ROWS: Final = 64
_SEALS: Final = 500


class Made(NamedTuple):
    """What is in a bundle. faults: rows of the log, or records, that do not fit the chain or do not open; unsealed: rows
    behind the last checkpoint."""

    records: int
    rows: int
    seals: int
    unsealed: int
    faults: tuple[str, ...]


def _same(parts: PartKeys, _record: int) -> PartKeys:
    return parts


class _Files:
    """The tar, and what its manifest says."""

    def __init__(self, out: SealedWriter, at: int) -> None:
        self._tar = tarfile.open(fileobj=cast(BinaryIO, out), mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._at = at
        self.listed: dict[str, dict[str, str | int]] = {}

    def add(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = len(data), self._at, 0o600
        self._tar.addfile(entry, io.BytesIO(data))
        self.listed[name] = {"sha256": sha256(data).hexdigest(), "octets": len(data)}

    def close(self) -> None:
        self._tar.close()


class _Lines:
    """JSON lines, in files of bounded size."""

    def __init__(self, files: _Files, name: str) -> None:
        self._files = files
        self._name = name
        self._some: list[bytes] = []
        self._octets = self._number = 0

    def add(self, value: Mapping[str, object]) -> None:
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        self._some.append(line)
        self._octets += len(line)
        if len(self._some) >= _LINES or self._octets >= _OCTETS:
            self.flush()

    def flush(self) -> None:
        if self._some:
            self._number += 1
            self._files.add(f"{self._name}/{self._number:06d}.jsonl", b"".join(self._some))
            self._some, self._octets = [], 0


class _Chain:
    """Walks the rows from a held record's up to the checkpoint that covers it, once each."""

    def __init__(self, records: Records, keys: ChainKeys, lines: _Lines, node: int | None) -> None:
        """node: whose chain it is, where there are several."""
        self._records = records
        self._named: dict[str, str | int] = {} if node is None else {"node": node}
        self._keys = keys
        self._lines = lines
        self._listed = self._read()
        self._seal: tuple[Seal, bytes] | None = next(self._listed, None)
        self._begin = 0
        if self._seal is not None and self._seal[0].number == 1:
            self._begin = self._seal[0].seq
        self._walked = 0
        self.seals: list[dict[str, str | int]] = []
        self.rows = self.unsealed = 0
        self.faults: list[str] = []

    def _read(self) -> Iterator[tuple[Seal, bytes]]:
        after = 0
        while page := self._records.seals(after, LAST_ID, _SEALS):
            for number, signed in page:
                after = number
                try:
                    yield self._keys.read(signed), signed
                except SealError as error:
                    self.faults.append(f"checkpoint {number}: {error}")

    def cover(self, seq: int) -> None:
        """Sees to it that a row, above those before, is in the bundle with all up to its checkpoint."""
        if seq <= self._walked:
            return
        while self._seal is not None and self._seal[0].seq < seq:
            self._seal = next(self._listed, None)
        seal = self._seal
        upto = LAST_ID if seal is None else seal[0].seq
        link, after = self._before(seq), seq - 1
        last = 0
        while page := self._records.rows(after, _ROWS):
            for row in page:
                if row.seq > upto:
                    break
                link = self._row(link, row, None if seal is None else seal[0].number)
                last = row.seq
            after = page[-1].seq
            if after >= upto:
                break
        self._walked = max(upto if seal is not None else last, seq)
        if seal is not None:
            if last != seal[0].seq or link != seal[0].chain:
                self.faults.append(f"the log is not the one that checkpoint {seal[0].number} was made of")
            self.seals.append(_seal_line(*seal) | self._named)

    def _before(self, seq: int) -> bytes:
        return self._records.link_before(seq) or GENESIS

    def _row(self, link: bytes, row: LogRow, seal: int | None) -> bytes:
        digests: list[bytes] = []
        try:
            digests = list(row_digests(row.written, row.records or b"", row.events or b"", row.digests or b""))
            plain = row.seq <= self._begin
            expected = chain(link, digests) if plain else self._keys.link(link, row.seq, row.secrets, digests)
            fits = expected == row.chain
        except (VaultError, TypeError, ValueError):
            fits = False
        if not fits:
            self.faults.append(f"log row {row.seq:016x} was altered or does not follow the one before")
        self.rows += 1
        self.unsealed += seal is None
        self._lines.add(
            {
                "row": f"{row.seq:016x}",
                "secrets": row.secrets or 0,
                "previous": link.hex(),
                "digests": [one.hex() for one in digests],
                "events": bool(row.events),
                "link": bytes(row.chain or b"").hex(),
                "checkpoint": seal,
                "fits": fits,
                **self._named,
            }
        )
        return bytes(row.chain or b"")


def write(
    out: SealedWriter,
    reader: LogReader,
    hold: Hold,
    parts: HeldParts,
    describe: Callable[[Found], dict[str, Any]],
    keys: ChainKeys,
    sign: Ed25519PrivateKey,
    made_for: str,
    now: float,
    version: str,
    progress: Callable[[int], object] = lambda _done: None,
) -> Made:
    """Writes the bundle of what a hold keeps now. describe(found): what a record says, as JSON can say it. made_for:
    fingerprint of the key that it is sealed to. progress: told of the records done. Raises StoreError, VaultError and OSError;
    what was written so far does not open then."""
    files = _Files(out, int(now))
    key = parts.key(hold.number)
    if key is None:
        raise SealError(f"hold {hold.number} has ended")
    about = _about(hold, now)
    files.add("README.txt", README.encode())
    files.add("hold.json", _json(about))
    lines, links = _Lines(files, "records"), _Lines(files, "chain")
    records, walks = reader.records, dict[int, _Chain]()
    shown: list[dict[str, Any]] = []
    faults: list[str] = []
    count = 0
    for row in _held(parts, hold.number):
        try:
            kept = key.open(row.record, row.source, row.destination, row.sealed)
            standing = reader.packed(row.record)
            if standing is None:
                raise SealError("it is not in the log any more")
            seq, packed, _ = standing
            opened = open_record(packed, NO_KEYS, bytes(SECRETS_BYTES), partial(_same, kept))
        except SealError as error:
            faults.append(f"record {row.record:016x}: {error}")
            continue
        node = records.node(seq)
        if node not in walks:
            walks[node] = _Chain(records.of(node), keys, links, node if records.several else None)
        walks[node].cover(seq)
        pdu = opened.pdu()
        said = describe(Found(seq, opened))
        lines.add(
            said
            | {
                "proof": {
                    "row": f"{seq:016x}",
                    "place": _place(reader.records.row(seq), row.record),
                    "digest": digest_of(packed).hex(),
                    "packed": base64.b64encode(packed).decode(),
                    "numbers_key": kept.numbers.hex() if kept.numbers else None,
                    "body_key": kept.body.hex() if kept.body else None,
                    "pdu": pdu.hex() if pdu else None,
                }
            }
        )
        count += 1
        if len(shown) < SHOWN:
            shown.append(said)
        progress(count)
    lines.flush()
    links.flush()
    each = [walks[node] for node in sorted(walks)]
    faults += [fault for walk in each for fault in walk.faults]
    seals = [seal for walk in each for seal in walk.seals]
    files.add("seals.jsonl", b"".join(json.dumps(one).encode() + b"\n" for one in seals))
    made = Made(count, sum(walk.rows for walk in each), len(seals), sum(walk.unsealed for walk in each), tuple(faults))
    files.add("index.html", page(about, shown, made).encode())
    facts = {
        "what": "smppd evidence bundle",
        "format": FORMAT,
        "hold": hold.number,
        "authority": hold.authority,
        "reference": hold.reference,
        "made": _iso(now),
        "smppd": version,
        "sealed_to_sha256": made_for,
        "records": made.records,
        "rows": made.rows,
        "checkpoints": made.seals,
        "rows_behind_the_last_checkpoint": made.unsealed,
        "faults": faults[:1000],
        "files": files.listed,
    }
    signed = certify(facts, sign)
    files.add(PUBLIC_KEY, signed.public)
    files.add(f"{MANIFEST}.json", signed.text)
    files.add(f"{MANIFEST}.sig", signed.signature)
    files.close()
    out.close()
    return made


def _held(parts: HeldParts, hold: int) -> Iterator[HeldRow]:
    after = 0
    while rows := parts.rows.page(hold, after, _PAGE):
        yield from rows
        after = rows[-1].record


def _place(row: LogRow | None, record: int) -> int | None:
    """Where in its row a record was written."""
    if row is None:
        return None
    gone = read_purged(row.digests)
    places = (place for place in range(row.written) if place not in gone)
    for place, packed in zip(places, iter_records(row.records), strict=False):
        if read_header(packed).record_id == record:
            return place
    return None


def _seal_line(seal: Seal, signed: bytes) -> dict[str, str | int]:
    return {
        "checkpoint": seal.number,
        "row": f"{seal.seq:016x}",
        "chain": seal.chain.hex(),
        "time": _iso(seal.time_ms / 1000),
        "signed": base64.b64encode(signed).decode(),
    }


def _about(hold: Hold, now: float) -> dict[str, Any]:
    return {
        "hold": hold.number,
        "authority": hold.authority,
        "reference": hold.reference,
        "numbers": [form.decode("utf-8", "replace") for form in hold.forms],
        "account": hold.account or None,
        "since": _iso(hold.since) if hold.since else None,
        "until": None if hold.until == float("inf") else _iso(hold.until),
        "state": hold.state.value,
        "asked_by": hold.who,
        "agreed_by": hold.second or None,
        "asked": _iso(hold.added),
        "expires": _iso(hold.expires),
        "made": _iso(now),
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- what people read --------------------------------------------------------------------------------------------------

README: Final = """\
EVIDENCE BUNDLE OF AN SMPP GATEWAY (smppd), form 1

This directory has the messages that were kept under one legal hold, what happened to each of them, and what proves that they
are the ones that were accepted then. Begin with index.html. Everything in here is personal data: handle it so.

  hold.json            who demanded the hold, in which matter, what it covers
  records/*.jsonl      one message a line: time, account, numbers, text, events, and its proof
  chain/*.jsonl        one row of the gateway's log a line, in order, from each message's row up to its checkpoint
  seals.jsonl          the signed checkpoints that cover these rows; where lines of both have a `node`, several gateways had one
                       log, and each has a chain and checkpoints of its own
  manifest.json        size and SHA-256 of every other file, signed (manifest.sig) with the key in installation.pem

HOW TO VERIFY IT (nothing of smppd is needed)

1. The signature. Compare the SHA-256 of the key with the one that the operator of the gateway gives you on another way, then:
     openssl pkey -pubin -in installation.pem -outform DER | sha256sum
     openssl pkeyutl -verify -pubin -inkey installation.pem -rawin -in manifest.json -sigfile manifest.sig
2. The files: SHA-256 and size of each are in manifest.json.
3. A record: `proof.packed` is base64 of
     u32 length | u8 gone | u16 N | u32 B | head, 30 octets, of which octet 5 (from 0) is A, the length of the account |
     account, A octets | numbers section, N octets | body section, B octets | digest, 32 octets
   (big endian). digest = BLAKE2b-256(head | account | leaf of numbers | leaf of body), person "smppd-record", where
   leaf = BLAKE2b-256(section), person "smppd-leaf"; where bit 1 of `gone` is set, the body section is its leaf itself. It must
   be the digest at the end.
4. What it says: the numbers section is blind indexes 32 | nonce 12 | AES-256-GCM, the body section is nonce 12 | AES-256-GCM;
   the keys are `proof.numbers_key` and `proof.body_key`. Associated data: "N" or "B", then head, account and the 32 octets of
   blind indexes. In the plaintext: u32 length, then the content, then zeros. Numbers: u8 length of the customer's IP address,
   the address, then source and destination as in the PDU. Body: the rest of the PDU. Together they are `proof.pdu` (SMPP 3.4).
   Where an account kept only a keyed hash of texts, the body section is that hash; where it kept nothing, there is none.
5. Its row: in chain/, the line whose `row` is `proof.row` has that digest at place `proof.place` of `digests`. Where `events`
   is true the last digest is that of the row's events: BLAKE2b-256, person "smppd events".
6. The checkpoints: `signed` in seals.jsonl is base64 of 149 octets and their Ed25519 signature, 64 octets, by the same key. In
   them, from octet 45 on: the link of the chain after the row of the checkpoint, 32 octets. It is the `link` of that row.
7. The links between rows are keyed BLAKE2b, under a key that only the installation has, so that nobody else can make or forge a
   chain. The installation verified every link in here when it made the bundle; manifest.json, which it signed, says what did
   not fit (`faults`) and how many rows were behind the last checkpoint then. An expert whom the operator lets look can verify
   the links from what is in here, and the whole log with `smppd log verify`.
"""


def page(about: Mapping[str, Any], shown: list[dict[str, Any]], made: Made) -> str:
    """The page that says what it is: HTML without anything from elsewhere."""

    def cell(value: object) -> str:
        return html.escape("" if value is None else str(value))

    facts = "".join(
        f"<tr><th>{cell(name.replace('_', ' '))}</th><td>"
        f"{cell(', '.join(value) if isinstance(value, list) else value)}</td></tr>"
        for name, value in about.items()
        if value not in (None, [])
    )
    columns = ("time", "id", "account", "direction", "from", "to", "state", "text")
    head = "".join(f"<th>{name}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{cell(one.get(name, ''))}</td>" for name in columns) + "</tr>" for one in shown
    )
    more = (
        f"<p>The first {len(shown)} of {made.records} messages; all are in records/.</p>"
        if made.records > len(shown)
        else ""
    )
    sound = (
        "<p>Every row of the log in here fitted the chain when this was made.</p>"
        if not made.faults
        else f"<p><strong>{len(made.faults)} things did not fit when this was made; manifest.json names them.</strong></p>"
    )
    behind = (
        f"<p>{made.unsealed} rows were behind the last signed checkpoint then; no checkpoint covers them.</p>"
        if made.unsealed
        else ""
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Evidence bundle</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<style>body{font:15px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse}"
        "th,td{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top}</style></head><body>"
        "<h1>Messages kept under a legal hold</h1>"
        "<p>These are text messages that passed through an SMS gateway and were kept from being destroyed because an authority"
        " demanded it. They are personal data. README.txt says how to verify that they are the ones that were accepted.</p>"
        f"<h2>The hold</h2><table>{facts}</table>"
        f"<h2>{made.records} messages</h2>{sound}{behind}{more}<table><tr>{head}</tr>{rows}</table></body></html>\n"
    )
