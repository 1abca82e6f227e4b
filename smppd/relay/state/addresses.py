"""Compares addresses that may be written in different ways, and finds messages by their addresses.

Carriers write a number with or without its plus, with 00, with a trunk prefix, or without its country code. So only the last
nine digits are compared, or all digits of the shorter number if it has at least seven.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, ValuesView
from hashlib import blake2b
from itertools import islice
from typing import Final, Generic, TypeVar

from smppd.protocol.wire import Sm
from smppd.relay.state.living import Filed

M = TypeVar("M", bound=Filed)

_TAIL: Final = 9
_LEAST: Final = 7
_LONG: Final = re.compile(rb"\d{7,}")
# So many messages under one pair of addresses are looked at: further ones could not be told apart.
_MANY: Final = 64


def near(one: bytes, other: bytes) -> bool:
    """Whether these digits (or names) may be the same address."""
    if one == other:
        return True
    one, other = one.lstrip(b"+0").lower(), other.lstrip(b"+0").lower()
    if one == other:
        return True
    if len(one) > len(other):
        one, other = other, one
    if len(one) < _LEAST or not one.isdigit() or not other.isdigit():
        return False
    return one[-_TAIL:] == other[-_TAIL:] or other.endswith(one)


def address_tail(digits: bytes) -> bytes:
    """What two addresses that are ``near`` have in common: the key by which they are found."""
    return digits.lstrip(b"+0")[-_LEAST:].lower()


def addresses_agree(receipt: Sm, message: Sm) -> bool:
    """Whether both addresses of a receipt are those of a message. They should be swapped; some carriers do not swap them, so
    both ways count."""
    one, other = receipt.source_digits, receipt.destination_digits
    source, destination = message.source_digits, message.destination_digits
    return (near(one, destination) and near(other, source)) or (near(one, source) and near(other, destination))


def addresses_swapped(receipt: Sm, message: Sm) -> bool:
    """Whether a deliver_sm has the addresses of a message, swapped. A receipt has them, and so has an answer that the reader
    wrote."""
    return near(receipt.source_digits, message.destination_digits) and near(
        receipt.destination_digits, message.source_digits
    )


def reaches_destination(receipt: Sm, message: Sm) -> bool:
    """Whether the message's destination is one of the receipt's addresses: carriers may replace the sender."""
    destination = message.destination_digits
    return near(receipt.source_digits, destination) or near(receipt.destination_digits, destination)


def address_pairs(sm: Sm) -> tuple[bytes, bytes]:
    """The two keys under which ``ByAddress`` may know a message that agrees with a receipt."""
    one, other = address_tail(sm.source_digits), address_tail(sm.destination_digits)
    return other + b"\0" + one, one + b"\0" + other


def names_number(name: bytes, digits: bytes) -> bool:
    """Whether the digits of a number stand in a carrier's id: some carriers make their ids of them. ``digits``: of the number,
    at least seven."""
    tail = digits[-_TAIL:]
    return len(tail) >= _LEAST and tail in name and tail.isdigit()


def without_number(name: bytes, digits: bytes) -> bytes:
    """A carrier's id as the log may have it, which is in the clear: with ``***`` for the number it is made of. Where the number
    is not known any more (``digits`` are empty), each run of digits that may be one goes."""
    if digits:
        if not names_number(name, digits):
            return name
        return re.sub(rb"\d*" + digits[-_TAIL:] + rb"\d*", b"***", name)
    return _LONG.sub(b"***", name)


def bucket_key(key: bytes) -> bytes:
    """The key under which a row is found whose own key names a number, since keys of rows are in the clear. It is so short that
    many numbers share it; what is found is compared whole. No id begins with NUL."""
    return b"\0" + blake2b(key, digest_size=3, person=b"smppd row key").digest()


def may_name_number(name: bytes) -> bool:
    """Whether an id has a run of digits that may be a number."""
    return _LONG.search(name) is not None


class ByAddress(Generic[M]):
    """A dict of messages by id, which also finds them by their addresses and by their deadline. Each method costs the same,
    however many messages there are. A message has its deadline when it is put in."""

    def __init__(self) -> None:
        self._messages: dict[int, M] = {}
        self._keys: dict[int, bytes] = {}
        self._near: dict[bytes, dict[int, M]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._messages)

    def __bool__(self) -> bool:
        return bool(self._messages)

    def __iter__(self) -> Iterator[int]:
        return iter(self._messages)

    def __contains__(self, identity: object) -> bool:
        return identity in self._messages

    def __setitem__(self, identity: int, message: M) -> None:
        self.pop(identity, None)
        sm = Sm(message.frame)
        key = address_tail(sm.source_digits) + b"\0" + address_tail(sm.destination_digits)
        self._messages[identity] = message
        self._keys[identity] = key
        self._near.setdefault(key, {})[identity] = message
        heapq.heappush(self._deadlines, (message.deadline, identity))

    def __delitem__(self, identity: int) -> None:
        if self.pop(identity, None) is None:
            raise KeyError(identity)

    def pop(self, identity: int, default: M | None = None) -> M | None:
        """Takes one out."""
        message = self._messages.pop(identity, None)
        if message is None:
            return default
        key = self._keys.pop(identity)
        bucket = self._near[key]
        del bucket[identity]
        if not bucket:
            del self._near[key]
        if len(self._deadlines) > 2 * len(self._messages) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._messages]
            heapq.heapify(self._deadlines)
        return message

    def values(self) -> ValuesView[M]:
        """All of them."""
        return self._messages.values()

    def fitting(self, receipt: Sm) -> list[M]:
        """Messages whose addresses agree with those of a receipt, among the first 64 that may."""
        found: dict[int, M] = {}
        for key in address_pairs(receipt):
            for message in islice(self._near.get(key, {}).values(), _MANY):
                if message.id not in found and addresses_agree(receipt, Sm(message.frame)):
                    found[message.id] = message
        return list(found.values())

    def take_due(self, now: float, most: int) -> list[M]:
        """Takes out those whose deadline has passed, ``most`` at a time."""
        late: list[M] = []
        while self._deadlines and self._deadlines[0][0] <= now and len(late) < most:
            deadline, identity = heapq.heappop(self._deadlines)
            message = self._messages.get(identity)
            if message is not None and message.deadline == deadline:
                self.pop(identity)
                late.append(message)
        return late

    def oldest(self, most: int) -> list[M]:
        """The ones put in first."""
        return list(islice(self._messages.values(), most))
