"""`smppd hold` on a real store, as transcripts: two people, what is refused, the trail, a bundle that anybody can verify."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from smppd.audit.trail import AuditTrail
from smppd.cli.commands import CommandError
from smppd.config import Retain
from smppd.message import State
from smppd.store.opening import embedded
from smppd.vault.kek import VaultError, load_kek
from smppd.vault.seal import join_pdu
from tests.cli.installation import FileSource, Run
from tests.cli.killed import killed_at
from tests.store.builder import DAY, Builder, files

SUBJECT = "+447700900123"
OTHER = "+447700900111"
TEXT = "meet me at noon"
WHY = ("--authority", "District Court", "--reference", "Order 12/26", "--expires", "2030-01-01")


@pytest.fixture
def log(run: Run, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")), sealed=True)
    builder.now = time.time() - 3600
    yield builder
    builder.close()


@pytest.fixture
def record(log: Builder) -> int:
    identity = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY, numbers=30 * DAY)
    log.record(b"a neighbour's", destination=OTHER[1:].encode(), body=DAY, numbers=30 * DAY)
    log.commit()
    log.event(identity, State.SUBMITTED, b"carrier-a\0up-77")
    log.commit()
    log.event(identity, State.DELIVERED, b"carrier-a\0up-77")
    log.commit()
    return identity


class Pair:
    """The authority's keys, in files."""

    def __init__(self, path: Path) -> None:
        key = X25519PrivateKey.generate()
        self.private, self.public = path / "authority.key", path / "authority.pub"
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def trail(run: Run, *events: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in run("audit", "show", "--json")[1].splitlines()]
    return [entry for entry in entries if entry["event"] in (events or ("hold", "evidence"))]


# -- add, list, show, release ------------------------------------------------------------------------------------------


def test_a_hold_from_its_beginning_to_its_end(run: Run, record: int, log: Builder, tmp_path: Path) -> None:
    status, out, err = run("hold", "add", "--number", "07700 900123", "--region", "gb", *WHY)
    assert (status, err) == (0, "") and out == (
        "Hold 1 is active until 2030-01-01T00:00:00Z: it keeps 1 records, and what comes.\n"
    )
    asked, added = trail(run)
    assert asked["what"]["action"] == "asked" and asked["result"] == "pending" and "no login" in asked["who"]
    assert asked["what"]["authority"] == "District Court" and len(asked["what"]["number"]) == 32
    assert (
        added["what"] == {"action": "added", "hold": 1, "second": "", "login": "none"} and added["result"] == "active"
    )
    assert "900123" not in json.dumps(trail(run)) and b"7700900123" not in files(tmp_path / "var")
    status, out, err = run("hold", "list")
    assert status == 0 and "active" in out and "+44770***0123" not in out and "44770***0123" in out
    assert "District Court, Order 12/26" in out and "1 hold protects" in err
    shown = json.loads(run("hold", "show", "1", "--json")[1])
    assert (shown["state"], shown["records"], shown["numbers"]) == ("active", 1, ["44770***0123"])
    assert "records     1" in run("hold", "show", "1")[1]

    # a day's retention is over: the neighbour's text dies, the held one opens
    log.now = time.time() - 3 * DAY
    log.close()
    sqlite = sqlite3.connect(tmp_path / "var/keys.db")
    assert sqlite.execute("SELECT count(*) FROM held WHERE record > 0").fetchone() == (1,)
    sqlite.close()

    status, out, err = run("hold", "release", "1")
    assert status == 0 and "released" in out and "smppd purge" in err
    assert trail(run)[-1]["what"]["action"] == "released"
    assert run("hold", "release", "1")[0] == 1 and "released already" in run("hold", "release", "1")[2]
    assert run("purge")[0] == 0
    (ended,) = json.loads(run("hold", "list", "--json")[1])["holds"]
    assert ended["state"] == "released" and ended["numbers"] == [] and ended["ended"]
    assert run("audit", "verify")[0] == 0 and run("log", "verify")[0] == 0
    assert run("keys", "list")[1].count("hold/") == 0


