"""`smppd subject export` beside the real daemon: what is there of one person, and nothing of others, wherever it lies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body

ME: Final = "447700900987"
OTHER: Final = "447700900654"
SHORT: Final = b"12345"
OURS: Final = {"acme": "447700900321", "hush": "447700900322", "quiet": "447700900323"}
WHY: Final = ("--reason", "law", "--note", "request 17")


class Told:
    """What was done, by id as customers know it."""

    def __init__(self) -> None:
        self.delivered = self.waits_hidden = self.waits_hashed = ""


def _mo(source: str, to: str, text: bytes) -> bytes:
    addresses = b"\0\1\1" + source.encode() + b"\0\1\1" + to.encode() + b"\0"
    return addresses + bytes(9) + bytes((len(text),)) + text


def _submit(probe: Probe, text: bytes, to: str, registered: int = 1) -> str:
    probe.send(frame(0x04, 0, 77, submit_body(text, to.encode(), SHORT, registered)))
    while (got := probe.read())[4:8] != b"\x80\0\0\4":
        probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
    assert status(got) == 0
    return got[16:].rstrip(b"\0").decode()


def _take(probe: Probe) -> bytes:
    got = probe.read()
    assert got[4:8] == b"\0\0\0\5"
    probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
    return got


@pytest.fixture(scope="module")
def used(make_gateway: Callable[..., Gateway]) -> Iterator[tuple[Gateway, Told]]:
    """A daemon through which the person's messages and another's have gone; some are on their way."""

    def receipt(message_id: bytes) -> bytes:
        return receipt_body(b"\1\1" + ME.encode() + b"\0", b"\3\0" + SHORT + b"\0", message_id)

    accounts = [
        account("acme", numbers=[OURS["acme"]]),
        account("hush", numbers=[OURS["hush"]], content="hide"),
        account("quiet", numbers=[OURS["quiet"]], content="hash"),
    ]
    told = Told()
    with RawSmsc(iter([Step(then=(receipt,))])) as smsc, make_gateway([Upstream(smsc.port)], accounts) as gateway:
        ca = gateway.certificates / "ca.pem"
        with Probe(gateway.tls_port, ca) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            told.delivered = _submit(probe, b"code 471147, or ask 07700 900654", ME)
            assert b"stat:DELIVRD" in _take(probe)
            _submit(probe, b"for somebody else", OTHER, 0)
            smsc.deliver(_mo(ME, OURS["acme"], b"from me, call +44 7700 900654"))
            assert b"from me" in _take(probe)
            smsc.deliver(_mo(OTHER, OURS["acme"], b"from somebody else"))
            assert b"somebody else" in _take(probe)
        for name in ("hush", "quiet"):
            with Probe(gateway.tls_port, ca) as probe:
                assert probe.bind(name, PASSWORD, 0x02) == 0
                mine = _submit(probe, f"{name}: your pin is 8855".encode(), ME)
                _submit(probe, f"{name}: not yours".encode(), OTHER)
            if name == "hush":
                told.waits_hidden = mine
            else:
                told.waits_hashed = mine
        # Nobody takes these: they wait in the mailbox.
        smsc.deliver(_mo(ME, OURS["hush"], b"mail from me"))
        smsc.deliver(_mo(OTHER, OURS["hush"], b"mail from somebody else"))
        # A receipt of a message that nobody knows, yet.
        smsc.deliver(receipt(b"unknown-1"))
        wait_for("the submits", lambda: len(smsc.submits()) == 6)
        wait_for("the answers", lambda: len(smsc.responses()) == 6)
        yield gateway, told


def _exported(gateway: Gateway, *words: str, number: str = "+" + ME) -> dict[str, Any]:
    done = gateway.command("subject", "export", number, *WHY, "--json", *words)
    assert done.returncode == 0, done.stderr
    _clean(done.stdout + done.stderr)
    return dict(json.loads(done.stdout))


def _clean(text: str) -> None:
    """Nobody else's number is in it, however it is written."""
    for piece in (text, re.sub(r"[^0-9*]", "", text)):
        assert OTHER not in piece and OTHER[2:] not in piece


