"""The record of processing that a processor keeps (GDPR Art. 30(2)): for whom, what of whom, with whose help, how protected."""

from __future__ import annotations

from typing import Any

from smppd.config import Account, Route, Settings, Upstream, is_loopback
from smppd.config.retention import effective
from smppd.config.units import format_duration
from smppd.reports.controls import in_force
from smppd.reports.document import Report, at, free, report
from smppd.reports.kept import Kept, count_kept
from smppd.reports.source import Source

_ABOUT = (
    "Record of processing of a processor (GDPR Art. 30(2)), made from the configuration in force and the store. What it"
    " cannot know, the names and contact details of the processor, the controllers and a data protection officer, is to be"
    " added."
)
CATEGORIES = {
    "content": "texts or payloads of messages, with their optional parameters",
    "traffic": "phone numbers, short codes and sender names of both sides, times, states, carriers, IP address of the customer",
    "access": "operators and system_ids, their addresses, what they looked at and why (audit trail)",
}
SUBJECTS = (
    "recipients of the controllers' messages",
    "senders of messages to the controllers",
    "people that are named in texts",
    "the controllers' and the operator's own staff (audit trail)",
)


def processing(source: Source) -> Report:
    """See the module. Raises StoreError and VaultError."""
    kept, damaged = count_kept(source)
    settings = source.settings
    configured = {one.system_id for one in settings.accounts}
    return report(
        "Record of processing",
        _ABOUT,
        source.now,
        {
            "installation": {
                "configuration": settings.path.name,
                "node": settings.node,
                "listeners": [
                    f"{one.address} ({'TLS' if one.tls is not None else 'plain SMPP'})" for one in settings.listeners
                ],
                "accounts": len(source.configured()),
            },
            "controllers": [_controller(settings, one, kept.get(one.system_id, Kept())) for one in source.configured()],
            "accounts_that_were_removed": [
                {"account": name, **_counted(one)} for name, one in kept.items() if name not in configured
            ],
            "categories_of_data": CATEGORIES,
            "data_subjects": list(SUBJECTS),
            "recipients": [recipient(source, one) for one in settings.upstreams],
            "transfers": transfers(settings),
            "time_limits": [
                {
                    "account": account.system_id,
                    **{one.part: format_duration(one.effective) for one in effective(settings, account)},
                    "basis": free(str(account.basis)) if account.basis is not None else None,
                }
                for account in source.configured()
            ],
            "security_measures": [
                {"control": one.number, "measure": one.feature, "in_force": force} for one, force in in_force(source)
            ],
            "rows_that_cannot_be_read": damaged,
        },
    )


def _controller(settings: Settings, account: Account, kept: Kept) -> dict[str, Any]:
    basis = account.basis
    return {
        "account": account.system_id,
        "purpose": "relaying messages and receipts; the record of them",
        "basis": None if basis is None else basis.purpose,
        "reference": None if basis is None else free(basis.reference),
        "content": account.content,
        "rules_look_at_texts": looks(settings, account),
        "suspended": account.suspended,
        **_counted(kept),
    }


def _counted(kept: Kept) -> dict[str, Any]:
    return {
        "records_now": kept.records,
        "with_numbers": kept.numbers,
        "with_texts": kept.texts,
        "oldest": at(kept.oldest / 1000) if kept.oldest else None,
    }


def looks(settings: Settings, account: Account) -> bool:
    """Whether rules look at the texts of an account's messages."""
    from smppd.policy.conditions import TEXT_KINDS  # slow to import, and only needed here

    rules = [rule for name in account.policies for rule in settings.policies[name].rules]
    conditions = [one for rule in rules for one in (rule.when, rule.unless) if one is not None]
    return any(getattr(one, kind) not in (None, ()) for one in conditions for kind in TEXT_KINDS)


def recipient(source: Source, upstream: Upstream) -> dict[str, Any]:
    """Who gets messages, by which routes and from which accounts."""
    routes = [
        (f"routes[{index}]" if route.name is None else route.name, route)
        for index, route in enumerate(source.settings.routes)
        if any(one.name == upstream.name for one in route.upstreams)
    ]
    return {
        "upstream": upstream.name,
        "host": ", ".join(host for host, _ in upstream.endpoints),
        "country": upstream.country,
        "contract": free(upstream.contract),
        "tls": upstream.tls is not None,
        "enabled": upstream.enabled,
        "routes": [name for name, _ in routes],
        "rules": sorted(
            f"{policy.name}/{rule.name}"
            for policy in source.settings.policies.values()
            for rule in policy.rules
            if rule.do.route == upstream.name
        ),
        "accounts": _accounts(source, [route for _, route in routes]),
    }


def _accounts(source: Source, routes: list[Route]) -> list[str]:
    every = [one.system_id for one in source.configured()]
    if any(not route.accounts for route in routes):
        return every
    named = {name for route in routes for name in route.accounts}
    return [name for name in every if name in named]


def _here(upstream: Upstream) -> bool:
    """Whether it is on this machine."""
    return all(is_loopback(host) for host, _ in upstream.endpoints)


def transfers(settings: Settings) -> list[dict[str, Any]]:
    """The carriers by country; those whose country nobody has named stand without one."""
    home = settings.region
    return [
        {
            "upstream": one.name,
            "country": one.country,
            "elsewhere": None if one.country is None or home is None else one.country != home,
            "note": None if one.country is not None or _here(one) else "name its `country`",
        }
        for one in settings.upstreams
    ]
