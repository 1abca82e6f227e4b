"""Long messages: phrases split over parts are found, wherever the cut is and in whatever order the parts come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy import pipeline as pipelines
from smppd.policy.content import part_of
from smppd.policy.pipeline import Pipeline, Program
from smppd.protocol import wire
from smppd.protocol.longmessage import Carriage
from smppd.protocol.wire import Sm
from tests.policy.helpers import frame, part, parts, pipeline, policy, run, text

PHRASE = "verify your account"
PHISH: dict[str, Any] = {"when": {"text": PHRASE}}
WORDS: dict[str, Any] = {"when": {"keywords": [PHRASE]}}

R = "refused r0"


def straddling(cut: int) -> str:
    """A text of which the phrase lies over the end of the first 153 (or 67) characters."""
    return ("lorem ipsum " * 30)[: cut - 9] + " " + PHRASE + " " + "dolor sit " * 3


@pytest.mark.parametrize("by", [Carriage.UDH, Carriage.UDH16, Carriage.SAR])
@pytest.mark.parametrize("rule", [PHISH, WORDS], ids=["pattern", "keywords"])
def test_two_parts(by: Carriage, rule: dict[str, Any]) -> None:
    first, second = parts(straddling(153), by)
    assert run(pipeline(rule), first, second) == ["-", R]
    assert run(pipeline(rule), second, first) == ["-", R]


def test_two_parts_of_ucs2() -> None:
    first, second = parts("Привет " * 8 + " " + PHRASE + " конец", Carriage.UDH)
    assert first.data_coding == 8
    assert run(pipeline(PHISH), first, second) == ["-", R]


def test_a_payload_is_one_message() -> None:
    (whole,) = parts(straddling(153) * 3, Carriage.PAYLOAD)
    assert whole.short_message == b"" and run(pipeline(PHISH), whole) == [R]


def test_payloads_may_be_parts() -> None:
    def piece(seq: int, words: bytes) -> Sm:
        return frame(tlvs=wire.tlv(0x0424, bytes((5, 0, 3, 1, 2, seq)) + words), esm=0x40)

    assert run(pipeline(PHISH), piece(1, b"please verify "), piece(2, b"your account")) == ["-", R]


THREE = [part(words, 7, 3, seq) for seq, words in enumerate(["please veri", "fy your acc", "ount now"], 1)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_parts_in_any_order(order: tuple[int, ...]) -> None:
    assert run(pipeline(PHISH), *(THREE[i] for i in order)) == ["-", "-", R]


@pytest.mark.parametrize("rule", [PHISH, WORDS, {"when": {"links": True}}, {"when": {"domains": ["evil.com"]}}])
def test_the_first_part_that_completes_it_is_refused_and_all_later_ones(rule: dict[str, Any]) -> None:
    a, b, c, d = (
        part(words, 7, 4, seq)
        for seq, words in enumerate(["hello, verify", " your account at evil.", "com today", "bye"], 1)
    )
    found_at = 1 if "domains" not in rule["when"] and "links" not in rule["when"] else 2
    said = run(pipeline(rule), a, b, c, d)
    assert said == ["-"] * found_at + [R] * (4 - found_at)


def test_repeated_parts_change_nothing() -> None:
    first, second, third = THREE
    assert run(pipeline(PHISH), first, first, second, first, second, third) == ["-"] * 5 + [R]
    assert run(pipeline(PHISH), first, second, third, third, first) == ["-", "-", R, R, R]


def test_later_parts_get_the_same_answer() -> None:
    rule = {"when": {"text": PHRASE}, "do": {"refuse": {"status": 0x66, "reason": "phishing"}}}
    pipe = pipeline(rule)
    first, second, third = THREE
    pipe.decide(first, 0.0)
    pipe.decide(third, 1.0)
    refused = pipe.decide(second, 2.0)
    again = pipe.decide(first, 3.0)
    assert refused is not None and again is not None
    assert refused.refusal == again.refusal and refused.refusal is not None and refused.refusal.status == 0x66
    assert refused.hits and not again.hits  # counted once


def test_another_message_is_another_message() -> None:
    a = part("verify your", 7, 2, 1)
    for other in (
        part(" account", 8, 2, 2),
        part(" account", 7, 3, 2),
        part(" account", 7, 2, 2, sender=b"OTHER"),
        part(" account", 7, 2, 2, to=b"447700900124"),
    ):
        assert run(pipeline(PHISH), a, other) == ["-", "-"]


def test_a_reference_used_anew_is_judged_with_and_without_the_old_part() -> None:
    pipe = pipeline(PHISH)
    assert run(pipe, part("hello verify", 7, 2, 1), part("good morning", 7, 2, 1)) == ["-", "-"]
    assert run(pipe, part(" your account", 7, 2, 2)) == [R]


def test_old_parts_are_forgotten() -> None:
    pipe = pipeline(PHISH)
    first, second = part("verify your", 7, 2, 1), part(" account", 7, 2, 2)
    assert run(pipe, first) == ["-"] and pipe.waiting == 1
    assert run(pipe, second, now=3601.0) == ["-"]
    assert pipe.forgotten == 1
    pipe.expire(7300.0)
    assert pipe.waiting == 0


def test_a_part_that_comes_an_hour_later_is_judged_with_the_first() -> None:
    pipe = pipeline(PHISH)
    assert run(pipe, part("verify your", 7, 2, 1)) == ["-"]
    assert run(pipe, part(" account", 7, 2, 2), now=3599.0) == [R]


def test_whole_messages_and_other_rules_join_nothing() -> None:
    pipe = pipeline(PHISH)
    run(pipe, text("hello"), part("only one", 7, 1, 1), part("impossible", 7, 2, 3))
    assert pipe.waiting == 0
    pipe = pipeline({"when": {"sender": "ACME", "has_tlv": 1}})
    run(pipe, *THREE[:2])
    assert pipe.waiting == 0


@pytest.mark.interpreted("replaces a function that the compiler calls directly")
def test_refusals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "REFUSALS", 2)
    pipe = pipeline(PHISH)
    first = [part(f"{PHRASE} now", ref, 2, 1) for ref in range(3)]
    later = [part("x", ref, 2, 2) for ref in range(3)]
    assert run(pipe, *first) == [R] * 3
    assert len(pipe._refusals) == 2
    assert run(pipe, *later) == ["refused long-message", R, R]


def test_a_message_too_large_to_join_is_refused() -> None:
    pipe = pipeline(PHISH)
    said = run(pipe, *(frame(bytes((5, 0, 3, 1, 200, seq)) + b"x" * 60_000, esm=0x40) for seq in range(1, 12)))
    assert said[0] == "-" and said[-2:] == ["refused long-message"] * 2


# -- what a part alone does not tell -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "words", "expected"),
    [
        # A word, a domain or an end of the text that is none yet.
        ({"when": {"keywords": ["free"]}}, ["feel free", "dom of choice"], ["-", "-"]),
        ({"when": {"keywords": ["free"]}}, ["feel free", " now"], ["-", R]),
        ({"when": {"text": r"\bfree\b"}}, ["feel free", "dom of choice"], ["-", "-"]),
        ({"when": {"text": "free$"}}, ["feel free ", "now"], ["-", "-"]),
        ({"when": {"text": "^now"}}, ["feel free", " now"], ["-", "-"]),
        ({"when": {"text": "^feel"}}, ["feel free ", "now"], [R, R]),
        ({"when": {"text": "now$"}}, ["feel free", " now"], ["-", R]),
        ({"when": {"domains": ["evil.co"]}}, ["see evil.co", "mmerce.example today"], ["-", "-"]),
        ({"when": {"domains": ["evil.co"]}}, ["see evil.co/x and", " more"], [R, R]),
        ({"when": {"text": "恭喜"}}, ["您好恭喜您中", "奖了谢谢"], [R, R]),
        # What more text can undo.
        ({"unless": {"text": "STOP"}}, ["buy now. ", "Reply STOP"], ["-", "-"]),
        ({"unless": {"text": "STOP"}}, ["buy now. ", "Reply now"], ["-", R]),
        ({"when": {"links": False}}, ["hello ", "evil.com x"], ["-", "-"]),
        ({"when": {"links": False}}, ["hello ", "world"], ["-", R]),
        (
            {"when": {"links": True}, "unless": {"domains": ["good.org"]}},
            ["see good.org ok ", "and evil.com too"],
            ["-", R],
        ),
        ({"when": {"longer_than": 12}}, ["0123456 8 ", "0123456"], ["-", R]),
        # The head decides for every part.
        ({"when": {"sender": "ACME"}, "unless": {"tag": "x"}}, ["a", "b"], [R, R]),
    ],
)
def test_edges(rule: dict[str, Any], words: list[str], expected: list[str]) -> None:
    def made() -> list[Sm]:
        if all(one.isascii() for one in words):
            return [part(one, 7, 2, seq) for seq, one in enumerate(words, 1)]
        return [
            frame(bytes((5, 0, 3, 7, 2, seq)) + one.encode("utf-16-be"), esm=0x40, coding=8)
            for seq, one in enumerate(words, 1)
        ]

    assert run(pipeline(rule), *made()) == expected
    # In the other order the last to come decides, on the same text.
    assert run(pipeline(rule), *reversed(made()))[1] == expected[1]


def test_a_refusal_behind_an_open_pass_waits() -> None:
    rules = [{"when": {"text": "^Your code is [0-9]+. Reply STOP$"}, "do": "pass"}, {}]
    fine = [part("Your code is 1", 7, 2, 1), part("23. Reply STOP", 7, 2, 2)]
    bad = [part("Your code is 1", 8, 2, 1), part("23. Reply NOW", 8, 2, 2)]
    assert run(pipeline(*rules), *fine) == ["-", "r0"]
    assert run(pipeline(*rules), *bad) == ["-", "refused r1"]


def test_a_refusal_behind_an_open_tag_waits() -> None:
    rules = [{"when": {"text": "account"}, "do": {"tag": "ours"}}, {"unless": {"tag": "ours"}}]
    assert run(pipeline(*rules), part("your acc", 7, 2, 1), part("ount", 7, 2, 2)) == ["-", "r0"]
    assert run(pipeline(*rules), part("your ", 7, 2, 1), part("car", 7, 2, 2)) == ["-", "refused r1"]
    tagged = [rules[0], {"when": {"tag": "ours"}}]
    assert run(pipeline(*tagged), part("your acc", 7, 2, 1), part("ount", 7, 2, 2)) == ["-", "refused r1"]


# -- hold_parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_held_until_complete(order: tuple[int, ...]) -> None:
    assert run(pipeline(PHISH, hold=True), *(THREE[i] for i in order)) == ["hold", "hold", R]
    harmless = [part(words, 7, 3, seq) for seq, words in enumerate(["good ", "morn", "ing"], 1)]
    assert run(pipeline(PHISH, hold=True), *(harmless[i] for i in order)) == ["hold", "hold", "-"]


def test_what_need_not_wait_is_not_held() -> None:
    assert run(pipeline(PHISH, hold=True), text("hello"), frame(b"\1", coding=4)) == ["-", "-"]
    assert run(pipeline({"when": {"sender": "X"}}, hold=True), *THREE) == ["-"] * 3
    assert run(pipeline({"when": {"sender": "X", "text": "y"}}, hold=True), *THREE) == ["-"] * 3
    # Known to be refused: there is nothing to wait for.
    assert run(pipeline(PHISH, hold=True), part(f"{PHRASE} now", 7, 2, 1), part("x", 7, 2, 2)) == [R, R]


def test_one_policy_that_holds_is_enough() -> None:
    pipe = Pipeline(Program([policy("a", [{"do": {"tag": "t"}}]), policy("p", [PHISH], hold=True)]))
    assert run(pipe, *THREE) == ["hold", "hold", R]
    assert len({part_of(sm) for sm in THREE}) == 1 and part_of(THREE[0]) is not None
    assert part_of(text("hello")) is None


def test_shadow_refuses_no_part() -> None:
    assert run(pipeline({**PHISH, "mode": "shadow"}), *THREE) == ["-", "-", "r0*"]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(2, 5), st.sampled_from(list(Carriage)[:3]))
def test_any_cut_any_order(data: st.DataObject, total: int, by: Carriage) -> None:
    """However a text is cut and whatever the order, the last part to come decides as on the whole text."""
    words = data.draw(
        st.lists(st.sampled_from(["verify your account", "free", "evil.com", "dom", "x", "."]), max_size=8)
    )
    whole = " ".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=total - 1, max_size=total - 1)))
    pieces = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]
    made = []
    for seq, piece in enumerate(pieces, 1):
        if by is Carriage.SAR:
            sar = wire.tlv(0x20C, b"\0\7") + wire.tlv(0x20E, bytes([total])) + wire.tlv(0x20F, bytes([seq]))
            made.append(text(piece, tlvs=sar))
        elif by is Carriage.UDH16:
            made.append(frame(bytes((6, 8, 4, 1, 7, total, seq)) + piece.encode(), esm=0x40))
        else:
            made.append(part(piece, 7, total, seq))
    rules: list[dict[str, Any]] = [PHISH, {"when": {"keywords": "free"}}, {"when": {"domains": "evil.com"}}]
    for rule in rules:
        alone = run(pipeline(rule), text(whole))[0]
        said = run(pipeline(rule), *data.draw(st.permutations(made)))
        assert said[-1] == alone
        assert set(said[:-1]) <= {"-", alone}
        assert said == sorted(said), "once refused, always refused"


# -- texts that are hidden -----------------------------------------------------------------------------------------

CODE: dict[str, Any] = {"when": {"text": "code"}, "do": {"content": "hide"}}


@given(st.lists(st.sampled_from(["a co", "de ", "code", "xyz "]), min_size=2, max_size=4), st.booleans(), st.randoms())
@settings(deadline=None, max_examples=150)
def test_the_part_with_which_the_word_is_there_is_hidden(pieces: list[str], hold: bool, random: Any) -> None:
    frames = [part(words, 7, len(pieces), seq) for seq, words in enumerate(pieces, 1)]
    order = list(range(len(frames)))
    random.shuffle(order)
    pipe = pipeline(CODE, hold=hold)
    verdicts = [pipe.decide(frames[n], 0.0) for n in order]
    hidden = [verdict is not None and verdict.hide for verdict in verdicts]
    said_by_all = "code" in "".join(pieces)
    assert hidden[-1] == said_by_all
    if hold:
        assert all(hidden[:-1]), "what is still to come may say so"
    else:
        assert said_by_all or not any(hidden)


def test_what_cannot_be_read_leaves_no_text_where_rules_hide() -> None:
    for rule, expected in ((CODE, True), (PHISH, False)):
        broken = pipeline({"when": {"has_tlv": 5}}, rule).decide(frame(b"x", tlvs=b"\1"), 0.0)
        assert broken is not None and broken.refusal is not None and broken.hide == expected
