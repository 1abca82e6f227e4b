"""Receipts as the specification has them and as carriers send them, and whose message an id means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import receipt
from smppd.protocol.receipt import IdForm, IdMatcher, MessageState, Receipt, id_forms, normalise, parse, splice, write

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
    values = dict.fromkeys(("id", "sub", "dlvrd", "submit_date", "done_date", "stat", "err", "text"), b"") | fields
    return Receipt(**values, state=MessageState.from_word(values["stat"]))


# States


@pytest.mark.parametrize("state", MessageState)
def test_every_state_has_a_word_of_seven_letters_that_means_it(state: MessageState) -> None:
    assert len(state.word) == 7
    for word in (state.word, state.word.lower(), state.name.encode(), b"%d" % state, b" " + state.word + b" "):
        assert MessageState.from_word(word) is state


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (b"Delivered", MessageState.DELIVERED),
        (b"FAILED", MessageState.UNDELIVERABLE),
        (b"undelivered", MessageState.UNDELIVERABLE),
        (b"BUFFRED", MessageState.ENROUTE),
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
    assert parse(octets) == expected


@pytest.mark.parametrize("octets", [b"", b"hello", b"STOP", b"sub:001 text:id", b"id: stat:", b"id:" + b"1" * 66])
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
                [b"id:", b"ID :", b"stat:", b"text:", b"submit date:", b"err", b":", b" ", b"\0", b"12", b","]
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
        assert found == only(**expected, text=text)


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


# Message ids


@pytest.mark.parametrize(
    ("raw", "form", "expected"),
    [
        (b"00Ab", IdForm.RAW, b"00Ab"),
        (b"0012", IdForm.STRIPPED, b"12"),
        (b"0000", IdForm.STRIPPED, b"0"),
        (b"Ab12", IdForm.LOWER, b"ab12"),
        (b"Ab12", IdForm.UPPER, b"AB12"),
        (b"ff", IdForm.HEX_TO_DECIMAL, b"255"),
        (b"000000FF", IdForm.HEX_TO_DECIMAL, b"255"),
        (b"xyz", IdForm.HEX_TO_DECIMAL, None),
        (b"1_0", IdForm.HEX_TO_DECIMAL, None),
        (b"255", IdForm.DECIMAL_TO_HEX, b"ff"),
        (b"0255", IdForm.DECIMAL_TO_HEX_UPPER, b"FF"),
        (b"ff", IdForm.DECIMAL_TO_HEX, None),
        (b" 1", IdForm.DECIMAL_TO_HEX, None),
        (b"1" * 5000, IdForm.DECIMAL_TO_HEX, None),
        (b"f" * 5000, IdForm.HEX_TO_DECIMAL, None),
        (b"3f2b8c1e-0000-4000-8000-0123456789ab", IdForm.UUID_PLAIN, b"3f2b8c1e0000400080000123456789ab"),
        (b"3f2b8c1e0000400080000123456789ab", IdForm.UUID_DASHED, b"3f2b8c1e-0000-4000-8000-0123456789ab"),
        (b"12", IdForm.UUID_DASHED, None),
        (b"12", IdForm.PADDED, None),
    ],
)
def test_normalise(raw: bytes, form: IdForm, expected: bytes | None) -> None:
    assert normalise(raw, form) == expected


def test_normalise_to_a_width() -> None:
    assert normalise(b"12", IdForm.PADDED, 8) == b"00000012"
    assert normalise(b"255", IdForm.DECIMAL_TO_HEX_UPPER_PADDED, 8) == b"000000FF"
    assert normalise(b"12", IdForm.PADDED, 2) is None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=70) | st.text("0123456789abcdefABCDEF-", max_size=70).map(str.encode))
def test_forms_of_any_octets(raw: bytes) -> None:
    forms = id_forms(raw)
    assert forms[0] == raw and len(set(forms)) == len(forms)
    matcher = IdMatcher()
    for width in (8, 16):
        matcher.answered(b"0" * width)
    keys = [key for _, key in matcher.candidates(raw)]
    assert keys[0] == raw and len(set(keys)) == len(keys) and set(forms) <= set(keys)


@pytest.mark.parametrize(
    ("answer", "in_receipt"),
    [
        (b"00abcdef", b"abcdef"),
        (b"abcdef", b"00ABCDEF"[2:]),
        (b"ABCDEF", b"abcdef"),
        (b"0000001234", b"1234"),
        (b"1234", b"0000001234"),
        (b"4d2", b"1234"),
        (b"4D2F", b"19759"),
        (b"000004d2", b"1234"),
        (b"000004DF", b"1247"),
        (b"1234", b"4d2"),
        (b"0000001234", b"4D2"),
        (b"3f2b8c1e-0000-4000-8000-0123456789ab", b"3f2b8c1e0000400080000123456789ab"),
        (b"3f2b8c1e0000400080000123456789ab", b"3f2b8c1e-0000-4000-8000-0123456789ab"),
    ],
)
def test_a_receipt_finds_its_message(answer: bytes, in_receipt: bytes) -> None:
    matcher = IdMatcher()
    matcher.answered(answer)
    assert matcher.find(in_receipt, {answer: "message", b"another": "wrong"}) == "message"
    assert sum(matcher.hits.values()) == 1 and matcher.hits[IdForm.RAW] == 0
    assert matcher.find(in_receipt, {}) is None
    assert sum(matcher.hits.values()) == 1


def first(matcher: IdMatcher) -> IdForm:
    return next(matcher.candidates(b"1"))[0]


def test_the_raw_id_wins_where_both_readings_hit() -> None:
    matcher = IdMatcher()
    assert matcher.find(b"1234", {b"1234": "raw", b"4d2": "hexadecimal"}) == "raw"
    assert first(matcher) is IdForm.RAW


def test_a_habit_that_is_certain_goes_first() -> None:
    """Hexadecimal in the answer, decimal in the receipt; an id of digits only would mislead."""
    matcher = IdMatcher(settle_after=16)
    for number in range(0xA000, 0xA010):
        assert first(matcher) is IdForm.RAW
        assert matcher.find(b"%d" % number, {b"%x" % number: number}) == number
    assert first(matcher) is IdForm.DECIMAL_TO_HEX
    assert matcher.find(b"1234", {b"1234": "another message", b"4d2": "the message"}) == "the message"
    assert matcher.find(b"abcd", {b"abcd": "raw"}) == "raw", "the others are still tried"


def test_a_habit_is_given_up_when_the_raw_id_proves_right() -> None:
    matcher = IdMatcher(settle_after=4)
    for _ in range(4):
        matcher.learn(IdForm.DECIMAL_TO_HEX)
    assert first(matcher) is IdForm.DECIMAL_TO_HEX
    for _ in range(2):
        matcher.find(b"abc", {b"abc": 1})
    assert first(matcher) is IdForm.RAW
    assert matcher.hits[IdForm.RAW] == 2


def test_few_accidents_settle_nothing() -> None:
    matcher = IdMatcher(settle_after=16)
    for _ in range(1000):
        matcher.find(b"7f", {b"7f": 1})
    for _ in range(100):
        matcher.learn(IdForm.DECIMAL_TO_HEX)
    assert first(matcher) is IdForm.RAW


def test_widths_are_bounded() -> None:
    matcher = IdMatcher()
    for width in range(1, 65):
        matcher.answered(b"0" * width)
    assert len(list(matcher.candidates(b"1"))) < 20
