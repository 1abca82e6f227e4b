"""The phone number that somebody typed: in which countries it may be one, and under which forms it is searched."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from smppd.config import Settings
from smppd.numbering import REGIONS, SEPARATORS, regions_of
from smppd.office.access import printable
from smppd.office.errors import WRONG, OfficeError
from smppd.vault.numbers import SearchForms, search_forms


class Typed(NamedTuple):
    """A number as it was typed. region: its country, None where that was not said; accounts: of which it is searched, None for
    all."""

    number: str
    region: str | None = None
    accounts: Collection[str] | None = None

    def __repr__(self) -> str:
        return "<Typed ***>"


def typed(number: str, region: str | None = None, accounts: Collection[str] | None = None) -> Typed:
    """The same, its country in capitals. OfficeError for what is no country."""
    if not region:
        return Typed(number, None, accounts)
    if region.upper() not in REGIONS:
        raise OfficeError(f"{printable(region.upper())} is no country of two letters (ISO 3166)", WRONG)
    return Typed(number, region.upper(), accounts)


def regions_of_search(settings: Settings, asked: Typed) -> list[str]:
    """The countries that a national number may be of: the one that was given, else those that the configuration names, its own,
    its accounts' and upstreams', the countries of its routes and of its accounts' numbers."""
    if asked.region is not None:
        return [asked.region]
    accounts = [one for one in settings.accounts if not asked.accounts or one.system_id in asked.accounts]
    named = [settings.region, *(one.region for one in accounts), *(one.region for one in settings.upstreams)]
    regions = dict.fromkeys(region for region in named if region is not None)
    digits = [prefix for route in settings.routes for prefix in route.destination]
    digits += [number for account in settings.accounts for number in account.numbers]
    for prefix in digits:
        regions.update(dict.fromkeys(regions_of(prefix.lstrip("+"))[:1]))
    return list(regions)


def forms_of_search(regions: list[str], asked: Typed) -> SearchForms:
    """The forms to search for. What was indexed before there was a region is found too, unless one was asked for."""
    number = asked.number
    first, *others = [search_forms(number, region) for region in regions] or [search_forms(number)]
    plain = search_forms(number).exact if asked.region is None else ()
    ambiguous = [*first.ambiguous, *plain, *(form for other in others for form in other.exact + other.ambiguous)]
    return SearchForms(first.exact, tuple(form for form in dict.fromkeys(ambiguous) if form not in first.exact))


def refuse_nothing(forms: SearchForms) -> None:
    """OfficeError where no number and no name was typed."""
    if not any(form.strip(SEPARATORS + b"+") for form in forms.exact):
        raise OfficeError("give a phone number, a short code or an alphanumeric sender", WRONG)


def without_number(note: str, forms: SearchForms) -> str:
    """The note without the number that is searched: the audit trail outlives it."""
    for form in forms.exact + forms.ambiguous:
        text = form.decode("utf-8", "replace")
        if text.isdigit():
            note = note.replace(text, "***")
    return note
