"""A store whose log has its chain and its seals."""

from __future__ import annotations

from smppd.vault.chain import ChainKeys
from smppd.vault.keys import create_install, load_install
from tests.store.stands import PostgresStand
from tests.vault.rows import MemoryRows


def sealed(stand: PostgresStand) -> PostgresStand:
    """The store with the log's chain under the keys of an installation."""
    rows = MemoryRows()
    create_install(stand._kek, rows)
    install = load_install(stand._kek, rows)
    stand.chain_keys = ChainKeys(install.audit, install.checkpoint)
    stand.starts()
    return stand
