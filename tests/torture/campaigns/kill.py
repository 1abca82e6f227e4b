"""kill: `kill -9` at random moments under load, in both ways to acknowledge."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

from tests.torture.campaigns.crash import crash_block
from tests.torture.daemon import Daemon
from tests.torture.plan import Options, Unit, blocks

NAME: Final = "kill"
_KILLS: Final = 200
_BLOCK: Final = 10


def plan(options: Options) -> list[Unit]:
    """200 kills in blocks of 10, half of them in each mode; short: 1 in each."""
    total = options.rounds or (2 if options.short else _KILLS)
    size = max(1, min(_BLOCK, total // 2))
    return blocks(options, NAME, total, size, [{"acknowledge": "stored"}, {"acknowledge": "upstream"}])


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block."""

    def nothing(_daemon: Daemon, _random: Random | None = None) -> None:
        """The page cache outlives the process: the disk stays what it is."""

    return crash_block(unit, options, directory, prepare=nothing, after=nothing)
