"""The operators of an installation: names, roles, where they may come from, and what they prove themselves with.

An operator is a sealed document. Each change is a compare and swap and gives it a new version; sessions name the version that
they were opened under, so a change ends them. That a code was used does not count as a change.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from smppd.operators import totp
from smppd.operators.desk import Desk, Paper
from smppd.operators.roles import Act, Role, may
from smppd.passwords import hashed, passphrase_weakness

KIND: Final = "operator"
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,31}")
_TRIES: Final = 20


class PeopleError(Exception):
    """An operator cannot be made or changed so; the text is a sentence without anything secret."""


class Operator(NamedTuple):
    """One operator. phc: the passphrase's Argon2id hash. secret: of the one-time codes. recovery: keyed hashes of the recovery
    codes that were not used. networks: empty for any. accounts: those of an account owner. step: the newest step of which a
    code was accepted. by: the operator who set it up or changed it last, empty for one without a login. created, changed: epoch
    seconds."""

    name: str
    phc: str
    secret: bytes
    recovery: tuple[str, ...]
    roles: frozenset[Role]
    networks: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    disabled: bool = False
    step: int = 0
    version: int = 1
    by: str = ""
    created: int = 0
    changed: int = 0

    def __repr__(self) -> str:
        return f"<Operator {self.name} ***>"

    def may(self, act: Act) -> bool:
        """Whether one of the roles allows an act, and nobody disabled the operator."""
        return not self.disabled and may(self.roles, act)

    def sees(self) -> frozenset[str] | None:
        """The accounts whose data may be seen, None for all."""
        return frozenset(self.accounts) if Role.ACCOUNT_OWNER in self.roles else None

    def comes_from(self, address: str) -> bool:
        """Whether an address (empty: this host) is among the networks."""
        if not address or not self.networks:
            return True
        try:
            one = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = one.ipv4_mapped if isinstance(one, ipaddress.IPv6Address) else None
        return any((mapped or one) in ipaddress.ip_network(network) for network in self.networks)


class Credentials(NamedTuple):
    """What a new operator proves himself with. codes: as they are shown, once."""

    phc: str
    secret: bytes
    codes: tuple[str, ...]

    def __repr__(self) -> str:
        return "<Credentials ***>"


def is_name(text: str) -> bool:
    """Whether an operator can have this name."""
    return _NAME.fullmatch(text) is not None


def passphrase_form(typed: str) -> str:
    """A passphrase in one form, however the keyboard composes its characters."""
    return unicodedata.normalize("NFKC", typed)


def new_credentials(name: str, passphrase: str, draw: Callable[[int], bytes]) -> Credentials:
    """A hash of the passphrase, a new secret and new recovery codes. draw(n): n random octets. PeopleError for a weak one."""
    typed = passphrase_form(passphrase)
    weak = passphrase_weakness(typed, name)
    if weak:
        raise PeopleError(f"the passphrase was refused: {weak}")
    return Credentials(hashed(typed, draw(16)), draw(totp.SECRET_BYTES), tuple(totp.recovery_codes(draw)))


def networks_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks in their usual form; `any` alone means every one. PeopleError."""
    found: list[str] = []
    wanted = list(texts)
    for text in wanted:
        if text == "any":
            if len(wanted) > 1:
                raise PeopleError("`any` stands alone: it is every network")
            return ()
        try:
            network = str(ipaddress.ip_network(text))
        except ValueError:
            raise PeopleError(f"{text[:60]!r} is no network: write 192.0.2.0/24, 2001:db8::/48 or any") from None
        if network not in found:
            found.append(network)
    return tuple(found)


def check_roles(roles: Iterable[Role], accounts: Iterable[str], known: Iterable[str]) -> None:
    """Whether roles and accounts go together. known: the accounts of the configuration. PeopleError."""
    held, named, there = frozenset(roles), list(accounts), frozenset(known)
    if not held:
        raise PeopleError("an operator needs a role")
    if Role.ACCOUNT_OWNER not in held:
        if named:
            raise PeopleError("only an account owner has accounts: all others see every account")
        return
    if held != {Role.ACCOUNT_OWNER}:
        raise PeopleError("an account owner has no other role: he sees his own accounts and nothing else")
    if not named:
        raise PeopleError("an account owner needs an account")
    for account in named:
        if account not in there:
            raise PeopleError(f"{account[:64]!r} is no account of the configuration")


