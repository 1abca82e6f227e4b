"""Results on disk: one line of JSON for each finished unit, with the commit it ran on, so that a campaign may go on later."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def commit(source: Path) -> str:
    """The commit of a tree, with a `+` where smppd/ differs from it; "unknown" where there is no history."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=source, timeout=30, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    named = source / "COMMIT"
    if named.exists():
        return named.read_text().strip()
    head = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--", "smppd")
    return (head + ("+" if changed else "")) if head else "unknown"


class Results:
    """The results of one campaign."""

    def __init__(self, directory: Path, campaign: str) -> None:
        self.path = directory / f"{campaign}.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """All there are; a line that a kill cut off is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def begin(self) -> None:
        """Puts the results of an earlier run aside."""
        if self.path.exists():
            stamp = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S")
            self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}.old"))

    def done(self, seed: int, form: str) -> set[str]:
        """Keys of the units that are finished, of this seed and form."""
        return {row["unit"] for row in self.rows() if row["base_seed"] == seed and row["form"] == form}

    def append(self, row: dict[str, Any]) -> None:
        """Writes one down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
