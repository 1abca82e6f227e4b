"""`smppd trace list|show|export|delete`: the traces of a peer's PDUs that `smppd act trace` made.

Works on the store, with or without a daemon. An export shows texts and numbers, so it is a reveal: it needs the role, a
reason and, for much of it, a second person; and it is on the audit trail with everybody whom it shows before the file is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.cli.authority import add_login, approver, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.pcapng import PcapngWriter
from smppd.cli.reason import NOTE
from smppd.cli.whole_file import WholeFile
from smppd.config import Settings
from smppd.config.units import format_duration
from smppd.daemon.traces import open_traces
from smppd.events import AuditEvent
from smppd.message import Address
from smppd.office.access import REASONS, Access, Why, form_of, guarded, printable, region_of
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.protocol.capture import Entry, Kind, unpack
from smppd.protocol.operations import read_cancel, read_multi, read_query, read_replace
from smppd.protocol.wire import BodyError, Sm
from smppd.records.looks import Shown
from smppd.records.traces import Trace, TraceError, Traces
from smppd.store.api import StoreError
from smppd.store.opening import installation
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_digits
from smppd.vault.seal import SealError

ALONE: Final = 100
"""So many messages of a trace may one person export; for more, and for the reason `law`, two have to agree."""
_MULTI: Final = 0x21
_CANCEL: Final = 0x8
_REPLACE: Final = 0x7
_QUERY: Final = 0x3
_MESSAGES: Final = frozenset((0x4, 0x5, 0x103, _MULTI, _CANCEL, _REPLACE, _QUERY))
"""submit_sm, deliver_sm, data_sm; and what else shows a text or a number."""
_FAULTS: Final = (VaultError, StoreError, SealError, TraceError, OSError)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = subparsers.add_parser(
        "trace",
        description="Show, export and delete traces of a peer's PDUs; `smppd act trace` makes one. Works on the store, with or"
        " without a daemon. Exit status: 0 done, 1 no such trace, or refused, 2 not reachable, 3 another person has to agree.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", description="All traces that are kept.")
    show = actions.add_parser("show", description="One of them: of whom, why, how much; nothing of what is in it.")
    export = actions.add_parser(
        "export",
        description="Write the PDUs of a trace into a file for Wireshark (pcapng). It shows texts and numbers: who looks, and"
        " why, is on the audit trail first. Passwords were blanked before the trace was stored.",
    )
    delete = actions.add_parser("delete", description="Destroy a trace, its key first. One that is on ends.")
    for action in (show, export, delete):
        action.add_argument("id", metavar="ID", type=_number, help="its number, as `smppd trace list` shows it")
    export.add_argument("--out", required=True, type=Path, metavar="F.pcapng", help="the file to write; mode 0600")
    export.add_argument("--force", action="store_true", help="replace the file if it is there")
    export.add_argument("--reason", required=True, choices=REASONS, help="why you look; goes on the audit trail")
    export.add_argument(
        "--note",
        required=True,
        metavar="TEXT",
        help=NOTE,
    )
    delete.add_argument("--reason", required=True, metavar="TEXT", help="why, without personal data; kept for ever")
    for action in (listing, show):
        add_json(action)
    for action in (listing, show, export, delete):
        add_login(action)
        add_config(action)
    parser.set_defaults(run=run)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError("must be the number of a trace")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Runs `trace ACTION`; 0, 1 where there is no such trace or it is refused, 2 without a store, 3 where another person
    has to agree."""
    settings = load_settings(args)
    if args.action == "export" and not args.note.strip():
        raise CommandError("--note is empty: say the reason in words", 2)
    needs = {"export": Act.REVEAL, "delete": Act.RUNTIME}.get(args.action, Act.SEARCH)
    authority = authorise(needs, args, settings)
    try:
        if args.action == "export":
            return _export(settings, args, authority)
        with _opened(settings) as opened:
            action = {"list": _list, "show": _show, "delete": _delete}[args.action]
            return action(opened, args, authority)
    except _FAULTS as error:
        raise CommandError(f"the traces cannot be reached: {error}", 2) from None


class _Opened(NamedTuple):
    settings: Settings
    traces: Traces
    trail: AuditTrail


@contextmanager
def _opened(settings: Settings) -> Iterator[_Opened]:
    kek, install = unlock(settings)
    store = installation(settings)
    with open_traces(store, kek, install) as traces, witnessed_trail(store, install) as trail:
        yield _Opened(settings, traces, trail)


def _found(traces: Traces, number: int, authority: Authority) -> Trace:
    """One that he may see: an account owner those of his accounts alone. CommandError where there is none."""
    trace = traces.get(number)
    if trace is None or not _sees(authority, trace):
        raise CommandError(f"there is no trace {number}")
    return trace


def _sees(authority: Authority, trace: Trace) -> bool:
    return authority.sees(trace.account) if trace.account else authority.accounts is None


# -- list, show, delete ------------------------------------------------------------------------------------------------


