"""Receipts as the specification has them and as carriers send them, and whose message an id means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import receipt
from smppd.protocol.receipt import MessageState, Receipt, parse, splice, write

CANONICAL = (
    b"id:0123456789abcdef sub:001 dlvrd:001 submit date:2611220045 done date:2611220046 stat:DELIVRD err:000 "
    b"text:Hello this is a text"
)
READ = Receipt(
    b"0123456789abcdef",
    b"001",
    b"001",
    b"2611220045",
    b"2611220046",
    b"DELIVRD",
    b"000",
    b"Hello this is a text",
    MessageState.DELIVERED,
)


def only(**fields: bytes) -> Receipt:
    """A receipt with these fields and no others."""
    names = ("id", "sub", "dlvrd", "submit_date", "done_date", "stat", "err", "text")
    message_id, sub, dlvrd, submitted, done, stat, err, text = (fields.get(name, b"") for name in names)
    return Receipt(message_id, sub, dlvrd, submitted, done, stat, err, text, MessageState.from_word(stat))


def read(octets: bytes) -> Receipt | None:
    """What is read, however it was written."""
    found = parse(octets)
    return None if found is None else found._replace(plain=False)


# States


@pytest.mark.parametrize("state", MessageState)
def test_every_state_has_a_word_of_seven_letters_that_means_it(state: MessageState) -> None:
    assert len(state.word) == 7
    for word in (state.word, state.word.lower(), state.name.encode(), b" " + state.word + b" "):
        assert MessageState.from_word(word) is state
    assert MessageState.from_word(b"%d" % state) is None, "to some carriers it is an error code, and 0 is success"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (b"Delivered", MessageState.DELIVERED),
        (b"FAILED", MessageState.UNDELIVERABLE),
        (b"undelivered", MessageState.UNDELIVERABLE),
        (b"BUFFRED", MessageState.ENROUTE),
        (b"BUFFERD", MessageState.ENROUTE),
        (b"pending", MessageState.ENROUTE),
        (b"0", None),
        (b"", None),
        (b"WHATEVER", None),
    ],
)
def test_carriers_own_words(word: bytes, state: MessageState | None) -> None:
    assert MessageState.from_word(word) is state


def test_states_after_which_another_may_come_are_not_final() -> None:
    assert [state.name for state in MessageState if not state.is_final] == [
        "SCHEDULED",
        "ENROUTE",
        "ACCEPTED",
        "UNKNOWN",
    ]


# Reading


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (CANONICAL, READ),
        (CANONICAL.replace(b"text:", b"Text:"), READ),
        (CANONICAL.upper(), READ._replace(id=b"0123456789ABCDEF", text=b"HELLO THIS IS A TEXT")),
        (CANONICAL.replace(b" date", b"date"), READ),
        (CANONICAL.replace(b" date", b"_date"), READ),
        (CANONICAL.replace(b" ", b"  ", 6), READ),
        (CANONICAL.replace(b":", b": ", 7), READ),
        (CANONICAL.replace(b" s", b",s").replace(b" err", b";err"), READ),
        (CANONICAL.replace(b"sub:001 dlvrd:001 ", b"nodes:3 "), READ._replace(sub=b"", dlvrd=b"")),
        (CANONICAL.replace(b"2611220045", b"261122004500"), READ._replace(submit_date=b"261122004500")),
        (
            CANONICAL.replace(b"2611220045", b"2026-11-22 00:45:00"),
            READ._replace(submit_date=b"2026-11-22 00:45:00"),
        ),
        (CANONICAL + b"\0", READ._replace(text=b"Hello this is a text\0")),  # an @ in GSM
        (b"id:7\0", only(id=b"7")),
        (CANONICAL.decode().encode("utf-16-be"), READ),
        (b"stat:DELIVRD", only(stat=b"DELIVRD")),
        (b"id:7", only(id=b"7")),
        (b"message_id:7 status:2", only(id=b"7", stat=b"2")),
        (b"id:3f2b8c1e-0000-4000-8000-0123456789ab stat:EXPIRED", None),
        (b"id:7 err: text:", only(id=b"7")),
        (b"text:hello id:7 stat:REJECTD", only(text=b"hello", id=b"7", stat=b"REJECTD")),
        (b"id:7 stat:delivrd text:a stat:REJECTD id:8", only(id=b"7", stat=b"DELIVRD", text=b"a stat:REJECTD id:8")),
        (b"id:7 stat:DELIVRD text:first\nsecond\xff", only(id=b"7", stat=b"DELIVRD", text=b"first\nsecond\xff")),
        (b"grid:7 stat:SOMEHOW", only(stat=b"SOMEHOW")),
    ],
)
def test_parse(octets: bytes, expected: Receipt | None) -> None:
    if expected is None:
        expected = only(id=octets.split()[0][3:], stat=b"EXPIRED")
    assert read(octets) == expected


@pytest.mark.parametrize(
    ("octets", "id", "stat"),
    [
        (b"447700900123SMSAlert^id:1054BC64 sub:0 dlvrd:1 stat:DELIVRD err: text:", b"1054BC64", b"DELIVRD"),
        (b'{"id":"1054BC64","status":"DELIVRD","text":"id:9"}', b"1054BC64", b"DELIVRD"),
        (b"messageId=1054BC64&stat=DELIVRD", b"1054BC64", b"DELIVRD"),
        (b"smsid:stat:DELIVRD", b"", b"DELIVRD"),
        (b"447700900123SMSAlertid:1054BC64 stat:DELIVRD text:", b"1054BC64", b"DELIVRD"),
        (b"447700900123id:1054BC64 stat:DELIVRD text:smsid:1054BC65", b"1054BC64", b"DELIVRD"),
        (b'{"smsid":"1054BC64","stat":"DELIVRD"}', b"1054BC64", b"DELIVRD"),
        (b"paid:100 stat:DELIVRD", b"", b"DELIVRD"),
        (b"smsid:1054BC65 id:7 stat:DELIVRD", b"7", b"DELIVRD"),
        (b"stat:DELIVRD text:smsid:1054BC64", b"", b"DELIVRD"),
        (b"\xfe\xff\0i\0d\0:\x007\0 ", b"7", b""),
        (b"\xff\xfei\0d\0:\x007\0 \0", b"7", b""),
        (b"\xef\xbb\xbfid:7", b"7", b""),
        ("短信 id:7 stat:DELIVRD text:短信".encode("utf-16-be"), b"7", b"DELIVRD"),
        ("id:7 text:@@@@@@@@".replace("@", "\0").encode(), b"7", b""),
        # Nothing behind text: is a field...
        (b"sub:001 stat:DELIVRD err:000 text:Order id:991 is ready", b"", b"DELIVRD"),
        (b"sub:001 stat:DELIVRD err:000 text:Order id:991", b"", b"DELIVRD"),
        (b"stat:DELIVRD text:id:991 sub:1 dlvrd:1 is what you get", b"", b"DELIVRD"),
        # ... but the rest of a receipt.
        (b"text:Order id:991 is ready id:7 stat:DELIVRD", b"7", b"DELIVRD"),
        (b"id:7 text:your stat:DELIVRD", b"7", b"DELIVRD"),
        (b"id:7 text:your stat:FUNNY", b"7", b""),
    ],
)
def test_an_id_and_a_state_anywhere(octets: bytes, id: bytes, stat: bytes) -> None:
    found = parse(octets)
    assert found is not None and (found.id, found.stat) == (id, stat)


def test_several_ids_are_named_in_their_order() -> None:
    found = parse(b"id:1 message_id:2 msgid:1 id:3 stat:DELIVRD text:id:4")
    assert found is not None and (found.id, found.others) == (b"1", (b"2", b"3"))


def test_a_long_text_is_not_searched_for_fields() -> None:
    found = parse(b"id:7 stat:DELIVRD text:" + b"id:9 err:" * 7000)
    assert found is not None and found.id == b"7" and found.err == b"" and len(found.text) == 63_000
    assert parse(b"x" * 60_000 + b" id:7 stat:DELIVRD") is None


@pytest.mark.parametrize("octets", [b"", b"hello", b"STOP", b"sub:001 text:id", b"id: stat:", b"id:" + b"1" * 513])
def test_what_has_neither_id_nor_stat_is_no_receipt(octets: bytes) -> None:
    assert parse(octets) is None


def test_an_id_may_have_65_octets() -> None:
    found = parse(b"id:" + b"1" * 65)
    assert found is not None and len(found.id) == 65


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=120),
        st.lists(
            st.sampled_from(
                [
                    b"id:",
                    b"smsid:",
                    b"ID :",
                    b"stat:",
                    b"text:",
                    b"submit date:",
                    b"err",
                    b":",
                    b" ",
                    b"\0",
                    b"12",
                    b",",
                    b"1054BC64",
                ]
            )
            | st.binary(max_size=3),
            max_size=30,
        ).map(b"".join),
    )
)
def test_no_octets_make_it_fail(octets: bytes) -> None:
    found = parse(octets)
    assert found is None or found.id or found.stat
    spliced = splice(octets, b"0123456789abcdef")
    assert len(spliced) <= 254
    if found is not None and found.id and b"\0" not in octets:
        again = parse(spliced)
        assert again is not None and again.id == b"0123456789abcdef"


FIELDS = {
    "sub": (b"sub", b"001"),
    "dlvrd": (b"dlvrd", b"001"),
    "submit_date": (b"submit date", b"2611220045"),
    "done_date": (b"done date", b"261122004600"),
    "err": (b"err", b"0A1"),
    "id": (b"id", b"Ab-12"),
    "stat": (b"stat", b"UNDELIV"),
}


@settings(deadline=None, max_examples=200)
@given(st.data(), st.permutations(list(FIELDS)), st.sets(st.sampled_from(sorted(FIELDS))), st.booleans())
def test_fields_in_any_order_and_case(
    data: st.DataObject, order: list[str], missing: set[str], with_text: bool
) -> None:
    pieces = []
    expected = dict.fromkeys(FIELDS, b"")
    for name in order:
        if name in missing:
            continue
        label, value = FIELDS[name]
        label = data.draw(st.sampled_from([label, label.upper(), label.title(), label.replace(b" ", b"")]))
        pieces.append(label + data.draw(st.sampled_from([b":", b": "])) + value)
        expected[name] = value
    text = b""
    if with_text:
        text = data.draw(st.binary(max_size=20).filter(lambda octets: b":" not in octets and b"\0" not in octets))
        pieces.append(b"Text:" + text)
    found = parse(data.draw(st.sampled_from([b" ", b"  ", b", "])).join(pieces))
    if not expected["id"] and not expected["stat"]:
        assert found is None
    else:
        assert found is not None and found._replace(plain=False) == only(**expected, text=text)


def test_no_field_is_printed() -> None:
    found = parse(CANONICAL)
    shown = f"{found!r} {found} {[found]}"
    assert "Hello" not in shown and "0123456789abcdef" not in shown and "20 octets" in shown


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (b"7001010001", 60),
        (b"700101000102", 62),
        (b"197001010001", 60),
        (b"19700101000102", 62),
        (b"1970-01-01 00:01:02", 62),
        (b"202611220045", 1795308300),
        (b"", None),
        (b"0000000000", None),
        (b"2613220045", None),
        (b"123", None),
    ],
)
def test_dates(date: bytes, seconds: int | None) -> None:
    assert receipt.seconds(date) == seconds


# Writing


def test_write_is_the_specifications_form() -> None:
    written = write(
        b"0123456789abcdef",
        MessageState.DELIVERED,
        submitted=1795308300,
        done=1795308379,
        text=b"Hello this is a text",
    )
    assert written == CANONICAL
    assert b"sub:001 dlvrd:000 " in write(b"1", MessageState.EXPIRED, submitted=0, done=0)
    assert b"sub:002 dlvrd:001 " in write(b"1", MessageState.DELIVERED, submitted=0, done=0, sub=2, dlvrd=1)


@settings(deadline=None, max_examples=150)
@given(
    st.text("0123456789abcdefABCDEF-", min_size=1, max_size=65).map(str.encode),
    st.sampled_from(MessageState),
    st.integers(0, 2_000_000_000),
    st.integers(0, 2_000_000_000),
    st.binary(max_size=300),
)
def test_what_is_written_can_be_read(id: bytes, state: MessageState, submitted: int, done: int, text: bytes) -> None:
    written = write(id, state, submitted=submitted, done=done, err=b"0A1", text=text)
    assert len(written) <= 254
    found = parse(written)
    assert found is not None
    assert (found.id, found.state, found.err) == (id, state, b"0A1")
    assert receipt.seconds(found.submit_date) == submitted // 60 * 60
    assert receipt.seconds(found.done_date) == done // 60 * 60
    assert text.startswith(found.text)


@pytest.mark.parametrize("err", [b"", b"9" * 200, b"\xff" * 300])
@pytest.mark.parametrize("id", [b"1", b"i" * 65, b"i" * 300])
@pytest.mark.parametrize("moment", [0, -1, 10**12, -(10**12), 10**20])
def test_whatever_is_written_fits(err: bytes, id: bytes, moment: int) -> None:
    state = MessageState.UNDELIVERABLE
    written = write(id, state, submitted=moment, done=moment, err=err, text=b"t" * 300, sub=10**6, dlvrd=-5)
    assert len(written) <= 254
    found = parse(written)
    assert found is not None
    assert (found.id, found.sub, found.dlvrd, found.err) == (id[:65], b"999", b"000", err[:16])


# Splicing


def test_splice_replaces_the_id_and_nothing_else() -> None:
    assert splice(CANONICAL, b"7") == CANONICAL.replace(b"0123456789abcdef", b"7")
    assert splice(b"Stat:DELIVRD ID : 12 text:id:12", b"345") == b"Stat:DELIVRD ID : 345 text:id:12"
    assert splice(b"id:1", b"22") == b"id:22"
    assert splice(b"no receipt", b"22") == b"no receipt"
    assert splice("id:1 stat:DELIVRD".encode("utf-16-be"), b"22") == "id:22 stat:DELIVRD".encode("utf-16-be")


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=30).filter(lambda octets: b":" not in octets),
    st.text("0123456789abcdef", min_size=1, max_size=64).map(str.encode),
    st.text("0123456789abcdef", min_size=1, max_size=64).map(str.encode),
    st.binary(max_size=60),
)
def test_splice_keeps_every_other_octet(before: bytes, old: bytes, new: bytes, text: bytes) -> None:
    head, tail = b"\x01" + before + b" Id:", b" stat:DELIVRD text:" + text
    assert splice(head + old + tail, new) == head + new + tail


def test_a_longer_id_shortens_the_text() -> None:
    octets = b"id:1 stat:DELIVRD text:" + b"x" * 231
    assert len(octets) == 254
    spliced = splice(octets, b"0123456789abcdef")
    assert spliced == b"id:0123456789abcdef stat:DELIVRD text:" + b"x" * 216
    assert len(splice(octets, b"0123456789abcdef", limit=65536)) == 269


def test_a_text_in_the_middle_is_shortened_there() -> None:
    octets = b"text:" + b"x" * 230 + b" id:1 stat:DELIVRD"
    spliced = splice(octets, b"0123456789abcdef")
    assert len(spliced) == 254
    assert spliced.startswith(b"text:xxx") and spliced.endswith(b"x id:0123456789abcdef stat:DELIVRD")


def test_a_receipt_without_room_is_written_anew() -> None:
    octets = b"id:1 stat:DELIVRD err:001 reason:" + b"x" * 221
    assert len(octets) == 254
    spliced = splice(octets, b"0123456789abcdef")
    found = parse(spliced)
    assert len(spliced) <= 254
    assert found is not None and (found.id, found.stat, found.err) == (b"0123456789abcdef", b"DELIVRD", b"001")