def _check(gateway: Gateway, told: Told) -> None:
    got = _exported(gateway)
    records = {(one["direction"], one["account"], one["text"]): one for one in got["records"]}
    assert set(records) == {
        ("MT", "acme", "code 471147, or ask 0770***0654"),
        ("MO", "acme", "from me, call +44770***0654"),
        ("MT", "hush", None),
        ("MT", "quiet", None),
        ("MO", "hush", None),
    }
    first = records["MT", "acme", "code 471147, or ask 0770***0654"]
    assert (first["id"], first["to"], first["from"], first["state"]) == (
        told.delivered,
        "+" + ME,
        SHORT.decode(),
        "DELIVERED",
    )
    assert first["recipients"] == ["sim"] and first["place"] == "log"
    # The gateway's own account numbers are phone numbers of others to the person.
    assert records["MO", "acme", "from me, call +44770***0654"]["to"] == "+44770***0321"
    assert {records["MT", "hush", None]["id"], records["MT", "quiet", None]["id"]} == {
        told.waits_hidden,
        told.waits_hashed,
    }
    assert "under_way" in records["MT", "hush", None]["text_remark"]
    underway = {(one["place"], one["account"], one["text"]): one for one in got["under_way"]}
    assert set(underway) == {
        ("waits for its receipt", "hush", "hush: your pin is 8855"),
        ("waits for its receipt", "quiet", "quiet: your pin is 8855"),
        ("mailbox, a message to the customer", "hush", "mail from me"),
        ("a receipt whose message is not known yet", "", ""),
    }
    waiting = underway["waits for its receipt", "hush", "hush: your pin is 8855"]
    assert (waiting["id"], waiting["recipients"], waiting["to"]) == (told.waits_hidden, ["sim"], "+" + ME)
    assert waiting["upstream_id"].startswith("raw-")
    mail = underway["mailbox, a message to the customer", "hush", "mail from me"]
    assert mail["id"] == records["MO", "hush", None]["id"] and mail["from"] == "+" + ME
    assert got["summary"]["complete"] and (got["summary"]["records"], got["summary"]["under_way"]) == (5, 4)


def test_exactly_what_is_there_is_exported(used: tuple[Gateway, Told]) -> None:
    _check(*used)


def test_one_account_alone(used: tuple[Gateway, Told]) -> None:
    gateway, told = used
    got = _exported(gateway, "--account", "quiet", number="0044 7700 900 987")
    assert [one["id"] for one in got["records"]] == [told.waits_hashed] == [one["id"] for one in got["under_way"]]


def test_a_page_for_the_person(used: tuple[Gateway, Told], tmp_path: Path) -> None:
    gateway, told = used
    path = tmp_path / "person.html"
    done = gateway.command("subject", "export", "+" + ME, *WHY, "--out", str(path))
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    _clean(text + done.stdout + done.stderr)
    assert told.delivered in text and "your pin is 8855" in text and ME not in done.stdout + done.stderr


def test_the_trail_says_who_was_given_what_and_no_number(used: tuple[Gateway, Told]) -> None:
    gateway, told = used
    assert gateway.command("subject", "export", "+" + ME, "--reason", "law", "--note", f"of +{ME}").returncode == 0
    shown = gateway.command("audit", "show", "--json", "--event", "export").stdout
    entries = [json.loads(line) for line in shown.splitlines()]
    assert any(told.delivered in str(entry["what"].get("ids", "")) for entry in entries)
    assert entries[-1]["result"] == "complete: 5 records, 4 on their way, 0 consents"
    assert ME not in shown and ME[2:] not in shown and "pin" not in shown


def test_somebody_of_whom_there_is_nothing(used: tuple[Gateway, Told]) -> None:
    done = used[0].command("subject", "export", "+447700900111", *WHY)
    assert (done.returncode, done.stdout) == (1, "") and "there is nothing about" in done.stderr


def test_the_same_after_a_kill_and_after_the_next_start(used: tuple[Gateway, Told]) -> None:
    gateway, told = used
    gateway.kill()
    _check(gateway, told)
    gateway.start()
    _check(gateway, told)
