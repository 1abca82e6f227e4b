"""Which customers' sessions may stand when the configuration changes: those that could bind now as they did.

A session ends when its account was removed or suspended, when its address is in none of the account's networks any more, when
it did not show the certificate that the account has to show now, or when its bind operation or SMPP version is not allowed any
more; and of those above `max_binds` the ones that would not be there had the limit stood from the beginning. A changed
password ends none: it is exchanged while sessions stand, and `smppd act kick` ends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from smppd.config import Account
from smppd.net.auth import certificate_matches, within

T = TypeVar("T")


class Shown(NamedTuple):
    """What a session showed when it bound. ``peer``: its address. ``certificate``: DER, None where it showed none. ``mode``:
    `transmitter`, `receiver` or `transceiver`. ``version``: of SMPP, as `interface_versions` has it."""

    peer: str
    certificate: bytes | None
    mode: str
    version: str


def unfit(shown: Shown, settings: Account | None) -> str | None:
    """Why a session cannot stand by its account's settings, None where it can. ``settings``: None where the account is in the
    configuration no more."""
    if settings is None:
        return "the account is removed"
    if settings.suspended:
        return "the account is suspended"
    if settings.networks != "any" and not within(shown.peer, settings.networks):
        return "its address is in none of the account's networks"
    if settings.client_certificate is not None and not certificate_matches(
        settings.client_certificate, shown.certificate
    ):
        return "it did not show the account's client certificate"
    if shown.mode not in settings.binds:
        return f"the account may not bind as {shown.mode}"
    if shown.version not in settings.interface_versions:
        return f"the account may not speak SMPP {shown.version}"
    return None


def asks_the_same(one: Account, other: Account) -> bool:
    """Whether two settings of an account let the same sessions stand, without looking at any."""
    return (
        one.suspended == other.suspended
        and one.networks == other.networks
        and one.client_certificate == other.client_certificate
        and one.binds == other.binds
        and one.interface_versions == other.interface_versions
    )


def surplus(sessions: Sequence[T], settings: Account) -> Sequence[T]:
    """Those of an account's sessions, the oldest first, that are too many: with `when_full: evict_oldest` the oldest, otherwise
    the newest."""
    over = len(sessions) - settings.max_binds
    if over <= 0:
        return ()
    return sessions[:over] if settings.when_full == "evict_oldest" else sessions[-over:]
