"""What the configuration as a whole says of keeping: bounds that an account does not keep to, floors, and who has no basis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from smppd.config import units
from smppd.config.keeping import PARTS, UNFOUNDED, Floor
from smppd.config.peers import Account
from smppd.config.references import Loc
from smppd.config.settings import Settings


class Effective(NamedTuple):
    """How long one part of an account's records is kept, and why. part: body, numbers or billing; configured, effective:
    seconds (of what is sealed now); floor, ceiling: seconds, None where there is none; why: a sentence."""

    part: str
    configured: float
    effective: float
    floor: float | None
    ceiling: float | None
    why: str


def effective(settings: Settings, account: Account) -> list[Effective]:
    """How long each part is kept."""
    return [_effective(settings, account, part) for part in PARTS]


def _effective(settings: Settings, account: Account, part: str) -> Effective:
    configured: float = getattr(account.retain, part)
    kept = account.kept.new_body if part == "body" else configured
    most = None if settings.retention.at_most is None else getattr(settings.retention.at_most, part)
    floors = [(seconds, floor.reference) for seconds, floor in _floors(settings, account, part)]
    least = max(floors)[0] if floors else None
    why = [f"retain.{part}"]
    if part == "body":
        if account.content == "hide":
            why = ["no text is kept (content: hide)"]
        elif account.content == "hash":
            why = ["only a keyed hash is kept (content: hash)"]
        elif account.basis is not None:
            why.append(f"basis {account.basis}")
        elif kept < configured:
            why = [f"no basis: {units.format_duration(UNFOUNDED)} at most"]
        else:
            why.append("no basis, and none is needed for so short")
    why += [f"at least {units.format_duration(seconds)} ({reference})" for seconds, reference in floors]
    if most is not None:
        why.append(f"at most {units.format_duration(most)}")
    return Effective(part, configured, kept, least, most, "; ".join(why))


def _floors(settings: Settings, account: Account | None, part: str) -> Iterator[tuple[float, Floor]]:
    for floor in (settings.retention.at_least, None if account is None else account.retain.at_least):
        seconds = None if floor is None else getattr(floor, part)
        if floor is not None and seconds is not None:
            yield seconds, floor


def floor(settings: Settings, account: str, part: str, accepted: float) -> float:
    """Epoch seconds before which an erasure may not destroy this part (`numbers`, `body` or `billing`) of a record that the
    account's message was accepted in at `accepted` (epoch seconds); 0 where nothing says so. Of an account that is in no
    configuration any more only the floor of all accounts is known."""
    found = next((one for one in settings.accounts if one.system_id == account), None)
    seconds = max((seconds for seconds, _ in _floors(settings, found, part)), default=0.0)
    return accepted + seconds if seconds else 0.0


def unfounded(settings: Settings) -> list[str]:
    """The accounts whose texts are kept for a shorter time than configured, because they name no basis."""
    return [one.system_id for one in settings.accounts if one.kept.new_body < one.retain.body]


def faults(settings: Settings) -> Iterator[tuple[Loc, str]]:
    """(location, message) of each account that does not keep to the bounds of all, or to its own floor."""
    least, most = settings.retention.at_least, settings.retention.at_most
    said = units.format_duration
    for floor_, ceiling in () if least is None or most is None else [(least, most)]:
        for part, seconds in floor_.given():
            limit = getattr(ceiling, part)
            if limit is not None and seconds > limit:
                yield ("retention", "at_least", part), f"{said(seconds)} is more than at_most allows: {said(limit)}"
    for index, account in enumerate(settings.accounts):
        for one in effective(settings, account):
            place = ("accounts", index, "retain", one.part)
            name = f"{one.part} of account {account.system_id}"
            absent = one.part == "body" and account.content != "encrypt"
            if one.ceiling is not None and one.configured > one.ceiling and not absent:
                yield (
                    place,
                    f"{name} is kept for {said(one.configured)}, and retention.at_most allows {said(one.ceiling)}",
                )
            if one.floor is None or absent:
                continue
            if one.configured < one.floor:
                yield (
                    place,
                    f"{name} is kept for {said(one.configured)} only, and at_least {said(one.floor)} is asked for",
                )
            elif one.effective < one.floor:
                yield (
                    place,
                    f"{name} is kept for {said(one.effective)} only, because the account names no basis, and at_least"
                    f" {said(one.floor)} is asked for: name a `basis`",
                )
