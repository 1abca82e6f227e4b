"""Opens what erases, for a command: it knows the holds of the installation, and what has to be kept for how long."""

from __future__ import annotations

from smppd.audit.trail import AuditTrail
from smppd.backup.erasures import open_eraser
from smppd.config import Settings
from smppd.config.retention import floor
from smppd.daemon.erasing import finish_underway
from smppd.records.erasure import Eraser
from smppd.records.holds import Holds
from smppd.store.erasures import ErasureRows
from smppd.store.opening import installation
from smppd.vault.kek import Kek
from smppd.vault.keys import InstallSecrets


def eraser_of(
    settings: Settings, kek: Kek, install: InstallSecrets, trail: AuditTrail, holds: Holds
) -> tuple[Eraser, ErasureRows]:
    """An eraser on the store of these settings, and its rows, closed with it. Raises StoreError."""
    return open_eraser(
        installation(settings),
        kek,
        install,
        trail,
        holds=holds,
        floor=lambda account, part, accepted: floor(settings, account, part.value, accepted),
        region=settings.region_of,
        way=lambda _number, records: finish_underway(settings, kek, records),
    )
