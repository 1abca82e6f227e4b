"""What `smppd demo` shows while messages flow: a live table on a terminal, a line a second elsewhere."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

_SERIES: Final = re.compile(r"^(\w+)(\{[^}\n]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


def scrape(port: int, timeout: float = 2.0, *, labelled: bool = False) -> dict[str, float]:
    """The daemon's series, summed over their labels; or ``labelled``, each by itself, as the daemon writes it. Empty when it
    does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as page:
            text = page.read().decode()
    except OSError:
        return {}
    totals: dict[str, float] = {}
    for name, labels, value in _SERIES.findall(text):
        name += labels if labelled else ""
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    accepted: float
    submitted: float
    receipts: float


class View:
    """Shows rates and totals; use as a context manager and call ``update`` as often as there is news."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
        self._samples: list[_Sample] = []
        self._first: _Sample | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, customer: dict[str, Any], series: dict[str, float], last: bool = False) -> None:
        """``customer`` is the simulated customer's own count, ``series`` the daemon's."""
        now = time.monotonic()
        submitted = series.get("smppd_messages_submitted_total", 0.0)
        self._samples.append(_Sample(now, customer["acknowledged"], submitted, customer["receipts"]))
        self._first = self._first or self._samples[0]
        while len(self._samples) > 2 and now - self._samples[0].at > 2.0:
            self._samples.pop(0)
        if last:
            # In the end the rates are those of the whole run.
            self._samples.insert(0, self._first)
        if self._live is not None:
            self._live.update(self._table(customer))
        elif last or now - self._told >= 1.0:
            self._told = now
            self._console.print(self._line(customer), soft_wrap=True, highlight=False)

    def _rate(self, name: str) -> float:
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        return float((getattr(last, name) - getattr(first, name)) / seconds) if seconds > 0 else 0.0

    def _table(self, customer: dict[str, Any]) -> Table:
        table = Table(title=self._title, title_justify="left", title_style="bold")
        for heading in ("", "messages", "a second", "p50", "p99"):
            table.add_column(heading, justify="left" if not heading else "right")
        answer = (f"{customer['answer_p50']:.1f} ms", f"{customer['answer_p99']:.1f} ms")
        receipt = (f"{customer['receipt_p50']:.0f} ms", f"{customer['receipt_p99']:.0f} ms")
        submitted = self._samples[-1].submitted
        table.add_row("accepted, stored", f"{customer['acknowledged']:,}", f"{self._rate('accepted'):,.0f}", *answer)
        table.add_row("submitted upstream", f"{submitted:,.0f}", f"{self._rate('submitted'):,.0f}", "", "")
        table.add_row("receipts brought back", f"{customer['receipts']:,}", f"{self._rate('receipts'):,.0f}", *receipt)
        return table

    def _line(self, customer: dict[str, Any]) -> str:
        return (
            f"accepted {customer['acknowledged']:,} ({self._rate('accepted'):.0f}/s), "
            f"submitted {self._samples[-1].submitted:,.0f} ({self._rate('submitted'):.0f}/s), "
            f"receipts {customer['receipts']:,} ({self._rate('receipts'):.0f}/s), "
            f"answer p50 {customer['answer_p50']:.1f} ms, p99 {customer['answer_p99']:.1f} ms"
        )
