"""What a notice of a breach needs (GDPR Art. 33): whose data, which records, looked at when and by whom, in a given time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from smppd.audit.trail import FREE_TEXT, TrailEntry
from smppd.events import AuditEvent
from smppd.records.extents import Extents
from smppd.reports.document import Report, at, free, report
from smppd.reports.kept import glances
from smppd.reports.persons import EXACT, Persons
from smppd.reports.source import Source
from smppd.vault.keys import VaultError, period_from_code

IDS: Final = 100
"""Record ids that are listed of each account; all go to the file that the caller names."""
ENTRIES: Final = 2_000
"""Entries of the audit trail that are listed of each kind; all are counted."""
_LOOKS: Final = (
    AuditEvent.REVEAL,
    AuditEvent.EXPORT,
    AuditEvent.SEARCH,
    AuditEvent.SHOW,
    AuditEvent.EVIDENCE,
    AuditEvent.REPORT,
)
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "looks": _LOOKS,
    "logins": (AuditEvent.LOGIN, AuditEvent.LOGIN_REFUSED, AuditEvent.OPERATOR, AuditEvent.APPROVAL),
    "actions_on_keys": (AuditEvent.KEY,),
    "integrity": (AuditEvent.INTEGRITY, AuditEvent.ENTRIES_DROPPED),
    "backups_and_restores": (AuditEvent.BACKUP, AuditEvent.RESTORE),
    "purged_and_erased": (AuditEvent.PURGE, AuditEvent.ERASURE, AuditEvent.HOLD, AuditEvent.DAMAGED),
    "starts_and_changes": (AuditEvent.START, AuditEvent.STOP, AuditEvent.RELOAD),
}
_BINDS: Final = (AuditEvent.BIND_ACCEPTED, AuditEvent.BIND_REFUSED, AuditEvent.BAN_BEGAN)
_ABOUT: Final = (
    "Facts for the notice of a breach (GDPR Art. 33), from the sealed log and the audit trail. Persons are counted by blind"
    " index, which is another one in each period: at least as many as in the fullest period, at most the sum of all. Who is"
    " behind an index is not told here: `smppd log search`, `smppd subject export`."
)


@dataclass(slots=True)
class _Records:
    count: int = 0
    texts: int = 0
    first: int = 0
    last: int = 0
    ids: list[str] = field(default_factory=list)


def breach(
    source: Source,
    since: float,
    until: float,
    *,
    accounts: frozenset[str] = frozenset(),
    who: str | None = None,
    account_of: Callable[[int], str | None] = lambda _record: None,
    each: Callable[[str, int], object] = lambda _account, _record: None,
    exact: int = EXACT,
) -> Report:
    """See the module. since, until: epoch seconds, the latter not included. accounts: only these, empty for all. who: only what
    this operator or user did. account_of: whose record this is (looked-at ones are counted by it). each: told of every record
    of that time. exact: persons up to which counts are exact. Raises StoreError and VaultError."""

    def wanted(account: str) -> bool:
        return source.seen(account) and (not accounts or account in accounts)

    damaged: list[int] = []
    persons = Persons(exact)
    found = _records(source, since, until, wanted, persons, damaged, each)
    looks, others = _trail(source, since, until, wanted, who)
    return report(
        "Breach report",
        _ABOUT,
        source.now,
        {
            "asked": {
                "since": at(since),
                "until": at(until),
                "accounts": sorted(accounts) or "all",
                "operator": who or "all",
            },
            "whose_data": _whose(found, persons),
            "counts_of_persons": "exact" if persons.exact else f"estimated, within 5 %: more than {exact:,} persons",
            "record_ids": {account: one.ids for account, one in sorted(found.items())},
            "record_ids_listed": f"the first {IDS} of each account; all: --ids FILE",
            "records_looked_at": _looked_at(looks, account_of, wanted),
            **others,
            "rows_that_cannot_be_read": len(damaged),
        },
    )


def _records(
    source: Source,
    since: float,
    until: float,
    wanted: Callable[[str], bool],
    persons: Persons,
    damaged: list[int],
    each: Callable[[str, int], object],
) -> dict[str, _Records]:
    """The records of that time, account by account."""
    found: dict[str, _Records] = {}
    if source.log is None:
        return found
    first, last = since * 1000, until * 1000
    names: dict[bytes, str | None] = {}
    for one in glances(source.log, _spans(source, since, until), damaged, source.progress):
        if not first <= one.accepted_ms < last:
            continue
        if one.account not in names:
            decoded = one.account.decode("utf-8", "replace")
            names[one.account] = decoded if wanted(decoded) else None
        name = names[one.account]
        if name is None:
            continue
        held = found.get(name)
        if held is None:
            held = found[name] = _Records(first=one.accepted_ms)
        held.count += 1
        held.texts += one.body
        held.first, held.last = min(held.first, one.accepted_ms), max(held.last, one.accepted_ms)
        if len(held.ids) < IDS:
            held.ids.append(f"{one.record_id:016x}")
        each(name, one.record_id)
        if one.person is not None:
            persons.add((name, one.period), one.person)
    return found


def _spans(source: Source, since: float, until: float) -> list[tuple[int, int | None]]:
    """(after, until) of the rows that may hold records of that time; neighbours are one."""
    assert source.log is not None
    spans: list[tuple[int, int | None]] = []
    for one in Extents(source.log, source.id_time).all():
        if not one.touches(since, until):
            continue
        before = spans[-1][1] if spans else None
        if before is not None and before >= one.first - 1:
            spans[-1] = (spans[-1][0], one.last)
        else:
            spans.append((one.first - 1, one.last))
    return spans


def _whose(found: dict[str, _Records], persons: Persons) -> list[dict[str, Any]]:
    periods: dict[str, list[tuple[str, int]]] = {}
    for group, count in persons.counts().items():
        assert isinstance(group, tuple)
        periods.setdefault(group[0], []).append((_label(group[1]), count))
    rows = []
    for account, one in sorted(found.items()):
        counts = [count for _, count in periods.get(account, [])]
        rows.append(
            {
                "account": account,
                "records": one.count,
                "with_texts": one.texts,
                "first": at(one.first / 1000),
                "last": at(one.last / 1000),
                "persons_at_least": max(counts, default=0),
                "persons_at_most": sum(counts),
                "periods": len(counts),
            }
        )
    return rows


def _label(code: int) -> str:
    try:
        return period_from_code(code).label
    except VaultError:
        return "?"


# -- the trail -----------------------------------------------------------------------------------------------------


def _trail(
    source: Source, since: float, until: float, wanted: Callable[[str], bool], who: str | None
) -> tuple[list[TrailEntry], dict[str, Any]]:
    """The looks, and the sections of all entries of that time."""
    kinds = {event: kind for kind, events in _KINDS.items() for event in events}
    listed: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    counted: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS}
    binds: Counter[str] = Counter()
    accounts: Counter[str] = Counter()
    looks: list[TrailEntry] = []
    # An account's entries are not those of the operator who is asked for.
    events = (*kinds, *(() if who is not None else _BINDS))
    entries = source.trail.entries(since_ms=int(since * 1000), until_ms=int(until * 1000), events=events, who=who)
    for entry in entries:
        if not _about(entry, wanted):
            continue
        if entry.event in _BINDS:
            times = _times(entry)
            binds[entry.event] += times
            if entry.event == AuditEvent.BIND_ACCEPTED:
                accounts[str(entry.what.get("account", "?"))] += times
            continue
        kind = kinds[entry.event]
        counted[kind][entry.event] += 1
        if len(listed[kind]) < ENTRIES:
            listed[kind].append(_shown(entry))
            if kind == "looks":
                looks.append(entry)
    sections: dict[str, Any] = dict(listed)
    sections["entries_in_that_time"] = [
        {"event": event, "entries": count, "listed": min(count, ENTRIES)}
        for counts in counted.values()
        for event, count in sorted(counts.items())
    ]
    sections["binds"] = {
        "accepted": binds[AuditEvent.BIND_ACCEPTED],
        "refused": binds[AuditEvent.BIND_REFUSED],
        "bans": binds[AuditEvent.BAN_BEGAN],
        "accepted_by_account": dict(sorted(accounts.items())),
    }
    return looks, sections


def _about(entry: TrailEntry, wanted: Callable[[str], bool]) -> bool:
    """Whether an entry is about an account that is asked for, or names none."""
    named = [str(entry.what[key]) for key in ("account", "accounts") if key in entry.what]
    every = [name for one in named for name in one.split()]
    return not every or any(map(wanted, every))


def _times(entry: TrailEntry) -> int:
    count = str(entry.what.get("count", 1))
    return int(count) if count.isascii() and count.isdigit() and len(count) < 12 else 1


def _shown(entry: TrailEntry) -> dict[str, Any]:
    facts = {key: one for key, one in entry.what.items() if not key.startswith("ids")}
    return {
        "at": at(entry.at_ms / 1000),
        "entry": entry.id,
        "event": entry.event,
        "who": entry.who,
        "from": entry.source,
        "facts": " ".join(f"{key}={free(str(one)) if key in FREE_TEXT else one}" for key, one in facts.items()),
        "record_ids": list(_ids(entry))[:IDS],
        "result": entry.result,
    }


def _ids(entry: TrailEntry) -> Iterator[str]:
    for key, one in entry.what.items():
        if key.startswith("ids"):
            yield from (each for each in str(one).split() if len(each) == 16)


def _looked_at(
    looks: list[TrailEntry], account_of: Callable[[int], str | None], wanted: Callable[[str], bool]
) -> list[dict[str, Any]]:
    """Records that somebody looked at, by account and person: those that are not there any more belong to nobody."""
    seen: dict[tuple[str, str, str], set[str]] = {}
    whose: dict[str, str] = {}
    for entry in looks:
        for identity in _ids(entry):
            if identity not in whose:
                try:
                    whose[identity] = account_of(int(identity, 16)) or ""
                except ValueError:
                    continue
            account = whose[identity]
            if not account or wanted(account):
                seen.setdefault((account, entry.event, entry.who), set()).add(identity)
    return [
        {"account": account or "purged or unknown", "event": event, "who": who, "records": len(ids)}
        for (account, event, who), ids in sorted(seen.items())
    ]
