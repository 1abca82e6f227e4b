"""The register of consents in memory: who may be sent what by whom, as keyed hashes, for the question each message is asked.

An entry is the hash of account and number, changed by that of a scope (class and sender): 16 octets. A million take 23 MB,
and half as much again while they are loaded; `MOST` are taken. It says nothing of when and how: the proof is in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from smppd.consent.hashset import PREFIX, HashSet
from smppd.consent.register_proof import ANY, CLASSES, HASH, ConsentKeys, scopes_of
from smppd.message import Hit, Refusal
from smppd.numbering import normalise
from smppd.policy.screens import Question
from smppd.protocol.wire import Sm, Status
from smppd.store.consents import Standing

MOST: Final = 10_000_000
"""Entries, and rows of the store: an import that would lead above it is refused."""
NAME: Final = "consent"
MISSING: Final = Refusal(int(Status.RINVDSTADR), "there is no consent on record", NAME)
_SHADOW: Final = Hit(NAME, "missing", True)
_ANY: Final = ANY.encode()


class Register:
    """See the module. For the reactor's thread."""

    def __init__(self, keys: ConsentKeys) -> None:
        self._keys = keys
        self.epoch = 1
        """Rises with each consent that counts no longer: what was asked before has to be asked again."""
        self._set = HashSet()
        self._since: list[tuple[bool, list[Standing]]] | None = None
        self.changed: Callable[[], object] = lambda: None
        """Told when something was added or removed."""
        # The scopes that any consent of an account has: most have one.
        self._scopes: dict[str, frozenset[bytes]] = {}
        # (account, class) -> its scopes that are about every sender, and whether it has others at all.
        self._general: dict[tuple[str, str], tuple[tuple[bytes, ...], bool]] = {}

    def __repr__(self) -> str:
        return f"<Register {len(self._set)}>"

    def __len__(self) -> int:
        return len(self._set)

    def load(self, standing: Iterable[Standing]) -> None:
        """Takes over what is stored, at the start."""
        buckets: dict[int, bytearray] = {}
        for one in standing:
            for entry in self._entries(one):
                buckets.setdefault(entry[0] << 8 | entry[1], bytearray()).extend(entry[PREFIX:])
        rest = HASH - PREFIX
        for name, octets in buckets.items():
            self._set.fill(name, list({bytes(octets[at : at + rest]) for at in range(0, len(octets), rest)}))

    def read_anew(self) -> Register:
        """An empty one, to be filled with all that is stored, in another thread, and given to `take_over`. What changes here
        meanwhile is remembered."""
        self._since = []
        return Register(self._keys)

    def take_over(self, stored: Register | None) -> None:
        """From now on what is stored counts, with what has changed here since `read_anew`. None: it could not be read."""
        since, self._since = self._since or [], None
        if stored is None:
            return
        self._set, self._scopes = stored._set, stored._scopes
        self._general.clear()
        self.epoch += 1
        for added, standing in since:
            (self._add if added else self._remove)(standing)

    def add(self, standing: Iterable[Standing]) -> None:
        """Consents count from now on."""
        some = list(standing)
        if some:
            self._note(True, some)
            self._add(some)
            self.changed()

    def _note(self, added: bool, standing: list[Standing]) -> None:
        if self._since is not None:
            self._since.append((added, standing))

    def _add(self, standing: Iterable[Standing]) -> None:
        for one in standing:
            for entry in self._entries(one):
                if not self._set.has(entry):
                    self._set.add(entry)

    def remove(self, standing: Iterable[Standing]) -> None:
        """Consents count no longer. Whoever removes one has looked whether another says the same."""
        some = list(standing)
        self.epoch += 1
        if some:
            self._note(False, some)
            self._remove(some)
            self.changed()

    def _remove(self, standing: Iterable[Standing]) -> None:
        for one in standing:
            for entry in self._entries(one):
                if self._set.has(entry):
                    self._set.remove(entry)

    def stands(self, account: str, number: bytes, message_class: str, sender: Callable[[], bytes]) -> bool:
        """Whether somebody agreed to a class of messages from a sender of an account; number, sender(): in their normal form.
        The sender is asked for only where some consent of the account is about one."""
        if account not in self._scopes:
            return False
        known = self._general.get((account, message_class))
        general, others = known if known is not None else self._look(account, message_class)
        if not general and not others:
            return False
        subject = self._keys.subject(account, number)
        for scope in general:
            if self._set.has(_mixed(subject, scope)):
                return True
        if others:
            scopes, keys, whom = self._scopes[account], self._keys, sender()
            for one in (message_class, ANY):
                scope = keys.scope(one, whom)
                if scope in scopes and self._set.has(_mixed(subject, scope)):
                    return True
        return False

    def _look(self, account: str, message_class: str) -> tuple[tuple[bytes, ...], bool]:
        scopes, keys = self._scopes[account], self._keys
        every = {keys.scope(one, _ANY) for one in CLASSES}
        general = tuple(scope for scope in (keys.scope(message_class, _ANY), keys.scope(ANY, _ANY)) if scope in scopes)
        known = self._general[account, message_class] = general, not scopes <= every
        return known

    def _entries(self, one: Standing) -> list[bytes]:
        scopes = scopes_of(one.scopes)
        known = self._scopes.get(one.account, frozenset())
        if not known.issuperset(scopes):
            self._scopes[one.account] = known.union(scopes)
            self._general.clear()
        return [_mixed(one.subject, scope) for scope in scopes]