def test_what_is_held_opens_after_a_purge(run: Run, log: Builder) -> None:
    log.now = time.time() - 5 * DAY
    mine = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY, numbers=30 * DAY)
    other = log.record(b"a neighbour's", destination=OTHER[1:].encode(), body=DAY, numbers=30 * DAY)
    log.commit()
    log.close()
    assert run("hold", "add", "--number", SUBJECT, "--account", "acme", *WHY)[0] == 0
    status, out, _ = run("purge")
    assert status == 0 and "Destroyed 1 period keys and 2 record secrets" in out
    look = ("--reason", "law", "--note", "order 12/26", "--reveal")
    assert TEXT in run("log", "search", SUBJECT, *look)[1] and TEXT in run("log", "show", f"{mine:016x}", *look)[1]
    assert "cannot be read any more" in run("log", "show", f"{other:016x}", *look)[1]
    assert run("log", "verify")[0] == 0


def test_a_second_person_has_to_agree(run: Run, record: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, str | int]]] = []
    agreed = ""

    def approver(_authority: object, _settings: object, kind: str, what: dict[str, str | int]) -> str:
        asked.append((kind, what))
        if not agreed:
            raise CommandError("asked for; another person has to agree: approval 7", 3)
        return agreed

    monkeypatch.setattr("smppd.office.holding.approver", approver)
    words = ("hold", "add", "--number", SUBJECT, "--since", "2026-01-01", *WHY)
    status, out, err = run(*words)
    assert (status, out) == (3, "") and "Hold 1 is pending: it keeps 1 records" in err and "another person" in err
    assert json.loads(run("hold", "show", "1", "--json")[1])["state"] == "pending"
    assert run(*words)[0] == 3 and asked[0] == asked[1], "the same request, not another one"
    agreed = "carol"
    assert run(*words)[0] == 0
    shown = json.loads(run("hold", "show", "1", "--json")[1])
    assert (shown["state"], shown["second"]) == ("active", "carol")
    assert asked[0] == asked[2] and asked[0][0] == "hold" and asked[0][1]["hold"] == 1
    assert [entry["what"]["action"] for entry in trail(run)] == ["asked", "added"]
    agreed = ""
    status, _, err = run("hold", "release", "1")
    assert status == 3 and asked[-1][0] == "hold release"
    assert json.loads(run("hold", "show", "1", "--json")[1])["state"] == "active", "nothing was done"
    agreed = "carol"
    assert run("hold", "release", "1")[0] == 0 and trail(run)[-1]["what"]["second"] == "carol"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --number, --account or both"),
        (("--account", " "), "--account is empty"),
        (("--account", "nobody"), "no account nobody"),
        (("--number", "+ -"), "give a phone number"),
        (("--number", "07700 900123"), "--region"),
        (("--number", "07700 900123", "--region", "XX"), "no country"),
        (("--number", SUBJECT, "--since", "2026-02-01", "--until", "2026-02-01"), "not before"),
        (("--number", SUBJECT, "--expires", "2020-01-01"), "not in the future"),
        (("--number", SUBJECT, "--expires", "2099-01-01"), "ten years"),
        (("--number", SUBJECT, "--authority", " "), "--authority and --reference"),
        (("--number", SUBJECT, "--reference", "x" * 201), "--authority and --reference"),
    ],
)
def test_what_is_refused(run: Run, record: int, words: tuple[str, ...], said: str) -> None:
    status, out, err = run("hold", "add", *WHY, *words)
    assert (status, out) == (2, "") and said in err and "900123" not in err
    assert trail(run) == [] and json.loads(run("hold", "list", "--json")[1]) == {"holds": []}


