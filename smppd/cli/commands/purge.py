"""`smppd purge`: destroys what is past its retention now, instead of within the hour as the daemon does.

It works on the files, beside a running daemon too; the daemon drops its own copy of the keys with its next hourly look. What is
over in the spool goes first: the daemon is asked for that, and where none runs it is done here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from contextlib import ExitStack

from rich.console import Console
from rich.progress import Progress

from smppd.audit.trail import Actor, current_actor
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.erasing import eraser_of
from smppd.daemon.consents import expiry
from smppd.daemon.tidying import tidy
from smppd.daemon.traces import each, trace_expiry
from smppd.ids import id_time
from smppd.office.holding import open_holds
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Act
from smppd.records.due import PurgePlan
from smppd.records.keeping import Keeper
from smppd.records.retention import Purged, Purger
from smppd.store.api import StoreError
from smppd.store.opening import installation
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import VaultError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("purge", help="destroy what is past its retention")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be destroyed; needs no login")
    add_login(parser)
    add_json(parser)
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `purge`; 0 when all that was due is destroyed, 1 when old bytes are still in a write-ahead log or
    the spool, 2 without a store."""
    settings = load_settings(args)
    actor = current_actor()
    if not args.dry_run:
        authority = authorise(Act.PURGE, args, settings)
        actor = Actor(authority.who, authority.actor.source)
    retains = {account.system_id: account.kept for account in settings.accounts}
    try:
        store = installation(settings)
        kek, install = unlock(settings)
        keys = ChainKeys(install.audit, install.checkpoint)
        with ExitStack() as undo:
            trail = witnessed_trail(store, install)
            undo.callback(trail.close)
            rows = store.purge()
            undo.callback(rows.close)
            holds = open_holds(settings)
            undo.callback(holds.close)
            records = store.records()
            undo.callback(records.close)
            eraser = eraser_of(settings, kek, install, trail, holds)[0]
            undo.callback(eraser.close)
            purger = Purger(
                rows,
                lambda: retains,
                id_time,
                trail=trail,
                chain_keys=keys,
                actor=actor,
                keeper=Keeper(holds, records, trail=trail, actor=actor),
                erasing=eraser,
                also=each(
                    expiry(store, trail, actor),
                    trace_expiry(store, kek, install, trail, actor, lambda: settings.traces.retain),
                ),
            )
            undo.pop_all()
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(f"nothing can be purged: {error}", 2) from None
    try:
        with trail, purger:
            if args.dry_run:
                return _tell(purger.plan(time.time()), args)
            untidy = tidy(store, kek)
            return _purge(purger, untidy, args)
    except (VaultError, StoreError) as error:
        raise CommandError(f"the purge stopped: {error}; run it again, it goes on") from None


def _tell(plan: PurgePlan, args: argparse.Namespace) -> int:
    counts = Counter((key.account, key.part.value) for key in plan.due)
    if args.json:
        due = [{"account": key.account, "part": key.part.value, "period": key.period.label} for key in plan.due]
        print(
            json.dumps(
                {
                    "due": due,
                    "unknown_accounts": plan.unknown,
                    "rows_to_sweep": bool(plan.spans),
                    "future_keys": plan.future,
                }
            )
        )
        return 0
    for (account, part), count in sorted(counts.items()):
        labels = sorted(key.period.label for key in plan.due if (key.account, key.part.value) == (account, part))
        print(f"{account}  {part}: {count} period keys, {labels[0]} to {labels[-1]}")
    print(
        f"{len(plan.due)} keys would be destroyed{', and log rows swept' if plan.spans else ''}. Nothing was changed."
    )
    _unknown(plan.unknown)
    _future(plan.future)
    return 0


def _purge(purger: Purger, untidy: str, args: argparse.Namespace) -> int:
    if sys.stderr.isatty() and not args.json:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("Purging", total=None)

            def progress(done: Purged) -> None:
                bar.update(
                    task, description=f"Purging: {done.keys} keys, {done.secrets} secrets, {done.records} records"
                )

            done = purger.run(time.time(), progress)
    else:
        done = purger.run(time.time())
    if args.json:
        facts = {"complete": done.complete, "unknown_accounts": done.unknown, "spool": untidy or "done"}
        print(json.dumps(done.counts() | facts | {"future_keys": done.future}))
    else:
        print(
            f"Destroyed {done.keys} period keys and {done.secrets} record secrets; stripped {done.parts} records of what"
            f" they sealed, removed {done.records} records and deleted {done.rows} log rows."
        )
        if done.damaged:
            print(f"Removed {done.damaged} damaged items that were set aside.")
        if done.ended:
            print(f"The time of {done.ended} holds was over; what only they kept is swept too.")
        _unknown(done.unknown)
        _future(done.future)
    if untidy:
        say(f"What is over may still be in the spool: {untidy}. Run it again.")
    if not done.complete:
        say("Old bytes may still be in a write-ahead log, because someone is reading the store: run it again.")
        return 1
    return 1 if untidy else 0


def _future(keys: int) -> None:
    if keys:
        say(
            f"{keys} period keys lie in the future: a clock was ahead when they were made, or this one is behind. What they"
            " seal is kept until that time and its retention have passed."
        )


def _unknown(accounts: list[str]) -> None:
    if accounts:
        say(
            f"Kept, because nothing says for how long: records of {', '.join(accounts)}, no accounts of this configuration."
        )
