"""Whether somebody is who he says: passphrase and one-time code, from an allowed network, not too often.

`check` knows no terminal and no socket; the commands and whatever serves a browser ask the same function. All failures are one
answer: each costs one Argon2 hash, whether the name is known or not, and whoever answers waits until REFUSAL_FLOOR is over.
What it was is told to the audit trail alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from smppd.operators import totp
from smppd.operators.attempts import Attempts
from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People, passphrase_form
from smppd.passwords import LONGEST_PASSPHRASE, hashed, password_matches

REFUSAL_FLOOR: Final = 1.0
"""Seconds after which a refusal is answered, whatever the reason."""
REFUSED: Final = (
    "login refused: name, passphrase and code do not fit together, or not now, or not from here; after some failures it takes"
    " up to 15 minutes until a login is looked at again"
)
_TRIES: Final = 3
_CODE_CHARACTERS: Final = 64


class Failure(StrEnum):
    """Why a login was refused; for the audit trail only."""

    RATE = "too often"
    UNKNOWN = "unknown name"
    PASSPHRASE = "passphrase"
    DISABLED = "disabled"
    CODE = "code"
    NETWORK = "network"
    ALTERED = "not as the audit trail left him"


class Claim(NamedTuple):
    """What somebody says who logs in. code: of the authenticator app, or a recovery code."""

    name: str
    passphrase: str
    code: str

    def __repr__(self) -> str:
        return "<Claim ***>"


class Outcome(NamedTuple):
    """Of a login. operator: who it is, None where it was refused. name: the keyed hash of the name. refusals: how many are to
    be put on the audit trail now, this one included; 0 for none (they are gathered). recovery: a recovery code was used up."""

    operator: Operator | None
    name: str
    refusals: int = 0
    failure: Failure | None = None
    recovery: bool = False


def check(
    desk: Desk,
    claim: Claim,
    now: float,
    address: str,
    draw: Callable[[int], bytes] = os.urandom,
    vouched: Callable[[Operator], bool] = lambda _operator: True,
) -> Outcome:
    """Looks at a login. now: epoch seconds. address: the client's, empty for this host itself. vouched: whether the audit trail
    knows the operator as he is. A right code counts as used from here on, whatever follows. Takes some 20 ms of CPU. Raises
    StoreError and SealError."""
    people, attempts = People(desk), Attempts(desk)
    hidden = desk.hash("name", claim.name)
    looked_at = attempts.take(claim.name, now)
    typed = passphrase_form(claim.passphrase[: LONGEST_PASSPHRASE + 1]).encode("utf-8", "replace")
    code = totp.plain(claim.code[:_CODE_CHARACTERS])
    failure = Failure.CODE
    for _ in range(_TRIES):
        found = people.load(claim.name) if looked_at else None
        if found is None:
            hashed("", draw(16))  # as long as a comparison takes
            failure = Failure.UNKNOWN if looked_at else Failure.RATE
            break
        operator, paper = found
        right = password_matches((operator.phc,), typed)
        after = _code_used(people, operator, code, now)
        if not right:
            failure = Failure.PASSPHRASE
            break
        if operator.disabled:
            failure = Failure.DISABLED
            break
        if after is None:
            failure = Failure.CODE
            break
        if not operator.comes_from(address):
            failure = Failure.NETWORK
            break
        if not vouched(operator):
            failure = Failure.ALTERED
            break
        if people.store(after, paper):
            untold = attempts.right(claim.name, now)
            return Outcome(after, hidden, untold, None, len(after.recovery) < len(operator.recovery))
        # Changed meanwhile, perhaps by a login with this very code.
    return Outcome(None, hidden, attempts.wrong(claim.name, now, looked_at), failure)


def check_code(
    desk: Desk, name: str, typed: str, now: float, address: str, vouched: Callable[[Operator], bool]
) -> Outcome:
    """Looks at one more code of somebody whose passphrase and code were right a moment ago. It counts as a login of its own: as
    often, and a right code is used from here on. now: epoch seconds. Raises StoreError and SealError."""
    people, attempts = People(desk), Attempts(desk)
    hidden = desk.hash("name", name)
    looked_at = attempts.take(name, now)
    code = totp.plain(typed[:_CODE_CHARACTERS])
    failure = Failure.CODE if looked_at else Failure.RATE
    for _ in range(_TRIES):
        found = people.load(name) if looked_at else None
        if found is None:
            break
        operator, paper = found
        after = _code_used(people, operator, code, now)
        if after is None or operator.disabled or not operator.comes_from(address) or not vouched(operator):
            break
        if people.store(after, paper):
            untold = attempts.right(name, now)
            return Outcome(after, hidden, untold, None, len(after.recovery) < len(operator.recovery))
    return Outcome(None, hidden, attempts.wrong(name, now, looked_at), failure)


def _code_used(people: People, operator: Operator, code: str, now: float) -> Operator | None:
    """The operator after this code was used; None where it is none, or was used."""
    if totp.is_code(code):
        step = totp.accepted_step(operator.secret, code, now, operator.step)
        return None if step is None else operator._replace(step=step)
    (hidden,) = people.recovery_hashes(operator.name, (code,))
    if hidden not in operator.recovery:
        return None
    return operator._replace(recovery=tuple(one for one in operator.recovery if one != hidden))
