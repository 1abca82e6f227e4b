"""Runs campaigns: unit by unit, each in a directory of its own that is removed afterwards unless it found something."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.torture.plan import Campaign, Options
from tests.torture.results import Results, commit


def run_campaign(
    campaign: Campaign,
    options: Options,
    results: Results,
    *,
    resume: bool = False,
    only: str = "",
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Runs what is not done yet; the rows of this run. ``only``: units with this in
    their names. A store that showed a fault is kept and named in its row."""
    form = "short" if options.short else "long"
    if resume:
        done = results.done(options.seed, form)
    else:
        results.begin()
        done = set()
    rows = []
    units = campaign.plan(options)
    for number, unit in enumerate(units, 1):
        if unit.key in done or only not in unit.key:
            continue
        began = time.monotonic()
        scratch = Path(tempfile.mkdtemp(prefix="smppd-torture-", dir=options.scratch))
        directory = scratch / "run"
        directory.mkdir()
        head = commit(options.source)
        result = campaign.run(unit, replace(options, scratch=scratch), directory)
        row = {
            "campaign": campaign.name,
            "unit": unit.key,
            "seed": unit.seed,
            "base_seed": options.seed,
            "form": form,
            "commit": head,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            "seconds": round(time.monotonic() - began, 1),
            **result,
        }
        if row["faults"]:
            row["kept"] = str(scratch)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
        results.append(row)
        rows.append(row)
        say(f"{campaign.name} {number}/{len(units)} {unit.key}: {_line(row)}")
    return rows


def _line(row: dict[str, Any]) -> str:
    shown = ("kills", "acknowledged", "lost", "receipts_missing", "duplicates", "rate", "caught")
    told = ", ".join(f"{name} {row[name]}" for name in shown if name in row)
    head = f"{row['seconds']:g} s, {told}" if told else f"{row['seconds']:g} s"
    return head + (" - " + "; ".join(row["faults"]) if row["faults"] else " - ok")
