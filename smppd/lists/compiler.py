"""Compiles the file of a list (`source`) into a table (`table`), with bounded memory: hashes are sorted in runs of a million on
disk, and the runs are merged part by part of the range of hashes.

It takes less than 200 MiB of memory whatever the file, and 16 octets of disk an entry while it works, of which 8 stay. All or
nothing: the file of before is there until the new one is whole and on stable storage.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from smppd.config import Stamp, stamp_of
from smppd.durable import sync_directory
from smppd.lists.forms import WHAT, form_of
from smppd.lists.source import Block, SourceFault, read_csv, read_plain
from smppd.lists.table import HEADER, KINDS, MOST, WIDTH, Header, bits_for, hasher, holder_of

MOST_PARTS: Final = 12
"""Bits of a hash by which a run is cut, at the most, to be merged."""
RUN: Final = 1 << 20
"""Hashes sorted at once."""
TOLD: Final = 20
"""Bad lines that are named."""
_READ_SHARE: Final = 0.8  # of the time, which goes into reading, hashing and sorting runs


class ListSpec(NamedTuple):
    """What a compiled list depends on beside the file's content: its name and its settings. ``skip``: leave out bad lines."""

    name: str
    kind: str
    file: Path
    region: str | None
    column: int | str | None
    skip: bool

    def digest(self) -> bytes:
        """16 octets that differ where a list has to be compiled anew."""
        said = json.dumps([self.kind, os.fspath(self.file), self.region, self.column, self.skip])
        return blake2b(said.encode(), digest_size=16, person=b"smppd-list-spec").digest()


class Refused(Exception):
    """The file is not taken; the text says why, with the line. Nothing changes until the file does."""


class Failed(Exception):
    """It could not be done now: no space, no file, stopped. It may be another time."""


class Compiled(NamedTuple):
    """What was made: different entries, bad lines left out, of which the first are named (line, why)."""

    entries: int
    skipped: int
    told: tuple[tuple[int, str], ...] = ()


def place_of(directory: Path, name: str) -> Path:
    """Where the compiled file of a list is, in the directory of compiled lists."""
    return directory / f"{name}.list"


def remove_others(directory: Path, names: Container[str]) -> None:
    """Takes away what was compiled, or begun, of lists that have none of these names. What cannot be taken away stays until
    the next time; what is being compiled now stays too."""
    with contextlib.suppress(OSError):
        for lock in directory.glob(".*.lock"):
            name = lock.name[1:-5]
            if name in names:
                continue
            with contextlib.suppress(OSError, Failed), _alone(directory, name):
                shutil.rmtree(directory / f".{name}.work", ignore_errors=True)
                (directory / f".{name}.new").unlink(missing_ok=True)
                place_of(directory, name).unlink(missing_ok=True)


def compile_list(
    spec: ListSpec,
    directory: Path,
    key: bytes,
    now: int,
    reserve: int = 0,
    progress: Callable[[float], object] = lambda _done: None,
    stopped: Callable[[], bool] = lambda: False,
    *,
    lenient: bool = False,
) -> Compiled:
    """Makes the compiled file of a list in ``directory``, in place of one that is there. ``now``: epoch seconds. ``reserve``:
    octets that stay free on the disk. ``progress``: told from 0.0 to 1.0 what is done. ``stopped()``: asked now and then.
    ``lenient``: bad lines are left out this time, whatever ``spec`` says. Raises Refused, Failed."""
    try:
        with _alone(directory, spec.name):
            return _Work(spec, directory, key, now, reserve, progress, stopped, lenient or spec.skip).run()
    except SourceFault as fault:
        raise Refused(str(fault)) from None
    except OSError as error:
        raise Failed(f"{error.filename or directory}: {error.strerror or type(error).__name__}") from None


@contextlib.contextmanager
def _alone(directory: Path, name: str) -> Iterator[None]:
    """One at a time compiles a list. What a kill has left is taken away."""
    if not directory.exists():
        directory.mkdir(mode=0o700)
        _give(directory, directory.parent)
    handle = os.open(directory / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _give(directory / f".{name}.lock", directory)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"list {name} is being compiled already") from None
        yield
    finally:
        os.close(handle)


