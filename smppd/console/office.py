"""The people of an installation, opened again and again: the key-encryption key is asked for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from smppd.config import SecretError, Settings
from smppd.office.desk import Office
from smppd.office.errors import OfficeError
from smppd.office.unlocking import refuse_shredded, unlock, witnessed_trail
from smppd.operators.desk import Desk
from smppd.store.api import StoreError
from smppd.store.opening import installation
from smppd.vault.kek import VaultError
from smppd.vault.keys import InstallSecrets
from smppd.vault.seal import SealError

__all__ = ["Office", "OfficeError", "Offices", "offices"]

Offices = Callable[[], AbstractContextManager[Office]]
"""Opens the office, in the thread that uses it. OfficeError, from the body of the `with` too."""


def offices(settings: Settings) -> Offices:
    """Opens the people of the installation that these settings name."""
    kept: list[InstallSecrets] = []

    @contextmanager
    def opened() -> Iterator[Office]:
        try:
            store = installation(settings)
            refuse_shredded(store)
            if not kept:
                kept.append(unlock(settings).install)
            with ExitStack() as stack:
                desk = Desk(store.documents(), kept[0])
                stack.callback(desk.close)
                yield Office(desk, stack.enter_context(witnessed_trail(store, kept[0])))
        except (VaultError, StoreError, SealError, SecretError) as error:
            raise OfficeError(f"the operators of this store cannot be reached: {error}") from None

    return opened
