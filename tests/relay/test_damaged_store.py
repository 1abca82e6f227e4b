"""Whatever is stored, the daemon starts, serves, and says what it set aside: files altered in every way, and what is validly
sealed and makes no sense. Nothing else is lost.
"""

from __future__ import annotations

import atexit
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.config import Settings
from smppd.message import FINAL_STATES
from smppd.protocol.receipt import parse
from smppd.protocol.wire import Fields, Tag, address_field, build_sm, tlv
from smppd.relay.ledger.journal import HEAD, Entry, mark
from smppd.store.api import Kind
from smppd.store.sqlite.damaged import Item, content, overdue
from smppd.store.sqlite.journal import SPOOL
from smppd.vault.blocks import row_id, seal_blob, split_row_id
from tests.relay.diskstore import DiskWorld
from tests.relay.fakes import FROM, TO, receipt, settings

KINDS = {Kind.QUEUE: "cold message", Kind.WAITING: "cold waiting", Kind.MAIL: "cold mail"}


def configuration() -> Settings:
    return settings(hot=6, acme={"unknown_after": "5s"})


class Life:
    """A store with something of every kind in it, not running: messages that wait for their receipt as rows and in the journal,
    mail as rows and in the journal, parked receipts, unknown messages, queued ones in memory and as rows. ``ids``: text ->
    id."""

    made: tuple[Path, dict[bytes, bytes], float] | None = None
    """One that was made before: what takes time is done once."""

    def __init__(self, directory: Path) -> None:
        if Life.made is not None:
            shutil.copytree(Life.made[0], directory, dirs_exist_ok=True)
        world = self.world = DiskWorld(directory, configuration())
        world.disk.compacts = True  # from the next start on: the blocks that a test alters are as they were written
        if Life.made is not None:
            world.ends()
            self.ids, world.wall = dict(Life.made[1]), Life.made[2]
            return
        self.ids = {}
        acme, a = world.customer(), world.carrier()
        self.submit(acme, b"cold-0", b"cold-1", b"cold-2", b"mail-0", b"mail-1", b"mail-2")
        self.answer(a)
        acme.leaves()
        a.reports(b"id-mail-0", b"id-mail-1", b"id-mail-2")
        world.commits()
        world.spills()
        acme = world.customer(command=2)  # a transmitter: nobody takes mail
        self.submit(acme, b"hot-0", b"hot-1", b"told-0", b"told-1")
        self.answer(a)
        a.reports(b"id-told-0", b"id-told-1")
        a.delivers(receipt(b"id-park-0"), receipt(b"id-park-1"))
        world.commits()
        self.submit(acme, b"sent-0", b"sent-1")
        a.cut()
        world.commits()
        self.submit(acme, *[b"wait-%d" % n for n in range(8)])
        world.commits()
        world.ends()
        Life.made = Path(mkdtemp()), dict(self.ids), world.wall
        shutil.copytree(directory, Life.made[0], dirs_exist_ok=True)
        atexit.register(shutil.rmtree, Life.made[0], ignore_errors=True)

    def submit(self, customer: Any, *texts: bytes) -> None:
        for text in texts:
            customer.submits(text)
            self.world.commits()
            (self.ids[text],) = customer.ids()

    def answer(self, link: Any) -> None:
        while link.waiting:
            link.answers(b"id-" + link.waiting[0].short_message)
        self.world.commits()

    def goes_on(self, lost: int) -> None:
        """It starts, and all messages but the lost ones come to an end that their customer hears of; a new one lives too."""
        world = self.world
        world.restarts()
        assert world.broken == []
        acme, a = world.customer(), world.carrier()
        got: list[bytes] = []
        for turn in range(9):
            world.commits()
            self.answer(a)
            if turn in (2, 5, 7):
                a.reports(*[b"id-" + text for text in self.ids])
                world.commits()
            world.passes(3)
            found = [parse(sm.short_message) for sm in acme.takes()]
            got += [one.id for one in found if one is not None]
        missing = [text for text, shown in self.ids.items() if shown not in got]
        assert len(missing) <= lost, missing
        (number,) = acme.submits(b"anew")
        world.commits()
        assert [(one, status) for one, status, _ in acme.answered()] == [(number, 0)]
        self.answer(a)
        world.passes(12)
        world.check()
        assert world.broken == []
        world.restarts()
        world.commits()
        assert world.broken == []
        world.ends()

    def aside(self) -> list[Item]:
        return self.world.disk.aside


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    yield made
    made.world.ends()


