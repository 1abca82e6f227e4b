"""`smppd trace` on a store without a daemon: who may see what, and what is on the trail first. With one: tests/e2e."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.commands import trace as module
from smppd.daemon.erasing import erase_underway
from smppd.daemon.traces import open_traces
from smppd.protocol.capture import Kind, opened, pack
from smppd.protocol.wire import pdu
from smppd.records.traces import Trace
from smppd.store.opening import embedded
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.kek import VaultError, load_kek
from smppd.vault.keys import load_install
from tests.cli.installation import FileSource
from tests.cli.staff import Staff
from tests.protocol.sessions import sm

FACTS: dict[str, str | int] = {
    "side": "customer",
    "peer": "192.0.2.7",
    "peer_port": 40001,
    "local": "192.0.2.1",
    "local_port": 2775,
    "tls": "",
}
WHY = ("--reason", "support", "--note", "ticket 7 of 0044770090012345")


def make(staff: Staff, *pdus: bytes, peer: str = "account", target: str = "acme", account: str = "acme") -> int:
    """A trace that has ended."""
    kek = load_kek(FileSource(staff.path / "keys/kek"))
    rows = ReadOnlyKeys(staff.path / "var")
    install = load_install(kek, rows)
    rows.close()
    now = staff.clock.now
    with open_traces(embedded(staff.path / "var"), kek, install) as traces:
        asked = Trace(0, peer, target, account, "slow binds", "", "ada", now - 90, now - 30)
        trace, writer, file = traces.begin(asked)
        entries = [pack(Kind.OPENED, 1, 0, opened(FACTS)), *(pack(Kind.RECEIVED, 1, 5, one) for one in pdus)]
        with file:
            writer.write(b"".join(entries))
        traces.end(trace.number, now - 40, "its time was over", 1, len(pdus), 100)
    return trace.number


def field(digits: bytes) -> bytes:
    return b"\1\1" + digits + b"\0"


def test_listed_shown_exported_deleted(staff: Staff, tmp_path: Path) -> None:
    assert staff.run("trace", "list")[:2] == (0, "")
    make(staff, pdu(0x15, 0, 1), sm(2), sm(3, text=b"a secret text"))
    listed = staff.run("trace", "list")[1]
    assert re.search(r"^1  \S+  account acme  ended  3 PDUs  slow binds$", listed.strip())
    facts = json.loads(staff.run("trace", "show", "1", "--json")[1])
    assert (facts["account"], facts["why"], facts["pdus"], facts["by"]) == ("acme", "its time was over", 3, "ada")
    out = tmp_path / "t.pcapng"
    status, said, _ = staff.run("trace", "export", "1", "--out", str(out), *WHY)
    assert (status, said) == (0, f"{out}: 3 PDUs of trace 1, 2 of them messages.\n")
    data = out.read_bytes()
    assert sm(2) in data and b"a secret text" in data and out.stat().st_mode & 0o777 == 0o600
    (entry,) = staff.trail("reveal")
    what = entry["what"]
    assert (what["trace"], what["account"], what["messages"], what["reason"]) == ("1", "acme", "2", "support") or (
        what["trace"],
        what["messages"],
    ) == (1, 2)
    assert "7700900" not in json.dumps(entry), "neither parties nor the number in the note"
    looks = json.loads(staff.run("subject", "looks", "+447700900123", "--json")[1])["looks"]
    assert [look["event"] for look in looks] == ["reveal"], "whom it shows can be told"
    assert staff.run("trace", "export", "1", "--out", str(out), *WHY)[0] == 2, "a file is not replaced"
    assert staff.run("trace", "delete", "1", "--reason", "done with it")[0] == 0
    assert staff.run("trace", "list")[:2] == (0, "") and staff.run("trace", "show", "1")[0] == 1
    (entry,) = staff.trail("trace")
    assert (entry["what"]["action"], entry["what"]["reason"], entry["result"]) == (
        "deleted",
        "done with it",
        "destroyed",
    )
    assert not list((staff.path / "var" / "traces").iterdir())


def test_much_of_it_and_the_law_need_two_people(staff: Staff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALONE", 1)
    bob, eve = staff.add("bob", "support"), staff.add("eve", "privacy-officer")
    make(staff, sm(1), sm(2))
    out = tmp_path / "t.pcapng"
    words = ("trace", "export", "1", "--out", str(out), *WHY)
    status, _, said = staff.by(bob, *words)
    assert status == 3 and "request 1" in said and not out.exists()
    assert staff.trail("reveal") == []
    assert staff.by(eve, "approvals", "grant", "1")[0] == 0
    assert staff.by(bob, *words)[0] == 0 and out.exists()
    (entry,) = staff.trail("reveal")
    assert entry["what"]["second"] == "eve"


def test_who_may_not(staff: Staff, tmp_path: Path) -> None:
    make(staff, sm(1))
    make(staff, sm(1), peer="upstream", target="carrier-a", account="")
    make(staff, sm(1), target="other", account="other")
    out = str(tmp_path / "t.pcapng")
    ada = staff.add("ada", "operator")
    owner = staff.add("olga", "account-owner", options=("--account", "acme"))
    assert staff.by(ada, "trace", "export", "1", "--out", out, *WHY)[0] == 1, "an operator reveals nothing"
    assert staff.by(owner, "trace", "delete", "1", "--reason", "x")[0] == 1
    seen = json.loads(staff.by(owner, "trace", "list", "--json")[1])["traces"]
    assert [one["trace"] for one in seen] == [1], "a carrier's trace has everybody's messages"
    for number in ("2", "3", "9"):
        status, _, said = staff.by(owner, "trace", "export", number, "--out", out, *WHY)
        assert (status, said) == (1, f"smppd: there is no trace {number}\n")
    assert staff.by(owner, "trace", "export", "1", "--out", out, *WHY)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("export", "1", "--out", "x", "--reason", "support", "--note", " "),
        ("export", "one", "--out", "x", *WHY),
        ("export", "1", *WHY),
        ("delete", "1"),
        ("show", "-1"),
    ],
)
def test_called_wrongly(staff: Staff, words: tuple[str, ...]) -> None:
    make(staff, sm(1))
    assert staff.run("trace", *words)[0] == 2


def test_what_was_altered_is_not_exported(staff: Staff, tmp_path: Path) -> None:
    make(staff, sm(1))
    path = staff.path / "var" / "traces" / "000001.trace"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    out = tmp_path / "t.pcapng"
    status, _, said = staff.run("trace", "export", "1", "--out", str(out), *WHY)
    assert status in (1, 2) and "altered" in said and not out.exists()


def test_hostile_names_move_no_terminal(staff: Staff) -> None:
    make(staff, target="\x1b[2Jacme", account="acme")
    assert "\x1b" not in staff.run("trace", "list")[1] + staff.run("trace", "show", "1")[1]


def test_a_purge_destroys_what_is_over(staff: Staff) -> None:
    make(staff, sm(1))
    text = (staff.path / "smppd.yaml").read_text()
    (staff.path / "smppd.yaml").write_text(text + "traces: {retain: 1h}\n")
    assert staff.run("purge")[0] == 0 and "slow binds" in staff.run("trace", "list")[1]
    with pytest.MonkeyPatch.context() as patch:
        later = staff.clock.now + 3600
        patch.setattr("smppd.cli.commands.purge.time.time", lambda: later)
        assert staff.run("purge")[0] == 0
    assert staff.run("trace", "list")[:2] == (0, "")
    assert [(one["what"]["action"], one["what"]["traces"]) for one in staff.trail("trace")] == [("retention", "1")]


def test_an_erasure_destroys_the_traces_in_which_the_person_may_stand(staff: Staff) -> None:
    make(staff, sm(1))
    make(staff, sm(1), peer="upstream", target="carrier-a", account="")
    make(staff, sm(1), target="other", account="other")
    words = ("subject", "erase", "+447700900123", "--reason", "law", "--note", "art. 17", "--yes", "--json")
    status, out, err = staff.run(*words, "--account", "acme")
    assert status == 0, err
    assert json.loads(out)["on_its_way"]["traces"] == 2, "the log has nothing of the number, and a trace may"
    assert [one["trace"] for one in json.loads(staff.run("trace", "list", "--json")[1])["traces"]] == [3]
    assert json.loads(staff.run(*words)[1])["on_its_way"]["traces"] == 1
    assert staff.run("trace", "list")[:2] == (0, "")


def test_an_erasure_that_was_killed_leaves_no_trace_to_who_finishes_it(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(staff, sm(1))

    def killed(*given: Any, acts: bool, **more: Any) -> Any:
        if acts:
            raise VaultError("killed")
        return erase_underway(*given, acts=acts, **more)

    with monkeypatch.context() as patch:
        patch.setattr("smppd.cli.commands.subject_erase.erase_underway", killed)
        words = ("subject", "erase", "+447700900123", "--reason", "law", "--note", "art. 17", "--yes")
        assert staff.run(*words)[0] == 1
    assert staff.run("subject", "erase", "--resume")[0] == 0
    assert staff.run("trace", "list")[:2] == (0, "")


def test_whom_every_kind_of_pdu_shows_is_on_the_trail(staff: Staff, tmp_path: Path) -> None:
    sender, numbers = field(b"447700900001"), [b"447700900%03d" % number for number in range(100, 104)]
    multi = b"\0" + sender + b"\2" + b"".join(b"\1" + field(one) for one in numbers[:2]) + bytes(9) + b"\1x"
    pdus = [
        pdu(0x21, 0, 1, multi),
        pdu(0x08, 0, 2, b"\0" + b"\0" + sender + field(numbers[2])),
        pdu(0x07, 0, 3, b"1\0" + field(numbers[3]) + bytes(4) + b"\6secret"),
        pdu(0x03, 0, 4, b"1\0" + sender),
        pdu(0x21, 0, 5, b"broken"),
    ]
    make(staff, *pdus)
    out = tmp_path / "t.pcapng"
    status, said, err = staff.run("trace", "export", "1", "--out", str(out), *WHY)
    assert (status, said) == (0, f"{out}: 5 PDUs of trace 1, 5 of them messages.\n"), err
    for number in (b"447700900001", *numbers):
        looks = json.loads(staff.run("subject", "looks", "+" + number.decode(), "--json")[1])["looks"]
        assert [look["event"] for look in looks] == ["reveal"], number
