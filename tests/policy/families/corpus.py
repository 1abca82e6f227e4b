"""The texts by which the families are judged: all written for smppd, none a real message.

`benign/` holds templates, `hostile/` texts with the families they belong to, `unseen/` more of both, written after the words
were tuned and not tuned for since.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
LANGUAGES: Final = ("en", "fr", "de", "es", "tr", "ru", "ar", "hi", "zh")
VARIANTS: Final = 3

_NAMES: Final = {
    "en": ["Anna", "Mr Okafor", "Sam", "Ms Whitfield", "Priya"],
    "fr": ["Camille", "M. Garnier", "Léa", "Mme Besson"],
    "de": ["Jörg", "Frau Lindner", "Anke", "Herr Böhm"],
    "es": ["Lucía", "Sr. Ortega", "Iñaki", "Doña Pilar"],
    "tr": ["Ayşe", "Çağrı Bey", "Gülşen", "İpek Hanım"],
    "ru": ["Анна", "Иван Петрович", "Ольга", "Семён"],
    "ar": ["أحمد", "السيدة مريم", "يوسف", "هالة"],
    "hi": ["अनीता", "राजेश", "मीरा", "विजय"],
    "zh": ["李明", "王女士", "小张", "陈先生"],
}
_DATES: Final = {
    "en": ["Tue 4 May", "12/06", "Friday", "1 December 2026", "tomorrow"],
    "fr": ["mardi 4 mai", "12/06", "vendredi", "1er décembre 2026", "jeudi"],
    "de": ["Di, 4. Mai", "12.06.", "Freitag", "1. Dezember 2026", "Donnerstag"],
    "es": ["martes 4 de mayo", "12/06", "viernes", "1 de diciembre de 2026", "jueves"],
    "tr": ["4 Mayıs Salı", "12.06", "cuma", "1 Aralık 2026", "perşembe"],
    "ru": ["4 мая", "12.06", "в пятницу", "1 декабря 2026", "в четверг"],
    "ar": ["الثلاثاء 4 مايو", "12/06", "الجمعة", "1 ديسمبر 2026", "الخميس"],
    "hi": ["मंगलवार 4 मई", "12/06", "शुक्रवार", "1 दिसंबर 2026", "गुरुवार"],
    "zh": ["5月4日", "6月12日", "周五", "2026年12月1日", "周四"],
}
_AMOUNTS: Final = {
    "en": ["£12.50", "£1,249.00", "$40", "£399"],
    "fr": ["12,50 €", "1 249,00 €", "40 €", "399 €"],
    "de": ["12,50 €", "1.249,00 EUR", "40 €", "399 €"],
    "es": ["12,50 €", "1.249,00 EUR", "40 €", "399 €"],
    "tr": ["12,50 TL", "1.249,00 TL", "40 TL", "399 TL"],
    "ru": ["12,50 руб", "1 249 руб", "40 р.", "399 ₽"],
    "ar": ["12.50 درهم", "1249 ريال", "40 دينار", "399 جنيه"],
    "hi": ["₹12.50", "1,249 रुपये", "₹40", "399 रु"],
    "zh": ["12.50元", "1249元", "￥40", "399元"],
}
_SLOTS: Final = {
    "code6": ["482913", "039174", "771205", "604488"],
    "code4": ["4821", "9034", "0077", "2026"],
    "code3": ["482", "913", "077"],
    "time": ["10:30", "9am", "14:15", "18.00", "7 pm"],
    "phone": ["020 7946 0123", "+44 7700 900123", "07700 900456", "+1 212 555 0143", "(212) 555-0178"],
    "url": [
        "https://example.com/a/x81k2",
        "http://www.clinic.example/b?id=4471&t=9",
        "example.org/status",
        "https://my.council.example.net/renew",
        "https://track.kestrelparcels.example/p/7731",
    ],
    "shop": ["Fernhill Bakery", "Studio 9", "Halden & Co", "Brookfield", "Orchid Salon"],
    "bank": ["Northwold Bank", "Fernley Bank", "Banque Valmont", "Halden Bank"],
    "courier": ["Kestrel Parcels", "Swiftline", "Brook Express"],
    "club": ["Ashdown RFC", "TSV Lindental", "Les Marmottes", "Club Atlas"],
    "school": ["Oakleigh School", "Ecole du Parc", "Lindenschule", "Colegio Atlas"],
    "doctor": ["Dr Patel", "Dr. Weber", "Dr Moreau", "Dr. Kaya"],
    "pet": ["Rex", "Mimi", "Bruno"],
    "ref": ["A4471", "KP-20931", "7731/26", "00418823", "INV-5512"],
    "n": ["3", "12", "47", "5"],
}


class Case(NamedTuple):
    """A text, its language, the families it belongs to, and the line it comes from."""

    text: str
    language: str
    families: frozenset[str]
    place: str


def _fill(template: str, language: str, variant: int) -> str:
    own = {"name": _NAMES[language], "date": _DATES[language], "amount": _AMOUNTS[language]}
    at = variant

    def slot(match: re.Match[str]) -> str:
        nonlocal at
        values = own.get(match[1]) or _SLOTS[match[1]]
        at += 1
        return values[(at * 7 + variant) % len(values)]

    return re.sub(r"\{(\w+)\}", slot, template)


def _lines(file: Path) -> list[tuple[str, list[str]]]:
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            found.append((f"{file.parent.name}/{file.name}:{number}", line.split("\t")))
    return found


def benign(folder: str = "benign", variants: int = VARIANTS) -> list[Case]:
    """What no shipped set may take for hostile. Of codes it is said that they are."""
    cases: dict[str, Case] = {}
    for language in LANGUAGES:
        for place, (kind, template) in _lines(HERE / folder / f"{language}.txt"):
            families = frozenset({"one_time_code"} if kind == "code" else ())
            for variant in range(variants):
                text = _fill(template, language, variant)
                cases.setdefault(text, Case(text, language, families, place))
    return list(cases.values())


def hostile(folder: str = "hostile") -> list[Case]:
    """What the families are for: each text with the families that must be found in it, at least."""
    cases = []
    for file in sorted((HERE / folder).glob("*.txt")):
        for place, (language, families, text) in _lines(file):
            cases.append(Case(text, language, frozenset(families.split("+")), place))
    return cases