def _give(path: Path, like: Path) -> None:
    """What root makes in a directory of the daemon's user is the daemon's."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


class _Work:
    """One compilation."""

    def __init__(
        self,
        spec: ListSpec,
        directory: Path,
        key: bytes,
        now: int,
        reserve: int,
        progress: Callable[[float], object],
        stopped: Callable[[], bool],
        skip: bool,
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._key = key
        self._now = now
        self._reserve = reserve
        self._progress = progress
        self._stopped = stopped
        self._skip = skip
        self._aside = directory / f".{spec.name}.work"
        self._fresh = directory / f".{spec.name}.new"
        self._new = hasher(key, spec.kind)
        self._digest = blake2b(key=key, digest_size=32, person=b"smppd-list-src")
        self._run = array("Q")
        self._runs: list[tuple[Path, array[int]]] = []
        self._hashed = 0
        self._skipped = 0
        self._told: list[tuple[int, str]] = []

    def run(self) -> Compiled:
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(mode=0o700)
        _give(self._aside, self._directory)
        try:
            source = self._read()
            if not self._hashed:
                raise Refused("it has no entries")
            return self._write(source)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
            self._fresh.unlink(missing_ok=True)

    # -- reading -----------------------------------------------------------------------------------------------------------

    def _read(self) -> Stamp:
        """Hashes every entry into sorted runs. The stamp of the file."""
        spec = self._spec
        form = form_of(spec.kind, spec.region)
        # Opening a pipe would wait for who writes it.
        handle = os.open(spec.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Refused("it is not a file")
            before = stamp_of(file.fileno())
            if spec.column is None:
                clean = spec.kind == "numbers" and spec.region is None
                blocks = read_plain(file, clean, self._digest.update)
            else:
                blocks = read_csv(file, spec.column, self._digest.update)
            for block in blocks:
                self._check()
                forms = block.entries if block.clean else self._forms(block, form)
                self._hash(forms)
                self._progress(_READ_SHARE * min(1.0, block.octets / max(1, before.size if before else 1)))
            if before is None or stamp_of(file.fileno()) != before or stamp_of(spec.file) != before:
                raise Failed("the file changed while it was read")
        if self._told and not self._skip:
            raise Refused(self._said())
        self._flush()
        return before

    def _forms(self, block: Block, form: Callable[[bytes], bytes | None]) -> list[bytes]:
        forms = [form(entry) for entry in block.entries]
        if None in forms:
            lines = block.lines or []
            for line, one in zip(lines, forms, strict=True):
                if one is None:
                    self._skipped += 1
                    if len(self._told) < TOLD:
                        self._told.append((line, f"not {WHAT[self._spec.kind]}"))
            if not self._skip and len(self._told) >= TOLD:
                raise Refused(self._said())
        return [one for one in forms if one is not None]

    def _said(self) -> str:
        lines = ", ".join(str(line) for line, _why in self._told)
        more = " and more" if len(self._told) >= TOLD else ""
        kind = WHAT[self._spec.kind]
        return f"line{'s' * (len(self._told) > 1)} {lines}{more}: not {kind}"

    def _hash(self, forms: list[bytes]) -> None:
        new = self._new
        digests = bytearray()
        for form in forms:
            state = new()
            state.update(form)
            digests += state.digest()
        self._run.frombytes(digests)
        self._hashed += len(forms)
        if len(self._run) >= RUN:
            self._flush()

    def _flush(self) -> None:
        """Sorts what was hashed, and writes it as a run."""
        if not self._run:
            return
        if self._hashed > MOST:
            raise Refused(f"it has more than {MOST} entries")
        if sys.byteorder == "big":
            self._run.byteswap()  # a digest is a little-endian number
        some = array("Q", sorted(self._run))
        self._run = array("Q")
        self._room(2 * WIDTH * len(some))
        path = self._aside / f"{len(self._runs):06d}"
        with path.open("wb") as file:
            some.tofile(file)
        cuts = array("Q", [0])
        for part in range(1, 1 << MOST_PARTS):
            cuts.append(bisect_left(some, part << 8 * WIDTH - MOST_PARTS, cuts[-1]))
        cuts.append(len(some))
        self._runs.append((path, cuts))

    def _room(self, octets: int) -> None:
        """Raises Failed where so much more would leave less than the reserve."""
        free = os.statvfs(self._directory)
        left = free.f_bavail * free.f_frsize - self._reserve
        if left < octets:
            raise Failed(f"no space: {octets >> 20} MiB more are needed beside `store.reserve`")

    def _check(self) -> None:
        if self._stopped():
            raise Failed("stopped")

    # -- writing -----------------------------------------------------------------------------------------------------------

    def _write(self, source: Stamp) -> Compiled:
        bits = bits_for(self._hashed)
        buckets = array("I", [0])
        if buckets.itemsize != 4:
            raise Failed("this machine has no numbers of four octets")
        self._room(WIDTH * self._hashed + 4 * (1 << bits))
        body = blake2b(digest_size=32)
        entries = 0
        handle = os.open(self._fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            _give(self._fresh, self._directory)
            file.write(bytes(HEADER))
            for some in self._merged(bits, buckets):
                if sys.byteorder == "big":
                    some.byteswap()
                raw = some.tobytes()
                body.update(raw)
                file.write(raw)
                entries += len(some)
            if sys.byteorder == "big":
                buckets.byteswap()
            raw = buckets.tobytes()
            body.update(raw)
            file.write(raw)
            header = Header(
                self._spec.kind,
                bits,
                entries,
                self._skipped,
                self._now,
                source,
                self._spec.digest(),
                self._digest.digest(),
                body.digest(),
                holder_of(self._key),
            )
            file.seek(0)
            file.write(header.pack(self._key))
            file.flush()
            os.fsync(file.fileno())
        self._check()
        os.replace(self._fresh, place_of(self._directory, self._spec.name))
        sync_directory(self._directory)
        self._progress(1.0)
        return Compiled(entries, self._skipped, tuple(self._told))

    def _merged(self, bits: int, buckets: array[int]) -> Iterator[array[int]]:
        """All hashes in order, each once, part by part; ``buckets`` gets where each bucket ends."""
        parts = min(bits, MOST_PARTS, max(0, self._hashed // RUN).bit_length())
        shift = 8 * WIDTH - bits
        before = 0
        for part in range(1 << parts):
            self._check()
            some: list[int] = []
            for path, cuts in self._runs:
                first, last = (cuts[one << MOST_PARTS - parts] for one in (part, part + 1))
                some += _part_of(path, first, last)
            some.sort()  # of runs that are sorted already: a merge
            merged = array("Q", [one for one, _same in groupby(some)])
            place = 0
            for bucket in range(part << bits - parts, (part + 1) << bits - parts):
                place = bisect_left(merged, (bucket + 1) << shift, place)
                buckets.append(before + place)
            before += len(merged)
            yield merged
            self._progress(_READ_SHARE + (1 - _READ_SHARE) * (part + 1) / (1 << parts))


def _part_of(path: Path, first: int, last: int) -> array[int]:
    """The numbers of a run from one place to another."""
    some = array("Q")
    with path.open("rb", buffering=0) as file:
        file.seek(WIDTH * first)
        some.frombytes(file.read(WIDTH * (last - first)))
    return some


assert set(WHAT) == set(KINDS)
