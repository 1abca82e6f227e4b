"""What one person is given of the log: all records of a phone number, other people's numbers hidden, one record at a time.

Whether a record is the person's is asked of its blind indexes, so a clock, a region or a notation that was different then
changes nothing. Memory does not grow with the number of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from smppd.message import BESIDE, FINAL_STATES, Address, Event, State
from smppd.numbering import SHORT_DIGITS, normalise
from smppd.records.carrier_ids import without_numbers
from smppd.records.lookup import Found, LogReader
from smppd.records.search import by_number
from smppd.vault.keys import Part
from smppd.vault.mask import OthersMask, mask_number
from smppd.vault.numbers import SearchForms, blind
from smppd.vault.seal import NumbersPart, OpenRecord, RecordHeader

GONE: Final = "(gone)"
"""In the place of a number that cannot be read any more."""
_EVENTS: Final = 1000


class Reading(NamedTuple):
    """How the caller reads a record. addresses: (source, destination) of its numbers part; text: its text or None, a remark,
    and whether it is a part of a longer message."""

    addresses: Callable[[NumbersPart], tuple[Address, Address]]
    text: Callable[[OpenRecord], tuple[str | None, str, bool]]


class Subject:
    """The person whose data is exported, known by a phone number."""

    def __init__(self, forms: SearchForms, national: bool) -> None:
        """national: what stands under the number's national digits is the person's too (`SearchForms.ambiguous`)."""
        self.forms = forms
        self.own = forms.exact + forms.ambiguous if national else forms.exact
        self.mask = OthersMask(forms.exact, forms.ambiguous)

    def __repr__(self) -> str:
        return f"<Subject {self.forms!r}>"

    def is_own(self, address: Address, regions: Iterable[str | None]) -> bool:
        """Whether an address is the person's, read as a number of one of these countries."""
        return any(normalise(address.digits, address.ton, 0, region) in self.own for region in regions)

    def shown(self, address: Address, own: bool) -> str:
        """An address for the export: the person's own and names as they are, with other people's numbers masked."""
        digits = address.digits.decode("latin-1")
        if address.ton == 1 and digits.isdigit() and len(digits) > SHORT_DIGITS:
            digits = f"+{digits}"
        if own:
            return digits
        plain = normalise(address.digits, address.ton)
        if plain.isdigit():
            return mask_number(digits) if len(plain) > SHORT_DIGITS else digits
        return self.mask.hide(digits)

    def text(self, text: str, part: bool) -> str:
        """A text without other people's numbers. part: of a longer message."""
        return self.mask.hide(text, part=part)

    def name(self, upstream_id: bytes, others: Iterable[Address] | None) -> str:
        """A carrier's id of a message, without the other party's number in it and without a third person's
        (`carrier_ids.without_numbers`). others: None where nobody knows the numbers any more: then whatever may be a number
        goes, but the person's own."""
        name = upstream_id.decode("latin-1")
        if others is None:
            return self.mask.hide(name)
        theirs = [normalise(one.digits, one.ton) for one in others]
        exact = [form.decode("latin-1") for form in self.forms.exact]
        own = exact + [form.decode("latin-1") for form in self.forms.ambiguous]
        about = exact + [one.decode("latin-1") for one in theirs]
        return without_numbers(self.mask.hide_these(name, theirs), own, about)


class Exported(NamedTuple):
    """One record: its id, and what is given of it (JSON can say it)."""

    id: int
    facts: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Exported {self.id:016x}>"


class Exporter:
    """Goes through the log of one store for one person. left_out: records under the number's national digits that were not
    exported, since they may be another person's."""

    def __init__(self, reader: LogReader, subject: Subject, reading: Reading) -> None:
        self._reader = reader
        self._subject = subject
        self._reading = reading
        self._blinds: dict[tuple[str, str], tuple[frozenset[bytes], frozenset[bytes]]] = {}
        self.left_out = 0

    def records(
        self, accounts: Iterable[str] | None, progress: Callable[[float], object] | None = None
    ) -> Iterator[Exported]:
        """The person's records, newest first. accounts: None for all. Records that cannot be opened are in `reader.damaged`.
        Raises StoreError."""
        forms = self._subject.forms
        for found in by_number(self._reader, forms.exact + forms.ambiguous, accounts, progress=progress):
            given = self._given(found)
            if given is None:
                self.left_out += 1
            else:
                yield given

    def _own(self, header: RecordHeader) -> tuple[bool, bool, bool]:
        """Whether the source and the destination are the person's, and whether one is so beyond doubt."""
        name = (header.account, header.numbers_period.label)
        known = self._blinds.get(name)
        if known is None:
            key = self._reader.ring.existing(header.account, Part.NUMBERS, header.numbers_period)
            subject = self._subject
            known = (
                frozenset() if key is None else frozenset(blind(key, form) for form in subject.own),
                frozenset() if key is None else frozenset(blind(key, form) for form in subject.forms.exact),
            )
            self._blinds[name] = known
        own, exact = known
        if not own:  # only a hold still opens it
            held, subject = self._reader.held, self._subject
            of_subject = held.sides(header.record_id, subject.own)
            return *of_subject, any(held.sides(header.record_id, subject.forms.exact))
        both = (header.source_index, header.destination_index)
        return both[0] in own, both[1] in own, bool(exact & set(both))

    def _given(self, found: Found) -> Exported | None:
        record, subject = found.record, self._subject
        header = record.header
        from_own, to_own, exact = self._own(header)
        if not from_own and not to_own:
            return None
        events = self._reader.events(header.record_id, _EVENTS)
        shown = [GONE, GONE]
        others: list[Address] | None = None
        if record.numbers is not None:
            both = self._reading.addresses(record.numbers)
            shown = [subject.shown(one, own) for one, own in zip(both, (from_own, to_own), strict=True)]
            others = [one for one, own in zip(both, (from_own, to_own), strict=True) if not own]
        text, remark, part = self._reading.text(record)
        facts: dict[str, Any] = {
            "id": f"{header.record_id:016x}",
            "time": iso(header.accepted_ms),
            "account": header.account,
            "direction": header.direction.name,
            "person": "both" if from_own and to_own else "sender" if from_own else "recipient",
            "match": "exact" if exact else "national digits",
            "from": shown[0],
            "to": shown[1],
            "text": None if text is None else subject.text(text, part),
            "text_remark": remark,
            "parts": header.parts,
            "state": _state(events),
            "recipients": list(dict.fromkeys(event.upstream for event in events if event.upstream)),
            "events": [
                {
                    "time": iso(event.time),
                    "state": state_name(event.state),
                    "error": event.error,
                    "upstream": event.upstream,
                    "upstream_id": subject.name(event.upstream_id, others),
                }
                for event in events
            ],
        }
        return Exported(header.record_id, facts)


def state_name(state: int) -> str:
    """A state in a word."""
    try:
        return State(state).name
    except ValueError:
        return f"state {state}"


def iso(at_ms: float) -> str:
    """Epoch milliseconds as people of all languages read them: `2026-11-30T05:00:00.000Z`. What is no time, after an edit of
    the file, is given as the number that it is."""
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _state(events: list[Event]) -> str:
    of_message = [event for event in events if event.state not in BESIDE]
    final = [event for event in of_message if event.state in FINAL_STATES]
    said = (final or of_message)[-1:]
    return state_name(said[0].state) if said else State.STORED.name
