"""Keywords: whole words in any case, accent or disguise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy.keywords import KeywordIndex, fold, words


def index(*keywords: str) -> KeywordIndex:
    made = KeywordIndex()
    for number, keyword in enumerate(keywords):
        assert made.add(keyword, 1 << number)
    made.freeze()
    return made


def found(keyword: str, text: str) -> bool:
    return bool(index(keyword).search(text, text.encode("utf-8", "replace")))


@pytest.mark.parametrize(
    ("keyword", "text", "expected"),
    [
        ("free", "this is FREE!", True),
        ("free", "freedom", False),
        ("free", "carefree", False),
        ("free", "sugar-free", True),
        ("free", "(free)", True),
        ("free", "fr\u200bee", True),
        ("free", "fr\u00adee", True),
        ("free", "ＦＲＥＥ", True),
        ("free", "𝐟𝐫𝐞𝐞", True),
        ("free", "frée", True),
        ("crédit", "CREDIT", True),
        ("credit", "cre\u0301dit facile", True),
        ("free prize", "a free   prize", True),
        ("free prize", "free, prize", True),
        ("free prize", "free\nprizes", False),
        ("free prize", "free big prize", False),
        ("free free prize", "free free free prize", True),
        ("don't", "DON’T", True),
        ("straße", "STRASSE", True),
        ("ﬁnance", "finance", True),
        ("приз", "Ваш ПРИЗ!", True),
        ("приз", "призы", False),
        ("ё", "е", True),
        ("شحن", "شَحْن", True),
        ("क", "का", False),
        ("जीत", "आप जीत गए", True),
        ("中奖", "恭喜您中奖了", True),
        ("รางวัล", "คุณได้รับรางวัลใหญ่", True),
        ("당첨", "당첨되셨습니다", True),
        ("1-800", "call 1 800 now", True),
        ("24", "247", False),
    ],
)
def test_found(keyword: str, text: str, expected: bool) -> None:
    assert found(keyword, text) is expected


def test_masks_add_up() -> None:
    made = index("win", "win big", "WIN", "big")
    text = "win BIG"
    assert made.search(text, text.encode()) == 0b1111
    assert made.search("win", b"win") == 0b0101
    assert made.search("big win", b"big win") == 0b1101


@pytest.mark.parametrize("empty", ["$$$", "%", "c++", " ", "...", "\u200b"])
def test_what_has_nothing_to_look_for_is_no_keyword(empty: str) -> None:
    assert fold(empty) == ()
    assert not KeywordIndex().add(empty, 1)


@settings(deadline=None, max_examples=200)
@given(st.text(), st.text())
def test_any_text(keyword: str, text: str) -> None:
    made = KeywordIndex()
    if not made.add(keyword, 1):
        return
    made.freeze()
    made.search(text, text.encode("utf-8", "replace"))
    around = f"{text} {keyword} {text}"
    assert made.search(around, around.encode("utf-8", "replace")) == 1


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    once = words(text, text.encode())
    again = b" ".join(once).decode()
    assert words(again, again.encode()) == once
