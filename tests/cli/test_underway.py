"""Each kind of thing that can be on its way, as the relay writes it, is read as what it is."""

from __future__ import annotations

import struct

import pytest

from smppd.cli.underway import OnItsWay, holds_nothing, read_thing, receipt_text
from smppd.ids import shown
from smppd.protocol.wire import Sm
from smppd.records.underway import Thing
from smppd.relay.ledger.journal import Entry, mark
from smppd.relay.ledger.payload import StoredMessage
from smppd.store.api import Kind
from tests.e2e.rawsmsc import receipt_body
from tests.vault.rows import submit_sm

FRAME = submit_sm(b"hello", b"12345", b"447700900123")
RECEIPT_BODY = receipt_body(b"\1\1" + b"447700900123\0", b"\3\0" + b"12345\0", b"up-1")
RECEIPT = struct.pack(">IIII", 16 + len(RECEIPT_BODY), 5, 0, 1) + RECEIPT_BODY
ID = 1 << 40


def message(flags: int = 0, tail: bytes = b"", frame: bytes = FRAME) -> bytes:
    lane = b"acme\ncarrier-a"
    return struct.pack(">IBH", 900, flags, len(lane)) + lane + tail + frame


def mail(frame: bytes = FRAME, about: int = 77) -> bytes:
    return struct.pack(">IQB", 900, about, 4) + b"acme" + frame


def parked() -> bytes:
    return struct.pack(">IB", 900, 9) + b"carrier-a" + RECEIPT


def spool(kind: Entry, data: bytes, *marks: tuple[int, bytes]) -> OnItsWay:
    found = read_thing(Thing("spool", int(kind), "", "", ID, data, marks))
    assert found is not None and "447700" not in repr(found)
    return found


def test_a_payload_is_what_the_relay_reads() -> None:
    stored = StoredMessage(ID, message(16, b"\x09carrier-b\x03up1"))
    assert (stored.upstream, stored.upstream_id, stored.shown) == ("carrier-b", b"up1", shown(ID))


@pytest.mark.parametrize(
    ("data", "marks", "place", "upstream", "upstream_id"),
    [
        (message(), (), "waits for its carrier", "", b""),
        (message(32), (), "a part that is held until its message is whole", "", b""),
        (message(1), (), "is being sent", "", b""),
        (message(), ((Entry.RELEASED, b""),), "is being sent", "", b""),
        (message(), ((Entry.RELEASED, b""), (Entry.RETURNED, b"")), "waits for its carrier", "", b""),
        (message(16, b"\x09carrier-b\x03up1"), (), "waits for its receipt", "carrier-b", b"up1"),
        (message(), ((Entry.SUBMITTED, b"carrier-a\0up-9"),), "waits for its receipt", "carrier-a", b"up-9"),
    ],
)
def test_a_message(
    data: bytes, marks: tuple[tuple[int, bytes], ...], place: str, upstream: str, upstream_id: bytes
) -> None:
    one = spool(Entry.ACCEPT, data, *marks)
    assert (one.place, one.account, one.upstream, one.upstream_id) == (place, "acme", upstream, upstream_id)
    assert (one.id, one.record, one.expires, one.receipt) == (ID, ID, 900, False) and one.sm.body == b"hello"


def test_the_sender_that_policy_exchanged_is_known() -> None:
    assert (
        spool(Entry.ACCEPT, message(8, b"\x0f\x01\x01" + b"447700900456\0")).sender == b"\x01\x01" + b"447700900456\0"
    )


def test_mail_and_parked_receipts() -> None:
    one = spool(Entry.MAIL, mail())
    assert (one.place, one.record, one.account) == ("mailbox, a message to the customer", 77, "acme")
    two = spool(Entry.MAIL, mail(RECEIPT))
    assert two.receipt and two.place == "mailbox, a receipt" and receipt_text(two.sm)[0] == "DELIVRD"
    three = spool(Entry.PARK, parked())
    assert three.receipt and (three.record, three.account, three.upstream) == (0, "", "carrier-a")
    assert receipt_text(Sm(FRAME)) == ("", b"")


@pytest.mark.parametrize(
    ("kind", "data", "place", "upstream"),
    [
        (Kind.QUEUE, message(), "waits for its carrier", ""),
        (Kind.WAITING, message(), "waits for its receipt", "owner"),
        (Kind.MAIL, mail(), "mailbox, a message to the customer", ""),
        (Kind.PARKED, parked(), "a receipt whose message is not known yet", "carrier-a"),
    ],
)
def test_rows(kind: Kind, data: bytes, place: str, upstream: str) -> None:
    found = read_thing(Thing("row", int(kind), "", "owner", ID, data))
    assert found is not None and (found.place, found.upstream) == (place, upstream)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("message", message()), ("cold message", message()), ("cold waiting", message()), ("mail", mail()),
        ("cold mail", mail()), ("parked", parked()), ("frame", FRAME), ("entry", mark(Entry.ACCEPT, ID, message())),
        ("entry", mark(Entry.MAIL, ID, mail())), ("entry", mark(Entry.PARK, ID, parked())),
    ],
)  # fmt: skip
def test_what_is_set_aside(kind: str, data: bytes) -> None:
    found = read_thing(Thing("damaged", 0, kind, "acme", ID, data))
    assert found is not None and found.place == "set aside"


@pytest.mark.parametrize(
    "thing",
    [
        Thing("spool", int(Entry.ACCEPT), "", "", ID, b""),
        Thing("spool", int(Entry.ACCEPT), "", "", ID, message(frame=FRAME[:-1])),
        Thing("spool", 99, "", "", ID, message()),
        Thing("row", 9, "", "", ID, message()),
        Thing("damaged", 0, "entry", "", ID, b"\1"),
        Thing("damaged", 0, "block", "", 0, b"rest"),
    ],
)
def test_what_cannot_be_read_is_nothing(thing: Thing) -> None:
    assert read_thing(thing) is None


def test_a_number_that_was_set_aside_holds_nothing() -> None:
    assert holds_nothing(Thing("damaged", 0, "meta", "x", 0, b"5"))
    assert not holds_nothing(Thing("damaged", 0, "mail", "x", 0, b"5"))
