"""Finds phone numbers in the ids that carriers give to messages, for an export: some carriers make their ids of a number,
and it need not be one of the two in the record.

No rule can tell a counter from a number by its digits alone. So what is asked of a run of digits depends on what else speaks
for a number: of a whole id that is nothing but digits, and so most likely a counter, that it is a number of a country that the
record is about; of a run beside something else, or behind `+` or `00`, that it is one of any country. "A number" means that it
is given out by its country's numbering plan as phonenumbers knows it. Of random digits that is 19 % with eleven of them, 9 %
with ten, 8 % with twelve and 3 % or less with others, over all countries together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

import phonenumbers

from smppd.numbering import regions_of

HIDDEN: Final = "***"
_LEAST: Final = 7
_RUN: Final = re.compile(rf"\+?[0-9]{{{_LEAST},}}")
_MOST: Final = 17  # 00 and 15 digits (E.164)


def without_numbers(name: str, own: Collection[str], about: Iterable[str]) -> str:
    """An id of a carrier's with `***` for each run of digits that is another person's number. own: the person's numbers in all
    notations, which stay, also with digits behind or in front; about: the numbers of the record in international digits, whose
    countries count for ids of nothing but digits, and for numbers written with one zero in front."""
    known = frozenset(region for one in about for region in regions_of(one))
    mine = [one for one in own if len(one) >= _LEAST]

    def hide(match: re.Match[str]) -> str:
        run = match.group()
        if any(one in run for one in mine):
            return run
        return HIDDEN if _is_number(run, known, whole=run == name) else run

    return _RUN.sub(hide, name)


def _is_number(run: str, known: frozenset[str], *, whole: bool) -> bool:
    if len(run) > _MOST:
        return False
    if run[0] == "+":
        return _valid(run, None)
    if run.startswith("00"):
        return _valid("+" + run[2:], None)
    if run[0] == "0":
        return any(_valid(run, region) for region in known)
    return _valid("+" + run, None, known if whole else None)


def _valid(text: str, region: str | None, among: frozenset[str] | None = None) -> bool:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    if among is not None and among.isdisjoint(regions_of(str(number.country_code))):
        return False
    return phonenumbers.is_valid_number(number)
