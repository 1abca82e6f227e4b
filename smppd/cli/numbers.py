"""The phone number that an operator typed: in which countries it may be one, and under which forms it is searched.

`args` has `number`, `region` (None: not given) and `account` (a list, or None).
"""

from __future__ import annotations

import argparse

from smppd.cli.access import printable
from smppd.cli.commands import CommandError
from smppd.config import Settings
from smppd.numbering import REGIONS, regions_of
from smppd.vault.numbers import SearchForms, search_forms


def regions_of_search(settings: Settings, args: argparse.Namespace) -> list[str]:
    """The countries that a national number may be of: the one that was given, else those that the configuration names, its own,
    its accounts' and upstreams', the countries of its routes and of its accounts' numbers."""
    if args.region is not None:
        args.region = args.region.upper()
        if args.region not in REGIONS:
            raise CommandError(f"{printable(args.region)} is no country of two letters (ISO 3166)", 2)
        return [args.region]
    accounts = [one for one in settings.accounts if not args.account or one.system_id in args.account]
    named = [settings.region, *(one.region for one in accounts), *(one.region for one in settings.upstreams)]
    regions = dict.fromkeys(region for region in named if region is not None)
    digits = [prefix for route in settings.routes for prefix in route.destination]
    digits += [number for account in settings.accounts for number in account.numbers]
    for prefix in digits:
        regions.update(dict.fromkeys(regions_of(prefix.lstrip("+"))[:1]))
    return list(regions)


def forms_of_search(regions: list[str], args: argparse.Namespace) -> SearchForms:
    """The forms to search for. What was indexed before there was a region is found too, unless one was asked for."""
    first, *others = [search_forms(args.number, region) for region in regions] or [search_forms(args.number)]
    plain = search_forms(args.number).exact if args.region is None else ()
    ambiguous = [*first.ambiguous, *plain, *(form for other in others for form in other.exact + other.ambiguous)]
    return SearchForms(first.exact, tuple(form for form in dict.fromkeys(ambiguous) if form not in first.exact))


def without_number(note: str, forms: SearchForms) -> str:
    """The note without the number that is searched: the audit trail outlives it."""
    for form in forms.exact + forms.ambiguous:
        text = form.decode("utf-8", "replace")
        if text.isdigit():
            note = note.replace(text, "***")
    return note