def test_what_is_called_wrongly(run: Run, tmp_path: Path, record: int, pair: Pair) -> None:
    for words in (
        ("hold", "add", "--number", SUBJECT, *WHY[:4]),
        ("hold", "add", "--number", SUBJECT, *WHY, "--since", "yesterday"),
        ("hold", "show", "x"),
        ("hold",),
    ):
        with pytest.raises(SystemExit):
            run(*words)
    for action in ("show", "release"):
        status, _, err = run("hold", action, "9")
        assert status == 1 and err.endswith("smppd: there is no hold 9\n")
    out = ("--out", str(tmp_path / "b"))
    assert "no hold 9" in run("hold", "bundle", "9", "--to", str(pair.public), *out)[2]
    assert "no X25519 public key" in run("hold", "bundle", "9", "--to", str(pair.private), *out)[2]
    assert run("hold", "bundle", "9", "--to", str(tmp_path / "none"), *out)[0] == 2
    assert not (tmp_path / "b").exists()


def test_national_digits_only_where_they_are_asked_for(run: Run, log: Builder) -> None:
    log.record(destination=b"07700900123")
    log.commit()
    assert "keeps 0 records" in run("hold", "add", "--number", SUBJECT, *WHY)[1]
    assert "keeps 1 records" in run("hold", "add", "--number", SUBJECT, "--also-national", *WHY)[1]


def test_nothing_is_done_that_is_not_recorded(
    run: Run, record: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pair: Pair
) -> None:
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0

    def append(*_: object, **__: object) -> int:
        raise VaultError("disk full")

    monkeypatch.setattr(AuditTrail, "append", append)
    for words in (
        ("hold", "add", "--account", "acme", *WHY),
        ("hold", "release", "1"),
        ("hold", "bundle", "1", "--to", str(pair.public), "--out", str(tmp_path / "bundle")),
    ):
        status, out, err = run(*words)
        assert (status, out) == (1, "") and "cannot be recorded" in err, words
    monkeypatch.undo()
    monkeypatch.setenv("PASSWORD", "not-used")
    (only,) = json.loads(run("hold", "list", "--json")[1])["holds"]
    assert only["state"] == "active" and not (tmp_path / "bundle").exists()


def test_it_can_be_killed_while_it_gathers_and_asked_for_again(run: Run, log: Builder, tmp_path: Path) -> None:
    for row in range(60):
        log.now += 1
        for n in range(15):
            log.record(destination=b"4477009%05d" % (row * 15 + n), body=DAY, numbers=30 * DAY)
        log.commit()
    words = ["hold", "add", "--account", "acme", *WHY]

    def kept() -> int:
        rows = sqlite3.connect(f"file:{tmp_path / 'var/keys.db'}?mode=ro", uri=True)
        number = rows.execute("SELECT count(*) FROM held WHERE record > 0").fetchone()[0]
        rows.close()
        return int(number)

    step, seen = 120, [0]
    while killed_at([*words, "--config", str(tmp_path / "smppd.yaml")], step):
        seen.append(kept())
        step += 8
    assert any(0 < number < 900 for number in seen), seen
    status, out, _ = run(*words)
    assert status == 0 and out.startswith("Hold 1 is active") and "keeps 900 records" in out
    (only,) = json.loads(run("hold", "list", "--json")[1])["holds"]
    assert only["state"] == "active" and run("audit", "verify")[0] == 0


# -- the bundle --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(run: Run, record: int, tmp_path: Path, pair: Pair) -> Path:
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    path = tmp_path / "bundle"
    status, out, err = run("hold", "bundle", "1", "--to", str(pair.public), "--out", str(path))
    assert status == 0 and "1 records of hold 1" in out, err
    return path


