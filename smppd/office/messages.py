"""A record as it is shown to a person: masked, or whole where it is revealed; its events, and where it stands, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from smppd.message import BESIDE, FINAL_STATES, Address, Event, State
from smppd.office.access import Access, addresses_of, form_of, printable, region_of
from smppd.protocol.carrier_errors import carrier_error
from smppd.records.lookup import Found
from smppd.vault.mask import mask_number
from smppd.vault.numbers import SearchForms

UNREADABLE: Final = "(gone)"
RECEIPT: Final = {
    State.RECEIPT_DONE: "acknowledged by the customer",
    State.RECEIPT_EXPIRED: "never taken by the customer",
}


def as_dict(access: Access, found: Found, reveal: bool, forms: SearchForms | None) -> dict[str, Any]:
    """A record as JSON has it. Without `reveal` numbers are masked and neither text nor the customer's address is there.
    forms: of the number that was searched for."""
    record = found.record
    header = record.header
    events = access.reader.events(header.record_id)
    state, last = state_of(events)
    row: dict[str, Any] = {
        "id": f"{header.record_id:016x}",
        "time": iso(header.accepted_ms),
        "account": header.account,
        "direction": header.direction.name,
        "from": UNREADABLE,
        "to": UNREADABLE,
        "state": state,
        "error": next((event.error for event in reversed(events) if event.error), 0),
        "error_name": next((error_name(access, event) for event in reversed(events) if event.error), ""),
        "upstream": last.upstream if last is not None else "",
        "upstream_id": _name(last.upstream_id) if last is not None else "",
        "receipt": next((RECEIPT[e.state] for e in reversed(events) if e.state in RECEIPT), ""),  # type: ignore[index]
        "parts": header.parts,
        "data_coding": header.data_coding,
    }
    match = "exact"
    if record.numbers is not None:
        source, destination = addresses_of(record.numbers)
        row["from"], row["to"] = shown_number(source, reveal), shown_number(destination, reveal)
        region = region_of(access.settings, header.account)
        if forms is not None and not {form_of(source, region), form_of(destination, region)} & set(forms.exact):
            match = "national digits"
    row["match"] = match
    if reveal:
        shown = access.text(record)
        row["text"] = shown.text if shown.text is None or shown.remark else printable(shown.text)
        row["text_remark"] = shown.remark
    row["events"] = [
        {
            "time": iso(event.time),
            "state": state_name(event.state),
            "error": event.error,
            "error_name": error_name(access, event),
            "upstream": event.upstream,
            "upstream_id": _name(event.upstream_id),
            "possible_duplicate": event.duplicate,
        }
        for event in events
    ]
    return row


def error_name(access: Access, event: Event) -> str:
    """What its upstream calls an error, where its `error_table` says."""
    upstream = next((one for one in access.settings.upstreams if one.name == event.upstream), None)
    return carrier_error(upstream.error_table, event.error) if upstream is not None else ""


def state_of(events: list[Event]) -> tuple[str, Event | None]:
    """Where the message stands, in a word, and the last event that names where it went."""
    of_message = [event for event in events if event.state not in BESIDE]
    final = [event for event in of_message if event.state in FINAL_STATES]
    said = (final or of_message)[-1:]
    went = next((event for event in reversed(events) if event.upstream_id), None)
    went = went or next((event for event in reversed(events) if event.upstream), None)
    return (state_name(said[0].state) if said else State.STORED.name), went


def state_name(state: int) -> str:
    """`DELIVERED`."""
    try:
        return State(state).name
    except ValueError:
        return f"state {state}"


def shown_number(address: Address, reveal: bool) -> str:
    """`+44770***0123`; the whole of it where it is revealed."""
    digits = address.digits.decode("latin-1")
    if address.ton == 1 and digits.isdigit():
        digits = f"+{digits}"
    return printable(digits if reveal else mask_number(digits))


def _name(octets: bytes) -> str:
    return printable(octets.decode("latin-1"))


def iso(at_ms: float) -> str:
    """`2026-11-30T05:00:00.000Z`, of epoch milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
