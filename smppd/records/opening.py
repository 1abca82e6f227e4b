"""Opens and verifies an evidence bundle (`records.evidence`) for whoever it was sealed to. Needs no store.

Nothing is left in the directory of a bundle that was altered or cut short. What does not fit within one that is whole is said.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from smppd.records.evidence import FORMAT, MANIFEST
from smppd.vault.bundle import SealedReader
from smppd.vault.certificate import PUBLIC_KEY, fingerprint, verify
from smppd.vault.chain import read_seal
from smppd.vault.seal import NO_KEYS, SECRETS_BYTES, PartKeys, SealError, open_record, verify_digest

_NAME: Final = re.compile(
    r"(?:README\.txt|index\.html|hold\.json|seals\.jsonl|manifest\.json|manifest\.sig|installation\.pem"
    r"|(?:records|chain)/[0-9]{6}\.jsonl)"
)
_PIECE: Final = 1 << 20
_FAULTS: Final = 1000


class Opened(NamedTuple):
    """facts: of the manifest; key: fingerprint of the installation's public key; faults: what does not fit, beside what the
    manifest says itself."""

    facts: dict[str, Any]
    key: str
    records: int
    faults: tuple[str, ...]


def open_bundle(
    file: BinaryIO, key: X25519PrivateKey, out: Path, progress: Callable[[int], object] = lambda _octets: None
) -> Opened:
    """Opens a bundle into the directory `out`, which must not exist yet or be empty, and verifies it. progress: told of the
    octets that were written. Raises SealError where the bundle was altered, cut short, or sealed to another key: then nothing
    is left; OSError."""
    staging = out.with_name(out.name + ".opening")
    shutil.rmtree(staging, ignore_errors=True)  # of one that was killed
    staging.mkdir(mode=0o700, parents=True)
    try:
        _unpack(SealedReader(file, key), staging, progress)
        opened = check(staging)
        if out.exists():
            out.rmdir()  # an empty one; OSError otherwise
        os.rename(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return opened


def _unpack(reader: SealedReader, out: Path, progress: Callable[[int], object]) -> None:
    done = 0
    try:
        with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r|") as tar:
            for entry in tar:
                if not entry.isreg() or not _NAME.fullmatch(entry.name):
                    raise SealError("the bundle holds a file that no bundle has")
                path = out / entry.name
                path.parent.mkdir(mode=0o700, exist_ok=True)
                content = tar.extractfile(entry)
                assert content is not None, "it is a regular file"
                with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy:
                    while piece := content.read(_PIECE):
                        copy.write(piece)
                        done += len(piece)
                        progress(done)
    except FileExistsError:
        raise SealError("the bundle holds a file twice") from None
    except tarfile.TarError:
        raise SealError("the bundle is not of a form that this version knows") from None
    while reader.read(_PIECE):  # to its end, which is what shows that nothing was cut off
        pass


def check(directory: Path) -> Opened:
    """Verifies an opened bundle. Raises SealError where it is none, or its manifest does not verify."""
    faults: list[str] = []
    try:
        pem = (directory / PUBLIC_KEY).read_bytes()
        text, signature = (directory / f"{MANIFEST}.json").read_bytes(), (directory / f"{MANIFEST}.sig").read_bytes()
        public = load_pem_public_key(pem)
    except (OSError, ValueError):
        raise SealError("this is no opened evidence bundle: its manifest or public key is missing") from None
    if not isinstance(public, Ed25519PublicKey):
        raise SealError("the bundle's public key is not of the right kind")
    facts = verify(text, signature, public)
    files = facts.get("files")
    if facts.get("format") != FORMAT or not isinstance(files, dict):
        raise SealError("the bundle is not of a form that this version knows")
    there = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    signed = {PUBLIC_KEY, f"{MANIFEST}.json", f"{MANIFEST}.sig"}
    faults += [f"{name}: the manifest does not name it" for name in sorted(there - set(files) - signed)]
    for name, said in files.items():
        if name not in there:
            faults.append(f"{name}: is missing")
        elif _digest(directory / name) != said.get("sha256"):
            faults.append(f"{name}: was altered")
    seals = _seals(directory, public, faults)
    rows, records = _Rows(directory, seals, faults), 0
    for line in _lines(directory, "records", faults):
        try:
            _record(line, rows)
        except (SealError, ValueError, KeyError, TypeError) as error:
            faults.append(
                f"record {str(line.get('id'))[:16]}: {error if isinstance(error, SealError) else 'malformed'}"
            )
        records += 1
    rows.rest()
    if records != facts.get("records"):
        faults.append("there are not as many records as the manifest says")
    return Opened(facts, fingerprint(public), records, tuple(faults[:_FAULTS]))


def _digest(path: Path) -> str:
    state = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state.hexdigest()


def _lines(directory: Path, name: str, faults: list[str]) -> Iterator[dict[str, Any]]:
    for path in sorted((directory / name).glob("*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    value = json.loads(line)
                except ValueError:
                    value = None
                if isinstance(value, dict):
                    yield value
                else:
                    faults.append(f"{name}/{path.name}:{number}: malformed")


def _seals(directory: Path, public: Ed25519PublicKey, faults: list[str]) -> dict[str, str]:
    """row -> link, both hexadecimal, of the checkpoints whose signature verifies."""
    found = {}
    with (directory / "seals.jsonl").open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                seal = read_seal(public, base64.b64decode(json.loads(line)["signed"], validate=True))
                found[f"{seal.seq:016x}"] = seal.chain.hex()
            except (SealError, ValueError, KeyError, TypeError):
                faults.append(f"seals.jsonl:{number}: this checkpoint does not verify")
    return found


class _Rows:
    """The rows of chain/, read along with the records, which stand in the same order."""

    def __init__(self, directory: Path, seals: dict[str, str], faults: list[str]) -> None:
        self._lines = _lines(directory, "chain", faults)
        self._seals = seals
        self._faults = faults
        self._row: dict[str, Any] | None = None

    def digest(self, row: str, place: int) -> str:
        """The digest at a place of a row. SealError where there is none."""
        while self._row is None or str(self._row.get("row")) < row:
            if not self._step():
                break
        if self._row is None or self._row.get("row") != row:
            raise SealError("its row is not in the bundle")
        digests = self._row["digests"]
        return str(digests[place]) if 0 <= place < len(digests) else ""

    def rest(self) -> None:
        """Goes through the rows behind the last record's; every checkpoint has to be met."""
        while self._step():
            pass
        self._faults += [f"row {row}: the checkpoint's own row is missing" for row in self._seals]

    def _step(self) -> bool:
        row = self._row = next(self._lines, None)
        if row is None:
            return False
        expected = self._seals.pop(str(row.get("row")), None)
        if expected is not None and expected != row.get("link"):
            self._faults.append(f"row {row.get('row')}: its link is not the one that the checkpoint signed")
        return True


def _record(line: dict[str, Any], rows: _Rows) -> None:
    """Verifies one record: that it says what its octets say, and that these are the ones in the log's row. SealError."""
    proof = line["proof"]
    packed = base64.b64decode(proof["packed"], validate=True)
    digest = verify_digest(packed).hex()
    numbers, body = (bytes.fromhex(proof[name]) if proof[name] else None for name in ("numbers_key", "body_key"))
    opened = open_record(packed, NO_KEYS, bytes(SECRETS_BYTES), partial(_same, PartKeys(numbers, body)))
    head, pdu = opened.header, opened.pdu()
    if (f"{head.record_id:016x}", head.account) != (line["id"], line["account"]):
        raise SealError("it is another record than it says")
    if (pdu.hex() if pdu else None) != proof["pdu"]:
        raise SealError("it does not say what is sealed in it")
    if digest != proof["digest"] or rows.digest(proof["row"], int(proof["place"])) != digest:
        raise SealError("it is not the one in the log's row")


def _same(parts: PartKeys, _record: int) -> PartKeys:
    return parts
