"""The register of opt-outs in memory: who wants no messages from whom, as keyed hashes under the suppression key.

An entry is (account, sender, number); the sender `ANY` means every sender of the account. No number is kept, here or on disk:
whoever has the hashes and not the key cannot tell whom they mean, and nothing turns one back into a number. The key is one of
the installation's secrets (`vault.keys.InstallSecrets`): it is re-wrapped with the others, and restored with them.

A change counts at once, before it is durable, so that nothing slips through meanwhile; where its batch is not stored it is
undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final, Protocol

from smppd.consent.hashset import KEY_OCTETS as KEY_OCTETS
from smppd.consent.hashset import PREFIX, HashSet
from smppd.numbering import normalise
from smppd.store.api import OptOut

ANY: Final = b"\x01"
"""The sender of an entry that is about every sender of its account: no octet of an address."""
ANY_LABEL: Final = "*"
_STATES: Final = 4096
_PERSON: Final = b"smppd-opt-out"
_SENDERS: Final = b"smppd-opt-sender"
_MARKS: Final = b"smppd-opt-mark"


class _Hash(Protocol):
    """What is used of hashlib's BLAKE2b."""

    def copy(self) -> _Hash:
        """The same state once more."""

    def update(self, data: bytes, /) -> None:
        """Takes octets in."""

    def digest(self) -> bytes:
        """The hash."""


class Hashes:
    """Makes the keys of entries. For commands and the daemon; any thread."""

    def __init__(self, key: bytes) -> None:
        """key: the installation's suppression key, 32 octets."""
        self._state: _Hash = blake2b(key=key, digest_size=KEY_OCTETS, person=_PERSON)
        self._senders: _Hash = blake2b(key=key, digest_size=8, person=_SENDERS)
        self.mark: str = blake2b(key=key, digest_size=4, person=_MARKS).hexdigest()
        """By what an export is known to be of this installation."""

    def __repr__(self) -> str:
        return "<Hashes ***>"

    def state(self, account: str, sender: bytes) -> _Hash:
        """What is hashed of an entry before its number."""
        state = self._state.copy()
        state.update(account.encode() + b"\0" + sender + b"\0")
        return state

    def key(self, account: str, sender: bytes, number: bytes) -> bytes:
        """The key of an entry, 16 octets. sender, number: in their normal form (`numbering.normalise`); sender may be `ANY`."""
        state = self.state(account, sender)
        state.update(number)
        return state.digest()

    def label(self, account: str, sender: bytes) -> str:
        """A sender as it may be stored and shown: `#` and 16 hex digits of a keyed hash, `*` for any."""
        if sender == ANY:
            return ANY_LABEL
        state = self._senders.copy()
        state.update(account.encode() + b"\0" + sender)
        return "#" + state.digest().hex()


class _Flying:
    """An entry of which changes are in batches that are not durable yet. stored: whether it stands on disk."""

    __slots__ = ("changes", "stored")

    def __init__(self, stored: bool) -> None:
        self.stored = stored
        self.changes: list[OptOut] = []


