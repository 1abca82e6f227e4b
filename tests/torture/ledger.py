"""Holds the three books against each other: what the customer was told, what the SMSC saw, what smppd's record says."""

from __future__ import annotations

from typing import Any

from smppd.message import State
from tests.torture.customer import CustomerBook
from tests.torture.record import Record, number_of
from tests.torture.smsc import SmscBook, figures

_NAMED = 5


def _some(ids: list[bytes]) -> str:
    return ", ".join(each.decode("ascii", "replace") for each in ids[:_NAMED]) + (" .." if len(ids) > _NAMED else "")


def compare(
    customer: CustomerBook, smsc: SmscBook, record: Record | None, *, receipts: bool = True, unfinished: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """(figures, faults in words). ``receipts``: whether the customer asked for them and was there to take them.
    ``unfinished``: what the daemon still had when it was ended; what is missing may then be late, and no loss is claimed."""
    faults: list[str] = []
    arrived = smsc.arrived()
    acknowledged = set(customer.ids.values())

    def final(told: bytes) -> bool:
        return record is not None and record.final(number_of(told))

    lost = [told for told, token in customer.ids.items() if token not in arrived and not final(told)]
    if unfinished:
        faults.append(f"the daemon still had {unfinished} messages and receipts: stuck or late, loss cannot be judged")
    if lost and not unfinished:
        faults.append(f"{len(lost)} acknowledged messages lost: {_some(lost)}")
    silent: list[bytes] = []
    if receipts:
        # What never reached the SMSC and ended here was told to the customer as well.
        silent = [told for told in customer.ids if told not in customer.receipts]
        if silent and not unfinished:
            faults.append(f"{len(silent)} acknowledged messages without a receipt: {_some(silent)}")
        settled = {each.token for each in smsc.receipts if each.acknowledged}
        gone = [told for told, token in customer.ids.items() if token in settled and told not in customer.receipts]
        if gone and not unfinished:
            faults.append(f"{len(gone)} receipts lost after they were acknowledged to the SMSC: {_some(gone)}")
        if open_ := sum(not each.acknowledged for each in smsc.receipts):
            faults.append(f"{open_} receipts were never acknowledged to the SMSC")
    if customer.ids_repeated:
        faults.append(f"{customer.ids_repeated} message ids given twice")
    if smsc.harmed:
        faults.append(f"{smsc.harmed} messages reached the SMSC changed")
    strange = sum(token >= 0 and token not in acknowledged for token in arrived)
    # One that was refused is no second copy.
    twice = {token: seen for token, seen in arrived.items() if sum(each.kept for each in seen) > 1}
    ids_of = {token: told for told, token in customer.ids.items()}
    unflagged: list[bytes] = []
    unrecorded: list[bytes] = []
    if record is not None:
        opened: dict[int, int] | None = None
        for token, seen in twice.items():
            known = {record.upstream[each.id] for each in seen if each.id in record.upstream}
            if token in ids_of:
                known.add(number_of(ids_of[token]))
            if not known and record.token is not None:
                # Nobody was told its id and no acceptance is on record: only the sealed text says which record it is.
                opened = record.token() if opened is None else opened
                known.update({opened[token]} if token in opened else ())
            if not any(record.flagged(identity) for identity in known):
                unflagged.append(ids_of.get(token, b"(never told)"))
        unrecorded = [told for told in customer.ids if number_of(told) not in record.ids]
        if unflagged:
            faults.append(f"{len(unflagged)} reached the SMSC twice and are not flagged: {_some(unflagged)}")
        if unrecorded:
            faults.append(f"{len(unrecorded)} acknowledged messages have no record: {_some(unrecorded)}")
        if record.repeated:
            faults.append(f"{record.repeated} records with an id that another has")
        if receipts:
            told = {i for i, events in record.events.items() if any(e.state == State.RECEIPT_DONE for e in events)}
            undone = sum(number_of(each) not in told for each in customer.receipts if each in customer.ids)
            if undone:
                faults.append(f"{undone} receipts the customer acknowledged are not on record as taken")
    strangers = [told for told in customer.receipts if told not in customer.ids]
    if record is not None:
        # An answer that the kill swallowed: the receipt names an id that the customer was never told.
        strangers = [told for told in strangers if number_of(told) not in record.ids]
    if strangers:
        faults.append(f"{len(strangers)} receipts with an id that never was: {_some(strangers)}")
    return {
        "sent": customer.sent,
        "acknowledged": len(customer.ids),
        "refused": sum(customer.refused.values()),
        "unanswered": customer.unanswered,
        "arrived_unacknowledged": strange,
        "lost": 0 if unfinished else len(lost),
        "unfinished": unfinished,
        "receipts": sum(customer.receipts.values()),
        "receipts_missing": 0 if unfinished else len(silent),
        "receipts_repeated": sum(count - 1 for count in customer.receipts.values()),
        "duplicates": len(twice),
        "duplicates_unflagged": len(unflagged),
        "most_copies": max((sum(each.kept for each in seen) for seen in arrived.values()), default=0),
        "unrecorded": len(unrecorded),
        **figures(smsc),
    }, faults
