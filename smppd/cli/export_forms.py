"""The forms of an export, written piece by piece: JSON for machines, a page for the person, lines for a terminal.

The page stands by itself: no scripts, nothing loaded from elsewhere, to be printed, light or dark as the reader's machine is.
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterable
from typing import Any, Final, Protocol, TextIO

from smppd.office.access import printable

_TITLES: Final = {"under_way": "On its way", "records": "Messages", "consents": "Consents on record"}
SECTIONS: Final = tuple(_TITLES)
"""Of an export, in their order."""
_JOINERS: Final = "\u200c\u200d"  # shape letters and emoji, and change no order


class Form(Protocol):
    """How an export is written."""

    def __init__(self, out: TextIO) -> None: ...

    def begin(self, about: dict[str, Any]) -> None:
        """What it is."""

    def add(self, section: str, items: Iterable[dict[str, Any]]) -> None:
        """More of a section: first all of ``under_way``, then all of ``records``, then all of ``consents``."""

    def end(self, summary: dict[str, Any]) -> None:
        """That was all."""


class JsonForm:
    """One JSON object: about, under_way, records, consents, summary; each item a line. Pure ASCII."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._sections: dict[str, int] = {}

    def begin(self, about: dict[str, Any]) -> None:
        """See `Form`."""
        self._out.write(f'{{"about": {json.dumps(about)}')

    def _section(self, name: str) -> None:
        if name not in self._sections:
            if self._sections:
                self._out.write("\n]")
            self._sections[name] = 0
            self._out.write(f',\n"{name}": [')

    def add(self, section: str, items: Iterable[dict[str, Any]]) -> None:
        """See `Form`."""
        for before in SECTIONS[: SECTIONS.index(section)]:
            self._section(before)
        self._section(section)
        for item in items:
            self._out.write(",\n" if self._sections[section] else "\n")
            self._out.write(json.dumps(item))
            self._sections[section] += 1

    def end(self, summary: dict[str, Any]) -> None:
        """See `Form`."""
        for name in SECTIONS:
            self._section(name)
        self._out.write(f'\n],\n"summary": {json.dumps(summary)}}}\n')


class LinesForm:
    """A short listing."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, about: dict[str, Any]) -> None:
        """See `Form`."""
        self._out.write("time\tid\taccount\tplace\tfrom\tto\tstate\ttext\n")

    def add(self, section: str, items: Iterable[dict[str, Any]]) -> None:
        """See `Form`."""
        for item in items:
            text = f"({item['text_remark']})" if item["text"] is None else item["text"]
            cells = [item[name] for name in ("time", "id", "account", "place", "from", "to")]
            state = item.get("state") or item.get("receipt_state", "")
            self._out.write("\t".join(printable(str(cell)) for cell in (*cells, state, text)) + "\n")

    def end(self, summary: dict[str, Any]) -> None:
        """See `Form`."""


_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --faint: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; }
th { font-weight: 600; } tr { border-top: 1px solid var(--line); }
article { border: 1px solid var(--line); border-radius: 6px; margin: .8em 0; padding: .6em 1em; break-inside: avoid; }
article p { margin: .2em 0; } .text { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--faint); padding: .5em; }
.small { font-size: .85em; opacity: .8; } .id { font-family: ui-monospace, monospace; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""
_HEAD: Final = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
)


class PageForm:
    """A page in HTML."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._sections: set[str] = set()

    def begin(self, about: dict[str, Any]) -> None:
        """See `Form`."""
        write = self._out.write
        number = safe(about["number"])
        write(f"{_HEAD}<title>Data about {number}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n")
        write(
            f"<h1>Data about {number}</h1>\n<p>{safe(about['what'])}</p>\n<p>{safe(about['recipients'])}</p>\n<table>\n"
        )
        for title, value in (
            ("Installation", f"{about['installation']}, smppd {about['smppd']}"),
            ("Time", _time(about["time"])),
            ("Accounts", about["accounts"] if isinstance(about["accounts"], str) else ", ".join(about["accounts"])),
        ):
            write(f"<tr><th>{title}</th><td>{safe(value)}</td></tr>\n")
        write("</table>\n<h2>Who is responsible, and how long it is kept</h2>\n<table>\n")
        write("<tr><th>Account (controller)</th><th>Texts</th><th>Numbers</th><th>States</th><th></th></tr>\n")
        for one in about["controllers"]:
            cells = [one["account"], *(one.get(name, "") for name in ("text_kept", "numbers_kept", "states_kept"))]
            cells.append(
                one.get("remark") or {"hash": "only a hash of texts", "hide": "no texts"}.get(one["content"], "")
            )
            write("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in cells) + "</tr>\n")
        write("</table>\n")

    def add(self, section: str, items: Iterable[dict[str, Any]]) -> None:
        """See `Form`."""
        write = self._out.write
        if section not in self._sections:
            self._sections.add(section)
            write(f"<h2>{_TITLES[section]}</h2>\n")
        for item in items:
            state = item.get("state") or item.get("receipt_state", "")
            facts = [f"account {item['account']}" if item["account"] else "", item["place"], state]
            facts += [f"handed to {', '.join(item['recipients'])}"] if item["recipients"] else []
            if item.get("kept_until"):
                facts.append(f"until {_time(item['kept_until'])}")
            if item.get("match") == "national digits":
                facts.append("found by national digits")
            said = f"{safe(item['from'])} &#8594; {safe(item['to'])}"
            write(f"<article>\n<p><b>{safe(_time(item['time']))}</b> &#160; {said}</p>\n")
            if item["text"] is not None:
                write(f'<p class="text" dir="auto">{safe(item["text"])}</p>\n')
            if item["text_remark"]:
                write(f'<p class="small">{safe(item["text_remark"])}</p>\n')
            told = safe("; ".join(fact for fact in facts if fact))
            write(f'<p class="small">{told}; <span class="id">{safe(item["id"])}</span></p>\n')
            for event in item.get("events", ()):
                words = [_time(event["time"]), event["state"], event["upstream"], event["upstream_id"]]
                write(f'<p class="small">{safe("  ".join(word for word in words if word))}</p>\n')
            write("</article>\n")

    def end(self, summary: dict[str, Any]) -> None:
        """See `Form`."""
        write = self._out.write
        write(
            f"<h2>In all</h2>\n<p>{summary['records']} messages in the log, {summary['under_way']} on their way,"
            f" {summary['consents']} consents on record.</p>\n"
        )
        if not summary["complete"]:
            count = len(summary["records_not_readable"]) + sum(summary["under_way_not_readable"].values())
            write(f"<p>{count} things could not be opened; whose they are cannot be told.</p>\n")
        if summary["left_out_national_digits"]:
            count = summary["left_out_national_digits"]
            write(
                f"<p>{count} messages under the national digits of the number were left out, since in another country these are"
                " another person's number.</p>\n"
            )
        write("</body>\n</html>\n")


def safe(value: object) -> str:
    """Text for a page: escaped; line ends stay, what does not print (controls, marks of direction) is written out."""
    lines = str(value).replace("\r\n", "\n").split("\n")
    return html.escape("\n".join("".join(map(_visible, line)) for line in lines), quote=True)


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if unicodedata.category(character) == "Zs" or character == "\t" else printable(character)


def _time(at: str) -> str:
    """`2026-11-30 05:00:00 UTC`."""
    return f"{at[:10]} {at[11:19]} UTC" if at else ""
