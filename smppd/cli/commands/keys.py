"""`smppd keys init|rotate|list|shred`: create, re-wrap, list and destroy the keys of an installation. No key byte is ever
printed. Whether the KEK is the right one is looked at before anything is opened to be written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from smppd.audit.trail import AuditTrail, current_actor
from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings
from smppd.config import Settings
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.events import AuditEvent
from smppd.office.unlocking import existing_keys, open_trail, refuse_shredded, unlock, witnessed_trail
from smppd.operators.roles import Act, Authority
from smppd.store.api import StoreError
from smppd.store.installation import Installation, StoredKeys
from smppd.store.opening import installation
from smppd.vault.kek import (
    MARK_SCOPE,
    Kek,
    KekWrong,
    VaultError,
    add_kek_version,
    blob_info,
    create_kek,
    load_kek,
    retire_kek_versions,
)
from smppd.vault.keys import create_install, missing_secrets, remember_kek, rewrap_all


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("keys", help="create, rotate, list and destroy keys")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", help="create the key-encryption key (if it is a file) and the key store")
    rotate = actions.add_parser("rotate", help="wrap all keys under a new version of the key-encryption key")
    rotate.add_argument(
        "--retire",
        action="store_true",
        help="drop the old versions from the key file; restart the daemon, or send it SIGHUP, before",
    )
    listing = actions.add_parser("list", help="list keys by scope: version, age, never the key")
    add_json(listing)
    shred = actions.add_parser(
        "shred", help="destroy the installation: its keys, then its files, with a certificate (not with store.url)"
    )
    shred.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the certificate and a copy of the audit trail go; outside of the store",
    )
    shred.add_argument("--yes", action="store_true", help="do not ask for the installation's fingerprint")
    shred.add_argument("--keep-data", action="store_true", help="keep data.db and audit.db, which nobody can open then")
    shred.add_argument("--despite-holds", action="store_true", help="though records are held; two people have to agree")
    for action in (init, rotate, shred):
        add_login(action)
    for action in (init, rotate, listing, shred):
        add_config(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `keys ACTION`; 0 when it did what was asked or had nothing to do. CommandError otherwise."""
    settings = load_settings(args)
    if args.action == "shred":
        from smppd.cli.shredding import shred  # seldom needed

        action: Callable[[Settings, argparse.Namespace], int] = shred
    else:
        action = {"init": _init, "rotate": _rotate, "list": _list}[args.action]
    try:
        return action(settings, args)
    except (VaultError, StoreError, OSError) as error:
        raise CommandError(str(error)) from error


def _init(settings: Settings, args: argparse.Namespace) -> int:
    store = installation(settings)
    file = settings.keys.path
    if lost := store.keys_lost():
        raise VaultError(lost)
    refuse_shredded(store)
    there = store.has_keys()
    done = []
    if there:
        rows = store.read_only_keys()
        try:
            there = any(rows.scan(b"install/"))
            if any(rows.scan(b"")) and file is not None and not file.exists():
                raise VaultError(
                    f"the KEK is lost: {file} is missing, but {store.keys_name} holds keys that it wraps: restore it"
                )
        finally:
            rows.close()
    if file is not None and not file.exists():
        create_kek(file)
        done.append(f"created the key-encryption key {file} (back it up apart from the store)")
    kek = load_kek(settings.keys)
    whole = False
    if there:
        rows = store.read_only_keys()
        try:
            _right(kek, rows)
            whole = not missing_secrets(rows)
        finally:
            rows.close()
    # Over an existing store it is a key action like others, where there is something to do; before, nobody can log in.
    authority = authorise(Act.KEYS, args, settings) if there and not whole else Authority(current_actor())
    store.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = store.keys()
    try:
        made = create_install(kek, rows)
        if made:
            done.append(f"created {len(made)} keys of the installation in {store.keys_name}")
        remember_kek(kek, rows)
        with open_trail(store, kek, rows) as trail:
            if done:
                facts: dict[str, str | int] = {"kek_version": kek.current, "created": ", ".join(made) or "none"}
                _record(trail, authority, "init", facts, "done")
    finally:
        rows.close()
    for sentence in done:
        print(sentence[0].upper() + sentence[1:] + ".")
    if not done:
        print("Already initialised: nothing changed.")
    return 0


def _right(kek: Kek, rows: StoredKeys) -> None:
    """VaultError unless the KEK opens what there is of the installation's secrets: an interrupted init may lack some."""
    mark = rows.get(MARK_SCOPE)
    if mark is not None:
        kek.check_mark(mark)
    try:
        for scope, blob in rows.scan(b"install/"):
            kek.unwrap(scope, blob)
    except VaultError as error:
        raise KekWrong(f"the KEK is wrong: it does not open this installation's keys: {error}") from None


