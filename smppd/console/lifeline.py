"""A message's life drawn on one line, as SVG: its steps one after another with their times, and between them how long it took.

Steps stand at equal distances: what lies between them goes from milliseconds to days. The same is in a table below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from markupsafe import Markup

from smppd.office.access import printable
from smppd.office.life import Step, gap_of

MOST: Final = 12
"""Steps that are drawn; of more the first and the last ones are."""
_WIDTH: Final = 150
_HEIGHT: Final = 118
_LINE: Final = 52
_LABEL: Final = 22


def lifeline(steps: Sequence[Step]) -> Markup:
    """The drawing. Colours are the style sheet's (`.life`), nothing is styled in it."""
    shown = list(steps)
    left_out = max(0, len(shown) - MOST)
    if left_out:
        shown = [*shown[: MOST // 2], *shown[-MOST // 2 :]]
    width = _WIDTH * len(shown)
    label = "; ".join(f"{one.what} {_time(one.at)}".strip() for one in shown)
    pieces = [
        f'<svg class="life" role="img" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
        f' aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    half = _WIDTH // 2
    for number, one in enumerate(shown):
        x = number * _WIDTH + half
        if number:
            cut = left_out and number == MOST // 2
            pieces.append(
                f'<line class="between{" cut" if cut else ""}" x1="{x - _WIDTH + 8}" y1="{_LINE}" x2="{x - 8}" y2="{_LINE}"/>'
            )
            between = f"{left_out} more" if cut else gap_of(one.gap)
            pieces.append(_text("gap", x - half, _LINE - 9, between))
        pieces.append(f'<circle class="step {one.look}" cx="{x}" cy="{_LINE}" r="7"/>')
        pieces.append(_text("what", x, _LINE + 27, _short(one.what)))
        pieces.append(_text("when", x, _LINE + 43, _time(one.at)))
        pieces.append(_text("where", x, _LINE + 58, _short(one.where)))
    pieces.append("</svg>")
    return Markup("".join(pieces))


def _text(kind: str, x: int, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="middle">{escape(printable(text))}</text>' if text else ""


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _time(at: int | None) -> str:
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, OSError, ValueError):
        return ""
