"""How the lists of a configuration stand by their files: what is compiled of each, and whether it is still of its file."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any, Final

from smppd.config import Settings, stamp_of
from smppd.lists.compiler import place_of
from smppd.lists.lists import DIRECTORY, spec_of
from smppd.lists.table import ListFault, read_header

_BUCKET: Final = 4


def standing(settings: Settings, name: str) -> dict[str, Any]:
    """How a list stands; without a key, so that what is compiled is not held against it. Reads the first octets of one file.
    OSError where they cannot be read."""
    spec = spec_of(settings, name)
    source = stamp_of(spec.file)
    found: dict[str, Any] = {"name": name, "kind": spec.kind, "file": os.fspath(spec.file), "entries": None}
    path = place_of(settings.store.directory / DIRECTORY, name)
    try:
        header = read_header(path)
    except FileNotFoundError:
        return {**found, "state": "not compiled" if source is not None else "not compiled, and its file is missing"}
    except ListFault as fault:
        return {**found, "state": f"what is compiled {fault}"}
    if header.kind != spec.kind:
        return {**found, "state": f"what is compiled is a list of {header.kind}"}
    state = (
        "its file is missing"
        if source is None
        else "its file changed"
        if source != header.source
        else "its settings changed"
        if header.spec != spec.digest()
        else "current"
    )
    return {
        **found,
        "entries": header.entries,
        "skipped": header.skipped,
        "compiled": dt.datetime.fromtimestamp(header.compiled, dt.UTC).isoformat(timespec="seconds"),
        "disk": path.stat().st_size,
        "memory": _BUCKET * ((1 << header.bits) + 1),
        "state": state,
    }
