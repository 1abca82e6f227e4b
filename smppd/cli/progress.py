"""A progress bar for what takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import Progress

_MOMENT: Final = 0.5


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error when a person is there to see it, once it takes more than a moment. What is yielded is told from
    0.0 to 1.0 how much is done."""
    began = time.monotonic()
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, visible=False)
        yield lambda done: bar.update(task, completed=done, visible=time.monotonic() - began > _MOMENT)