class Register:
    """See the module. For the reactor's thread. ``epoch`` rises with each entry that is added: what was asked before may be
    answered otherwise now."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.epoch = 1
        self._set = HashSet()
        self._numbers: dict[str, int] = {}  # entries by account
        self._any: dict[str, int] = {}  # those of them that are about any sender
        self._states: dict[tuple[str, bytes], _Hash] = {}
        self._flying: dict[bytes, _Flying] = {}
        self._since: list[tuple[bytes, OptOut | None]] | None = None
        self.durable: Callable[[list[OptOut]], object] = lambda _changes: None
        """Told of changes that are on stable storage by now."""

    def __repr__(self) -> str:
        return f"<Register {len(self._set)}>"

    def __len__(self) -> int:
        return len(self._set)

    def load(self, entries: Iterable[OptOut]) -> None:
        """Takes over what is stored, in order of the keys. At the start, into an empty register."""
        name = -1
        rests: list[bytes] = []
        for entry in entries:
            key = entry.key
            prefix = key[0] << 8 | key[1]
            if prefix != name:
                if rests:
                    self._set.fill(name, rests)
                name, rests = prefix, []
            rests.append(key[PREFIX:])
            self._count(entry.account, entry.sender, 1)
        if rests:
            self._set.fill(name, rests)
        self.epoch += 1

    # -- what other nodes change ---------------------------------------------------------------------------------------

    def read_anew(self) -> Register:
        """An empty one, to be filled with all that is stored, in another thread, and given to `take_over`. What changes here
        meanwhile is remembered."""
        self._since = []
        return Register(self.hashes)

    def take_over(self, stored: Register | None) -> None:
        """From now on what is stored counts, with what has changed here since `read_anew`. None: it could not be read."""
        since, self._since = self._since or [], None
        if stored is None:
            return
        self._set, self._numbers, self._any = stored._set, stored._numbers, stored._any
        for key, flying in self._flying.items():
            flying.stored = self._set.has(key)
            since.extend([(key, one if one.stands else None) for one in flying.changes[-1:]])
        for key, entry in since:
            self._follow(key, entry)
        self.epoch += 1

    def follow(self, key: bytes, stored: OptOut | None) -> None:
        """Another node has changed an entry, which is stored so now; None: it is gone. What is in a batch of this node comes
        after it."""
        flying = self._flying.get(key)
        if flying is not None:
            flying.stored = stored is not None
            return
        self._follow(key, stored)
        if self._since is not None:
            self._since.append((key, stored))

    def _follow(self, key: bytes, stored: OptOut | None) -> None:
        if stored is None:
            if self._set.has(key):
                self._set.remove(key)  # whose it was nobody says: one more is counted of him until all is read anew
        elif not self._set.has(key):
            self._put(stored, True)

    def is_empty_for(self, account: str) -> bool:
        """Whether an account has no entry at all."""
        return account not in self._numbers

    def stands(self, account: str, sender: bytes, number: bytes) -> bool:
        """Whether somebody wants nothing from a sender of an account, or from none of its senders."""
        entries = self._numbers.get(account)
        if entries is None:
            return False
        about_any = self._any.get(account, 0)
        # What is imported is mostly about any sender: then one hash answers.
        if entries > about_any and self._set.has(self._key(account, sender, number)):
            return True
        return about_any > 0 and self._set.has(self._key(account, ANY, number))

    def has(self, key: bytes) -> bool:
        """Whether an entry stands."""
        return self._set.has(key)

    def entry(self, account: str, sender: bytes, number: bytes, at: int, source: str, stands: bool = True) -> OptOut:
        """An entry, or the end of one, to be given to `change`."""
        label = self.hashes.label(account, sender)
        return OptOut(self.hashes.key(account, sender, number), account, label, at, source, stands)

    def change(self, change: OptOut) -> bool:
        """Makes a change that goes with a batch; False where it changes nothing."""
        key = change.key
        if self._set.has(key) is change.stands:
            return False
        flying = self._flying.get(key)
        if flying is None:
            flying = self._flying[key] = _Flying(not change.stands)
        flying.changes.append(change)
        self._put(change, change.stands)
        return True

    def committed(self, changes: Iterable[OptOut]) -> None:
        """The batch with these changes is durable."""
        changes = list(changes)
        if changes:
            self.durable(changes)
        for change in changes:
            flying = self._flying.get(change.key)
            if flying is not None and flying.changes and flying.changes[0] is change:
                flying.stored = change.stands
                del flying.changes[0]
                if not flying.changes:
                    del self._flying[change.key]

    def refused(self, changes: Iterable[OptOut]) -> None:
        """The batch with these changes was not stored: what it changed is as it was."""
        for change in changes:
            flying = self._flying.get(change.key)
            if flying is None:
                continue
            flying.changes = [one for one in flying.changes if one is not change]
            if flying.changes:
                continue  # what came later decides
            del self._flying[change.key]
            if self._set.has(change.key) is not flying.stored:
                self._put(change, flying.stored)

    def _put(self, change: OptOut, stands: bool) -> None:
        if self._since is not None:
            self._since.append((change.key, change if stands else None))
        if stands:
            self._set.add(change.key)
            self.epoch += 1
        else:
            self._set.remove(change.key)
        self._count(change.account, change.sender, 1 if stands else -1)

    def _count(self, account: str, sender: str, number: int) -> None:
        _add(self._numbers, account, number)
        if sender == ANY_LABEL:
            _add(self._any, account, number)

    def _key(self, account: str, sender: bytes, number: bytes) -> bytes:
        state = self._states.get((account, sender))
        if state is None:
            if len(self._states) >= _STATES:
                self._states.clear()
            state = self._states[account, sender] = self.hashes.state(account, sender)
        state = state.copy()
        state.update(number)
        return state.digest()


def _add(counts: dict[str, int], name: str, number: int) -> None:
    count = counts.get(name, 0) + number
    if count:
        counts[name] = count
    else:
        counts.pop(name, None)


def sender_form(digits: bytes, ton: int, region: str | None) -> bytes:
    """The normal form of a sender, a number or a name."""
    return normalise(digits, ton, 0, region)
