"""Looks at the files of lists, and at those that rules were read from, and has done what follows from a change.

A file of a list that is another than the one that was compiled, and has come to rest, is compiled in a child process; what is
compiled, by us or by a command, is opened, read whole and put in force. Whatever fails leaves in force what was, and is told
once. A changed file of rules asks for a reload. One look is a stat of each file; it never waits for a child.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from smppd.config import Settings, Stamp, stamp_of
from smppd.lists.compiler import ListSpec, place_of, remove_others
from smppd.lists.compiling import Outcome
from smppd.lists.lists import Lists, spec_of
from smppd.lists.named import NamedList
from smppd.lists.table import Header, ListFault, Table, open_table

FIRST_RETRY: Final = 30.0
LAST_RETRY: Final = 3600.0
"""Seconds after which what failed is tried again: at first, and at the most."""


class Child(Protocol):
    """A compilation that goes on (`compiling.Compilation`)."""

    def poll(self) -> Outcome | None:
        """What came of it; None while it works."""

    def stop(self) -> None:
        """Stops it."""


class ListState(NamedTuple):
    """How a list stands, for metrics. ``stale``: its file is another than what is in force was compiled of, or is missing."""

    entries: int
    compiled: int
    absent: bool
    stale: bool


class Watched:
    """A list and what is known of its files."""

    __slots__ = (
        "began",
        "failed",
        "known",
        "named",
        "opened",
        "refused",
        "retry_at",
        "retry_in",
        "seen",
        "spec",
        "stale",
        "told",
        "tried",
    )

    def __init__(self, named: NamedList, spec: ListSpec) -> None:
        table = named.table
        self.named = named
        self.spec = spec
        self.known: Header | None = None if table is None else table.header  # of what is in force, or on its way there
        self.opened: Stamp | None = None if table is None else table.stamp  # of that compiled file
        self.tried: Stamp | None = None  # a compiled file that is not believed
        self.seen: Stamp | None = None  # the source at the last look
        self.refused: Stamp | None = None  # a source that is not taken
        self.failed: Stamp | None = None  # a source that could not be compiled, and will be tried again
        self.retry_at = 0.0
        self.retry_in = FIRST_RETRY
        self.began = -math.inf  # when it was compiled last
        self.stale = False
        self.told = ""

    @property
    def state(self) -> ListState:
        """See `ListState`."""
        known = self.known
        if known is None:
            return ListState(0, 0, True, True)
        return ListState(known.entries, known.compiled, False, self.stale)


class Watcher:
    """See the module. ``use`` is called on the reactor thread, all else on one thread of its own.

    start: begins to compile. notify: runs a function on the reactor thread. reload: asks for one; called there. tell(what,
    name, fields): for the log and the metrics: ``compiled``, ``refused`` or ``failed`` (of a compilation), ``not believed``,
    ``missing``, ``in force``, ``changed`` (a file of rules)."""

    def __init__(
        self,
        lists: Lists,
        start: Callable[[ListSpec], Child],
        notify: Callable[[Callable[[], None]], object],
        reload: Callable[[], object],
        tell: Callable[[str, str, Mapping[str, object]], object],
    ) -> None:
        self._lists = lists
        self._start = start
        self._notify = notify
        self._reload = reload
        self._tell = tell
        self._fresh: tuple[Settings, Mapping[str, NamedList]] | None = None
        self._settings: Settings | None = None
        self._watched: dict[str, Watched] = {}
        self._child: tuple[Child, Watched, Stamp, float] | None = None
        self._files: dict[Path, Stamp | None] = {}  # files of rules, as the last look saw them
        self._asked: dict[Path, Stamp | None] = {}
        self._retired: list[Table] = []

    def use(self, settings: Settings) -> None:
        """Watches the lists and the files of a configuration that is in force now."""
        self._fresh = (settings, self._lists.by_name)

    @property
    def busy(self) -> bool:
        """Whether a list is being compiled."""
        return self._child is not None

    @property
    def waiting(self) -> bool:
        """Whether a list is absent that may be there soon."""
        return any(
            one.known is None and one.seen is not None and one.seen not in (one.refused, one.failed)
            for one in self._watched.values()
        )

    def states(self) -> dict[str, ListState]:
        """How each list stands."""
        return {name: one.state for name, one in self._watched.items()}

    def look(self, now: float, wall: float) -> None:
        """One look at all files. now: seconds of a steady clock; wall: epoch seconds."""
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            self._take(*fresh)
        while self._retired:
            self._retired.pop().close()
        settings = self._settings
        if settings is None:
            return
        if self._child is not None:
            self._look_at_child(now)
        # Whose turn was longest ago comes first: a file that never comes to rest shuts no other out.
        for one in sorted(self._watched.values(), key=lambda one: one.began):
            self._look_at_compiled(one)
            self._look_at_source(one, now, wall, settings.watch_files)
        self._look_at_rules(settings, wall)

    def stop(self) -> None:
        """Stops what is being compiled: it is done at the next start."""
        if self._child is not None:
            self._child[0].stop()
            self._child = None

    # -- one look ----------------------------------------------------------------------------------------------------------

    def _take(self, settings: Settings, lists: Mapping[str, NamedList]) -> None:
        self._settings = settings
        before = self._watched
        self._watched = {}
        for name, named in lists.items():
            spec = spec_of(settings, name)
            known = before.get(name)
            if known is None or known.named is not named:
                known = Watched(named, spec)
            elif known.spec != spec:
                known.spec, known.refused, known.failed = spec, None, None
            self._watched[name] = known
        if self._child is not None and self._child[1] not in self._watched.values():
            self.stop()
        # Nobody asks these any more: no hash of a number is kept for nothing.
        remove_others(self._lists.directory, lists)
        self._files = {}
        self._asked = {}

    def _look_at_child(self, now: float) -> None:
        assert self._child is not None
        child, one, source, began = self._child
        outcome = child.poll()
        if outcome is None:
            return
        self._child = None
        name = one.spec.name
        fields: dict[str, object] = {"seconds": round(now - began, 1)}
        if outcome.kind == "compiled":
            one.failed, one.retry_in, one.told = None, FIRST_RETRY, ""
            self._tell("compiled", name, {**fields, "entries": outcome.entries, "skipped": outcome.skipped})
        elif outcome.kind == "refused":
            one.refused = source
            self._tell("refused", name, {**fields, "reason": outcome.reason})
        else:
            self._failed(one, source, now, {**fields, "reason": outcome.reason})

    def _failed(self, one: Watched, source: Stamp, now: float, fields: dict[str, object]) -> None:
        if source != one.failed:
            one.retry_in = FIRST_RETRY
        one.failed, one.retry_at = source, now + one.retry_in
        one.retry_in = min(LAST_RETRY, 2 * one.retry_in)
        self._tell("failed", one.spec.name, fields)

    def _look_at_compiled(self, one: Watched) -> None:
        """Puts in force what was compiled since, by us or by a command."""
        path = place_of(self._lists.directory, one.spec.name)
        stamp = stamp_of(path)
        if stamp is None or stamp in (one.opened, one.tried):
            return
        try:
            table = open_table(path, self._lists.key, one.spec.kind)
        except (ListFault, OSError) as fault:
            one.tried = stamp
            reason = str(fault) if isinstance(fault, ListFault) else fault.strerror or "cannot be read"
            self._tell("not believed", one.spec.name, {"reason": reason})
            return
        one.known, one.opened = table.header, table.stamp
        named = one.named

        def exchange() -> None:
            before = named.exchange(table)
            if before is not None:
                self._retired.append(before)

        self._notify(exchange)
        self._tell("in force", one.spec.name, {"entries": table.header.entries})

    def _look_at_source(self, one: Watched, now: float, wall: float, quiet: float) -> None:
        stamp = stamp_of(one.spec.file)
        last, one.seen = one.seen, stamp
        known = one.known
        one.stale = known is None or stamp != known.source or known.spec != one.spec.digest()
        if not one.stale:
            return
        if stamp is None:
            if one.told != "missing":
                one.told = "missing"
                self._tell("missing", one.spec.name, {})
            return
        # What nobody can ask yet is not waited for: a file that changes while it is read is not taken anyway.
        at_rest = known is None or stamp == last or wall - stamp.mtime_ns / 1e9 >= quiet
        if (
            self._child is not None
            or not at_rest
            or stamp == one.refused
            or (one.failed is not None and now < (one.retry_at if stamp == one.failed else one.began + FIRST_RETRY))
        ):
            return
        one.began = now
        try:
            self._child = (self._start(one.spec), one, stamp, now)
        except OSError as error:
            self._failed(one, stamp, now, {"reason": f"no child process: {error.strerror}"})

    def _look_at_rules(self, settings: Settings, wall: float) -> None:
        changed = []
        for path, read in settings.read_files:
            stamp = stamp_of(path)
            last = self._files.get(path, read)
            self._files[path] = stamp
            if stamp == read:
                continue
            # What is not there may be on its way; what was tried is not tried again.
            at_rest = stamp == last or (stamp is not None and wall - stamp.mtime_ns / 1e9 >= settings.watch_files)
            if at_rest and (path not in self._asked or self._asked[path] != stamp):
                self._asked[path] = stamp
                changed.append(path)
        if changed:
            for path in changed:
                self._tell("changed", path.name, {})
            self._notify(lambda: (self._reload(), None)[1])
