"""The figures of docs/families.md: what the families find in our texts, and what they miss.

python -m tests.policy.families.figures          writes the tables into the page
python -m tests.policy.families.figures --cost   measures the cost of a text, and prints it
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from smppd.config import FAMILIES
from smppd.policy.disguises import read_words
from smppd.policy.families.index import BITS, FamilyIndex
from tests.policy.families import corpus
from tests.policy.families.corpus import Case

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "families.md"
BEGIN: Final = "<!-- figures: written by tests/policy/families/figures.py -->\n"
END: Final = "<!-- end of figures -->\n"
_EVERY: Final = sum(BITS.values())


def _families(index: FamilyIndex, words: str) -> frozenset[str]:
    raw = words.encode("utf-8", "replace")
    found = index.search(words, raw, read_words(words, raw), _EVERY)
    return frozenset(name for name, bit in BITS.items() if found & bit)


def _table(title: str, cases: list[Case], index: FamilyIndex) -> list[str]:
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    false: Counter[str] = Counter()
    honest = 0
    for case in cases:
        got = _families(index, case.text)
        there.update(case.families)
        found.update(got & case.families)
        if case.place.split("/")[-2] == "benign":
            honest += 1
            false.update(got - case.families)
    lines = [f"{title}: {len(cases)} texts, of which {honest} are honest.", ""]
    lines += ["| family | texts of it | found | missed | honest texts taken for it |", "|---|---|---|---|---|"]
    for name in FAMILIES:
        lines.append(f"| `{name}` | {there[name]} | {found[name]} | {there[name] - found[name]} | {false[name]} |")
    return [*lines, ""]


def figures() -> str:
    """The tables, as Markdown."""
    index = FamilyIndex()
    lines = _table("The texts that the words were tuned for", corpus.benign() + corpus.hostile(), index)
    unseen = corpus.benign("unseen/benign", 1) + corpus.hostile("unseen/hostile")
    lines += _table("Texts written afterwards, in other words on purpose, and not tuned for", unseen, index)
    return "\n".join(lines).rstrip("\n") + "\n"


def written(page: str) -> str:
    """The figures that stand in the page."""
    return page.partition(BEGIN)[2].partition(END)[0]


def _cost() -> None:
    index = FamilyIndex()
    for name, words in (
        (
            "honest, GSM, 102 characters",
            "Dear Ms Jones, your appointment with Dr Patel is on Tuesday 4 May at 10:30. Please arrive 5 min early.",
        ),
        (
            "with a link, 106 characters",
            "Your parcel 4471 was handed over today. Track it at https://track.example.com/p/4471"
            " - Kestrel Parcels ltd",
        ),
        ("Russian, 66 characters", "Уважаемый клиент, ваша запись на приём подтверждена: вторник 4 мая"),
        (
            "a lure with a link, 99 characters",
            "Your account has been suspended. Verify your details within 24 hours: http://example.net/verify/x81kq2",
        ),
        (
            "disguised, 87 characters",
            "Y0ur acc0unt has been susp3nded. V e r i f y your det@ils w1thin 24 hours example[.]net",
        ),
    ):
        raw = words.encode()
        best = min(_once(index, words, raw) for _ in range(15))
        print(f"{name}: {best * 1e6:.1f} us")


def _once(index: FamilyIndex, words: str, raw: bytes, times: int = 2000) -> float:
    start = time.process_time()
    for _ in range(times):
        index.search(words, raw, read_words(words, raw), _EVERY)
    return (time.process_time() - start) / times


def main(arguments: list[str]) -> None:
    if "--cost" in arguments:
        _cost()
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + figures() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
