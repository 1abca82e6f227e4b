"""`smppd audit show|verify`: read the audit trail, and check that nobody edited, cut or reordered it."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import time
from collections import deque
from datetime import UTC, datetime

from smppd.admin.commands import CommandError, add_config, add_json, load_settings
from smppd.admin.commands.keys import AUDIT_FILE, existing_store, store_directory
from smppd.config import Settings
from smppd.store.files import StoreError
from smppd.vault.audit import AuditTrail, Entry
from smppd.vault.kek import VaultError, load_kek
from smppd.vault.keys import load_install

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("audit", help="show and verify the audit trail")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="list entries; --json exports them as JSON lines")
    show.add_argument("--since", type=moment, default=0, metavar="T", help="ISO date or time (UTC), or an age like 24h")
    show.add_argument("--until", type=moment, default=1 << 62, metavar="T", help="likewise; not included")
    show.add_argument("--event", help="only this event, for example: key, bind, reveal")
    show.add_argument("--who", help="only this user or account")
    show.add_argument("--last", type=int, metavar="N", help="only the last N entries (default 100; all with --json)")
    verify = actions.add_parser("verify", help="check the whole chain; status 1 if it was tampered with")
    verify.add_argument("--plain", action="store_true", help="without keys: the plain hash chain only")
    verify.add_argument(
        "--expect", type=_expectation, metavar="ID:HASH", help="an entry that must be there (checkpoint)"
    )
    for action in (show, verify):
        add_json(action)
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `audit ACTION`; 0, or 1 when the trail is not sound. CommandError when it cannot be read."""
    settings = load_settings(args)
    try:
        return _show(settings, args) if args.action == "show" else _verify(settings, args)
    except (VaultError, StoreError, sqlite3.Error) as error:
        raise CommandError(str(error)) from error


def moment(text: str) -> int:
    """Epoch milliseconds of an ISO 8601 date or time (UTC unless it says otherwise) or of an age such as `24h`."""
    age = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if age:
        return int((time.time() - int(age[1]) * _UNITS[age[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not an ISO date or time, nor an age like 24h") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _expectation(text: str) -> tuple[int, bytes]:
    match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
    if not match:
        raise argparse.ArgumentTypeError("must be ID:HASH with 64 hexadecimal digits")
    return int(match[1]), bytes.fromhex(match[2])


def _trail(settings: Settings, key: bytes | None) -> AuditTrail:
    path = store_directory(settings) / AUDIT_FILE
    if not path.exists():
        raise VaultError(f"{path}: there is no audit trail yet: run `smppd keys init`")
    return AuditTrail(path, key)


def _show(settings: Settings, args: argparse.Namespace) -> int:
    with _trail(settings, None) as trail:
        found = trail.entries(since_ms=args.since, until_ms=args.until, event=args.event, who=args.who)
        limit = args.last if args.last is not None else (None if args.json else 100)
        chosen = found if limit is None else deque(found, maxlen=max(0, limit))
        count = 0
        for entry in chosen:
            print(entry.as_json() if args.json else _line(entry))
            count += 1
    if not args.json:
        print(f"{count} entries.")
    return 0


def _line(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    facts = " ".join(f"{key}={value}" for key, value in entry.what.items())
    origin = f" from {entry.source}" if entry.source else ""
    return f"{entry.id:>6}  {at}  {entry.event}  {entry.who}{origin}  {facts}  {entry.result}"


def _verify(settings: Settings, args: argparse.Namespace) -> int:
    key = None
    if not args.plain:
        rows = existing_store(store_directory(settings))
        try:
            key = load_install(load_kek(settings.keys), rows).audit
        finally:
            rows.close()
    with _trail(settings, key) as trail:
        verdict = trail.verify(args.expect)
        number, digest = trail.head()
    if args.json:
        print(json.dumps(verdict._asdict() | {"head": f"{number}:{digest.hex()}"}))
    elif verdict.ok:
        print(f"The audit trail is sound: {verdict.reason}{'' if verdict.keyed else ' (plain chain only)'}.")
        print(f"Head {number}:{digest.hex()}")
    else:
        print(f"The audit trail is NOT sound: {verdict.reason} ({verdict.entries} good entries).", file=sys.stderr)
    return 0 if verdict.ok else 1
