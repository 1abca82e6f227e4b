"""`smppd suspensions list|show|add|lift`: whose right to submit is suspended, why, and the end of it.

Works on the store, with or without a daemon; a running one is told. Each change is on the audit trail first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.config import Settings
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.events import AuditEvent
from smppd.office.access import printable
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.store.api import StoreError
from smppd.store.documents import Documents
from smppd.store.installation import SUSPENSIONS
from smppd.store.opening import installation
from smppd.traffic.suspension import KIND, Suspension
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import VaultError
from smppd.vault.mask import mask_digits
from smppd.vault.seal import SealError

_REASON: Final = 200


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = subparsers.add_parser(
        "suspensions",
        description="Show, begin and end suspensions: a suspended account stays bound and gets its receipts, but each message"
        " it submits is refused. Works on the store, with or without a daemon. Exit status: 0 done, 1 not so, 2 not reachable.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", description="All suspensions that stand.")
    show = actions.add_parser(
        "show", description="One of them, with the records of the messages that brought it about."
    )
    add = actions.add_parser("add", description="Suspend an account by hand.")
    lift = actions.add_parser(
        "lift", description="The account may submit again; the audit trail says who did it and why."
    )
    for action in (show, add, lift):
        action.add_argument("account", metavar="ACCOUNT", help="its system_id")
    for action in (add, lift):
        action.add_argument("--reason", required=True, metavar="TEXT", help="why, without personal data; kept for ever")
    for action in (listing, show):
        add_json(action)
    for action in (listing, show, add, lift):
        add_login(action)
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `suspensions ACTION`; 0, 1 where it is not so, 2 without a store."""
    settings = load_settings(args)
    authority = authorise(Act.RUNTIME if args.action in ("add", "lift") else Act.SEARCH, args, settings)
    action = {"list": _list, "show": _show, "add": _add, "lift": _lift}[args.action]
    try:
        with _opened(settings) as opened:
            return action(settings, opened, args, authority)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"the suspensions cannot be reached: {error}", 2) from None


class _Opened(NamedTuple):
    documents: Documents
    sealer: DocumentSealer
    trail: AuditTrail

    def of(self, account: str) -> Suspension | None:
        sealed = self.documents.get(KIND, account)
        return None if sealed is None else self.read(account, sealed)

    def read(self, account: str, sealed: bytes) -> Suspension:
        try:
            return Suspension.of_dict(self.sealer.open(KIND, account, sealed))
        except (SealError, ValueError):
            # It can be lifted all the same.
            return Suspension(account, 0.0, "?", "this suspension was altered and cannot be read")


@contextmanager
def _opened(settings: Settings) -> Iterator[_Opened]:
    store, install = installation(settings), unlock(settings).install
    with closing(store.documents()) as documents, witnessed_trail(store, install) as trail:
        yield _Opened(documents, DocumentSealer(install), trail)


def _list(_settings: Settings, opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    found = [opened.read(name, sealed) for name, sealed in opened.documents.all(KIND) if authority.sees(name)]
    if args.json:
        print(json.dumps({"suspensions": [_facts(one) for one in found]}, indent=2))
        return 0
    for one in found:
        print(f"{one.account}  since {_iso(one.since)}  by {printable(one.by)}  {printable(one.reason)}")
    say(f"{len(found)} account{'s' * (len(found) != 1)} suspended.")
    return 0


def _show(_settings: Settings, opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    one = opened.of(args.account) if authority.sees(args.account) else None
    if one is None:
        say(f"{printable(args.account)} is not suspended.")
        return 1
    facts = _facts(one)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    facts["rules"] = "; ".join(f"{rule} {count}" for rule, count in one.rules)
    facts["records"] = " ".join(facts["records"])
    for name, value in facts.items():
        if value:
            print(f"{name:<8}  {printable(str(value))}")
    if one.records:
        say("`smppd log show ID` shows each of these records.")
    return 0


def _facts(one: Suspension) -> dict[str, Any]:
    return one.as_dict() | {"since": _iso(one.since)}


def _add(settings: Settings, opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    account, reason = args.account, _reason(args)
    if account not in {one.system_id for one in settings.accounts}:
        raise CommandError(f"there is no account {printable(account)}")
    if opened.of(account) is not None:
        say(f"{account} is suspended already.")
        return 1
    _record(opened, authority, {"action": "suspended", "account": account, "reason": reason})
    # It is shown to whoever sees the account, and the trail masks its own copy.
    made = Suspension(account, time.time(), authority.operator or authority.actor.who, mask_digits(reason))
    opened.documents.add(KIND, account, opened.sealer.seal(KIND, account, made.as_dict()))
    print(f"{account} is suspended{_tell(settings)}")
    return 0


def _lift(settings: Settings, opened: _Opened, args: argparse.Namespace, authority: Authority) -> int:
    account, reason = args.account, _reason(args)
    one = opened.of(account)
    if one is None:
        _tell(settings)  # whoever lifted it may not have reached the daemon
        say(f"{printable(account)} is not suspended.")
        return 1
    facts: dict[str, str | int] = {"action": "lifted", "account": account, "reason": reason, "since": _iso(one.since)}
    _record(opened, authority, facts | {"hits": one.hits})
    opened.documents.remove(KIND, account)
    print(f"{printable(account)} may submit again{_tell(settings)}")
    return 0


def _reason(args: argparse.Namespace) -> str:
    reason = " ".join(printable(args.reason).split())
    if not 0 < len(reason) <= _REASON:
        raise CommandError(f"--reason needs 1 to {_REASON} characters", 2)
    return reason


def _record(opened: _Opened, authority: Authority, facts: dict[str, str | int]) -> None:
    try:
        what = facts | authority.facts
        opened.trail.append(AuditEvent.SUSPENSION, authority.who, what, "done", source=authority.actor.source)
    except VaultError as error:
        raise CommandError(f"nothing was done, because it cannot be recorded: {error}") from None


def _tell(settings: Settings) -> str:
    """Tells the daemon that runs; the end of the sentence about it."""
    store = installation(settings)
    try:
        ask(store.directory, {"do": "suspensions read"})
        return "."
    except ControlError as error:
        if not store.in_use():
            store.tell(SUSPENSIONS)
            return ", from the daemon's next start on: none runs."
        raise CommandError(
            f"it is in the store, but the daemon was not told: {error}; run this again, or restart it"
        ) from None


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