class People:
    """The operators of a store. Raises StoreError and SealError."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def any(self) -> bool:
        """Whether there are operators, disabled ones too."""
        return self._desk.has(KIND)

    def all(self) -> list[Operator]:
        """All, in order of name."""
        return [_read(paper.value) for paper in self._desk.all(KIND)]

    def get(self, name: str) -> Operator | None:
        """One, by name."""
        found = self.load(name)
        return None if found is None else found[0]

    def load(self, name: str) -> tuple[Operator, Paper] | None:
        """One, and what it was read from."""
        paper = self._desk.get(KIND, name) if is_name(name) else None
        return None if paper is None else (_read(paper.value), paper)

    def store(self, operator: Operator, before: Paper) -> bool:
        """Puts an operator into the place of what it was before; False where that has changed since."""
        return self._desk.replace(KIND, before, _write(operator))

    def state(self, operator: Operator) -> str:
        """The keyed hash of all that a change of an operator changes, for the audit trail: an older document that is put back
        has another one. Logins change none of it."""
        facts = _write(operator)
        said = [str(facts[fact]) for fact in ("version", "phc", "secret", "roles", "networks", "accounts", "disabled")]
        return self._desk.hash("state", operator.name, *said)

    def recovery_hashes(self, name: str, codes: Iterable[str]) -> tuple[str, ...]:
        """Keyed hashes of recovery codes, however they are typed."""
        return tuple(self._desk.hash("recovery", name, totp.plain(code)) for code in codes)

    def add(self, operator: Operator) -> None:
        """Adds one. PeopleError where there is one of this name, or it cannot have it."""
        if not is_name(operator.name):
            raise PeopleError(
                "a name is a small letter, then up to 31 small letters, digits, dots, underlines or hyphens"
            )
        if not self._desk.add(KIND, operator.name, _write(operator)):
            raise PeopleError(f"there is an operator {operator.name} already: `operators reset` gives a new passphrase")

    def change(
        self,
        name: str,
        how: Callable[[Operator], Operator],
        now: float,
        by: str,
        *,
        unchecked: bool = False,
        tell: Callable[[Operator], object] = lambda _after: None,
    ) -> Operator:
        """Changes one: its version rises, which ends its sessions. by: who does it (`Operator.by`). unchecked: also where
        nobody would be left who may manage operators. tell: called with what is about to be written, again where somebody else
        changed it meanwhile. PeopleError where there is none of this name, or nobody would be left."""
        for _ in range(_TRIES):
            found = self.load(name)
            if found is None:
                raise PeopleError(f"there is no operator {name[:64]!r}")
            before, paper = found
            after = how(before)._replace(version=before.version + 1, changed=int(now), by=by)
            tell(after)
            if not self.store(after, paper):
                continue
            if not unchecked and before.may(Act.OPERATORS) and not self.managed():
                # Looked at after the change: of two managers who take each other's role at once, one at least stays.
                self._undo(after, before)
                raise PeopleError(f"{name} is the last who may manage operators: give another one that role first")
            return after
        raise PeopleError(f"{name} is being changed by others all the time: try again")

    def managed(self) -> bool:
        """Whether somebody is there who may manage operators."""
        return any(one.may(Act.OPERATORS) for one in self.all())

    def _undo(self, after: Operator, before: Operator) -> None:
        found = self.load(after.name)
        if found is not None and found[0].version == after.version:
            self.store(before._replace(version=after.version + 1, step=max(after.step, found[0].step)), found[1])

    def remove(self, name: str) -> None:
        """Takes one away that was added just now."""
        self._desk.remove(KIND, name)


def _read(value: Any) -> Operator:
    return Operator(
        name=value["name"],
        phc=value["phc"],
        secret=bytes.fromhex(value["secret"]),
        recovery=tuple(value["recovery"]),
        roles=frozenset(Role(role) for role in value["roles"]),
        networks=tuple(value["networks"]),
        accounts=tuple(value["accounts"]),
        disabled=value["disabled"],
        step=value["step"],
        version=value["version"],
        by=value["by"],
        created=value["created"],
        changed=value["changed"],
    )


def _write(operator: Operator) -> dict[str, Any]:
    return operator._asdict() | {"secret": operator.secret.hex(), "roles": sorted(operator.roles)}
