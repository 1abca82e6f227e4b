"""`smppd log search|show|export|verify`: messages in the sealed log, by number, by id or all; whether one was altered.

Numbers are masked and texts left out unless `--reveal` is given. Every look is on the audit trail before it is shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smppd.cli.access import Access, add_reason, addresses_of, form_of, guarded, printable, region_of
from smppd.cli.authority import add_login, approver, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.commands.audit import (
    Moment,
    add_notes,
    add_shipped,
    compared,
    expected,
    moment,
    noted,
    say_shipped,
)
from smppd.cli.commands.log_export import register_export, run_export
from smppd.cli.numbers import forms_of_search, regions_of_search, without_number
from smppd.cli.progress import progress as progress_bar
from smppd.events import AuditEvent
from smppd.ids import id_time, parse_shown
from smppd.message import FINAL_STATES, Address, Event, State
from smppd.numbering import SEPARATORS, SHORT_DIGITS
from smppd.operators.roles import Act
from smppd.protocol.carrier_errors import carrier_error
from smppd.records.consistency import anchor_faults, cross_faults, note_faults, note_of
from smppd.records.erasure_journal import NAME, ErasedIds
from smppd.records.lookup import Found
from smppd.records.search import by_number
from smppd.records.shipped import check_seals
from smppd.records.verify import LogVerdict, verify_log
from smppd.vault.mask import mask_number
from smppd.vault.numbers import SearchForms
from smppd.vault.seal import SealError

_COLUMNS: Final = (
    "time", "id", "account", "direction", "from", "to", "state", "error", "upstream", "upstream_id", "parts", "data_coding",
)  # fmt: skip
_REVEALED: Final = (*_COLUMNS, "text")
_NARROW: Final = ("time", "id", "from", "to", "state")
_WIDE: Final = 150  # characters in which all columns can be read
_RECEIPT: Final = {
    State.RECEIPT_DONE: "acknowledged by the customer",
    State.RECEIPT_EXPIRED: "never taken by the customer",
}
_UNREADABLE: Final = "(gone)"
ALONE: Final = 100
"""So many records may one person reveal at a time; for more, and for the reason `law`, two have to agree."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("log", help="search, show, export and verify the sealed record of messages")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    search = actions.add_parser(
        "search", help="all messages from or to a phone number, newest first; 1 when there is none"
    )
    search.add_argument("number", metavar="NUMBER", help="+44 7700 900123, a short code, or an alphanumeric sender")
    search.add_argument("--account", action="append", metavar="A", help="only this account; may be repeated")
    search.add_argument(
        "--since", type=moment, default=0, metavar="T", help="ISO date or time (UTC), or an age like 7d"
    )
    search.add_argument("--until", type=moment, metavar="T", help="likewise; not included")
    search.add_argument(
        "--region",
        metavar="CC",
        help="country of a national number, for example GB (default: the configuration's regions)",
    )
    search.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="at most so many (default: %(default)s)"
    )
    show = actions.add_parser("show", help="one message with its history")
    show.add_argument(
        "id", metavar="ID", help="the message id as the customer saw it (16 hex characters), or in decimal"
    )
    verify = actions.add_parser("verify", help="recompute the digest chain; status 1 if the log was tampered with")
    add_notes(verify)
    add_shipped(verify, "checkpoint")
    for action in (search, show):
        add_reason(action)
        add_login(action)
    for action in (search, show, verify):
        add_json(action)
        add_config(action)
    register_export(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `log ACTION`; 0, 1 when nothing was found or the log is not sound, 2 when there is no store to read."""
    if args.action == "export":
        return run_export(args)
    settings = load_settings(args)
    if args.action != "verify" and args.reveal and not args.note.strip():
        raise CommandError("--reveal needs --note: the reason in words", 2)
    if args.action == "search" and args.until is not None and args.since >= args.until:
        raise CommandError("--since is not before --until", 2)
    authority = None
    if args.action == "show":
        args.ids = _ids(args.id)
    if args.action != "verify":
        authority = authorise(Act.REVEAL if args.reveal else Act.SEARCH, args, settings)
    with Access(settings, authority) as access, guarded():
        return {"search": _search, "show": _show, "verify": _verify}[args.action](access, args)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000000")
    return int(text)


# -- search ----------------------------------------------------------------------------------------------------------


def _search(access: Access, args: argparse.Namespace) -> int:
    regions = regions_of_search(access.settings, args)
    forms = forms_of_search(regions, args)
    if not any(form.strip(SEPARATORS + b"+") for form in forms.exact):
        raise CommandError("give a phone number, a short code or an alphanumeric sender", 2)
    args.note = without_number(args.note, forms)
    until = float("inf") if args.until is None else args.until / 1000
    second = _second_for_search(access, args, forms) if args.reveal and args.reason == "law" else None
    reader, authority = access.reader, access.authority
    accounts = args.account if args.account is None else [one for one in args.account if authority.sees(one)]
    if accounts is None and authority.accounts is not None:
        accounts = sorted(authority.accounts)
    with progress_bar("Searching") as progress:
        every = by_number(reader, forms.exact + forms.ambiguous, accounts, args.since / 1000, until, progress)
        found = list(islice(every, args.limit + 1))
    more = len(found) > args.limit
    del found[args.limit :]
    damaged = reader.damaged if authority.accounts is None else []  # nobody can tell whose these are
    if args.reveal and second is None and len(found) > ALONE:
        second = _second_for_search(access, args, forms)
    what: dict[str, str | int] = {"number": " ".join(access.subject(form) for form in forms.exact)}
    if second:
        what["second"] = second
    if args.account:
        what["accounts"] = " ".join(args.account)
    if args.since:
        what["since"] = _iso(args.since)
    if args.until is not None:
        what["until"] = _iso(args.until)
    ids = [access.shown(one) for one in found]
    result = f"{len(found)} found{', more there' if more else ''}{', revealed' if args.reveal else ', masked'}"
    access.record(AuditEvent.REVEAL if args.reveal else AuditEvent.SEARCH, args, what, ids, result)
    rows = [_as_dict(access, one, args.reveal, forms) for one in found]
    if args.json:
        print(json.dumps({"records": rows, "more": more, "damaged": [f"{i:016x}" for i in damaged]}, indent=2))
    elif rows:
        _table(rows, _REVEALED if args.reveal else _COLUMNS)
    if more:
        say(f"Only the newest {args.limit} are shown; --limit shows more.")
    if damaged:
        say(f"{len(damaged)} records were altered and cannot be opened: run `smppd log verify`.")
    if any(row["match"] == "national digits" for row in rows):
        say("Some were found by national digits, which may be another subscriber's number in another country.")
    if not rows:
        where = "in this time" if args.since or args.until else "that can still be read"
        national = (
            not regions and len(forms.exact[0]) > SHORT_DIGITS and forms.exact[0].isdigit() and not forms.ambiguous
        )
        hint = "; a national number is found with its country: --region GB, for example" if national else ""
        raise CommandError(f"no message from or to {mask_number(args.number)} {where} is in the log{hint}")
    return 0


def _second_for_search(access: Access, args: argparse.Namespace, forms: SearchForms) -> str:
    """Who else agreed to reveal what this search finds. The times count as they were typed, so `--since 7d` is the same act an
    hour later."""
    what: dict[str, str | int] = {
        "number": " ".join(form.decode("utf-8", "replace") for form in forms.exact),
        "accounts": " ".join(sorted(args.account or ())),
        "since": _as_typed(args.since),
        "until": _as_typed(args.until),
        "region": args.region or "",
        "limit": args.limit,
        "reason": args.reason,
    }
    said = {name: value for name, value in what.items() if value != ""}
    return approver(access.authority, args, access.settings, "reveal", said)


def _as_typed(moment: int | None) -> str:
    return moment.typed if isinstance(moment, Moment) else ""


# -- show ------------------------------------------------------------------------------------------------------------


def _show(access: Access, args: argparse.Namespace) -> int:
    found, hidden = None, False
    for identity in args.ids:
        found = found or _record_of(access, identity)
    if found is not None and not access.authority.sees(found.record.header.account):
        found, hidden = None, True  # looks exactly like one that is not there
    what: dict[str, str | int] = {"asked": printable(args.id)[:64]}
    if found is not None:
        what["asked"] = f"{found.record.header.record_id:016x}"
        if args.reveal and args.reason == "law":
            asked: dict[str, str | int] = {"record": what["asked"], "reason": args.reason}
            what["second"] = approver(access.authority, args, access.settings, "reveal", asked)
    if hidden:
        what["other_account"] = 1
    ids = [] if found is None else [access.shown(found)]
    result = "not found" if found is None else "revealed" if args.reveal else "masked"
    access.record(AuditEvent.REVEAL if args.reveal else AuditEvent.SHOW, args, what, ids, result)
    if found is None:
        raise CommandError(f"there is no record {printable(args.id)} in the log (any more)")
    row = _as_dict(access, found, args.reveal, None)
    if args.json:
        print(json.dumps(row, indent=2))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    for name, value in row.items():
        if name not in ("events", "match") and value not in (None, "") and (name, value) != ("error", 0):
            console.print(Text(f"{name.replace('_', ' '):<12}  {value}"))
    for event in row["events"]:
        error = f"error {event['error']} {event['error_name']}".strip() if event["error"] else ""
        facts = [event["upstream"], event["upstream_id"], error]
        facts.append("possible duplicate" if event["possible_duplicate"] else "")
        console.print(Text(f"  {event['time']}  {event['state']:<16}  {'  '.join(fact for fact in facts if fact)}"))
    return 0


def _record_of(access: Access, identity: int) -> Found | None:
    try:
        return access.reader.record(identity)
    except SealError:
        if access.authority.accounts is not None:
            return None  # nobody can tell whose it is
        raise


def _ids(text: str) -> list[int]:
    """What an id may mean: the form a customer sees, the same without its leading zero as spreadsheets show it, or decimal;
    with blanks around it, or `0x` before it."""
    text = text.strip()
    marked = text[:2].lower() == "0x"
    digits = text[2:] if marked else text
    shown = parse_shown(
        (digits.rjust(16, "0") if (marked and digits) or len(digits) == 15 else digits).encode("utf-8", "replace")
    )
    meant = [] if shown is None else [shown]
    if text.isascii() and text.isdigit() and len(text) < 20:
        meant.append(int(text))
    if not meant:
        raise CommandError(
            f"{printable(text)} is no message id: give 16 hexadecimal characters, or a decimal number", 2
        )
    return meant


# -- verify ----------------------------------------------------------------------------------------------------------


def _verify(access: Access, args: argparse.Namespace) -> int:
    keys, trail = access.chain_keys, access.trail
    against = noted(args)
    # First of all: what is made meanwhile is more, never less.
    with access.states() as states:
        faults = cross_faults(states, keys, trail)
        faults += note_faults(states, trail, against)
        shipped = None
        if args.shipped:
            shipped = compared(
                args,
                "seal",
                lambda lines: check_seals(lines, states, keys, trail, expected(args, access.directory)),
            )
            faults += shipped.faults
    with progress_bar("Verifying") as progress:
        erased = ErasedIds(access.directory / NAME, keys.public)
        verdict = verify_log(access.reader.records, id_time, keys.public, progress, keys, erased)
    audit = trail.verify()
    faults += anchor_faults(verdict, trail) + ([] if audit.ok else [f"the audit trail: {audit.reason}"])
    verdict = verdict.with_faults(faults)
    with access.states() as states:
        note = note_of(states, trail, time.time()).line()
    first = None if verdict.first is None else _iso(id_time(verdict.first) * 1000)
    if args.json:
        said = {} if shipped is None else {"shipped": shipped.as_json()}
        print(json.dumps(_verdict_as_dict(verdict, first) | {"note": note, "compared": len(against)} | said))
    elif verdict.ok:
        print(f"The log is sound: {verdict.reason}; {verdict.checkpoints} signed checkpoints found in it.")
        if first:
            print(f"It begins at {first}; of {verdict.purged} purged records only the digests are left.")
        print(_end(verdict))
        if against:
            print(f"What was noted is in it ({len(against)} notes).")
        if shipped is not None:
            say_shipped(shipped, "checkpoints")
    else:
        say(f"The log is NOT sound: {verdict.reason} ({verdict.rows} good rows).")
        for fault in verdict.faults[1:]:
            say(f"Also: {fault}.")
    if args.note and verdict.ok and not args.json:
        print(note)
    return 0 if verdict.ok else 1


def _end(verdict: LogVerdict) -> str:
    """How far the seals reach: what is behind the last one can be cut off and nobody can tell."""
    if verdict.seal is None:
        return "It has no seals yet: the daemon of this version begins them with its next start."
    plain = verdict.rows - verdict.keyed
    older = f" Its first {plain} rows are of an older version and were not under a key then." if plain else ""
    number, at = verdict.seal[0], _iso(verdict.sealed_ms)
    if verdict.clean:
        return f"It is sealed to its end, a clean one, with checkpoint {number} at {at}.{older}"
    return (
        f"Checkpoint {number} at {at} is the last; {verdict.unsealed} rows behind it are not sealed: the daemon runs, or it was"
        f" killed.{older}"
    )


def _verdict_as_dict(verdict: LogVerdict, first: str | None) -> dict[str, Any]:
    fields = verdict._asdict() | {"first": first, "anchor": verdict.anchor.hex() if verdict.anchor else None}
    fields["first_bad"] = None if verdict.first_bad is None else f"{verdict.first_bad:016x}"
    fields["anchor_row"] = None if verdict.anchor_row is None else f"{verdict.anchor_row:016x}"
    fields["seal"] = None if verdict.seal is None else f"{verdict.seal[0]}:{verdict.seal[1].hex()}"
    fields["last"] = None if verdict.last is None else f"{verdict.last[0]:016x}:{verdict.last[1].hex()}"
    fields["sealed"] = _iso(verdict.sealed_ms) if verdict.sealed_ms else None
    del fields["sealed_ms"]
    return fields


# -- showing ---------------------------------------------------------------------------------------------------------


def _as_dict(access: Access, found: Found, reveal: bool, forms: SearchForms | None) -> dict[str, Any]:
    """A record as JSON has it. Without `reveal` numbers are masked and neither text nor the customer's address is there."""
    record = found.record
    header = record.header
    events = access.reader.events(header.record_id)
    state, last = _state(events)
    row: dict[str, Any] = {
        "id": f"{header.record_id:016x}",
        "time": _iso(header.accepted_ms),
        "account": header.account,
        "direction": header.direction.name,
        "from": _UNREADABLE,
        "to": _UNREADABLE,
        "state": state,
        "error": next((event.error for event in reversed(events) if event.error), 0),
        "error_name": next((_error_name(access, event) for event in reversed(events) if event.error), ""),
        "upstream": last.upstream if last is not None else "",
        "upstream_id": _name(last.upstream_id) if last is not None else "",
        "receipt": next((_RECEIPT[e.state] for e in reversed(events) if e.state in _RECEIPT), ""),  # type: ignore[index]
        "parts": header.parts,
        "data_coding": header.data_coding,
    }
    match = "exact"
    if record.numbers is not None:
        source, destination = addresses_of(record.numbers)
        row["from"], row["to"] = _number(source, reveal), _number(destination, reveal)
        region = region_of(access.settings, header.account)
        if forms is not None and not {form_of(source, region), form_of(destination, region)} & set(forms.exact):
            match = "national digits"
    row["match"] = match
    if reveal:
        shown = access.text(record)
        row["text"] = shown.text if shown.text is None or shown.remark else printable(shown.text)
        row["text_remark"] = shown.remark
    row["events"] = [
        {
            "time": _iso(event.time),
            "state": _state_name(event.state),
            "error": event.error,
            "error_name": _error_name(access, event),
            "upstream": event.upstream,
            "upstream_id": _name(event.upstream_id),
            "possible_duplicate": event.duplicate,
        }
        for event in events
    ]
    return row


def _error_name(access: Access, event: Event) -> str:
    """What its upstream calls an error, where its `error_table` says."""
    upstream = next((one for one in access.settings.upstreams if one.name == event.upstream), None)
    return carrier_error(upstream.error_table, event.error) if upstream is not None else ""


def _state(events: list[Event]) -> tuple[str, Event | None]:
    """Where the message stands, in a word, and the last event that names where it went."""
    of_message = [event for event in events if event.state not in _RECEIPT]
    final = [event for event in of_message if event.state in FINAL_STATES]
    said = (final or of_message)[-1:]
    went = next((event for event in reversed(events) if event.upstream_id), None)
    went = went or next((event for event in reversed(events) if event.upstream), None)
    return (_state_name(said[0].state) if said else State.STORED.name), went


def _state_name(state: int) -> str:
    try:
        return State(state).name
    except ValueError:
        return f"state {state}"


def _number(address: Address, reveal: bool) -> str:
    digits = address.digits.decode("latin-1")
    if address.ton == 1 and digits.isdigit():
        digits = f"+{digits}"
    return printable(digits if reveal else mask_number(digits))


def _name(octets: bytes) -> str:
    return printable(octets.decode("latin-1"))


def _iso(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[_cell(row, column) for column in columns] for row in rows]
    headings = [column.replace("_", " ") for column in columns]
    if not sys.stdout.isatty():
        for line in [headings, *cells]:
            print("\t".join(line))
        return
    console = Console(highlight=False)
    narrow = console.width < _WIDE
    shown = [at for at, column in enumerate(columns) if not narrow or column in _NARROW]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at in shown:
        table.add_column(headings[at], overflow="fold", no_wrap=columns[at] == "id")
    for line in cells:
        table.add_row(*(Text(line[at]) for at in shown))
    console.print(table)
    if narrow:
        for line in cells if columns is _REVEALED else ():
            console.print(Text(f"{line[1]}  {line[-1]}"), soft_wrap=True)
        say("A wider terminal, --json or `smppd log show ID` has all columns.")


def _cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    if column == "time" and sys.stdout.isatty():
        return str(value)[:19].replace("T", " ")
    if column == "text" and value is None:
        return f"({row['text_remark']})"
    return "" if value in (None, 0) and column == "error" else str(value)
