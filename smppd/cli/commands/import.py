"""`smppd import`: the configuration of another gateway, made into one of ours.

What cannot be carried over is told line by line. The result is checked as `smppd check` does it before the command ends.
Passwords of carriers go to files of their own, mode 0600; passwords of customers are hashed; neither is shown.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from smppd import passwords
from smppd.cli.commands import CommandError, add_json, say
from smppd.cli.commands.check import deeper
from smppd.config import ConfigError, Fault, faults_at, load
from smppd.durable import replace_file
from smppd.migration import Draft, MigrationError, Source, read_jasmin, read_kannel, yaml_text
from smppd.migration.draft import MAX_OCTETS

_MAX_FILES: Final = 100


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "import",
        description="Make a configuration out of that of another gateway. What cannot be carried over is told line by"
        " line, and stands at the end of the new file too. Exit status: 0 when the result is a configuration without mistakes,"
        " 1 when it has some (they are told), 2 when a file cannot be read or is there already.",
    )
    actions = parser.add_subparsers(dest="gateway", metavar="GATEWAY", required=True)
    kannel = actions.add_parser(
        "kannel",
        help="Kannel: kannel.conf, and the users of its opensmppbox",
        description="Kannel: its SMSCs of SMPP become upstreams with routes, its sendsms-users and the users of opensmppbox"
        " accounts. Files that `include` names are given here too.",
    )
    kannel.add_argument("files", metavar="FILE", nargs="+", type=Path, help="kannel.conf and what it includes")
    kannel.add_argument(
        "--logins",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="the users of opensmppbox (smpp-logins)",
    )
    jasmin = actions.add_parser(
        "jasmin",
        help="Jasmin: jasmin.cfg, its store, what was typed at its console",
        description="Jasmin: its connectors become upstreams, its users accounts, its routes routes. Files of any kind"
        " together: jasmin.cfg; the files of its store (jcli-prod.*), which are read as data and never unpickled; text with"
        " commands of its console. Its store has digests of the users' passwords only: each needs a new one.",
    )
    jasmin.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="jasmin.cfg, jcli-prod.*, commands of the console"
    )
    for one in (kannel, jasmin):
        one.add_argument(
            "--out",
            metavar="FILE",
            type=Path,
            help="write the configuration there, and the secrets beside it; default: print it",
        )
        add_json(one)


def run(args: argparse.Namespace) -> int:
    """Reads, converts, writes or prints, and checks."""
    logins: Sequence[Path] = args.logins if args.gateway == "kannel" else ()
    if len(args.files) + len(logins) > _MAX_FILES:
        raise CommandError(f"more than {_MAX_FILES} files", status=2)
    try:
        sources = [_read(path) for path in args.files]
        if args.gateway == "kannel":
            draft = read_kannel(sources, [_read(path) for path in logins], _hashed)
        else:
            draft = read_jasmin(sources, _hashed)
    except MigrationError as error:
        raise CommandError(str(error), status=2) from None
    head = [
        f"Written by `smppd import {args.gateway}` on {dt.datetime.now(dt.UTC):%Y-%m-%d}.",
        "Read it through, give the listeners TLS, then: smppd check, smppd keys init, smppd run (docs/operations.md).",
    ]
    text = yaml_text(draft.settings(), head, draft.left)
    if args.out is not None:
        _write(args.out, text, draft)
        faults = _faults(args.out)
    else:
        faults = _faults_of(text, draft)
    _tell(args, text, draft, faults)
    return 1 if faults else 0


def _read(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", status=2) from None
    return Source(str(path), content)


def _hashed(password: str | None) -> str:
    return passwords.hashed(secrets.token_urlsafe(32) if password is None else password, os.urandom(16))


# -- what is written ------------------------------------------------------------------------------------------------


def _write(out: Path, text: str, draft: Draft) -> None:
    """The secrets, then the configuration: it never names one that is not there. Nothing that is there is replaced."""
    files = {out.parent / name: value for name, value in draft.secrets.items()}
    there = [path for path in (out, *files) if path.exists() or path.is_symlink()]
    if there:
        where = "another file" if there[0] == out else "a file in another directory"
        raise CommandError(f"{there[0]} is there already: name {where} with --out", status=2)
    try:
        for path, value in files.items():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, f"{value}\n".encode())
        replace_file(out, text.encode())
        out.chmod(0o644)  # it holds no secret, and the daemon runs as another user
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror}", status=2) from None


def _faults(path: Path) -> list[Fault]:
    try:
        return sorted(faults_at(path, deeper(load(path), dt.datetime.now(dt.UTC))))
    except ConfigError as error:
        return error.faults


def _faults_of(text: str, draft: Draft) -> list[Fault]:
    """The faults of a configuration that is only printed: tried in a directory of its own, where the files that it names stand
    without what is in them."""
    with tempfile.TemporaryDirectory() as name:
        for secret in draft.secrets:
            path = Path(name) / secret
            path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, b"not here\n")
        path = Path(name) / "smppd.yaml"
        replace_file(path, text.encode())
        return [
            Fault("smppd.yaml", one.line, one.column, one.path, one.message.replace(f"{name}/", ""))
            for one in _faults(path)
        ]


# -- what is told ---------------------------------------------------------------------------------------------------


def _tell(args: argparse.Namespace, text: str, draft: Draft, faults: list[Fault]) -> None:
    sections = ("listeners", "accounts", "upstreams", "routes")
    settings = draft.settings()
    counts = {name: len(settings.get(name, ())) for name in sections}
    left = len(draft.left) + draft.more_left
    if args.json:
        found: dict[str, Any] = {
            "file": None if args.out is None else str(args.out),
            **counts,
            "secrets": sorted(draft.secrets),
            "left": [{"file": one.place.file, "line": one.place.line or None, "what": one.what} for one in draft.left],
            "more_left": draft.more_left,
            "faults": [str(fault) for fault in faults],
        }
        if args.out is None:
            found["configuration"] = settings
        print(json.dumps(found, indent=2))
        return
    for one in draft.left:
        say(str(one))
    if draft.more_left:
        say(f"... and {draft.more_left} more")
    for fault in faults:
        say(str(fault))
    if args.out is None:
        print(text, end="")
        for name in sorted(draft.secrets):
            say(f"{name}: put the password there, mode 0600 (with --out this command does it)")
    said = ", ".join(f"{number} {name if number != 1 else name.removesuffix('s')}" for name, number in counts.items())
    state = "`smppd check` finds no mistake" if not faults else f"`smppd check` finds {len(faults)} mistakes"
    where = f"{args.out}: " if args.out is not None else ""
    say(f"{where}{said}; {left} things were not carried over, or not as they were; {state}")
