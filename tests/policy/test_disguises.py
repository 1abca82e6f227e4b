"""Disguises of words, undone: what is read is what is compared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy import disguises, keywords, skeleton
from smppd.policy.disguises import BREAK, read_words, undo
from smppd.policy.keywords import words
from tests.policy.helpers import pipeline, run, text


def readings(shown: str) -> list[str]:
    """What a text can be read as, the first as it came."""
    found = b" ".join(read_words(shown, shown.encode("utf-8", "replace"))).decode()
    return [reading.strip() for reading in found.split(BREAK.decode())]


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        ("p a y p a l", "paypal"),
        ("p  a  y     n  o  w", "pay now"),
        ("f.r.e.e money", "free money"),
        ("f.r.e.e m.o.n.e.y", "free money"),
        ("p-a_y", "pay"),
        ("p🔥a🔥y", "pay"),
        ("pass*word", "password"),
        ("раураl", "paypal"),
        ("vеrify your аccount", "verify your account"),
        ("пapoль", "пароль"),
        ("Koд", "код"),
        ("пар0ль", "пароль"),
        ("ρаypаl", "paypal"),
        ("l0g1n", "login"),
        ("c1ick", "click"),
        ("p@ssw0rd", "password"),
        ("pa55word", "password"),
        ("ca$h", "cash"),
        ("p 4 y m 3 n t", "payment"),
        ("𝐩𝐚𝐲 ｎｏｗ", "pay now"),
        ("🅿🅰🆈 now", "pay now"),
        ("ʏᴏᴜʀ ᴀᴄᴄᴏᴜɴᴛ", "your account"),
        ("p̸a̷y", "pay"),
        ("pa\u200by\u2060pal", "paypal"),
        ("\u202epay", "pay"),
        ("密 码", "密码"),
        ("验.证.码", "验证码"),
        ("كلمـــة المرور", "كلمه المرور".replace("ه", "ة")),
        ("४८२९ ٤٨٢٩", "4829 4829"),
    ],
)
def test_undone(shown: str, read: str) -> None:
    assert read in readings(shown)


@pytest.mark.parametrize(
    "honest",
    [
        "Your appointment is on 4 May at 10:30, room 12B",
        "plan A or B",
        "I have 3 of 5",
        "Запись на 4 мая подтверждена",
        "Rendez-vous à l'hôtel, 20 €",
        "您的包裹已到",
        "موعدك يوم الثلاثاء",
        "आपका समय तय है",
    ],
)
def test_what_is_not_disguised_is_read_once(honest: str) -> None:
    assert len(readings(honest)) == 1


def test_what_was_there_stays() -> None:
    for shown in ("p a y p a l", "раураl 5pm", "l0g1n"):
        plain = words(shown, shown.encode())
        assert read_words(shown, shown.encode())[: len(plain)] == plain


@pytest.mark.parametrize(
    ("keyword", "shown"),
    [
        ("paypal", "раураl"),
        ("paypal", "P A Y P A L"),
        ("free prize", "fr33 pr1ze"),
        ("free prize", "f.r.e.e p.r.i.z.e"),
        ("пароль", "пapoль"),
        ("验证码", "您的验 证 码"),
        ("24", "٢٤"),
    ],
)
def test_keywords_are_found_in_disguise(keyword: str, shown: str) -> None:
    rule = {"when": {"keywords": [keyword]}}
    assert run(pipeline(rule), text(shown)) == ["refused r0"]


def test_a_phrase_does_not_reach_over_the_break() -> None:
    rule = {"when": {"keywords": ["login now"]}}
    assert run(pipeline(rule), text("now l0g1n")) == ["-"]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80) | st.text(alphabet="pay 01.*@$-аеоп\u200b密码", max_size=40), st.booleans(), st.booleans())
def test_undoing_twice_is_undoing_once(shown: str, one_is_l: bool, cyrillic: bool) -> None:
    once = undo(shown, one_is_l, cyrillic)
    assert undo(once, one_is_l, cyrillic) == once


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=200))
def test_any_text(shown: str) -> None:
    assert BREAK not in words(shown, shown.encode("utf-8", "replace"))
    read_words(shown, shown.encode("utf-8", "replace"))


@given(st.text(alphabet="ab1 0@$!|'_*.-5 9Z\t\n", max_size=24))
def test_the_short_way_of_ascii_reads_what_the_long_one_does(shown: str) -> None:
    small = disguises._TOKEN.sub(lambda match: disguises._by_script(match, False), shown.lower())
    joined = disguises._STUCK.sub("", disguises._APART.sub(disguises._together, small))
    assert disguises._joined(shown, False) == joined
    for one_is_l, short in zip((True, False), disguises._readings(joined, True), strict=True):
        long = disguises._WORD.sub(lambda match, as_l=one_is_l: disguises._letters(match, as_l), joined)  # type: ignore[misc]
        assert disguises._spelled(joined, one_is_l) == long
        assert words(short, short.encode()) == words(long, long.encode())


@settings(max_examples=500)
@given(st.text(alphabet="abloZ 013457 2689 .,-'\n@!", max_size=24))
def test_texts_with_no_more_than_digits_in_words_are_read_as_all_others(shown: str) -> None:
    """They have a way of their own, over octets."""
    raw = shown.encode()
    found = words(shown, raw)
    got = read_words(shown, raw)
    if got != found:
        expected: list[list[bytes]] = []
        for short in disguises._readings(disguises._joined(shown, False), True)[: 1 + ("1" in shown or "!" in shown)]:
            disguises._add_reading(expected, found, short)
        assert got == disguises._whole(found, expected)


@pytest.mark.parametrize("memo", [keywords._FOLDS, disguises._SHOWN, disguises._LATIN, skeleton._SEEN])
def test_rare_characters_that_came_once_do_not_keep_usual_ones_out_of_memory(memo: dict[int, str]) -> None:
    for code in range(0x10000, 0x14000):
        memo[code]
    assert len(memo) <= 8192
    memo[ord("\u044f")]
    assert ord("\u044f") in memo