def test_the_store_has_everything(life: Life) -> None:
    with life.world.disk.files() as db:
        assert {row[0] for row in db.execute("SELECT kind FROM cold")} == {1, 2, 3}
        assert db.execute("SELECT count(*) FROM spool").fetchone()[0] > 5
    life.goes_on(0)
    assert life.aside() == []


# -- altered -------------------------------------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


ALTERED: dict[str, Callable[[bytes], Any]] = {
    "flipped": flipped,
    "cut": lambda data: data[: len(data) // 2],
    "short": lambda data: data[:5],
    "empty": lambda _data: b"",
    "long": lambda data: data + bytes(100_000),
    "text": lambda _data: "no octets",
    "number": lambda _data: 7,
}


@pytest.mark.parametrize("how", ALTERED)
@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_row_is_set_aside(kind: Kind, how: str, life: Life) -> None:
    with life.world.disk.files() as db:
        (data, identity) = db.execute(
            "SELECT data, id FROM cold WHERE kind = ? ORDER BY id LIMIT 1", (kind,)
        ).fetchone()
        db.execute("UPDATE cold SET data = ? WHERE kind = ? AND id = ?", (ALTERED[how](data), kind, identity))
    life.goes_on(1)
    (item,) = life.aside()
    assert (item.kind, item.id, item.place) == (KINDS[kind], identity, "cold")
    assert item.owner.partition("\n")[0] == ("a" if kind is Kind.WAITING else "acme")
    with life.world.disk.files() as db:
        assert content(db, item, life.world.disk.ring) is None
        assert db.execute("SELECT 1 FROM cold WHERE id = ?", (identity,)).fetchone() is None


@pytest.mark.parametrize(
    "change",
    [
        "owner = 'nobody'",
        "owner = x'00'",
        "id = id + 1000000",
        "segment = 99999",
        "segment = 'x'",
        "kind = 4",
        "kind = 77",
        "key = 'text'",
        "expires = 'never'",
        "expires = 0",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_with_altered_columns_is_set_aside(kind: Kind, change: str, life: Life) -> None:
    with life.world.disk.files() as db:
        identity = db.execute("SELECT min(id) FROM cold WHERE kind = ?", (kind,)).fetchone()[0]
        db.execute(f"UPDATE cold SET {change} WHERE kind = ? AND id = ?", (kind, identity))
    life.goes_on(1)
    if change != "expires = 0":  # that one opens, and is over
        life.world.restarts()
        life.world.passes(200 * 3600, step=3600)  # some are met when they expire
        assert len(life.aside()) == 1
        assert life.world.store.cold == {}


@pytest.mark.parametrize("how", [*ALTERED, "segment"])
@pytest.mark.parametrize("which", [0, 3, -1])
def test_an_altered_block_of_the_spool_is_set_aside(which: int, how: str, life: Life) -> None:
    with life.world.disk.files() as db:
        rows = db.execute("SELECT seq, data FROM spool ORDER BY seq").fetchall()
        seq, data = rows[which]
        if how == "segment":
            db.execute("UPDATE spool SET seq = ? WHERE seq = ?", (77777 << 32, seq))
        else:
            db.execute("UPDATE spool SET data = ? WHERE seq = ?", (ALTERED[how](data), seq))
    # What stood in it is lost, and what it said of others: those come once more, flagged.
    life.goes_on(4)
    (item,) = life.aside()
    assert (item.kind, item.place) == ("block", "spool")


@pytest.mark.parametrize("name", ["highest_id", "short_id", "restored", "indexed", "purge spans", "unheard of"])
@pytest.mark.parametrize("value", ["x", b"\0\1", -5, 1.5e300, "9" * 400])
def test_a_number_that_is_none_is_set_aside(name: str, value: Any, life: Life) -> None:
    with life.world.disk.files() as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
    life.goes_on(0)
    asked = {"highest_id", "short_id", "restored"}
    assert [item.owner for item in life.aside()] == ([name] if name in asked else [])


@pytest.mark.parametrize("table", ["log", "seals"])
def test_altered_events_and_checkpoints_stop_no_start(table: str, life: Life) -> None:
    with life.world.disk.files() as db:
        if table == "log":
            db.execute("UPDATE log SET events = x'00ff' WHERE seq = (SELECT max(seq) FROM log)")
        else:
            db.execute("UPDATE seals SET signed = x'00' WHERE number = (SELECT max(number) FROM seals)")
    life.goes_on(0)


# -- validly sealed, and nonsense ----------------------------------------------------------------------------------------


def sealed_row(life: Life, kind: Kind, change: Callable[[bytes], bytes]) -> int:
    """Rewrites the content of the oldest row of a kind, sealed as it was; its id."""
    ring = life.world.disk.ring
    with life.world.disk.files() as db:
        owner, _key, identity, segment, data = db.execute(
            "SELECT owner, key, id, segment, data FROM cold WHERE kind = ? ORDER BY id LIMIT 1", (kind,)
        ).fetchone()
        bound = b"cold %d %s %d" % (kind, owner.encode(), identity)
        clear = ring.segment(segment).decrypt(data[:12], data[12:], bound)
        nonce = os.urandom(12)
        fresh = nonce + ring.segment(segment).encrypt(nonce, change(clear), bound)
        db.execute("UPDATE cold SET data = ? WHERE kind = ? AND id = ?", (fresh, kind, identity))
    return int(identity)


def sealed_block(life: Life, block: bytes, segment: int | None = None) -> None:
    """Adds a block to the spool, sealed as any other, under a number that its segment has not used."""
    with life.world.disk.files() as db:
        newest = db.execute("SELECT max(seq) FROM spool").fetchone()[0]
        segment, counter = split_row_id(newest) if segment is None else (segment, 1 << 20)
        aead = life.world.disk.ring.segment(segment)
        db.execute(
            "INSERT INTO spool VALUES (?, ?)",
            (row_id(segment, counter + 5), seal_blob(aead, counter + 5, SPOOL, block)),
        )


def lane(name: bytes) -> bytes:
    """A payload whose lane is named so, in front of a message that is none."""
    return struct.pack(">IBH", 2_000_000_000, 0, len(name)) + name


NONSENSE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _clear: b"",
    "cut in its head": lambda clear: clear[:3],
    "cut in its frame": lambda clear: clear[:-3],
    "longer than it says": lambda clear: clear + b"x",
    "zeros": lambda clear: bytes(len(clear)),
    "ones": lambda clear: b"\xff" * len(clear),
    "a name that is too long": lambda clear: clear[:5] + b"\xff\xff" + clear[7:],
    "a name that is no text": lambda _clear: lane(b"\xff\xfe\n\xff"),
    "no name": lambda _clear: lane(b""),
    "a frame of one octet": lambda _clear: lane(b"acme\na,b") + b"\0",
    "a frame that does not parse": lambda _clear: lane(b"acme\na,b") + struct.pack(">IIII", 20, 4, 0, 1) + b"\xff" * 4,
}


@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_makes_no_sense_is_set_aside(kind: Kind, what: str, life: Life) -> None:
    if kind is Kind.MAIL and what == "a name that is too long":
        what = "ones"  # the length of its name stands elsewhere
    identity = sealed_row(life, kind, NONSENSE[what])
    life.goes_on(1)
    if not life.aside():
        life.world.restarts()
        life.world.passes(200 * 3600, step=3600)
        life.world.ends()
    (item,) = life.aside()
    assert item.id == identity and item.kind in ("message", "mail")
    with life.world.disk.files() as db:
        assert content(db, item, life.world.disk.ring) is not None, "it can be looked at"


@pytest.mark.parametrize("name", [b"gone\na,b", b"acme\nelsewhere", b"gone\nelsewhere,nowhere"])
def test_a_message_of_names_that_are_not_configured_waits(name: bytes, life: Life) -> None:
    frame = build_sm(4, 0, FROM, address_field(1, 1, TO), b"x")
    sealed_row(life, Kind.QUEUE, lambda _clear: lane(name) + frame)
    life.goes_on(1)


def entry(kind: int, identity: int, payload: bytes) -> bytes:
    """An entry of a kind that need not exist."""
    return HEAD.pack(kind, HEAD.size + len(payload), identity) + payload


FRAME = receipt(b"id-x")
PARK = struct.pack(">IB", 2_000_000_000, 1) + b"a"
MAIL = struct.pack(">IQB", 2_000_000_000, 0, 4) + b"acme"
ENTRIES: dict[str, bytes] = {
    **{
        f"{kind.name} {what}": mark(kind, 1 << 40, change(FRAME))
        for kind in Entry
        for what, change in NONSENSE.items()
        if kind in (Entry.ACCEPT, Entry.MAIL, Entry.PARK) or what in ("nothing", "ones")
    },
    **{f"kind {kind}": entry(kind, 1 << 40, b"abc") for kind in (0, 12, 99, 255)},
    "an id that nobody drew": mark(Entry.PARK, (1 << 64) - 1, PARK + FRAME),
    "an id far ahead": mark(Entry.PARK, 1 << 62, PARK + FRAME),
    "no id": mark(Entry.MAIL, 0, MAIL + FRAME),
    "a length of nothing": HEAD.pack(Entry.ACCEPT, 0, 1 << 40),
    "a length that lies": HEAD.pack(Entry.ACCEPT, 1 << 31, 1 << 40) + b"abc",
    "half a head": HEAD.pack(Entry.ACCEPT, 40, 1 << 40)[:7],
    "a receipt that does not parse": mark(Entry.PARK, 1 << 40, PARK + struct.pack(">IIII", 20, 5, 0, 1) + b"\xff" * 4),
    "mail that is no frame": mark(Entry.MAIL, 1 << 40, MAIL + b"\0\0\0\x10"),
}
# Marks whose payload nobody reads, or that speak of nothing.
HARMLESS = ("DONE", "RETURNED", "RESENT", "RELEASED", "SUBMITTED", "MAIL_DONE", "PARK_DONE", "ASIDE")


@pytest.mark.parametrize("what", ENTRIES)
def test_an_entry_that_makes_no_sense_is_set_aside(what: str, life: Life) -> None:
    good = mark(Entry.PARK, (1 << 40) + 7, PARK + receipt(b"id-behind"))
    whole = "length" not in what and "half" not in what
    sealed_block(life, (good if not whole else b"") + ENTRIES[what] + (good if whole else b""))
    life.goes_on(0)
    aside = life.aside()
    if what.split()[0] in HARMLESS:
        assert aside == []
    else:
        (item,) = aside
        assert item.kind == ("entry" if whole else "block") and item.place == "start"
    life.world.restarts()
    assert (1 << 40) + 7 in life.world.upstream().parked, "what stands beside it counts"
    assert len(life.aside()) == len(aside), "it is set aside once"


@pytest.mark.parametrize(
    ("kind", "payload"), [(Entry.SUBMITTED, b"\xff\0id"), (Entry.SUBMITTED, b""), (Entry.RELEASED, b"\xff")]
)
def test_a_mark_that_makes_no_sense_leaves_its_message_alive(kind: Entry, payload: bytes, life: Life) -> None:
    sealed_block(life, mark(kind, int(life.ids[b"hot-0"], 16), payload))
    life.goes_on(0)


def test_a_newer_entry_that_makes_no_sense_leaves_its_message_alive(life: Life) -> None:
    sealed_block(life, mark(Entry.ACCEPT, int(life.ids[b"hot-0"], 16), b"\xff" * 40))
    life.goes_on(0)
    assert [(item.kind, item.place) for item in life.aside()] == [("entry", "start")], "once, over three starts"


def test_nothing_else_is_sealed_under_the_key_of_what_was_set_aside(life: Life) -> None:
    sealed_row(life, Kind.QUEUE, lambda _clear: b"")
    life.goes_on(1)
    (item,) = life.aside()
    with life.world.disk.files() as db:
        others = db.execute("SELECT seq >> 32 FROM spool UNION SELECT segment FROM cold").fetchall()
        assert (item.segment,) not in others
        assert content(db, item, life.world.disk.ring) == b""


def s1_receipt(upstream_id: bytes) -> bytes:
    """A receipt without an id in its text, an error of 200 digits, and a TLV that names the message."""
    text = b"sub:001 dlvrd:001 submit date:2611222313 done date:2611222313 stat:DELIVRD err:" + b"9" * 120 + b" text:"
    tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, upstream_id + b"\0") + tlv(Tag.MESSAGE_STATE, b"\2")
    return build_sm(5, 0, address_field(1, 1, TO), FROM, text, Fields(esm_class=4), tlvs)


def test_a_parked_receipt_that_raised_once_stops_no_start(life: Life) -> None:
    parked = mark(Entry.PARK, 1 << 40, PARK + s1_receipt(b"id-cold-0"))
    sealed_block(life, parked)
    life.goes_on(0)
    assert life.world.broken == []


def spliced(at: int, octets: bytes, clear: bytes) -> bytes:
    return clear[:at] + octets + clear[at + len(octets) :]


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_octets_in_any_place_stop_no_start(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    life = Life(tmp_path_factory.mktemp("store"))
    try:
        damaged, raw = 0, False
        for _ in range(data.draw(st.integers(1, 3))):
            octets = data.draw(st.binary(max_size=200))
            place = data.draw(st.sampled_from(["row", "block", "entry", "raw row", "raw block"]))
            kind = data.draw(st.sampled_from(list(KINDS)))
            damaged += 4 if place == "raw block" else 1
            if place == "row":
                if raw:
                    continue  # it may not open any more
                at = data.draw(st.integers(0, 60))
                sealed_row(life, kind, partial(spliced, at, octets))
            elif place == "block":
                sealed_block(life, octets)
            elif place == "entry":
                number = data.draw(st.integers(0, 12))
                sealed_block(life, entry(number, data.draw(st.integers(0, (1 << 64) - 1)), octets))
            else:
                raw = True
                table, name = ("cold", "id") if place == "raw row" else ("spool", "seq")
                with life.world.disk.files() as db:
                    rows = [row[0] for row in db.execute(f"SELECT {name} FROM {table} ORDER BY {name}")]
                    one = data.draw(st.sampled_from(rows))
                    db.execute(f"UPDATE {table} SET data = ? WHERE {name} = ?", (octets, one))
        life.goes_on(damaged)
    finally:
        life.world.ends()


def test_what_is_kept_goes_when_its_time_is_over(life: Life) -> None:
    sealed_row(life, Kind.QUEUE, lambda _clear: b"")
    life.goes_on(1)
    (item,) = life.aside()
    with life.world.disk.files() as db:
        assert overdue(db, item.at + 1, lambda _account: None) == 0
        assert overdue(db, item.at + 10, lambda account: 5.0 if account == "acme" else None) == 1


def test_an_end_can_be_seen_of_what_was_set_aside(life: Life) -> None:
    identity = sealed_row(life, Kind.WAITING, lambda _clear: b"")
    life.world.restarts()
    life.world.carrier().reports(b"id-cold-0", b"id-cold-1", b"id-cold-2")
    life.world.commits()
    states = [event.state for event in life.world.store.events if event.id == identity]
    assert set(states) & FINAL_STATES
