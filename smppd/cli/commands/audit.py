"""`smppd audit show|verify`: read the audit trail, and check that nobody edited, cut or reordered it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from smppd.audit.shipping import TARGETS, Cursor, Place, ShippingError, cursor_path
from smppd.audit.trail import AuditTrail, TrailEntry
from smppd.cli.commands import CommandError, add_config, add_json, load_settings
from smppd.config import Settings
from smppd.events import UnknownEvent, matching
from smppd.office.times import Moment, moment_of
from smppd.office.unlocking import unlock
from smppd.records.consistency import Note, cross_faults, note_faults, note_of, read_notes
from smppd.records.shipped import Expected, Half, ShippedLine, ShippedVerdict, check_audit, half_faults, read_shipped
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import installation
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import VaultError

_COPIED_MS = 600_000  # a copy of a collector's file is so old, unless --as-of says otherwise


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("audit", help="show and verify the audit trail")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="list entries; --json exports them as JSON lines")
    show.add_argument("--since", type=moment, default=0, metavar="T", help="ISO date or time (UTC), or an age like 24h")
    show.add_argument("--until", type=moment, default=1 << 62, metavar="T", help="likewise; not included")
    show.add_argument(
        "--event",
        action="append",
        metavar="NAME",
        help="only this event, or all whose name begins so: bind, key, reveal ...; may be repeated; a name that no event has"
        " is an error",
    )
    show.add_argument("--who", help="only this user, also where acting as another, or account")
    show.add_argument(
        "--last", type=_positive, metavar="N", help="only the last N entries (default 100; all with --json)"
    )
    show.add_argument(
        "--heads", action="store_true", help="print one line that notes the store's state now, and no entry"
    )
    verify = actions.add_parser("verify", help="check the whole chain; status 1 if it was tampered with")
    verify.add_argument("--plain", action="store_true", help="without keys: the plain hash chain only")
    verify.add_argument(
        "--expect", type=_expectation, metavar="ID:HASH", help="an entry that must be there (checkpoint)"
    )
    add_notes(verify)
    add_shipped(verify, "entry")
    for action in (show, verify):
        add_json(action)
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `audit ACTION`; 0, or 1 when the trail is not sound. CommandError when it cannot be read."""
    settings = load_settings(args)
    if args.action == "show" and args.since >= args.until:
        raise CommandError("--since is not before --until", 2)
    try:
        return _show(settings, args) if args.action == "show" else _verify(settings, args)
    except (VaultError, StoreError) as error:
        raise CommandError(str(error)) from error