def _list(opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    found = [one for one in opened.traces.all() if _sees(authority, one)]
    if args.json:
        print(json.dumps({"traces": [_facts(one, opened.settings) for one in found]}, indent=2))
        return 0
    for one in found:
        pdus = "" if one.pdus is None else f"  {one.pdus} PDUs"
        peer = printable(f"{one.peer} {one.target}")
        print(f"{one.number}  {_iso(one.began)}  {peer}  {one.state(time.time())}{pdus}  {printable(one.reason)}")
    say(f"{len(found)} trace{'s' * (len(found) != 1)}.")
    if authority.accounts is None and (altered := opened.traces.unreadable()):
        say(
            f"These were altered and cannot be read; `smppd trace delete` takes them away: {', '.join(map(str, altered))}."
        )
    return 0


def _show(opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    facts = _facts(_found(opened.traces, args.id, authority), opened.settings)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        if value not in (None, ""):
            print(f"{name:<9}  {printable(str(value))}")
    return 0


def _facts(one: Trace, settings: Settings) -> dict[str, Any]:
    return {
        "trace": one.number,
        one.peer: one.target,
        "state": one.state(time.time()),
        "began": _iso(one.began),
        "ended": _iso(one.ended) if one.ended else None,
        "why": one.why,
        "by": one.who,
        "reason": one.reason,
        "note": one.note,
        "sessions": one.sessions,
        "pdus": one.pdus,
        "octets": one.octets,
        "destroyed": f"{_iso(one.began + settings.traces.retain)} ({format_duration(settings.traces.retain)})",
    }


def _delete(opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    what: dict[str, str | int] = {"action": "deleted", "trace": args.id}
    if authority.accounts is not None or args.id not in opened.traces.unreadable():
        trace = _found(opened.traces, args.id, authority)
        what[trace.peer] = trace.target
    what["reason"] = mask_digits(args.reason)[:200]
    opened.trail.append(
        AuditEvent.TRACE, authority.who, what | authority.facts, "destroyed", source=authority.actor.source
    )
    opened.traces.destroy(args.id)
    print(f"Trace {args.id} is destroyed: nothing of it can be opened any more.")
    return 0


# -- export ------------------------------------------------------------------------------------------------------------


def _export(settings: Settings, args: argparse.Namespace, authority: Authority) -> int:
    kek, install = unlock(settings)
    with (
        Access(settings, authority) as access,
        guarded(),
        open_traces(access.store, kek, install) as traces,
    ):
        trace = _found(traces, args.id, authority)
        with WholeFile(args.out, force=args.force) as file, _whole(trace):
            messages, shown = _people(settings, trace, unpack(traces.blocks(trace.number)))
            what: dict[str, str | int] = {"trace": trace.number, trace.peer: trace.target}
            if messages > ALONE or args.reason == "law":
                what["second"] = approver(authority, args, settings, "trace export", {**what, "reason": args.reason})
            said = {"messages": messages, **what}
            access.record(AuditEvent.REVEAL, Why(args.reason, args.note), said, shown, "exported as pcapng")
            # What came after the look above is not in the file: nobody would know whom it shows.
            entries = unpack(traces.blocks(trace.number))
            count = PcapngWriter(file.text.buffer).write(_first(entries, messages))
            file.commit()
    print(f"{args.out}: {count} PDUs of trace {trace.number}, {messages} of them messages.")
    say("It holds texts and phone numbers as they are: delete it when it has served its purpose.")
    return 0


@contextmanager
def _whole(trace: Trace) -> Iterator[None]:
    """Turns what a broken trace raises into a sentence."""
    try:
        yield
    except ValueError:
        raise TraceError(f"trace {trace.number} has what no trace has, and was not exported") from None


def _first(entries: Iterator[Entry], messages: int) -> Iterator[Entry]:
    """The entries up to that many messages: of a trace that is on, more come while it is read."""
    for entry in entries:
        if _is_message(entry):
            if not messages:
                return
            messages -= 1
        yield entry


def _is_message(entry: Entry) -> bool:
    return entry.kind in (Kind.RECEIVED, Kind.SENT) and int.from_bytes(entry.data[4:8], "big") in _MESSAGES


def _people(settings: Settings, trace: Trace, entries: Iterator[Entry]) -> tuple[int, list[Shown]]:
    """How many messages are in a trace, and whom they show. A trace has no ids of records: its number stands for them."""
    region = region_of(settings, trace.account)
    messages, parties = 0, set()
    for entry in entries:
        if not _is_message(entry):
            continue
        messages += 1
        try:
            every = _parties(entry.data)
        except BodyError:
            continue
        for some in every:
            parties.add(tuple(dict.fromkeys(form_of(one, region) for one in some if one.digits)))
    return messages, [Shown(trace.number, one) for one in sorted(parties)]


def _parties(pdu: bytes) -> list[tuple[Address, ...]]:
    """Whom a PDU shows, those who belong together. BodyError where it is malformed."""
    command = int.from_bytes(pdu[4:8], "big")
    if command == _MULTI:
        return [party for frame in read_multi(pdu).frames for party in _parties(frame)]
    if command == _CANCEL:
        cancel = read_cancel(pdu)
        return [(Address(*cancel.source), Address(*cancel.destination))]
    if command in (_REPLACE, _QUERY):
        return [(Address(*(read_replace if command == _REPLACE else read_query)(pdu).source),)]
    sm = Sm(pdu)
    return [(_address(sm.source_field), _address(sm.destination_field))]


def _address(field: bytes) -> Address:
    return Address(field[0], field[1], field[2:-1])


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
