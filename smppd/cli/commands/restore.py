"""`smppd restore --from DIRECTORY`: verifies a backup as a whole and makes it the store, where no daemon runs. Where the store
is a database: what is to be done after its own tools have put an older copy back."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from smppd.audit.trail import current_actor
from smppd.backup.dumps import settle
from smppd.backup.erasures import Replayed
from smppd.backup.manifest import read_manifest
from smppd.backup.restore import Restored, restore
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.commands.backup import OnTheWay, bar, contents, expired, keys_place, sentence
from smppd.config import Settings
from smppd.config.retention import floor
from smppd.daemon.erasing import erase_underway_of
from smppd.ids import id_time
from smppd.office.unlocking import source_kek
from smppd.store.api import StoreError
from smppd.store.opening import embedded, files_of, installation
from smppd.vault.kek import VaultError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    told = "verify a backup and make it the store; on PostgreSQL, after a dump was put back: what is left to do"
    parser = subparsers.add_parser("restore", help=told)
    parser.add_argument("--from", dest="source", metavar="DIRECTORY", type=Path, help="the backup (not with store.url)")
    parser.add_argument(
        "--keys-from", metavar="D", type=Path, help="where the copy of its keys is, or the directory above"
    )
    parser.add_argument(
        "--erasures",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="what was erased since the backup: an erasure journal, or the audit trail as JSON lines; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="move the store that is there aside")
    add_json(parser)
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `restore`; 0 when the store is the backup now, 1 when nothing was changed because something is wrong."""
    settings = load_settings(args)
    try:
        why = installation(settings).closed(daemon=True)
    except StoreError as error:
        raise CommandError(f"nothing was restored: {error}") from None
    if why:  # the mark would close what is restored, too
        raise CommandError(f"nothing was restored: {why}")
    if settings.store.url is not None:
        return _settled(args, settings)
    if args.source is None:
        raise CommandError("restore needs --from DIRECTORY, the backup", 2)
    way = OnTheWay()
    try:
        directory = files_of(settings.store, "smppd restore")
        read_manifest(args.source)
        keys_from = keys_place(args, args.source)
        with bar(args) as progress:
            done = restore(
                args.source,
                keys_from,
                directory,
                source_kek(settings),
                id_time,
                now=time.time(),
                actor=current_actor(),
                force=args.force,
                block=way.block,
                progress=progress,
                erasures=args.erasures,
                replay=lambda place, ids: (
                    erase_underway_of(settings, embedded(place), source_kek(settings), ids).counts
                ),
                floor=lambda account, part, accepted: floor(settings, account, part.value, accepted),
            )
    except (VaultError, StoreError, OSError, ValueError) as error:
        raise CommandError(f"nothing was restored: {error}") from None
    found = contents(done.checked, way)
    if args.json:
        aside = None if done.aside is None else str(done.aside)
        erasures = done.erasures._asdict() | {"known_until": done.known_until, "on_its_way": dict(done.underway)}
        del erasures["held"]
        taken = done.taken_over
        more = {
            "erasures": erasures,
            "opt_outs_taken_over": None if taken is None else taken.opt_outs,
            "withdrawals_taken_over": None if taken is None else taken.withdrawals,
        }
        print(json.dumps({"store": str(directory), "aside": aside, **more, **found}))
    else:
        print(f"Restored {directory} as it was at {found['taken']}: {sentence(found)}")
        print(_erased(done))
        print(_opted_out(done))
    if done.checked.unreadable:
        say(
            f"{done.checked.unreadable} records have lost their secrets though their keys are there: they cannot be read."
        )
    if found["on_the_way"]["messages"]:
        say(
            "Messages on their way may have been sent since then: flagged, they go as `on_unknown` of their account says."
        )
    if done.aside is not None:
        say(
            f"The store that was there is in {done.aside}; it holds its keys: delete it when it is not needed any more."
        )
    expired(done.checked.manifest, time.time())
    return 0


def _settled(args: argparse.Namespace, settings: Settings) -> int:
    if args.source is not None or args.keys_from is not None or args.force:
        raise CommandError(
            "store.url is set: put the dump back with PostgreSQL's own tools (docs/operations.md), then run `smppd restore`"
            " without --from, --keys-from and --force"
        )
    try:
        place = installation(settings)
        kek = source_kek(settings)
        done = settle(
            place,
            kek,
            now=time.time(),
            actor=current_actor(),
            erasures=args.erasures,
            replay=lambda ids: erase_underway_of(settings, place, kek, ids).counts,
            floor=lambda account, part, accepted: floor(settings, account, part.value, accepted),
        )
    except (VaultError, StoreError, OSError, ValueError) as error:
        raise CommandError(f"the store must not be used yet: {error}") from None
    again = done.erasures
    if args.json:
        erasures = again._asdict() | {"known_until": done.known_until, "on_its_way": dict(done.underway)}
        del erasures["held"]
        print(
            json.dumps(
                {
                    "store": place.name,
                    "erasures": erasures,
                    "highest_id": f"{done.highest:016x}",
                    "short_ids_skipped": done.skipped,
                }
            )
        )
        return 0
    print(f"{place.name} may be used: its newest row is {done.highest:016x}.")
    print(_known(done.known_until, again))
    say(
        "Messages on their way may have been sent since then: flagged, they go as `on_unknown` of their account says. Opt-outs"
        " and withdrawals of consents since then are not known: bring them from elsewhere before messages go out."
    )
    return 0


def _opted_out(done: Restored) -> str:
    """What became of opt-outs and withdrawn consents since the backup."""
    taken = done.taken_over
    if taken is None:
        return (
            "Opt-outs and withdrawals of consents since the backup was taken are not known: there was no store here that has"
            " them. Import the newest export (`smppd optout import`), or numbers from elsewhere, and withdraw again, before"
            " messages go out."
        )
    return (
        f"{taken.opt_outs} opt-outs and {taken.withdrawals} withdrawals of consents since the backup were taken over from the"
        " store that was here."
    )


def _erased(done: Restored) -> str:
    """What is known of erasures, and what was done about it."""
    return _known(done.known_until, done.erasures)


def _known(until: str, again: Replayed) -> str:
    if not until:
        return (
            "No erasure journal was found, beside the backup or in the store: if persons were erased since the backup was"
            " taken, they are back. Restore again with --erasures FILE, from a copy of the journal or of the audit trail."
        )
    return (
        f"Erasures are known up to {until}: {again.erasures} were looked at again, {again.records} records and"
        f" {again.others} consents and remembered senders erased again. Later ones need a newer copy of the journal or of the"
        " audit trail (--erasures FILE)."
    )