def _rotate(settings: Settings, args: argparse.Namespace) -> int:
    store = installation(settings)
    file = settings.keys.path
    kek, install = unlock(settings)
    authority = authorise(Act.KEYS, args, settings)
    rows = existing_keys(store)
    try:
        remember_kek(kek, rows)
        with witnessed_trail(store, install) as trail:
            behind = sum(blob_info(blob).kek_version != kek.current for _, blob in rows.scan(b""))
            if args.retire:
                with _nobody_wraps_under_less_than(kek.current, store):
                    return _retire(file, kek, rows, trail, authority, behind)
            if file is not None and not behind:
                add_kek_version(file)
                kek = load_kek(settings.keys)
            # With `behind`, an earlier rotation did not end, or its source is not a file: just bring all up to date.
            with _bar() as progress:
                count = rewrap_all(kek, rows, progress)
            _record(trail, authority, "rotate", {"kek_version": kek.current, "rewrapped": count}, "done")
    finally:
        rows.close()
    if not count:
        print(f"All keys are wrapped by version {kek.current} already: add a newer version where the key comes from.")
        return 0
    print(f"Wrapped {count} keys under version {kek.current} of the key-encryption key.")
    if len(kek.versions()) > 1:
        print("Restart the daemon or send it SIGHUP; `smppd keys rotate --retire` then drops the old versions.")
    return 0


@contextmanager
def _bar() -> Iterator[Callable[[int, int], object]]:
    """A bar on standard error when a person is there to see it."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Wrapping keys", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def _nobody_wraps_under_less_than(version: int, store: Installation) -> Iterator[None]:
    """Keeps a daemon from starting meanwhile, or asks the one that runs. A daemon that has not read the newest version goes on
    wrapping under its own: what it seals after that version was dropped could never be opened again. VaultError then."""
    if not store.was_used():
        yield  # no daemon was ever started here; a lock made by root would keep the daemon's user out
        return
    try:
        lock = store.lock()
    except StoreError:
        try:
            theirs = ask(store.directory, {"do": "keys kek"}).get("version")
        except ControlError as error:
            raise VaultError(
                f"nothing was dropped: which version the running daemon uses is not known: {error}"
            ) from None
        if theirs != version:
            raise VaultError(
                f"nothing was dropped: the running daemon still wraps keys under version {theirs}: restart it, or send it"
                " SIGHUP, and run this again"
            ) from None
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _retire(file: Path | None, kek: Kek, rows: StoredKeys, trail: AuditTrail, authority: Authority, behind: int) -> int:
    if file is None:
        raise VaultError("old versions can only be dropped from a key file: remove them where the key comes from")
    if behind:
        count = rewrap_all(kek, rows)
        _record(trail, authority, "retire", {"kek_version": kek.current, "rewrapped": count}, "refused")
        raise VaultError(
            f"{count} keys were still wrapped by an old version, so the daemon may be using it; they are re-wrapped now: "
            "restart the daemon and run this again"
        )
    dropped = retire_kek_versions(file)
    facts: dict[str, str | int] = {"kek_version": kek.current, "dropped": ", ".join(map(str, dropped)) or "none"}
    _record(trail, authority, "retire", facts, "done")
    print(f"Dropped {len(dropped)} old versions of the key-encryption key; backups older than this need them.")
    return 0


def _record(trail: AuditTrail, authority: Authority, action: str, what: dict[str, str | int], result: str) -> None:
    trail.append(AuditEvent.KEY, authority.who, {"action": action, **what}, result, source=authority.actor.source)


def _list(settings: Settings, args: argparse.Namespace) -> int:
    kek = unlock(settings).kek
    rows = installation(settings).read_only_keys()
    try:
        listed = []
        for scope, blob in rows.scan(b""):
            if scope == MARK_SCOPE:
                continue  # no key: it says which KEK these belong to
            info = blob_info(blob)
            created = datetime.fromtimestamp(info.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            listed.append({"scope": scope.decode("ascii"), "kek_version": info.kek_version, "created": created})
    finally:
        rows.close()
    versions = [
        {"version": number, "created": created, "fingerprint": kek.fingerprint(number)}
        for number, created in kek.versions()
    ]
    if args.json:
        print(json.dumps({"kek": versions, "keys": listed}))
        return 0
    for version in versions:
        print(f"kek version {version['version']}  created {version['created']}  fingerprint {version['fingerprint']}")
    width = max((len(str(row["scope"])) for row in listed), default=0)
    for row in listed:
        print(f"{row['scope']:{width}}  kek version {row['kek_version']}  created {row['created']}")
    print(f"{len(listed)} keys.")
    return 0
