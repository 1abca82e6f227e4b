"""`smppd subject erase` on the running daemon: a person's messages delivered, waiting, with a carrier, in a mailbox, parked
and cold; then nothing of them can be found or opened, in the store, in what is on its way, or in an older backup that is
restored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from smppd.store.sqlite.damaged import DamagedItems
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.blocks import open_blob, split_row_id
from smppd.vault.kek import load_kek
from smppd.vault.keys import KeyRing, Part, read_scope
from smppd.vault.numbers import blind
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body
from tests.store.builder import files
from tests.store.everykey import in_cores
from tests.store.journals import rows_of

PERSON = b"447700900123"
OTHER = b"447700900456"
OWN = b"447700900001"
TEXT = b"the secret of the person"
FIELD = {number: b"\1\1" + number + b"\0" for number in (PERSON, OTHER, OWN)}


class FileSource:
    command = None
    credential = None

    def __init__(self, file: Path) -> None:
        self.file = file


def mo(source: bytes, text: bytes) -> bytes:
    return b"\0" + FIELD[source] + FIELD[OWN] + b"\0\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text


def receipt(number: bytes) -> Callable[[bytes], bytes]:
    return lambda message_id: receipt_body(FIELD[number], FIELD[OWN], message_id)


def opened(gateway: Gateway, store: Path) -> bytes:
    """All that is on its way and damaged, opened with every key that there is."""
    kek = load_kek(FileSource(gateway.directory / "keys/kek"))
    keys = ReadOnlyKeys(store)
    ring = KeyRing(kek, keys)
    db = connect(store / "data.db", "data", read_only=True)
    found: list[bytes] = []
    try:
        found += in_cores(store, store, kek)
        for seq, data in rows_of(store):
            segment, counter = split_row_id(seq)
            found.append(open_blob(ring.segment(segment), counter, b"spool", data))
        for kind, owner, identity, segment, data in db.execute("SELECT kind, owner, id, segment, data FROM cold"):
            bound = b"cold %d %s %d" % (kind, owner.encode(), identity)
            found.append(ring.segment(segment).decrypt(data[:12], data[12:], bound))
        with closing(DamagedItems(store, read_only=True)) as damaged:
            found += [damaged.content(item.number, ring) or b"" for item in damaged.items()]
    finally:
        db.close()
        keys.close()
    return b"\n".join(found)


def blinds(gateway: Gateway, store: Path, number: bytes) -> list[bytes]:
    """The blind indexes of a number under every index key that there is."""
    keys = ReadOnlyKeys(store)
    ring = KeyRing(load_kek(FileSource(gateway.directory / "keys/kek")), keys)
    found: list[bytes] = []
    try:
        for scope, _ in keys.scan(b"period/"):
            parsed = read_scope(scope)
            if parsed is not None and parsed[1] is Part.NUMBERS:
                key = ring.existing(*parsed)
                assert key is not None
                found.append(blind(key, number))
    finally:
        keys.close()
    assert found
    return found


def search(gateway: Gateway, number: bytes) -> list[dict[str, Any]]:
    done = gateway.command("log", "search", "+" + number.decode(), "--reason", "law", "--json")
    return list(json.loads(done.stdout)["records"]) if done.returncode == 0 else []


def sound(gateway: Gateway) -> None:
    for name in ("log", "audit"):
        done = gateway.command(name, "verify", "--json")
        assert json.loads(done.stdout)["ok"], done.stdout


def nothing_left(gateway: Gateway, store: Path) -> None:
    everything = files(store)
    needles = [PERSON, TEXT, *blinds(gateway, store, PERSON)]
    assert not [number for number, one in enumerate(needles) if one in everything]
    assert any(one in everything for one in blinds(gateway, store, OTHER))
    # What a carrier calls a message stays in the sealed spool: its receipt is matched by it.
    way = opened(gateway, store).replace(b"SAR-" + PERSON, b"")
    assert PERSON not in way and TEXT not in way
    assert OTHER in way


def fill(gateway: Gateway, smsc: RawSmsc) -> None:
    """Messages to two persons in every state; the last ones wait while the carrier is away."""
    ca = gateway.certificates / "ca.pem"

    def send(probe: Probe, number: bytes, text: bytes) -> None:
        answer = probe.ask(0x04, submit_body(text, number, registered=1))
        while answer[4:8] != b"\x80\0\0\4":  # a receipt may come first
            answer = probe.read()
        assert status(answer) == 0

    with Probe(gateway.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0  # a transmitter: receipts wait in the mailbox
        for number in (PERSON, OTHER) * 4:
            send(probe, number, TEXT if number is PERSON else b"another text")
        wait_for("all sent", lambda: len(smsc.submits()) == 8)
        wait_for("receipts in the mailbox", lambda: gateway.metric("smppd_mailbox") >= 4)
        smsc.deliver(mo(PERSON, TEXT))
        smsc.deliver(mo(OTHER, b"another text"))
        smsc.deliver(receipt_body(FIELD[PERSON], FIELD[OWN], b"nobody-knows-it"))
        smsc.deliver(receipt_body(FIELD[OTHER], FIELD[OWN], b"nor-this-one"))
        wait_for("MO in the mailbox", lambda: gateway.metric("smppd_mailbox") >= 6)
        smsc.stop()
        gateway.wait_links("sim", 0)
        for number in (PERSON, OTHER) * 6:
            send(probe, number, TEXT if number is PERSON else b"another text")


@pytest.mark.parametrize("running", [True, False])
def test_a_person_is_erased_everywhere(running: bool, make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    # Half of the messages get their receipt at once, the others never.
    steps = chain.from_iterable(repeat([Step(then=(receipt(PERSON),)), Step(then=(receipt(OTHER),)), Step(), Step()]))
    with RawSmsc(steps, ids=lambda number: b"SAR-%s-%d-2-1" % ((OTHER, PERSON)[number % 2], number)) as smsc:
        gateway = make_gateway(
            [Upstream(smsc.port)],
            [account(numbers=[OWN.decode()])],
            store={"path": "store", "reserve": "16MiB", "hot": 8},
        )
        where = gateway.directory
        store = where / "store"
        with gateway:
            fill(gateway, smsc)
            taken = gateway.command("backup", str(where / "b"), "--keys-to", str(where / "k"), "--json")
            assert taken.returncode == 0, taken.stderr
            (where / "b/manifest.json").rename(where / "away.json")  # a medium that cannot be reached
            assert len(search(gateway, PERSON)) == 11
            if not running:
                assert gateway.terminate() == 0
            words = ("erase", "+" + PERSON.decode(), "--reason", "law", "--note", "ticket 17", "--yes", "--json")
            done = gateway.command("subject", *words)
            assert done.returncode == 0, done.stderr + gateway.log_text()[-2000:]
            told = json.loads(done.stdout)
            assert (told["records"], told["erased"], told["queued"], told["complete"]) == (11, 11, 0, True)
            way = told["on_its_way"]
            assert (way["messages"], way["waiting"], way["texts"], way["parked"]) == (6, 2, 1, 1), way
            assert way["receipts"] == 2 and told["journal_missing"] == [str(where / "b")]
            assert search(gateway, PERSON) == [] and len(search(gateway, OTHER)) == 11
            nothing_left(gateway, store)
            sound(gateway)
            certificate = Path(told["certificate"])
            checked = subprocess.run(
                ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "installation.pem", "-rawin"]
                + ["-in", certificate.name, "-sigfile", certificate.with_suffix(".sig").name],
                cwd=certificate.parent, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert checked.returncode == 0, checked.stderr
            again = gateway.command("subject", *words)
            assert again.returncode == 1 and "there is nothing of" in again.stderr, again.stderr
            known = connect(store / "data.db", "data", read_only=True)
            assert known.execute("SELECT count(*) FROM cold WHERE kind = 6").fetchone() == (1,), (
                "the number is known for 72 h"
            )
            known.close()
            if running:
                with (
                    RawSmsc(repeat(Step())) as later,
                    Probe(gateway.tls_port, gateway.certificates / "ca.pem") as probe,
                ):
                    gateway.config["upstreams"][0]["address"] = f"127.0.0.1:{later.port}"
                    gateway.write_config()
                    gateway.reload()
                    wait_for("the others are sent", lambda: len(later.submits()) == 6)
                    assert all(OTHER in one and PERSON not in one for one in later.submits())
                    assert probe.bind("acme", PASSWORD, 0x01) == 0
                    got: list[bytes] = []
                    while len(got) < 11:  # receipts of both, deleted ones among them, and one text
                        one = probe.read()
                        got.append(one)
                        probe.send(frame(0x80000005, 0, int.from_bytes(one[12:16]), b"\0"))
                    assert not [one for one in got if PERSON in one or TEXT in one]
                    assert sum(b"stat:DELETED" in one for one in got) == 6
                    assert sum(b"stat:DELIVRD" in one for one in got) == 4
                    parked = gateway.metric("smppd_receipts_total", upstream="sim", outcome="parked")
                    number = later.deliver(receipt_body(FIELD[PERSON], FIELD[OWN], b"that-came-late"))
                    # Counted as it comes, acknowledged when it is durable.
                    later.wait(lambda: any(int.from_bytes(one[12:16]) == number for one in later.responses()))
                    assert gateway.metric("smppd_receipts_total", upstream="sim", outcome="parked") > parked
                    left = opened(gateway, store)
                    assert b"that-came-late" in left and PERSON not in left.replace(b"SAR-" + PERSON, b"")
        # Elsewhere, from the older backup and a copy of the trail.
        shipped = tmp_path / "trail.jsonl"
        shipped.write_text(gateway.command("audit", "show", "--json").stdout)
        (where / "away.json").rename(where / "b/manifest.json")
        gateway.config["store"]["path"] = "elsewhere"
        gateway.write_config()
        again_words = ("--from", str(where / "b"), "--keys-from", str(where / "k"), "--json")
        restored = gateway.command("restore", *again_words, "--erasures", str(shipped))
        assert restored.returncode == 0, restored.stderr
        facts = json.loads(restored.stdout)
        assert facts["erasures"]["records"] == 11 and facts["erasures"]["on_its_way"]["messages"] == 6
        assert search(gateway, PERSON) == [] and len(search(gateway, OTHER)) == 11
        everything = files(where / "elsewhere")
        assert not [one for one in blinds(gateway, where / "elsewhere", PERSON) if one in everything]
        left = opened(gateway, where / "elsewhere")
        assert TEXT not in left
        sound(gateway)
