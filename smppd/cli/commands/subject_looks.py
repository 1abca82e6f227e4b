"""`smppd subject looks NUMBER`: when, by whom and why somebody's messages were looked at, from the audit trail.

`smppd.cli.commands.subject` registers it as one of its actions.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.numbers import typed_of
from smppd.events import AuditEvent
from smppd.office.access import Access, Why, guarded
from smppd.office.numbers import forms_of_search, regions_of_search
from smppd.office.unlocking import source_kek
from smppd.operators.roles import Act
from smppd.records.looks import Look, keys_left, looks_at
from smppd.vault.mask import mask_number
from smppd.vault.numbers import SearchForms


def add_looks(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds the action `looks`; `run_looks` runs it."""
    parser = actions.add_parser(
        "looks",
        help="who looked at somebody's messages, when and why",
        description="Lists the searches, reveals and exports that concerned a phone number, from the audit trail. Hashes of"
        " people die 13 months after the month of the look; what is older is not found.",
    )
    parser.add_argument("number", metavar="NUMBER", help="+44 7700 900123, a short code, or an alphanumeric sender")
    parser.add_argument("--region", metavar="CC", help="country of a national number, for example GB")
    add_login(parser)
    add_json(parser)
    add_config(parser)
    return parser


def run_looks(args: argparse.Namespace) -> int:
    """Run `subject looks`; 0, 1 when nobody looked, 2 without a store. The question itself is on the trail, as a search."""
    settings = load_settings(args)
    authority = authorise(Act.AUDIT, args, settings)
    args.account = None
    asked = typed_of(args)
    forms = forms_of_search(regions_of_search(settings, asked), asked)
    with Access(settings, authority) as access, guarded():
        found = _looks(access, forms)
        what: dict[str, str | int] = {"number": " ".join(access.subject(form) for form in forms.exact)}
        access.record(AuditEvent.SEARCH, Why("security", "subject looks"), what, [], f"{len(found)} looks found")
    rows = [_facts(look) for look in found]
    if args.json:
        print(json.dumps({"looks": rows}, indent=2))
    else:
        for row in rows:
            print(f"{row['time']}  {row['event']}  {row['who']}  {row['reason']}  {row['note']}  {row['result']}")
            print(f"    from {row['source']}" + (f"; with {row['second']}" if row["second"] else ""))
            print(f"    {'searched for; ' * row['searched']}records: {' '.join(row['records']) or 'none'}")
    if not rows:
        raise CommandError(f"no look at {mask_number(args.number)} that can still be told is on the audit trail")
    say(f"{len(rows)} look{'s' * (len(rows) != 1)}.")
    return 0


def _looks(access: Access, forms: SearchForms) -> list[Look]:
    every = forms.exact + forms.ambiguous
    rows = access.store.read_only_keys()
    try:
        keys = keys_left(source_kek(access.settings), rows)
    finally:
        rows.close()
    older = [access.older_subject(form) for form in forms.exact]
    return list(looks_at(access.trail, every, keys, older))


def _facts(look: Look) -> dict[str, Any]:
    entry = look.entry
    return {
        "time": datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "entry": entry.id,
        "event": entry.event,
        "who": entry.who,
        "source": entry.source,
        "reason": entry.what.get("reason", ""),
        "note": entry.what.get("note", ""),
        "second": entry.what.get("second", ""),
        "result": entry.result,
        "searched": look.searched,
        "records": list(look.ids),
    }
