"""The audit trail, newest first, a page at a time; and the reports there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from smppd.audit.trail import AuditTrail, TrailEntry
from smppd.console.page import Answer, Asked, Page, Refusal, show
from smppd.console.pages.saying import PAGE, moment, said, whole_number
from smppd.events import AuditEvent, UnknownEvent, matching
from smppd.office.unlocking import refuse_shredded
from smppd.operators.roles import Act
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import installation
from smppd.vault.kek import VaultError

LOOKED_AT: Final = 20_000
"""So many entries are looked at for one page."""
REPORTS: Final = {
    "processing": "record of processing (GDPR Art. 30(2))",
    "processors": "sub-processors: the carriers, and who sends there",
    "retention": "how long what is kept and why, and what is due next",
    "breach": "whose data, which records, looked at when and by whom, in a given time (GDPR Art. 33)",
    "controls": "ISO/IEC 27001 Annex A: feature, command, test, and whether it is in force",
}
"""Reports by the name of `smppd report`, and what each is."""


def _trail(asked: Asked) -> AuditTrail:
    store = installation(asked.settings)
    refuse_shredded(store)
    path = store.directory / AUDIT_FILE
    if not path.exists():
        raise VaultError(f"{path}: there is no audit trail")
    return AuditTrail(path, None)


@said
def _audit(asked: Asked) -> Answer:
    # A form and not a query: an operator's name and what he looked for stay out of the browser's history.
    form = asked.form if asked.method == "POST" else {}
    event, who = form.get("event", "").strip(), form.get("who", "").strip()
    since, until = moment(asked, "since"), moment(asked, "until")
    before = whole_number(form["before"], 1, (1 << 53) - 1) if form.get("before") else 1 << 53
    with _trail(asked) as trail:
        try:
            events = matching(event) if event else None
        except UnknownEvent as error:
            raise Refusal(400, str(error)[:1].upper() + str(error)[1:] + ".") from None
        found, more = trail.newest(
            before,
            PAGE,
            LOOKED_AT,
            since_ms=since or 0,
            until_ms=1 << 62 if until is None else until,
            events=events,
            who=who or None,
        )
        number, digest = trail.head()
        checked, _ = trail.newest(1 << 53, 1, LOOKED_AT, events={AuditEvent.INTEGRITY})
    return show(
        "audit",
        entries=[_as_dict(one) for one in found],
        more=more,
        head=f"{number}:{digest.hex()}" if number else "",
        checked=_as_dict(checked[0]) if checked else None,
        events=sorted(AuditEvent),
        given={name: form.get(name, "") for name in ("event", "who", "since", "until")},
    )


def _as_dict(entry: TrailEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at_ms / 1000,
        "event": entry.event,
        "who": entry.who,
        "source": entry.source,
        "facts": _facts(entry.what),
        "result": entry.result,
    }


def _facts(what: Mapping[str, str | int]) -> str:
    return "  ".join(f"{name}={value}" for name, value in what.items())


@said
def _reports(asked: Asked) -> Answer:
    made: dict[str, dict[str, Any]] = {}
    with _trail(asked) as trail:
        found, _ = trail.newest(1 << 53, 500, LOOKED_AT, events={AuditEvent.REPORT})
    for entry in found:
        made.setdefault(str(entry.what.get("which", "")), _as_dict(entry))
    return show("reports", reports=[(name, what, made.get(name)) for name, what in REPORTS.items()])


PAGES: Final = (
    Page("/audit", "Audit trail", Act.AUDIT, _audit, menu="Oversight", posts=True),
    Page("/reports", "Reports", Act.REPORT, _reports, menu="Oversight"),
)