def test_a_bundle_is_sealed_recorded_and_opened(
    run: Run, bundle: Path, pair: Pair, tmp_path: Path, record: int
) -> None:
    assert bundle.stat().st_mode & 0o777 == 0o600 and not bundle.with_name("bundle.new").exists()
    sealed = bundle.read_bytes()
    for canary in (TEXT.encode(), b"900123", b"District Court", b"index.html"):
        assert canary not in sealed
    entry = trail(run)[-1]
    assert entry["event"] == "evidence" and entry["what"]["hold"] == 1 and entry["what"]["records"] == 1
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", str(pair.public), "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert entry["what"]["key"] == hashlib.sha256(der).hexdigest()
    out = tmp_path / "opened"
    shutil.rmtree(tmp_path / "var")  # the authority has no store
    status, shown, err = run("hold", "open", str(bundle), "--key", str(pair.private), "--out", str(out))
    assert status == 0 and err == "" and "1 records of hold 1" in shown
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "README.txt", "index.html", "hold.json", "seals.jsonl", "manifest.json", "manifest.sig", "installation.pem",
        "records/000001.jsonl", "chain/000001.jsonl",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.rglob("*"))
    (line,) = (out / "records/000001.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["id"], said["text"], said["to"], said["from"]) == (f"{record:016x}", TEXT, SUBJECT[1:], "Acme")
    assert said["customer_ip"] == "192.0.2.7" and said["state"] == "DELIVERED"
    assert [event["state"] for event in said["events"]] == ["SUBMITTED", "DELIVERED"]
    page = (out / "index.html").read_text()
    assert TEXT in page and "District Court" in page and "http" not in page.replace("http-equiv", "")
    assert json.loads((out / "hold.json").read_text())["numbers"] == [SUBJECT[1:]]
    # There already: nothing is written over.
    assert run("hold", "open", str(bundle), "--key", str(pair.private), "--out", str(out))[0] == 2
    assert run("hold", "open", str(tmp_path / "none"), "--key", str(pair.private), "--out", str(tmp_path / "x"))[0] == 2
    assert run("hold", "open", str(bundle), "--key", str(pair.public), "--out", str(tmp_path / "x"))[0] == 2


def blake(data: bytes, person: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32, person=person).digest()


def test_anybody_can_verify_it_without_smppd(run: Run, bundle: Path, pair: Pair, tmp_path: Path, log: Builder) -> None:
    """As README.txt in the bundle says: openssl, hashlib and AES-GCM; then, with the installation's key, the links."""
    out = tmp_path / "opened"
    assert run("hold", "open", str(bundle), "--key", str(pair.private), "--out", str(out))[0] == 0
    subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "installation.pem", "-rawin", "-in", "manifest.json",
         "-sigfile", "manifest.sig"], cwd=out, check=True, capture_output=True,
    )  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    for name, said in manifest["files"].items():
        data = (out / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (said["sha256"], said["octets"])
    assert manifest["faults"] == []
    rows = {row["row"]: row for row in map(json.loads, (out / "chain/000001.jsonl").read_text().splitlines())}
    record = json.loads((out / "records/000001.jsonl").read_text())
    proof = record["proof"]
    packed = base64.b64decode(proof["packed"])
    total, gone, n, b = struct.unpack_from("!IBHI", packed)
    head = packed[11:41]
    account = packed[41 : 41 + head[5]]
    at = 41 + head[5]
    numbers, body, digest = packed[at : at + n], packed[at + n : at + n + b], packed[at + n + b :]
    assert total == len(packed) and not gone and account == b"acme"
    leaves = blake(numbers, b"smppd-leaf") + blake(body, b"smppd-leaf")
    assert blake(head + account + leaves, b"smppd-record") == digest == bytes.fromhex(proof["digest"])
    bound = head + account + numbers[:32]
    plain = AESGCM(bytes.fromhex(proof["numbers_key"])).decrypt(numbers[32:44], numbers[44:], b"N" + bound)
    addresses = plain[4 : 4 + struct.unpack_from("!I", plain)[0]]
    assert addresses[0] == 4 and addresses[1:5] == bytes((192, 0, 2, 7)) and SUBJECT[1:].encode() in addresses
    plain = AESGCM(bytes.fromhex(proof["body_key"])).decrypt(body[:12], body[12:], b"B" + bound)
    rest = plain[4 : 4 + struct.unpack_from("!I", plain)[0]]
    assert TEXT.encode() in rest and join_pdu(addresses[5:], rest).hex() == proof["pdu"]
    row = rows[proof["row"]]
    assert bytes.fromhex(row["digests"][proof["place"]]) == digest
    # The link, for an expert with the key of the chain.
    linked = log.keys.link(
        bytes.fromhex(row["previous"]),
        int(row["row"], 16),
        row["secrets"] or None,
        [bytes.fromhex(one) for one in row["digests"]],
    )
    assert linked.hex() == row["link"]
    public = load_pem_public_key((out / "installation.pem").read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    seals = [json.loads(line) for line in (out / "seals.jsonl").read_text().splitlines()]
    for seal in seals:
        signed = base64.b64decode(seal["signed"])
        public.verify(signed[149:], signed[:149])
        assert signed[45:77].hex() == seal["chain"] == rows[seal["row"]]["link"]
        chained = [one for one in rows.values() if one["checkpoint"] == seal["checkpoint"]]
        for before, after in pairwise(chained):
            assert after["previous"] == before["link"]


def test_the_checkpoint_that_covers_it(run: Run, tmp_path: Path, pair: Pair, log: Builder, record: int) -> None:
    """A clean stop seals the end of the log; then a bundle has no row that no checkpoint covers."""
    from smppd.daemon.integrity import Integrity
    from smppd.metrics import Metrics

    log.close()
    again = Builder(
        tmp_path / "var",
        log.kek,
        prepare=lambda one: setattr(
            one, "integrity", Integrity(embedded(one.directory), one.install, one.store, Metrics())
        ),
    )
    again.now = time.time()
    again.record(b"later", destination=SUBJECT[1:].encode())
    again.commit()
    again.integrity.close_store(0)  # type: ignore[attr-defined]
    again.closed = True
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    path, out = tmp_path / "bundle", tmp_path / "opened"
    status, _, err = run("hold", "bundle", "1", "--to", str(pair.public), "--out", str(path))
    assert (status, err) == (0, "")
    assert run("hold", "open", str(path), "--key", str(pair.private), "--out", str(out))[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["records"] == 2 and manifest["checkpoints"] >= 1
    assert manifest["rows_behind_the_last_checkpoint"] == 0


def test_every_flipped_bit_is_found_and_leaves_nothing(run: Run, bundle: Path, pair: Pair, tmp_path: Path) -> None:
    whole = bundle.read_bytes()
    places = [*range(200), *range(200, len(whole), max(1, len(whole) // 60)), len(whole) - 1]
    bad, out = tmp_path / "bad", tmp_path / "opened"
    words = ("hold", "open", str(bad), "--key", str(pair.private), "--out", str(out))
    for at in places:
        bad.write_bytes(whole[:at] + bytes((whole[at] ^ 1 << at % 8,)) + whole[at + 1 :])
        assert run(*words)[0] == 1, at
        assert not out.exists() and not out.with_name("opened.opening").exists()
    for cut in (0, 5, 50, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:cut])
        assert run(*words)[0] == 1 and not out.exists()
    bad.write_bytes(whole + b"x")
    assert run(*words)[0] == 1 and not out.exists()
    bad.write_bytes(whole)
    other = tmp_path / "other"
    other.mkdir()
    status, _, err = run(*words[:4], str(Pair(other).private), *words[5:])
    assert status == 1 and "another key" in err and not out.exists()
    assert run(*words)[0] == 0


def test_a_log_that_was_altered_is_told(run: Run, record: int, pair: Pair, tmp_path: Path) -> None:
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    db = sqlite3.connect(tmp_path / "var/data.db", isolation_level=None)
    db.execute("UPDATE log SET events = x'' WHERE length(events) > 0")
    db.close()
    path, out = tmp_path / "bundle", tmp_path / "opened"
    status, _, err = run("hold", "bundle", "1", "--to", str(pair.public), "--out", str(path))
    assert status == 1 and "do not fit" in err
    status, _, err = run("hold", "open", str(path), "--key", str(pair.private), "--out", str(out))
    assert status == 1 and "said when it was made: log row" in err


def test_what_is_changed_in_an_opened_one_is_found(run: Run, bundle: Path, pair: Pair, tmp_path: Path) -> None:
    from smppd.records.opening import check
    from smppd.vault.seal import SealError

    out = tmp_path / "opened"
    assert run("hold", "open", str(bundle), "--key", str(pair.private), "--out", str(out))[0] == 0
    assert check(out).faults == ()
    kept = (out / "records/000001.jsonl").read_text()
    said = json.loads(kept)
    for change in (
        {"id": "0" * 16},
        {"proof": said["proof"] | {"pdu": "00"}},
        {"proof": said["proof"] | {"place": 1}},
        {"proof": said["proof"] | {"row": "0" * 16}},
        {"proof": said["proof"] | {"numbers_key": "00" * 32}},
        {"proof": 7},
    ):
        (out / "records/000001.jsonl").write_text(json.dumps(said | change) + "\n")
        faults = check(out).faults
        assert faults[0] == "records/000001.jsonl: was altered" and faults[1].startswith("record "), change
    (out / "records/000001.jsonl").write_text(kept)
    (out / "records/000002.jsonl").write_text(kept)
    assert "records/000002.jsonl: the manifest does not name it" in check(out).faults
    (out / "records/000002.jsonl").unlink()
    (out / "index.html").unlink()
    assert check(out).faults == ("index.html: is missing",)
    text = (out / "manifest.json").read_bytes()
    (out / "manifest.json").write_bytes(text.replace(b"District", b"distracT"))
    with pytest.raises(SealError):
        check(out)
    with pytest.raises(InvalidTag):
        AESGCM(bytes(32)).decrypt(bytes(12), bytes(20), b"")


def test_the_running_daemon_keeps_what_is_held(run: Run, log: Builder, tmp_path: Path) -> None:
    """Its purge thread, on the store of a daemon that runs: what is due goes, what is held opens, an ended hold is swept."""
    from smppd.daemon.background import Background
    from smppd.metrics import Metrics
    from smppd.records.retention import EVERY

    log.now = time.time() - 5 * DAY
    mine = log.record(TEXT.encode(), destination=SUBJECT[1:].encode(), body=DAY, numbers=30 * DAY)
    other = log.record(b"a neighbour's", destination=OTHER[1:].encode(), body=DAY, numbers=30 * DAY)
    log.commit()
    log.now = time.time()
    log.record(destination=OTHER[1:].encode())
    log.commit()
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0

    def purged(until: Callable[[], bool]) -> None:
        retain = {"acme": Retain(body=DAY, numbers=30 * DAY, billing=60 * DAY)}
        metrics = Metrics()
        background = Background(
            embedded(tmp_path / "var"), log.ring, log.install, lambda: retain, metrics, lambda call: call(), lambda: False,
            lambda _token: None,
        )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not until():
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            background.stop()
        assert not metrics.chores_failed.labels("purge")._value.get()

    def texts() -> list[bool]:
        with log.reader() as reader:
            found = [reader.record(one) for one in (mine, other)]
        return [one is not None and one.record.body is not None for one in found]

    def stripped(identity: int) -> bool:
        with log.reader() as reader:
            found = reader.record(identity)
        return found is not None and found.record.header.body_gone

    assert texts() == [True, True] and EVERY == 3600
    purged(lambda: stripped(other))
    assert texts() == [True, False] and not stripped(mine)
    assert run("hold", "release", "1")[0] == 0
    purged(lambda: stripped(mine))
    assert texts() == [False, False] and run("log", "verify")[0] == 0


def test_the_report_of_retention_has_the_holds_in_force_and_nobody_s_number(run: Run, log: Builder) -> None:
    log.record(TEXT.encode(), destination=SUBJECT[1:].encode())
    log.commit()
    log.close()
    assert run("hold", "add", "--number", SUBJECT, *WHY)[0] == 0
    assert run("hold", "add", "--number", OTHER, *WHY)[0] == 0
    assert run("hold", "release", "2")[0] == 0
    status, out, _ = run("report", "retention", "--json")
    assert status == 0 and SUBJECT[1:] not in out
    assert [(one["hold"], one["state"], one["records"]) for one in json.loads(out)["holds"]] == [(1, "active", 1)]
