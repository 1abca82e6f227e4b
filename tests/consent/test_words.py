"""What handsets say: whole messages by number, country and language, in every alphabet; and what only looks like it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.consent.words import Book, Heard, Meaning, WordTable, folded, read_lines, shipped
from smppd.policy.program import PolicyError
from smppd.protocol.text import Alphabet, encode
from smppd.protocol.wire import Command, Fields, Sm, Tag, address_field, build_sm, tlv
from tests.relay.fakes import settings

STOP, ALL, START, HELP, REVIEW = Meaning.STOP, Meaning.STOP_ALL, Meaning.START, Meaning.HELP, Meaning.REVIEW
BOOK = Book(shipped(), (), ())
OURS = b"447700900001"


@pytest.mark.parametrize(
    ("text", "country", "meaning"),
    [
        # whole messages, whatever is around the letters
        ("STOP", "GB", STOP),
        ("Stop.", "GB", STOP),
        ("  stop!!! ", "US", STOP),
        ("s t o p", "GB", STOP),
        ("S.T.O.P", "GB", STOP),
        ('"STOP"', "", STOP),
        ("STOP \N{OCTAGONAL SIGN}", "GB", STOP),
        ("\uff33\uff34\uff2f\uff30", "JP", STOP),
        ("ST\u200bOP\n", "GB", STOP),
        ("Opt-Out", "US", STOP),
        ("OPTOUT", "CA", STOP),
        ("stopall", "US", ALL),
        ("Stop all", "US", ALL),
        ("UNSUB", "NO", STOP),
        ("Unstop", "US", START),
        ("start", "GB", START),
        ("Help?", "US", HELP),
        ("INFO", "US", HELP),
        # other languages, with and without their accents
        ("ARR\u00caT", "FR", STOP),
        ("arret", "CA", STOP),
        ("Aide", "FR", HELP),
        ("D\u00c9SABONNER", "FR", STOP),
        ("Stopp", "DE", STOP),
        ("abmelden", "AT", STOP),
        ("BAJA", "ES", STOP),
        ("Sair", "BR", STOP),
        ("\u0130PTAL", "TR", STOP),
        ("IPTAL", "TR", STOP),
        ("\u0131ptal", "TR", STOP),
        ("\u0421\u0422\u041e\u041f", "RU", STOP),
        ("\u0625\u0644\u063a\u0627\u0621", "AE", STOP),
        ("\u0627\u0644\u063a\u0627\u0621", "AE", STOP),
        ("\u0930\u094b\u0915\u094b", "IN", STOP),
        ("\u9000\u8ba2", "CN", STOP),
        ("td", "CN", STOP),
        ("T", "CN", STOP),
        # a word of one country is no word of another
        ("dur", "TR", STOP),
        ("Dur", "FR", REVIEW),
        ("dur", "", REVIEW),
        ("baja", "GB", REVIEW),
        ("t", "GB", REVIEW),
        ("hilfe", "GB", None),
        # what looks like a refusal
        ("please stop texting me", "GB", REVIEW),
        ("STOP PLEASE", "US", REVIEW),
        ("Don't text me again", "GB", REVIEW),
        ("take me off your list", "US", REVIEW),
        ("je veux me d\u00e9sabonner", "FR", REVIEW),
        ("ne plus recevoir vos SMS", "FR", REVIEW),
        ("bitte keine SMS mehr", "DE", REVIEW),
        ("quiero darme de baja", "ES", REVIEW),
        ("\u8bf7\u4e0d\u8981\u518d\u53d1\u4e86", "CN", REVIEW),
        # what is none
        ("Yes, 10 am is fine", "GB", None),
        ("endless thanks", "GB", None),
        ("stopover in Oslo", "NO", None),
        ("I cannot cancel on Monday", "GB", None),
        ("ok", "GB", None),
        ("", "GB", None),
        ("\N{THUMBS UP SIGN}", "GB", None),
        ("1", "GB", None),
        ("STOP" + " " * 157, "GB", REVIEW),
    ],
)
def test_a_text_means(text: str, country: str, meaning: Meaning | None) -> None:
    heard = BOOK.hear(text, country)
    assert (heard.meaning if heard is not None else None) == meaning


def test_only_a_whole_message_is_a_word() -> None:
    assert BOOK.hear("STOP", "GB", whole=False) == Heard(REVIEW)
    assert BOOK.hear("help", "GB", whole=False) is None


@given(st.text(max_size=200), st.sampled_from(["GB", "TR", ""]))
def test_any_text_is_heard_without_a_fault(text: str, country: str) -> None:
    heard = BOOK.hear(text, country)
    assert heard is None or heard.meaning in set(Meaning)


def test_every_shipped_line_is_whole_and_acts_by_itself() -> None:
    lines = shipped()
    assert len({(line.word, line.action) for line in lines}) == len(lines)
    for line in lines:
        assert line.source and line.date >= "2026-11-01"
        if line.action != "like":
            country = min(line.countries) if line.countries else ""
            heard = BOOK.hear(line.word.upper() + "!", country)
            assert heard is not None and heard.meaning == line.action, line
            assert "[K]" not in line.source or line.countries, "what nobody confirmed acts in its own countries only"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("stop | stop | en | * | somewhere", "words.txt:2"),
        ("stop | go | en | * | somewhere | 2026-11-30", "no action"),
        ("?! | stop | en | * | somewhere | 2026-11-30", "no letter"),
    ],
)
def test_a_bad_line_is_named(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        list(read_lines("# ours\n" + line))


# -- messages ------------------------------------------------------------------------------------------------------------


def mo(text: bytes, tlvs: bytes = b"", **fields: Any) -> Sm:
    source, destination = address_field(1, 1, b"447700900123"), address_field(1, 1, OURS)
    return Sm(build_sm(Command.DELIVER_SM, 1, source, destination, text, Fields(**fields), tlvs))


def heard_in(sm: Sm, alphabet: Alphabet = Alphabet.GSM, country: str = "GB", **config: Any) -> Meaning | None:
    station = WordTable(settings(**config)).station("acme", OURS)
    assert station is not None
    heard = station.hear(sm, alphabet, country)
    return heard.meaning if heard is not None else None


TURKISH_IPTAL = encode("\u0130PTAL", 0, national=(1, 1))
PAYLOAD = tlv(Tag.MESSAGE_PAYLOAD, b"STOP")


@pytest.mark.parametrize(
    ("sm", "country", "meaning"),
    [
        (mo(b"STOP"), "GB", STOP),
        (mo("stop".encode("utf-16-be"), data_coding=8), "GB", STOP),
        (mo("\u0421\u0442\u043e\u043f".encode("utf-16-be"), data_coding=8), "RU", STOP),
        (mo("arr\u00eat".encode("latin-1"), data_coding=3), "FR", STOP),
        (mo(b"\x06\x24\x01\x01\x25\x01\x01" + TURKISH_IPTAL, esm_class=0x40), "TR", STOP),
        (mo(b"", PAYLOAD), "GB", STOP),
        (mo(b"", tlv(Tag.MESSAGE_PAYLOAD, b"please stop this")), "GB", REVIEW),
        (mo(b"hello", PAYLOAD), "GB", REVIEW),  # two texts: nobody knows which was meant
        (mo(b"\x05\x00\x03\x07\x02\x01STOP", esm_class=0x40), "GB", REVIEW),  # a part is no whole message
        (mo(b"\x05\x00\x03\x07\x01\x01STOP", esm_class=0x40), "GB", STOP),  # one part of one is
        (mo(b"STOP", tlv(0x020C, b"\0\1") + tlv(0x020E, b"\2") + tlv(0x020F, b"\1")), "GB", REVIEW),
        (mo(b"STOP", data_coding=4), "GB", None),  # binary
        (mo(b"STOP", b"\x02\x04\x00"), "GB", None),  # broken TLVs
        (mo(b"\xff\xff", esm_class=0x40), "GB", None),
        (mo(b"KEY stop"), "GB", REVIEW),
    ],
)
def test_a_message_means(sm: Sm, country: str, meaning: Meaning | None) -> None:
    assert heard_in(sm, country=country) == meaning


def test_packed_septets_are_read() -> None:
    assert heard_in(mo(encode("STOP", 0, Alphabet.GSM_PACKED)), Alphabet.GSM_PACKED) == STOP


def test_a_word_may_stand_behind_the_keyword_of_the_account() -> None:
    shared = {"numbers": ["+447700900001"], "keywords": ["key"]}
    assert heard_in(mo(b"Key STOP"), acme=shared) == STOP
    assert heard_in(mo(b"key start"), acme=shared) == START
    assert heard_in(mo(b"key me in"), acme=shared) is None


# -- configuration -------------------------------------------------------------------------------------------------------


def table(common: dict[str, Any] | None = None, own: Any = None) -> WordTable:
    sections: dict[str, Any] = {"opt_out": common} if common else {}
    return WordTable(settings(acme={"opt_out": own} if own else {}, **sections))


def means(words: WordTable, text: str, number: bytes = OURS, country: str = "GB") -> Meaning | None:
    station = words.station("acme", number)
    assert station is not None
    heard = station.book.hear(text, country)
    return heard.meaning if heard is not None else None


def test_words_are_added_and_left_out() -> None:
    words = table({"words": {"stop": ["basta"]}, "without": ["end"]}, {"words": {"start": "again"}, "without": "quit"})
    assert [means(words, text) for text in ("Basta!", "end", "again", "quit", "stop")] == [
        STOP,
        None,
        START,
        None,
        STOP,
    ]


def test_languages_are_chosen() -> None:
    words = table({"languages": ["en"]})
    assert means(words, "arret") is None and means(words, "stop") == STOP
    assert means(table({"languages": ["en"]}, {"languages": ["fr"]}), "arret", country="FR") == STOP


def test_a_number_has_words_and_answers_of_its_own() -> None:
    common = {
        "answers": {"stop": "You will get no more.", "help": "Call us."},
        "numbers": [
            {"number": "+447700900001", "words": {"stop": ["fin"]}, "answers": {"stop": "Fini."}},
            {"number": "+4477009*", "words": {"stop": ["finis"]}},
        ],
    }
    words = table(common, {"answers": {"help": "Write to us."}})
    assert means(words, "fin") == STOP and means(words, "fin", b"447700900002") is None
    assert means(words, "finis", b"447700900002") == STOP and means(words, "finis", b"33199000000") is None
    first, other = words.station("acme", OURS), words.station("acme", b"447700900002")
    assert first is not None and other is not None
    assert (first.answers.stop, first.answers.help) == ("Fini.", "Write to us.")
    assert (other.answers.stop, other.answers.start) == ("You will get no more.", None)


def test_an_account_that_is_off_hears_nothing() -> None:
    assert table(own="off").station("acme", OURS) is None and table().station("nobody", OURS) is None


@pytest.mark.parametrize(
    ("common", "own", "where"),
    [
        ({"answers": {"stop": "Stop!"}}, None, "opt_out.answers.stop"),
        ({"numbers": [{"number": "447700900001", "answers": {"help": "HELP"}}]}, None, r"opt_out.numbers\[0\]"),
        (None, {"answers": {"start": "\u0421" * 71}}, r"accounts\[0\].opt_out.answers.start"),
        ({"words": {"stop": ["over"]}}, {"answers": {"stop": "over"}}, r"accounts\[0\]"),
    ],
)
def test_an_answer_that_is_none_is_refused(common: Any, own: Any, where: str) -> None:
    with pytest.raises(PolicyError, match=where):
        table(common, own)


def test_folding_leaves_letters_and_digits() -> None:
    assert folded("T\u00e9-2!") == b"te2" and folded("...") == b""