def moment(text: str) -> Moment:
    """An option's time, see `office.times.moment_of`."""
    try:
        return moment_of(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_notes(parser: argparse.ArgumentParser) -> None:
    """Adds `--note` and `--against`."""
    parser.add_argument(
        "--note", action="store_true", help="if all is sound, also print one line to keep on another machine"
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="such lines, noted earlier (`-`: standard input): what they name must still be there",
    )


def add_shipped(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--shipped`, `--from` and `--as-of`. what: what has numbers here."""
    parser.add_argument(
        "--shipped",
        nargs="+",
        metavar="FILE",
        help="what was shipped off this host (`shipping:`), as the file has it or a syslog server wrote it; .gz too, `-`:"
        " standard input: compare both sides",
    )
    parser.add_argument(
        "--from",
        dest="shipped_from",
        type=_positive,
        metavar="N",
        help=f"the {what} that these files begin with, if older ones were given up (default: the first of all)",
    )
    parser.add_argument(
        "--as-of",
        type=moment,
        metavar="T",
        help="when the files were copied; what was shipped before must be in them (default: ten minutes ago)",
    )


def expected(args: argparse.Namespace, directory: Path) -> Expected:
    """What the files of `--shipped` must have."""

    def place(target: str) -> Place | None:
        try:
            return Cursor(cursor_path(directory, target)).load() if target in TARGETS else None
        except ShippingError as error:
            raise CommandError(str(error)) from None

    until = args.as_of if args.as_of is not None else int(time.time() * 1000) - _COPIED_MS
    return Expected(args.shipped_from, until, place)


def compared(
    args: argparse.Namespace, kind: str, check: Callable[[Iterator[ShippedLine]], ShippedVerdict]
) -> ShippedVerdict:
    """Reads the files of `--shipped` and compares them. CommandError with status 2 when one cannot be read."""
    halves: list[Half] = []
    try:
        verdict = check(read_shipped(args.shipped, kind, halves))
    except (OSError, EOFError, zlib.error) as error:
        where = getattr(error, "filename", None) or " ".join(args.shipped)
        raise CommandError(f"{where}: {getattr(error, 'strerror', None) or error}", 2) from None
    faults, remarks = half_faults(halves, kind, verdict.numbers)
    return verdict._replace(faults=[*faults, *verdict.faults], remarks=[*remarks, *verdict.remarks])


def say_shipped(verdict: ShippedVerdict, what: str) -> None:
    """Prints what was found in the files of `--shipped`, where all of it is sound."""
    print(
        f"What was shipped agrees with it: {what} {min(verdict.numbers)} to {max(verdict.numbers)} in {verdict.lines} lines."
    )
    for remark in verdict.remarks:
        print(f"Note: {remark}.")


def noted(args: argparse.Namespace) -> list[Note]:
    """The notes of `--against`. CommandError with status 2 when they cannot be read."""
    if args.against is None:
        return []
    try:
        text = sys.stdin.read() if args.against == "-" else Path(args.against).read_text()
        return read_notes(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"{args.against}: {getattr(error, 'strerror', None) or error}", 2) from None


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


def _expectation(text: str) -> tuple[int, bytes]:
    match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
    if not match:
        raise argparse.ArgumentTypeError("must be ID:HASH with 64 hexadecimal digits")
    return int(match[1]), bytes.fromhex(match[2])


def _trail(settings: Settings, key: bytes | None) -> AuditTrail:
    path = settings.store.directory / AUDIT_FILE
    if not path.exists():
        raise VaultError(f"{path}: there is no audit trail yet: run `smppd keys init`")
    return AuditTrail(path, key)


def _show(settings: Settings, args: argparse.Namespace) -> int:
    with _trail(settings, None) as trail:
        if args.heads:
            with closing(installation(settings).states()) as states:
                print(note_of(states, trail, time.time()).line())
            return 0
        events = _events(args.event, trail)
        found = trail.entries(since_ms=args.since, until_ms=args.until, events=events, who=args.who)
        limit = args.last if args.last is not None else (None if args.json else 100)
        chosen = found if limit is None else deque(found, maxlen=max(0, limit))
        count = 0
        for entry in chosen:
            print(entry.as_json() if args.json else _line(entry))
            count += 1
    if not args.json:
        print(f"{count} entries.")
    return 0


def _events(asked: list[str] | None, trail: AuditTrail) -> frozenset[str] | None:
    if asked is None:
        return None
    try:
        also = trail.events()
        return frozenset().union(*(matching(name, also) for name in asked))
    except UnknownEvent as error:
        raise CommandError(str(error), 2) from None


def _line(entry: TrailEntry) -> str:
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    facts = " ".join(f"{key}={value}" for key, value in entry.what.items())
    origin = f" from {entry.source}" if entry.source else ""
    return f"{entry.id:>6}  {at}  {entry.event}  {entry.who}{origin}  {facts}  {entry.result}"


def _verify(settings: Settings, args: argparse.Namespace) -> int:
    store, against = installation(settings), noted(args)
    install = None
    if not args.plain:
        install = unlock(settings).install
    with (
        _trail(settings, None if install is None else install.audit) as trail,
        closing(store.states()) as states,
    ):
        faults = note_faults(states, trail, against)
        keys = None if install is None else ChainKeys(install.audit, install.checkpoint)
        if keys is not None:
            faults += cross_faults(states, keys, trail)
        shipped = None
        if args.shipped:
            shipped = compared(
                args,
                "audit",
                lambda lines: check_audit(
                    lines, trail, keys, None if install is None else install.audit, expected(args, store.directory)
                ),
            )
            faults += shipped.faults
        verdict = trail.verify(args.expect)
        number, digest = trail.head()
        note = note_of(states, trail, time.time()).line()
    if not verdict.ok:
        faults.insert(0, verdict.reason)
    ok, reason = not faults, faults[0] if faults else verdict.reason
    if args.json:
        facts = verdict._asdict() | {"ok": ok, "reason": reason, "faults": faults, "head": f"{number}:{digest.hex()}"}
        said = {} if shipped is None else {"shipped": shipped.as_json()}
        print(json.dumps(facts | {"note": note, "compared": len(against)} | said))
        return 0 if ok else 1
    if ok:
        plain = "" if verdict.keyed else " (plain chain only, nothing held against the rest of the store)"
        print(f"The audit trail is sound: {reason}{plain}.")
        print(f"Head {number}:{digest.hex()}")
        if against:
            print(f"What was noted is there ({len(against)} notes).")
        if shipped is not None:
            say_shipped(shipped, "entries")
    else:
        print(f"The audit trail is NOT sound: {reason} ({verdict.entries} good entries).", file=sys.stderr)
        for fault in faults[1:]:
            print(f"Also: {fault}.", file=sys.stderr)
    if args.note and ok:
        print(note)
    return 0 if ok else 1