def _mixed(subject: bytes, scope: bytes) -> bytes:
    return (int.from_bytes(subject, "big") ^ int.from_bytes(scope, "big")).to_bytes(HASH, "big")


class ConsentScreen:
    """Asks of each message of some classes whether its recipient agreed (`policy.screens.Screen`). One for each account that
    has ``consent`` ``required`` or ``shadow``."""

    def __init__(self, register: Register, shadow: bool, classes: Iterable[str]) -> None:
        self.name: str = NAME
        self.register = register
        self.shadow = shadow
        self.classes = frozenset(classes)

    def look(self, question: Question) -> Refusal | None:
        """See `policy.screens.Screen`."""
        if self._has(question):
            question.agreed = question.message_class in self.classes
            return None
        if self.shadow:
            question.hits.append(_SHADOW)
            return None
        return MISSING

    def _has(self, question: Question) -> bool:
        if question.message_class not in self.classes:
            return True
        sm = question.sm
        return self.register.stands(
            question.account,
            question.destination,
            question.message_class,
            lambda: normalise(sm.source_digits, sm.source_ton, 0, question.region),
        )

    def refuses_now(self, account: str, region: str | None, frame: bytes, reply_to: bytes | None) -> bool:
        """Whether a message that was accepted by a consent and has waited may not leave any more: nothing counts of what its
        recipient agreed to. Its class is not kept, and what is withdrawn is withdrawn for all classes. frame: its PDU;
        reply_to: the source field that its customer used, where policy exchanged it."""
        if self.shadow:
            return False
        sm = Sm(frame)
        number = normalise(sm.destination_digits, sm.destination_ton, 0, region)
        ton, digits = (sm.source_ton, sm.source_digits) if reply_to is None else (reply_to[0], reply_to[2:-1])

        def sender() -> bytes:
            return normalise(digits, ton, 0, region)

        return not any(self.register.stands(account, number, one, sender) for one in self.classes)

    def explain(self, question: Question) -> str:
        """See `policy.screens.Screen`."""
        kind = question.message_class.replace("_", " ")
        if question.message_class not in self.classes:
            return f"{kind} messages need no consent on record"
        if self._has(question):
            return "there is a consent on record"
        if self.shadow:
            return "there is no consent on record (only counted: consent is shadow)"
        return "there is no consent on record: refused (ESME_RINVDSTADR)"
