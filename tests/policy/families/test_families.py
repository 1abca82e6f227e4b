"""The shipped families of content: every text they are for is found in every disguise, and no honest text with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import FAMILIES
from smppd.policy.disguises import read_words
from smppd.policy.explain import explain
from smppd.policy.families.hosts import Brand
from smppd.policy.families.index import BITS, FICKLE, FamilyIndex
from smppd.policy.pipeline import pipelines
from smppd.protocol import gsm
from smppd.protocol.longmessage import Carriage
from tests.config.helpers import BASE, lines, loaded
from tests.policy.families import corpus, evasions
from tests.policy.families.corpus import Case
from tests.policy.helpers import frame, part, parts, pipeline, run, text

INDEX = FamilyIndex()
EVERY = sum(BITS.values())
HOSTILE = corpus.hostile()
BENIGN = corpus.benign()


def families(words: str, index: FamilyIndex = INDEX) -> set[str]:
    """The families of a text."""
    raw = words.encode("utf-8", "replace")
    found = index.search(words, raw, read_words(words, raw), EVERY)
    return {name for name, bit in BITS.items() if found & bit}


def missed(cases: list[Case]) -> list[str]:
    """Where a text stands of which a family was not found."""
    return [case.place for case in cases if not case.families <= families(case.text)]


def test_the_texts_are_of_all_families_and_languages() -> None:
    assert {family for case in HOSTILE for family in case.families} == set(FAMILIES)
    for family in FAMILIES:
        assert {case.language for case in HOSTILE if family in case.families} == set(corpus.LANGUAGES), family
    assert len(BENIGN) >= 1000 and {case.language for case in BENIGN} == set(corpus.LANGUAGES)


def test_every_text_is_found() -> None:
    assert missed(HOSTILE) == []


def test_no_honest_text_is_taken_for_hostile() -> None:
    wrong = [(case.place, families(case.text)) for case in BENIGN if families(case.text) != case.families]
    assert wrong == []


@pytest.mark.parametrize("name", evasions.WORDS)
def test_disguised_words_are_found(name: str) -> None:
    evade = evasions.WORDS[name]
    cases = [case._replace(text=evade(case.text)) for case in HOSTILE if case.families != {"card_number"}]
    assert any(case.text != before.text for case, before in zip(cases, HOSTILE, strict=False))
    assert missed(cases) == []


@pytest.mark.parametrize("name", evasions.LINKS)
def test_disguised_links_are_found(name: str) -> None:
    evade = evasions.LINKS[name]
    assert missed([c._replace(text=evade(c.text)) for c in HOSTILE if "phishing_link" in c.families]) == []


@pytest.mark.parametrize("name", evasions.DIGITS)
def test_disguised_numbers_of_cards_are_found(name: str) -> None:
    evade = evasions.DIGITS[name]
    assert missed([c._replace(text=evade(c.text)) for c in HOSTILE if "card_number" in c.families]) == []


def test_a_disguise_alone_makes_no_honest_text_hostile() -> None:
    for name in ("look-alikes", "full width", "zero width"):
        evade = evasions.WORDS[name]
        for case in BENIGN[:: len(corpus.LANGUAGES)]:
            assert families(evade(case.text)) <= case.families, (name, case.place)


# -- in messages ---------------------------------------------------------------------------------------------------

REFUSE_ALL: dict[str, Any] = {"when": {"family": ["phishing_link", "credential_lure", "callback", "marketing"]}}
SPLIT = [case for case in HOSTILE if not case.families & {"one_time_code", "card_number"}][::4]


@pytest.mark.parametrize("by", [Carriage.UDH, Carriage.UDH16, Carriage.SAR])
def test_texts_over_parts_are_found_when_the_last_is_there(by: Carriage) -> None:
    for case in SPLIT:
        long = "Hello. " * 22 + case.text
        pieces = parts(long, by)
        assert len(pieces) > 1 and run(pipeline(REFUSE_ALL), *pieces)[-1] == "refused r0", case.place
        assert run(pipeline(REFUSE_ALL), *reversed(pieces))[-1] == "refused r0", case.place


@pytest.mark.parametrize("cut", range(8, 60, 3))
def test_a_link_split_anywhere_over_parts_is_one_link(cut: int) -> None:
    words = "Hello, your bill: http://www.bank.co.uk.evil.test/login for you"
    rule = {"when": {"family": "phishing_link"}}
    assert run(pipeline(rule), part(words[:cut], 7, 2, 1), part(words[cut:], 7, 2, 2))[-1] == "refused r0"


@pytest.mark.parametrize("cut", range(12, 30))
def test_a_card_split_anywhere_over_parts_is_one_card(cut: int) -> None:
    words = "My card is 4111 1111 1111 1111 ok"
    rule = {"when": {"family": "card_number"}}
    assert run(pipeline(rule), part(words[:cut], 7, 2, 1), part(words[cut:], 7, 2, 2))[-1] == "refused r0"


def test_gsm_with_national_tables() -> None:
    words = "ACİL: kartınız bloke edildi. PIN ve şifrenizi doğrulayın: http://example.net/kart"
    body = gsm.encode(words, 1, 1)
    assert body is not None
    header = bytes((6, 0x24, 1, 1, 0x25, 1, 1))
    assert run(pipeline(REFUSE_ALL), frame(header + body, esm=0x40)) == ["refused r0"]


def test_gsm_and_ucs2() -> None:
    words = "Reply with your PIN to keep your card active"
    assert run(pipeline(REFUSE_ALL), text(words)) == ["refused r0"]
    assert run(pipeline(REFUSE_ALL), frame(words.encode("utf-16-be"), coding=8)) == ["refused r0"]
    assert run(pipeline(REFUSE_ALL), frame(words.encode("utf-16-be"), coding=4)) == ["-"]


def test_what_more_text_could_undo_waits_for_the_last_part() -> None:
    lure = {"when": {"family": "credential_lure"}}
    first = "Your card is locked. Confirm your PIN at http://example.net/x "
    assert run(pipeline(lure), part(first, 7, 2, 1), part("now please", 7, 2, 2)) == ["-", "refused r0"]
    warned = part("We will never ask for it.", 7, 2, 2)
    assert run(pipeline(lure), part(first, 7, 2, 1), warned) == ["-", "-"]
    link = {"when": {"family": "phishing_link"}}
    early = part("See http://northwold-bank.evil.test/login now ", 7, 2, 1)
    assert run(pipeline(link), early, part("bye", 7, 2, 2)) == ["refused r0", "refused r0"]
    assert BITS["credential_lure"] | BITS["one_time_code"] == FICKLE


def test_rules_may_hide_and_class_codes() -> None:
    pipe = pipeline(
        {"when": {"family": "one_time_code"}, "do": {"class": "one_time_code"}},
        {"when": {"family": "one_time_code"}, "do": {"content": "hide"}},
    )
    verdict = pipe.decide(text("Your Fernhill code is 482913"), 0.0)
    assert verdict is not None and verdict.hide and verdict.message_class == "one_time_code"
    assert pipe.decide(text("Use code SAVE20 for 20% off"), 0.0) is None


def test_explain_says_which_family_and_which_sign() -> None:
    pipe = pipeline(
        {"unless": {"family": "marketing"}, "do": {"tag": "x"}}, {"when": {"family": ["phishing_link", "card_number"]}}
    )
    other, step = explain(pipe, text("Northwold: see http://northwold-help.evil.test/x"), 0.0).steps
    assert step.why == "family phishing_link: brand in a foreign domain, brand named, link to elsewhere"
    assert other.why == "every message"
    quiet = explain(pipe, text("hello"), 0.0).steps[1]
    assert quiet.why == "not family"
    sale = explain(pipe, text("50% off everything, ends today! http://example.com/s"), 0.0).steps[0]
    assert sale.why == "unless family marketing: link, offer, limited time"


# -- signs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        # One sign is none.
        ("Please confirm your password at the desk", set()),
        ("Your account is blocked", set()),
        ("Urgent: http://example.com/x", set()),
        ("Your parcel: https://bit.ly/x", set()),
        ("Call 0900 0000000", set()),
        ("20% off", set()),
        ("bring your card", set()),
        ("483920", set()),
        ("code", set()),
        ("order 4111 1111 1111 1112", set()),
        ("1111 1111 1111 1111", set()),
        ("IBAN DE89 3704 0044 0532 0130 00", set()),
        ("IMEI 356938035643809", set()),
        ("Meter 4111111111111111111111", set()),
        ("Router: http://192.168.1.1/setup", set()),
        ("see bücher.de and http://www.example.com:80/x", set()),
        ("https://login.northwold-bank.example/x for your Northwold Bank account", set()),
        # A top-level domain by itself is no sign.
        ("photos at http://holiday.zip/x and http://party.top/y", set()),
        ("http://user@evil.test/", {"phishing_link"}),
        ("http://2130706433/x http://[2001:db8::1]/x", {"phishing_link"}),
        ("https://xn--nrthwold-bank-9pj.com/", {"phishing_link"}),
        ("https://www-bank-com.evil.test/", {"phishing_link"}),
        ("https://northwodl-bank.com", {"phishing_link"}),
        ("https://kestrelparcel.com", {"phishing_link"}),
    ],
)
def test_signs(words: str, found: set[str]) -> None:
    assert families(words) == found


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("acorn.example", False),
        ("www.acorn.example", False),
        ("acorn-pay.test", True),
        ("acorn.login.test", True),
        ("ac0rn.test", True),
        ("acorns-and-oaks.test", False),
        ("unicorn.test", False),
        ("popcorn.test", False),
        ("fernmountsavings.test", True),
        ("fernmuont.test", True),
        ("fern-mount.test", True),
        ("fernmond.test", False),
    ],
)
def test_configured_brands(host: str, found: bool) -> None:
    index = FamilyIndex([Brand(("Acorn",), ("acorn.example",)), Brand(("Fernmount",), ("fernmount.example",))])
    assert ("phishing_link" in families(f"see http://{host}/x", index)) is found


def test_brands_of_the_configuration(tmp_path: Path) -> None:
    config = BASE.replace("networks: any", "networks: any, policies: house") + (
        "policies: {house: [{name: phish, when: {family: phishing_link}, do: refuse}]}\n"
        "brands: {acorn: {names: [Acorn Savings], domains: [acorn.example]}}\n"
    )
    pipe = pipelines(loaded(tmp_path, config))["acme"]
    assert pipe is not None
    assert run(pipe, text("see http://acorn-savings.test/x"), text("see http://my.acorn.example/x")) == [
        "refused house/phish",
        "-",
    ]
    assert run(pipe, text("see http://northwold-help.test/x")) == ["refused house/phish"]


@pytest.mark.parametrize(
    ("brands", "fault"),
    [
        ("{b: {names: [], domains: [b.example]}}", "brands.b.names"),
        ("{b: {names: [B], domains: []}}", "brands.b.domains"),
        ("{b: {names: [B]}}", "brands.b.domains"),
        ("{b: {names: [B], domains: [no domain]}}", "brands.b.domains[0]"),
    ],
)
def test_brands_that_are_none(brands: str, fault: str, tmp_path: Path) -> None:
    (line,) = lines(tmp_path, BASE + f"brands: {brands}\n")
    assert fault in line


def test_a_named_brand_and_a_link_to_elsewhere_need_a_pretext() -> None:
    assert families("Paid by Northwold Bank card at http://cafe.test/") == set()
    assert families("Northwold Bank: confirm your details at http://cafe.test/") == {"phishing_link"}
    assert families("Northwold Bank: confirm your details at http://northwold.example/") == set()


# -- anything ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=300) | st.sampled_from(HOSTILE).flatmap(lambda case: st.permutations(case.text).map("".join)))
def test_any_text(words: str) -> None:
    families(words)
    raw = words.encode("utf-8", "replace")
    assert set(INDEX.signs(words, raw, read_words(words, raw), EVERY)) == families(words)


WORDED = [case for case in HOSTILE if case.families != {"card_number"}]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(WORDED),
    st.lists(st.sampled_from(sorted(set(evasions.WORDS) - {"spaced", "dotted", "stars", "leet"})), max_size=3),
    st.sampled_from(["", "", "spaced", "dotted", "stars", "leet"]),
)
def test_disguises_upon_disguises_are_found(case: Case, chosen: list[str], first: str) -> None:
    words = case.text
    for name in ([first] if first else []) + chosen:
        words = evasions.WORDS[name](words)
    assert case.families <= families(words), (case.place, first, chosen)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(HOSTILE), st.text(alphabet="\u200b\u200d\u2060\ufeff\u202e\u00ad", max_size=3), st.data())
def test_unseen_characters_anywhere_change_nothing(case: Case, unseen: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(case.text)))
    assert case.families <= families(case.text[:at] + unseen + case.text[at:]), case.place


def test_long_and_hostile_texts_take_linear_time() -> None:

    for words in (
        "a " * 9000,
        "a.b-" * 5000,
        "1 " * 9000,
        "[.]" * 6000,
        "http://" * 3000,
        "о" * 18000,
        "@$" * 9000,
        "4111 " * 4000,
    ):
        families(words)
        took = []
        for times in (1, 4):
            best = 60.0
            for _ in range(3):
                start = time.process_time()
                families(words * times)
                best = min(best, time.process_time() - start)
            took.append(best)
        assert took[1] < 12 * max(took[0], 0.004), words[:8]
