"""The schema of the database, in numbered steps: `schema/0001-....sql` and so on, each in one transaction with its number.

Steps only add. The daemon's start brings the database up; two that come at once wait for each other by an advisory lock.

A database that a newer smppd brought up is refused, since its rows may mean something else; but for one step, where that step
says so: its line ``-- Oldest: 2`` is for those that know 2 steps. They go on as before, calling what they always called, so
that nodes can be upgraded one after another. The line is stored with the step, since an older smppd has no such file. A step
without it is for itself and younger ones alone: all nodes have to be stopped for it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from smppd.store.api import StoreError
from smppd.store.postgres.connection import SCHEMA, Connection, ServerError

_LOCK: Final = 0x736D707064  # "smppd": the key of the advisory lock
_NO_RIGHT: Final = "42501"
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"
_TABLE: Final = f"{SCHEMA}.schema_versions"
_OLDEST: Final = re.compile(r"^-- Oldest: (\d+)$", re.MULTILINE)
_TELLS: Final = 3
"""The first step whose number is stored with the oldest smppd that may use it."""


class Step(NamedTuple):
    """One step: its number and its statements. oldest: how many steps an smppd has to know at least to use what has this one,
    None for this one."""

    number: int
    script: str
    oldest: int | None = None


@cache
def steps() -> tuple[Step, ...]:
    """All steps, in order, without gaps."""
    folder = resources.files("smppd.store.postgres") / "schema"
    found = sorted((one.name, one.read_text()) for one in folder.iterdir() if one.name.endswith(".sql"))
    made = tuple(Step(int(name.partition("-")[0]), text, _oldest(text)) for name, text in found)
    assert [step.number for step in made] == list(range(1, len(made) + 1)), "a step is missing"
    return made


def _oldest(script: str) -> int | None:
    found = _OLDEST.search(script)
    return None if found is None else int(found[1])


def version(db: Connection) -> int:
    """The number of the last step that the database has; 0 where it has none. Raises StoreError."""
    row = db.one(_THERE, (_TABLE,))
    if row is None or not row[0]:
        return 0
    row = db.one(f"SELECT coalesce(max(number), 0) FROM {_TABLE}")
    assert row is not None
    return int(row[0])


def known(db: Connection) -> int:
    """As `version`. Raises StoreError where there is no store, where it is of a newer smppd, or of an older one that no
    daemon of this version has brought up yet."""
    found, newest = version(db), len(steps())
    if not found:
        raise StoreError(f"{db.server.name}: there is no store here yet")
    _not_newer(db, found)
    if found < newest:
        raise StoreError(
            f"{db.server.name}: its schema is of an older smppd ({found}, this one knows {newest}):"
            " the daemon's start brings it up"
        )
    return found


def migrate(db: Connection, *, most: int | None = None) -> int:
    """Brings the database up to the last step, or to step ``most``; how many steps that were. Raises StoreError: what was
    done by then stays, what failed is undone."""
    done = 0
    while True:
        with db.writing():
            db.one("SELECT pg_advisory_xact_lock($1)", (_LOCK,))
            found = version(db)
            _not_newer(db, found)
            step = next((step for step in steps() if step.number > found), None)
            if step is None or (most is not None and step.number > most):
                return done
            if not found:
                _begin(db)
            db.script(step.script)
            db.run(f"INSERT INTO {_TABLE} (number) VALUES ($1)", (step.number,))
            if step.oldest is not None:
                db.run(f"UPDATE {_TABLE} SET oldest = $2 WHERE number = $1", (step.number, step.oldest))
        done += 1


def _begin(db: Connection) -> None:
    row = db.one("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", (SCHEMA,))
    try:
        if row is None or not row[0]:  # where an administrator made it, the right to make schemas is not needed
            db.script(f"CREATE SCHEMA {SCHEMA}")
        db.script(f"CREATE TABLE {_TABLE} (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
    except ServerError as error:
        if error.code != _NO_RIGHT:
            raise
        raise StoreError(
            f"{db.server.name}: the user may make no schema `{SCHEMA}` there: an administrator has to grant CREATE on the"
            " database, or make the schema and give it to the user"
        ) from None


def _not_newer(db: Connection, found: int) -> None:
    """Raises StoreError where this smppd is too old for a database, see the module."""
    newest = len(steps())
    if found <= newest:
        return
    row = db.one(f"SELECT oldest FROM {_TABLE} WHERE number = $1", (found,)) if found >= _TELLS else None
    if found > newest + 1 or row is None or row[0] is None or row[0] > newest:
        raise StoreError(f"{db.server.name}: written by a newer smppd (schema {found}, this one knows {newest})")
