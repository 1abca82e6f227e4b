"""`smppd keys shred`: destroys an installation for good, keys first, and certifies it.

The order is what makes it safe to be killed at any moment: the trail and a signed certificate say what will be destroyed; a
marker in the store says that it has begun, from where no daemon and no other command uses the store any more and running it
again goes on; then the KEK, keys.db and the other files go; then a second certificate says what was done. The signing key of
the installation is gone by then, so the marker holds a key made for this alone, which the first certificate names.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.progress import Progress

from smppd import __version__
from smppd.audit.trail import AuditTrail
from smppd.cli.authority import approver, authorise
from smppd.cli.commands import CommandError, say
from smppd.config import Settings
from smppd.durable import replace_file, sync_directory
from smppd.events import AuditEvent
from smppd.office.unlocking import unlock, witnessed_trail
from smppd.operators.roles import Act
from smppd.records.erasure_journal import NAME as JOURNAL
from smppd.records.holds import HoldState
from smppd.store.installation import AUDIT_FILE
from smppd.store.lock import Lock
from smppd.store.opening import embedded, files_of
from smppd.store.sqlite.files import SHREDDING
from smppd.vault.certificate import PUBLIC_KEY, VERIFY, certify, fingerprint, write
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import MARK_SCOPE, VaultError
from smppd.vault.keys import InstallSecrets

BEGUN: Final = "shred-begun"
ENDED: Final = "shred-ended"
TRAIL: Final = "audit.jsonl"
"""The copy of the audit trail beside the certificates."""
ENDED_KEY: Final = "shred-ended.pem"
"""The public key that verifies the second certificate; the first one names it."""
HOLD: Final = "hold"
"""Kind of the documents that are holds."""

_DATA: Final = ("data.db", AUDIT_FILE)
_KEYS: Final = "keys.db"
_JOURNAL: Final = "journal-" + "[0-9a-f]" * 8
_BESIDE: Final = (
    JOURNAL,
    "shipping-*.json",
    "feed-file.json",
    "feed.lock",
    _JOURNAL,
    "lists/*",
    "traces/*",
)  # who was erased, how far the trail was shipped, messages on their way, compiled lists, traces of PDUs
_ENDINGS: Final = ("-wal", "-shm", "-journal", ".new", "")
_ASIDE: Final = "before-restore-"
_STAGING: Final = ".restore"
_PIECE: Final = 1 << 20
_LIMITS: Final = (
    "What makes the data unreadable is that its keys are gone: nothing that was sealed opens without them, wherever a copy"
    " of it lies. Files were overwritten once before they were deleted. On SSDs, on file systems that copy on write (btrfs,"
    " ZFS, overlay) or keep a journal of data, and on disks with snapshots, the blocks that were there before may remain; the"
    " same holds for the file of the key-encryption key. Destroy its other copies too, and those of keys.db"
    " (`backup --keys-to`): as long as one of each exists, a backup can be opened."
)


def shred(settings: Settings, args: argparse.Namespace) -> int:
    """Runs `keys shred`: 0 when everything is destroyed, also if an earlier call had begun. CommandError, VaultError and
    OSError; what was begun then goes on with the next call."""
    directory = files_of(settings.store, "smppd keys shred")
    out: Path = args.out.resolve()
    if out == directory.resolve() or directory.resolve() in out.parents:
        raise CommandError(f"{out}: the certificate does not go into the store that is destroyed", 2)
    if not directory.is_dir():
        raise CommandError(f"{directory}: there is no store here", 2)
    lock = Lock(directory)  # before anything else: a daemon that runs has keys in memory and would go on sealing
    try:
        marker = directory / SHREDDING
        if not marker.exists():
            _begin(settings, args, directory, out, marker)
        return _go_on(directory, marker)
    finally:
        lock.release()


# -- before ------------------------------------------------------------------------------------------------------------


def _begin(settings: Settings, args: argparse.Namespace, directory: Path, out: Path, marker: Path) -> None:
    kek, install = unlock(settings)
    authority = authorise(Act.KEYS, args, settings)
    held = _holds(directory, install)
    name = fingerprint(install.checkpoint.public_key())[:16]
    if held and not args.despite_holds:
        raise CommandError(
            f"nothing was destroyed: holds keep records here ({', '.join(held)}): release them, or --despite-holds, to which"
            " two people have to agree"
        )
    what: dict[str, str | int] = {"installation": name, "keep_data": str(args.keep_data), "holds": ", ".join(held)}
    second = approver(authority, args, settings, "keys shred", what)
    if held and not second:
        raise CommandError(
            "nothing was destroyed: where records are held two people have to agree, so log in with --operator"
        )
    if not args.yes:
        _ask(name, directory)
    source = _source(settings)
    own_kek = settings.keys.path
    last = Ed25519PrivateKey.generate()
    with witnessed_trail(embedded(directory), install) as trail:
        entry = {"action": "shred", **what, "second": second or "none", "out": str(out), **authority.facts}
        trail.append(AuditEvent.KEY, authority.who, entry, "begun", source=authority.actor.source)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest, entries = _copy_trail(trail, out / TRAIL)
        number, head = trail.head()
    facts: dict[str, object] = {
        "certificate": "disposal of an smppd installation, begun",
        "installation": name,
        "store": str(directory),
        "begun": _now(),
        "by": authority.who,
        "second": second or None,
        "despite_holds": held,
        "smppd": __version__,
        "kek": {"source": source, "versions": [each for each, _ in kek.versions()], "fingerprint": kek.fingerprint()},
        "keys": _keys(directory),
        "files": [
            {"name": str(path.relative_to(directory)), "octets": path.stat().st_size}
            for path in _doomed(directory, keep_data=False)
        ],
        "keep_data": bool(args.keep_data),
        "trail": {"copy": TRAIL, "sha256": digest, "entries": entries, "head": f"{number}:{head.hex()}"},
        "ended_key_sha256": fingerprint(last.public_key()),
        "limits": _LIMITS,
    }
    write(out, BEGUN, certify(facts, install.checkpoint))
    state = {
        "out": str(out),
        "installation": name,
        "begun": facts["begun"],
        "by": authority.who,
        "second": second or None,
        "keep_data": bool(args.keep_data),
        "kek": None if own_kek is None else str(own_kek),
        "source": source,
        "holds": held,
        "key": last.private_bytes_raw().hex(),
    }
    replace_file(marker, json.dumps(state).encode())


def _holds(directory: Path, install: InstallSecrets) -> list[str]:
    """The names of the holds that are in force, or not known to have ended."""
    documents, sealer = embedded(directory).documents(), DocumentSealer(install)
    try:
        found = documents.all(HOLD)
    finally:
        documents.close()
    names = []
    for name, sealed in found:
        try:
            value = sealer.open(HOLD, name, sealed)
        except VaultError:
            value = {}  # altered: for what it says nobody can vouch, so it holds
        if not (isinstance(value, dict) and value.get("state") in (HoldState.RELEASED, HoldState.EXPIRED)):
            names.append(name)
    return names


def _ask(name: str, directory: Path) -> None:
    if not sys.stdin.isatty():
        raise CommandError("nobody can be asked here: --yes destroys without asking", 2)
    say(f"Everything in {directory} will be unreadable for ever. Type the fingerprint of the installation, {name}:")
    if sys.stdin.readline().strip().lower() != name:
        raise CommandError("nothing was destroyed: that is not its fingerprint")


def _source(settings: Settings) -> str:
    keys = settings.keys
    if keys.path is not None:
        return f"file {keys.path}"
    if keys.credential is not None:
        return f"systemd credential {keys.credential}"
    return f"command {keys.command[0] if keys.command else ''}"


def _keys(directory: Path) -> dict[str, int]:
    """How many keys there are of each kind."""
    rows = embedded(directory).read_only_keys()
    try:
        counts: dict[str, int] = {}
        for scope, _ in rows.scan(b""):
            if scope == MARK_SCOPE:
                continue
            kind = scope.partition(b"/")[0].decode("ascii", "replace")
            counts[kind] = counts.get(kind, 0) + 1
        return counts
    finally:
        rows.close()


def _copy_trail(trail: AuditTrail, path: Path) -> tuple[str, int]:
    """Writes the trail as JSON lines; (SHA-256 of the file, entries)."""
    state, count = sha256(), 0
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        for entry in trail.entries():
            line = entry.as_json().encode() + b"\n"
            state.update(line)
            file.write(line)
            count += 1
        file.flush()
        os.fsync(handle)
    return state.hexdigest(), count


# -- doing it ----------------------------------------------------------------------------------------------------------


def _go_on(directory: Path, marker: Path) -> int:
    """Destroys what is left. Everything in here may be done twice."""
    try:
        state: dict[str, Any] = json.loads(marker.read_bytes())
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(state["key"]))
    except (ValueError, KeyError, TypeError):
        if not _doomed(directory, keep_data=True):  # killed while it overwrote the marker, the last thing it does
            marker.unlink()
            sync_directory(directory)
            print(
                "An earlier call has destroyed the installation; its certificates are where it was told to write them."
            )
            return 0
        raise VaultError(f"{marker}: it was altered; delete the store's files and its KEK by hand") from None
    out, kek = Path(state["out"]), state["kek"]
    doomed = _doomed(directory, keep_data=bool(state["keep_data"]))
    octets = sum(path.stat().st_size for path in doomed)
    with _bar(octets) as wiped:
        trouble = "" if kek is None else _wipe_kek(Path(kek))
        for path in doomed:
            _wipe(path, wiped)
    for aside in (*directory.glob(_ASIDE + "*"), directory / "lists", directory / "traces"):
        _remove_empty(aside)
    _remove_empty(directory / _STAGING)
    left = sorted(
        path.name for path in directory.iterdir() if path.name not in (SHREDDING, "lock") and not path.is_socket()
    )
    facts: dict[str, object] = {
        "certificate": "disposal of an smppd installation, ended",
        "installation": state["installation"],
        "store": str(directory),
        "begun": state["begun"],
        "ended": _now(),
        "by": state["by"],
        "second": state["second"],
        "kek": {
            "source": state["source"],
            "destroyed": kek is not None and not trouble,
            "to_do": _to_do(state["source"], trouble) if kek is None or trouble else None,
        },
        "keys_destroyed": True,
        "data_kept": bool(state["keep_data"]),
        "left": left,
        "limits": _LIMITS,
    }
    path = write(out, ENDED, certify(facts, key), ENDED_KEY)
    _wipe(marker, lambda _octets: None)
    print(f"Destroyed the installation {state['installation']}: certificates {out / (BEGUN + '.json')} and {path}.")
    print(f"Verify: {VERIFY.format(key=PUBLIC_KEY, name=BEGUN)}; {VERIFY.format(key=ENDED_KEY, name=ENDED)}")
    if kek is None or trouble:
        say(_to_do(state["source"], trouble))
    if left:
        say(f"Left in {directory}: {', '.join(left)}.")
    say("Copies of the key-encryption key and of keys.db elsewhere still open backups: destroy them too.")
    return 0


def _wipe_kek(path: Path) -> str:
    """What hindered it, empty where nothing did: the keys that it wrapped go in any case."""
    try:
        _wipe(path.with_name(path.name + ".new"), lambda _octets: None)
        _wipe(path.resolve(), lambda _octets: None)  # what a mounted secret points to
        path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _to_do(source: str, trouble: str) -> str:
    why = f" ({trouble})" if trouble else ""
    return (
        f"The key-encryption key comes from {source}, which smppd cannot destroy{why}: delete every version of it there."
        " The keys that it wrapped are gone from this store all the same."
    )


def _doomed(directory: Path, *, keep_data: bool) -> list[Path]:
    """The files that go, keys first."""
    places = [directory, *sorted(directory.glob(_ASIDE + "*")), directory / _STAGING]
    keys = [place / (_KEYS + ending) for place in places for ending in _ENDINGS]
    data = [place / (name + ending) for name in _DATA for place in places for ending in _ENDINGS]
    data += [path for place in places for name in _BESIDE for path in sorted(place.glob(name))]
    return [path for path in keys + ([] if keep_data else data) if path.is_file() and not path.is_symlink()]


def wipe_store(directory: Path) -> list[str]:
    """Overwrites and deletes the files of a store, keys first, and leaves all else in its directory; their names. The caller
    has its lock. May be done again. OSError."""
    files = [directory / (name + ending) for name in (_KEYS, _DATA[0]) for ending in _ENDINGS]
    files += sorted(directory.glob(_JOURNAL))
    there = [path for path in files if path.is_file() and not path.is_symlink()]
    with _bar(sum(path.stat().st_size for path in there)) as wiped:
        for path in there:
            _wipe(path, wiped)
    return [path.name for path in there]


def _wipe(path: Path, wiped: Callable[[int], object]) -> None:
    """Overwrites a file, then deletes it; both are on stable storage when this returns. Nothing where there is none."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(handle, "wb", buffering=0) as file:
        left = os.fstat(handle).st_size
        while left > 0:
            some = min(left, _PIECE)
            file.write(secrets.token_bytes(some))
            left -= some
            wiped(some)
        os.fsync(handle)
    path.unlink()
    sync_directory(path.parent)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:  # not there, or something else is in it: it is named among what is left
        return


@contextmanager
def _bar(octets: int) -> Iterator[Callable[[int], object]]:
    """A bar on standard error when a person is there to see it."""
    if not sys.stderr.isatty():
        yield lambda _octets: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Overwriting", total=octets)
        yield lambda done: bar.advance(task, done)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
