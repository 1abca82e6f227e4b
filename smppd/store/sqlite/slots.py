"""Record secrets written ahead, as schema 2 to 6 had them: log rows may name a row of `secrets` of another id.

Such a row, a slot, held secrets for 16 records and an octet more, of which some log row used the first ones. What was left of
it was cut off later. Nothing makes slots any more (docs/adr/0025), but rows that name them stay readable, and what a run of
that time left unused is taken out.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from smppd.vault.seal import SECRETS_BYTES

SLOT_RECORDS: Final = 16
"""Records that one slot had secrets for."""

IS_SLOT: Final = f"length(data) % {SECRETS_BYTES} = 1"
"""SQL: whether a row of `secrets` is a slot, unused, used, or cut to what was used of it."""
_NEWEST: Final = 256  # rows of `secrets` that are looked through


def sweep(keys: sqlite3.Connection, data: sqlite3.Connection) -> None:
    """Removes the slots that an earlier run left unused, and cuts those it left uncut. At the start, before anything is
    written. Raises sqlite3.Error."""
    slots = [
        row[0]
        for row in keys.execute(
            f"SELECT seq FROM (SELECT seq, data FROM secrets ORDER BY seq DESC LIMIT ?) WHERE {IS_SLOT}", (_NEWEST,)
        ).fetchall()
    ]
    if not slots:
        return
    used = dict(
        data.execute("SELECT secrets, count FROM log WHERE seq > ? AND secrets IS NOT NULL", (min(slots),)).fetchall()
    )
    whole = {
        row[0]
        for row in keys.execute(
            "SELECT seq FROM secrets WHERE seq >= ? AND length(data) = ?",
            (min(slots), SLOT_RECORDS * SECRETS_BYTES + 1),
        ).fetchall()
    }
    gone = [(slot,) for slot in slots if slot not in used]
    cut = [(used[slot] * SECRETS_BYTES, slot) for slot in slots if slot in used and slot in whole]
    if not gone and not cut:
        return
    keys.execute("BEGIN IMMEDIATE")
    try:
        keys.executemany("DELETE FROM secrets WHERE seq = ?", gone)
        keys.executemany("UPDATE secrets SET data = CAST(substr(data, 1, ?) || x'00' AS BLOB) WHERE seq = ?", cut)
        keys.execute("COMMIT")
    except sqlite3.Error:
        if keys.in_transaction:
            keys.execute("ROLLBACK")
        raise
