"""`audit verify --shipped` and `log verify --shipped`: whatever is done to one side, the other side shows it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.shipping import Mark, Source, cursor_path
from smppd.audit.syslog import Sender, frame, message
from smppd.audit.trail import AuditTrail
from smppd.config import ShippedFile, Shipping
from smppd.daemon import shipper
from smppd.daemon.shipper import Shipper
from smppd.metrics import Metrics
from smppd.store import seals
from smppd.store.opening import embedded
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.keys import InstallSecrets, load_install
from tests.cli.house import FILES, House

NOW = ("--as-of", "0s")


class ShippingHouse(House):
    """An installation whose trail is shipped to a file."""

    @property
    def file(self) -> Path:
        return self.path / "shipped.jsonl"

    def install(self) -> InstallSecrets:
        rows = ReadOnlyKeys(self.store)
        try:
            return load_install(self.kek, rows)
        finally:
            rows.close()

    def ship(self, rotate: int = 0) -> None:
        """A run of the shipping, to its end."""
        running = Shipper(embedded(self.store), self.install(), Metrics())
        file = ShippedFile.model_construct(path=self.file, rotate=rotate, keep=50)
        running.use(Shipping.model_construct(file=file, syslog=None, alarm_after=300.0), None)
        running.stop()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def write(self, lines: list[dict[str, Any]]) -> None:
        self.file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))

    def compare(self, command: str, *more: str) -> tuple[list[str], list[str]]:
        """(faults, remarks) that are of what was shipped."""
        words = more if "--shipped" in more else ("--shipped", str(self.file), *more)
        status, out, err = self.run(command, "verify", "--json", *words, *NOW)
        assert out, err
        verdict = json.loads(out)
        assert verdict["ok"] == (status == 0) == (not verdict["faults"])
        return list(verdict["faults"]), list(verdict["shipped"]["remarks"])

    def agrees(self) -> None:
        assert (self.compare("audit"), self.compare("log")) == (([], []), ([], []))


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> ShippingHouse:
    monkeypatch.setenv("PASSWORD", "not-used")
    monkeypatch.setattr(seals, "RECORDS", 4)
    house = ShippingHouse(tmp_path / "house", capsys)
    house.day()
    house.look()
    house.ship()
    house.day()
    house.look()
    house.look()
    house.ship()
    return house


def test_both_sides_agree(house: ShippingHouse) -> None:
    house.agrees()
    status, out, _ = house.run("audit", "verify", "--shipped", str(house.file), *NOW)
    assert status == 0
    assert "What was shipped agrees with it: entries 1 to" in out
    status, out, _ = house.run("log", "verify", "--shipped", str(house.file), *NOW)
    assert status == 0
    assert "What was shipped agrees with it: checkpoints 1 to" in out
    kinds = [line["kind"] for line in house.lines()]
    assert kinds.count("audit") > 5 < kinds.count("seal")


def test_lines_may_stand_twice_and_the_store_may_be_ahead(house: ShippingHouse) -> None:
    house.write([*house.lines()[:6], *house.lines()])
    house.day()
    house.look()
    house.agrees()


def test_it_works_without_keys_too(house: ShippingHouse) -> None:
    status, out, _ = house.run("audit", "verify", "--plain", "--shipped", str(house.file), *NOW)
    assert status == 0, out
    edited = house.lines()
    edited[2]["who"] = "nobody"
    house.write(edited)
    assert house.run("audit", "verify", "--plain", "--shipped", str(house.file), *NOW)[0] == 1


# -- the shipped side --------------------------------------------------------------------------------------------------


def indices(lines: list[dict[str, Any]], kind: str) -> list[int]:
    return [place for place, line in enumerate(lines) if line["kind"] == kind]


def _edit(name: str, value: Any) -> Callable[[list[dict[str, Any]], list[int]], None]:
    def edit(lines: list[dict[str, Any]], of_kind: list[int]) -> None:
        lines[of_kind[2]][name] = value

    return edit


def _delete(which: slice) -> Callable[[list[dict[str, Any]], list[int]], None]:
    def delete(lines: list[dict[str, Any]], of_kind: list[int]) -> None:
        for place in reversed(of_kind[which]):
            del lines[place]

    return delete


def _swap(lines: list[dict[str, Any]], of_kind: list[int]) -> None:
    one, other = of_kind[1], of_kind[3]
    lines[one], lines[other] = lines[other], lines[one]


def _renumber(lines: list[dict[str, Any]], of_kind: list[int]) -> None:
    for place in of_kind[3:]:
        name = "id" if lines[place]["kind"] == "audit" else "number"
        lines[place][name] -= 1
    del lines[of_kind[2]]


def _flip(name: str) -> Callable[[list[dict[str, Any]], list[int]], None]:
    def flip(lines: list[dict[str, Any]], of_kind: list[int]) -> None:
        line = lines[of_kind[2]]
        line[name] = line[name][:20] + ("0" if line[name][20] != "0" else "1") + line[name][21:]

    return flip


BOTH = {
    "another time": _edit("at", "2026-01-01T00:00:00.000Z"),
    "another installation": _edit("installation", "0" * 64),
    "no time": _edit("at", None),
    "another kind": _edit("kind", "other"),
    "another hash": _flip("hash"),
    "a line deleted": _delete(slice(2, 3)),
    "lines deleted": _delete(slice(2, 5)),
    "the first deleted": _delete(slice(0, 1)),
    "the last deleted": _delete(slice(-1, None)),
    "the end cut": _delete(slice(-4, None)),
    "all deleted": _delete(slice(0, None)),
    "the order changed": _swap,
    "one taken out and the rest numbered anew": _renumber,
}
DONE: dict[str, dict[str, Callable[[list[dict[str, Any]], list[int]], None]]] = {
    "audit": {
        **BOTH,
        "another event": _edit("event", "show"),
        "another person": _edit("who", "mallory"),
        "another place": _edit("source", "elsewhere"),
        "other facts": _edit("what", {"reason": "law"}),
        "facts as text": _edit("what", "{}"),
        "another result": _edit("result", "refused"),
        "another number": _edit("id", 7),
        "a number that is none": _edit("id", -1),
        "another MAC": _flip("mac"),
    },
    "seal": {**BOTH, "another number": _edit("number", 70), "another signature": _flip("signed")},
}


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, done in DONE.items() for what in done])
def test_what_is_done_to_the_shipped_side_is_found(house: ShippingHouse, kind: str, what: str) -> None:
    lines = house.lines()
    DONE[kind][what](lines, indices(lines, kind))
    house.write(lines)
    faults, _ = house.compare("audit" if kind == "audit" else "log")
    assert faults
    assert all(fault.strip() == fault and not fault.endswith(".") for fault in faults)


def test_an_older_copy_of_the_shipped_file_is_found(house: ShippingHouse) -> None:
    older = house.file.read_text()
    house.day()
    house.look()
    house.ship()
    house.file.write_text(older)
    assert any("its end is missing" in fault for fault in house.compare("audit")[0])
    assert any("its end is missing" in fault for fault in house.compare("log")[0])


def test_a_copy_of_some_minutes_ago_is_no_cut(house: ShippingHouse) -> None:
    older = house.file.read_text()
    house.look()
    house.ship()
    house.file.write_text(older)
    assert house.run("audit", "verify", "--shipped", str(house.file))[0] == 0
    assert house.run("audit", "verify", "--shipped", str(house.file), *NOW)[0] == 1


def test_half_a_line_is_found(house: ShippingHouse) -> None:
    text = house.file.read_text().splitlines()
    text[3] = text[3][:50]
    house.file.write_text("\n".join(text) + "\n")
    faults, _ = house.compare("audit")
    assert any(fault.endswith("line 4 is not whole, or was altered") for fault in faults)


def test_half_a_line_that_a_killed_server_left_is_told_if_the_whole_stands_elsewhere(house: ShippingHouse) -> None:
    """rsyslog goes on behind it, on the same line; what it lost is sent again."""
    text = house.file.read_text().splitlines()
    text[3] = text[3][:50] + text[4]
    text[4] = text[3 + 1]
    whole = house.file.read_text()
    house.file.write_text("\n".join(text[:5]) + "\n" + whole)
    faults, remarks = house.compare("audit")
    assert not faults
    assert any(remark.endswith("line 4 is not whole") for remark in remarks)


# -- the store's side --------------------------------------------------------------------------------------------------

TRAIL = {
    "an edit": "UPDATE entries SET who = 'mallory' WHERE id = 3",
    "a deletion": "DELETE FROM entries WHERE id = 3",
    "a change of order": "UPDATE entries SET id = -1 WHERE id = 3; UPDATE entries SET id = 3 WHERE id = 4;"
    " UPDATE entries SET id = 4 WHERE id = -1",
    "a cut": "DELETE FROM entries WHERE id > 4;"
    " UPDATE head SET (id, hash) = (SELECT id, hash FROM entries WHERE id = 4)",
    "all gone": "DELETE FROM entries; DELETE FROM head",
}


@pytest.mark.parametrize("kind", TRAIL)
def test_what_is_done_to_the_trail_is_found(house: ShippingHouse, kind: str) -> None:
    db = sqlite3.connect(house.store / "audit.db", isolation_level=None)
    db.executescript(TRAIL[kind])
    db.close()
    said = house.compare("audit")[0]
    assert any(re.search("was shipped|not the one|was altered", fault) for fault in said), said


def test_a_trail_that_was_written_anew_with_all_keys_is_found(house: ShippingHouse) -> None:
    """Whoever has the keys makes a trail that verifies: only what left the host tells."""
    old = [(row.event, row.who, json.loads(row.what), row.result, row.at_ms) for row in _rows(house)]
    for ending in ("", "-wal", "-shm"):
        (house.store / f"audit.db{ending}").unlink(missing_ok=True)
    at = [0.0]
    with AuditTrail(house.store / "audit.db", house.install().audit, clock=lambda: at[0]) as trail:
        for event, who, what, result, at_ms in old:
            at[0] = at_ms / 1000
            trail.append(event, who if event != "search" else "somebody", what, result)
        assert trail.verify().ok
    faults, _ = house.compare("audit")
    assert any("is not the one that was shipped" in fault for fault in faults)


def _rows(house: ShippingHouse) -> list[Any]:
    with AuditTrail(house.store / "audit.db", None) as trail:
        return trail.rows_after(0, 1000)


LOG = {
    "a checkpoint altered": "UPDATE seals SET signed = zeroblob(length(signed)) WHERE number = 2",
    "a checkpoint deleted": "DELETE FROM seals WHERE number = 3",
    "the end cut": "DELETE FROM seals WHERE number > 3; DELETE FROM log WHERE seq > (SELECT max(seq) FROM seals)",
    "checkpoints that change places": "UPDATE seals SET number = -1 WHERE number = 2;"
    " UPDATE seals SET number = 2 WHERE number = 3; UPDATE seals SET number = 3 WHERE number = -1",
    "the row of a checkpoint deleted": "DELETE FROM log WHERE seq = (SELECT seq FROM seals WHERE number = 2)",
    "the row of a checkpoint altered": "UPDATE log SET chain = zeroblob(32)"
    " WHERE seq = (SELECT seq FROM seals WHERE number = 2)",
}


@pytest.mark.parametrize("kind", LOG)
def test_what_is_done_to_the_log_is_found(house: ShippingHouse, kind: str) -> None:
    db = sqlite3.connect(house.store / "data.db", isolation_level=None)
    db.executescript(LOG[kind])
    db.close()
    shipped = _of_shipped(house)
    assert shipped, kind


def _of_shipped(house: ShippingHouse) -> list[str]:
    """What `log verify` finds with the shipped file only."""
    without = json.loads(house.run("log", "verify", "--json")[1])["faults"]
    return [fault for fault in house.compare("log")[0] if fault not in without]


@pytest.mark.parametrize("forget", [False, True])
def test_the_whole_store_put_back_is_found(house: ShippingHouse, forget: bool) -> None:
    """All three files of the same older moment fit each other; the place of the target may have been put back with them."""
    house.copy("older")
    place = cursor_path(house.store, "file")
    older = place.read_text()
    house.day()
    house.look()
    house.ship()
    house.put_back("older", *FILES)
    if forget:
        place.write_text(older)
    house.sound()
    assert any("cut off or put back to an older copy" in fault for fault in house.compare("audit")[0])
    assert any("cut off or put back to an older copy" in fault for fault in house.compare("log")[0])
    house.day()  # it goes on, and its new entries are shipped from the newest place that still stands
    house.look()
    house.ship()
    assert house.compare("audit")[0] and house.compare("log")[0]


# -- what is no fault --------------------------------------------------------------------------------------------------


def test_a_restore_is_told_and_is_no_fault(house: ShippingHouse, tmp_path: Path) -> None:
    backup, keys = str(tmp_path / "backup"), str(tmp_path / "backup-keys")
    assert house.run("backup", backup, "--keys-to", keys)[0] == 0
    house.day()
    for _ in range(3):
        house.look()
    house.ship()
    assert house.run("restore", "--from", backup, "--keys-from", keys, "--force")[0] == 0
    house.day()
    house.look()
    for command, what in (("audit", "entries"), ("log", "checkpoints")):
        faults, remarks = house.compare(command)
        assert not faults, faults
        assert any(f"{what} were shipped before a backup was restored" in remark for remark in remarks)
    house.ship()
    for command, what in (("audit", "entries"), ("log", "checkpoints")):
        faults, remarks = house.compare(command)
        assert not faults, faults
        assert any(f"{what} were shipped before a backup was restored" in remark for remark in remarks)
    lines = house.lines()
    last = indices(lines, "audit")[-3]
    del lines[last]
    house.write(lines)
    assert house.compare("audit")[0]


def test_files_that_were_rotated_or_given_up(house: ShippingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper, "BATCH", 3)
    house.file.unlink()
    cursor_path(house.store, "file").unlink()
    house.ship(rotate=2000)
    files = sorted(map(str, house.path.glob("shipped.jsonl*")))
    assert len(files) > 3
    for command in ("audit", "log"):
        assert house.compare(command, "--shipped", *files) == ([], [])
    files.sort(key=lambda name: int(name.rpartition(".")[2]) if name[-1].isdigit() else 0)
    files.pop()
    faults, _ = house.compare("audit", "--shipped", *files)
    begins = int(re.findall(r"say --from ([0-9]+)", faults[0])[0])
    assert house.compare("audit", "--shipped", *files, "--from", str(begins)) == ([], [])
    files.pop(-2)
    assert house.compare("audit", "--shipped", *files, "--from", str(begins))[0]


def test_as_a_syslog_server_wrote_them(house: ShippingHouse) -> None:
    """What the server puts before is passed over, and so are the lines of others."""
    sender = Sender("authpriv", "gateway", "smppd", 7)
    running = Shipper(embedded(house.store), house.install(), Metrics())
    with running._seals() as states, AuditTrail(house.store / "audit.db", None) as trail:
        source = Source(trail, lambda signed: 0, house.lines()[0]["installation"])
        found = source.after(states, Mark(), 1000).lines
    running.stop()
    texts = house.file.read_text().splitlines()
    by_key = {
        (line["kind"], line.get("id", line.get("number"))): text
        for line, text in zip(house.lines(), texts, strict=True)
    }
    said = []
    for line in found:
        text = by_key[line.facts["kind"], line.facts.get("id", line.facts.get("number"))]
        said.append(message(sender, line, text).decode())
    assert frame(said[0].encode()).startswith(str(len(said[0])).encode() + b" <")
    house.file.write_text("other: hello\n" + "\n".join(said) + "\n\nNov 30 12:00:00 gateway sshd[1]: session opened\n")
    house.agrees()


def test_a_file_that_is_not_there(house: ShippingHouse) -> None:
    status, _, err = house.run("audit", "verify", "--shipped", str(house.path / "nothing"))
    assert status == 2
    assert "nothing: No such file" in err
