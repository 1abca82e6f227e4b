"""Reads consents from a CSV file, a line at a time: a bad line is told by its number and stops no other.

What stands in a line is never repeated: it is about people.
"""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from smppd.consent.register_proof import ANY, CLASSES, Consent
from smppd.numbering import normalise

COLUMNS: Final = (
    "account", "number", "form", "time", "ip", "browser", "language", "device", "text", "guardian", "class", "sender",
    "evidence",
)  # fmt: skip
NEEDED: Final = ("number", "form", "time")
FORMS: Final = ("electronic", "written")
LONGEST: Final = 500
"""Characters of a field."""
_AHEAD: Final = 86400.0
_DIGITS: Final = range(7, 16)  # of E.164 at the most 15
_YES: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}


class BadLine(NamedTuple):
    """A line that was left out, and why."""

    line: int
    why: str


class GoodLine(NamedTuple):
    """A line that was read. given: epoch seconds."""

    line: int
    consent: Consent
    given: int


class NoTable(ValueError):
    """The file is none that can be read at all; the text says why."""


class _Wrong(ValueError):
    """What is wrong with a line."""


def read(
    lines: Iterable[str],
    now: float,
    account: str | None,
    known: Callable[[str], bool],
    region: Callable[[str], str | None],
) -> Iterator[GoodLine | BadLine]:
    """Every line of a file that has something in it. account: of lines that name none; known(account): whether there is such
    a one; region(account): of its national numbers. Raises NoTable."""
    header: list[str] | None = None
    # Each line is read by itself: a quotation mark that is never closed would hide all lines up to the next one.
    for line, text in enumerate(lines, 1):
        try:
            row = next(csv.reader([text], strict=True), [])
        except csv.Error:
            if header is None:
                raise NoTable(f"line {line} is no line of a CSV file") from None
            yield BadLine(line, "is no line of a CSV file")
            continue
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        if header is None:
            header = _header(line, row, account)
            continue
        try:
            yield GoodLine(line, *_consent(header, row, now, account, known, region))
        except _Wrong as wrong:
            yield BadLine(line, str(wrong))
    if header is None:
        raise NoTable("the file has no lines")


def _header(line: int, row: list[str], account: str | None) -> list[str]:
    header = [cell.strip().lower().removeprefix("\ufeff") for cell in row]
    needed = NEEDED if account is not None else ("account", *NEEDED)
    if len(set(header)) < len(header) or not set(needed) <= set(header) <= set(COLUMNS):
        raise NoTable(f"line {line} must name the columns: {', '.join(needed)}; and any of {', '.join(COLUMNS)}")
    return header


def _consent(
    header: list[str],
    row: list[str],
    now: float,
    account: str | None,
    known: Callable[[str], bool],
    region: Callable[[str], str | None],
) -> tuple[Consent, int]:
    if len(row) != len(header):
        raise _Wrong(f"has {len(row)} fields, and there are {len(header)} columns")
    cells = dict(zip(header, [cell.strip() for cell in row], strict=True))
    for name, cell in cells.items():
        if len(cell) > LONGEST:
            raise _Wrong(f"{name} has more than {LONGEST} characters")
    whose = cells.get("account") or account or ""
    if not known(whose):
        raise _Wrong("there is no such account")
    form = cells["form"].lower()
    if form not in FORMS:
        raise _Wrong("form must be electronic or written")
    ip = _ip(cells.get("ip", ""))
    evidence = cells.get("evidence", "")
    if form == "electronic" and not ip:
        raise _Wrong("an electronic consent needs the ip that it came from")
    if form == "written" and not evidence:
        raise _Wrong("a written consent needs its evidence: where the paper lies")
    at, given = _time(cells["time"], now)
    guardian = cells.get("guardian", "").lower()
    if guardian not in _YES:
        raise _Wrong("guardian must be yes or no")
    consent = Consent(
        account=whose,
        number=number_of(cells["number"], region(whose)),
        form=form,
        at=at,
        ip=ip,
        browser=cells.get("browser", ""),
        language=cells.get("language", ""),
        device=cells.get("device", ""),
        text=cells.get("text", ""),
        guardian=_YES[guardian],
        classes=_classes(cells.get("class", "")),
        sender=cells.get("sender") or ANY,
        evidence=evidence,
        imported=iso(now),
    )
    return consent, given


def number_of(text: str, region: str | None) -> str:
    """The international digits of a phone number; ValueError where it is none."""
    digits = normalise(text.encode("utf-8", "replace"), 0, 0, region)
    if not digits.isdigit() or len(digits) not in _DIGITS or digits.startswith(b"0"):
        raise _Wrong("number is no international phone number (for a national one the account needs its `region`)")
    return digits.decode()


def _ip(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise _Wrong("ip must be an IP address") from None


def _time(text: str, now: float) -> tuple[str, int]:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        given = at.timestamp()
    except (ValueError, OverflowError):
        raise _Wrong("time must be as exact as 2026-11-30T09:15:00+01:00, with its zone") from None
    if not 0 < given < now + _AHEAD:
        raise _Wrong("time lies in the future" if given > 0 else "time is too long ago")
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), int(given)


def _classes(text: str) -> tuple[str, ...]:
    named = tuple(sorted(set(text.lower().split()))) or ("promotional",)
    if not CLASSES.issuperset(named):
        raise _Wrong("class must be some of transactional, service, promotional, one_time_code, government, or *")
    return named


def iso(at: float) -> str:
    """Epoch seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def facts_of(consent: Consent) -> dict[str, Any]:
    """A consent as its proof says it, in the order in which people read it."""
    return {
        "account": consent.account,
        "number": f"+{consent.number}",
        "form": consent.form,
        "time": consent.at,
        "ip": consent.ip,
        "browser": consent.browser,
        "language": consent.language,
        "device": consent.device,
        "text": consent.text,
        "guardian": consent.guardian,
        "classes": list(consent.classes),
        "sender": consent.sender,
        "evidence": consent.evidence,
        "imported": consent.imported,
        "withdrawn": consent.withdrawn,
        "withdrawal": consent.withdrawal,
    }
