"""Retention in force: how long what is kept and why, what is due next, and what is kept in spite of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smppd.config.retention import effective
from smppd.config.units import format_duration
from smppd.records.due import Due, kept_for
from smppd.reports.document import Report, at, free, report
from smppd.reports.source import Facts, Source
from smppd.store.log import PurgeRows
from smppd.vault.keys import Part, Period, read_scope
from smppd.vault.traces import TRACES

_ABOUT = (
    "Retention in force. Configured: what the configuration says; effective: what a record that is sealed now gets. A part"
    " dies with the key of its period, an hour, day or month, when the period's end and the retention have passed. The audit"
    " trail is never purged."
)


def retention(
    source: Source, rows: PurgeRows | None, holds: Iterable[Facts] = (), erasures: Iterable[Facts] = ()
) -> Report:
    """See the module. holds: facts of each hold that keeps something; erasures: of each erasure of which something waits. Both
    may hold nothing of a person. Raises StoreError."""
    settings, now = source.settings, source.now
    keys: dict[tuple[str, str], list[Period]] = {}
    known: Mapping[str, Mapping[str, float]] = {}
    sections: dict[str, Any] = {}
    traces = 0
    if rows is not None:
        due = Due(rows, lambda: {one.system_id: one.kept for one in settings.accounts}, source.id_time, _not_held)
        plan, known = due.plan(now)
        for scope in rows.scopes():
            traces += scope.startswith(TRACES)
            parsed = read_scope(scope)
            if parsed is not None:
                keys.setdefault((parsed[0], parsed[1].value), []).append(parsed[2])
        sections["purge"] = {
            "keys_due_now": sum(source.seen(key.account) for key in plan.due),
            "rows_to_sweep": bool(plan.spans),
            "keys_of_the_future": plan.future,
            "accounts_of_which_nobody_says_how_long": [name for name in plan.unknown if source.seen(name)],
        }
    table = []
    for account in source.configured():
        for one in effective(settings, account):
            table.append(
                {
                    "account": account.system_id,
                    "part": one.part,
                    "configured": format_duration(one.configured),
                    "effective": format_duration(one.effective),
                    "floor": None if one.floor is None else format_duration(one.floor),
                    "ceiling": None if one.ceiling is None else format_duration(one.ceiling),
                    "why": free(one.why),
                    **_living(known.get(account.system_id, {}), one.part, keys.get((account.system_id, one.part), [])),
                }
            )
    configured = {one.system_id for one in settings.accounts}
    gone = [
        {"account": name, "part": part, **_living(known.get(name, {}), part, periods)}
        for (name, part), periods in sorted(keys.items())
        if name not in configured and source.seen(name)
    ]
    return report(
        "Retention in force",
        _ABOUT,
        now,
        {
            "accounts": table,
            "accounts_that_were_removed": gone,
            **sections,
            "holds": [dict(one) for one in holds],
            "erasures_that_wait": [dict(one) for one in erasures],
            "traces_of_pdus": {"kept": traces, "destroyed_after": format_duration(settings.traces.retain)},
            "never_purged": ["the audit trail (audit.db), with which CERT-In's 180 days of logs are kept"],
        },
    )


def _living(entry: Mapping[str, float], part: str, periods: list[Period]) -> dict[str, Any]:
    """The keys that live, and when the next of them is due. Billing fields have none."""
    if part == "billing":
        return {"keys": None, "oldest_key": None, "next_due": None}
    oldest = min(periods, key=lambda one: one.start, default=None)
    ends = [one.end + kept_for(entry, Part(part), one) for one in periods] if entry else []
    return {
        "keys": len(periods),
        "oldest_key": None if oldest is None else oldest.label,
        "next_due": at(min(ends)) if ends else None,
    }


def _not_held(_account: str, _part: Part, _period: Period) -> bool:
    return False
