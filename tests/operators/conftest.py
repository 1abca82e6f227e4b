"""A desk on a real store, and a person at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People, new_credentials
from smppd.operators.roles import Role
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.keys import InstallSecrets, create_install, load_install
from tests.vault.rows import kek

PASSPHRASE = "walnut ferry ochre lamp"
NOW = 1_796_000_000.0

Made = tuple[Operator, tuple[str, ...]]


@pytest.fixture
def install(tmp_path: Path) -> InstallSecrets:
    key, rows = kek(), KeyStore(tmp_path)
    create_install(key, rows)
    secrets = load_install(key, rows)
    rows.close()
    return secrets


@pytest.fixture
def new_desk(tmp_path: Path, install: InstallSecrets) -> Iterator[Callable[[], Desk]]:
    """Opens the same desk once more, as another process would."""
    opened: list[Desk] = []

    def make() -> Desk:
        opened.append(Desk(SqliteDocuments(tmp_path), install))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def desk(new_desk: Callable[[], Desk]) -> Desk:
    return new_desk()


@pytest.fixture
def add(desk: Desk) -> Callable[..., Made]:
    """Adds an operator; it and its recovery codes."""

    def make(name: str, *roles: Role, **fields: object) -> Made:
        people = People(desk)
        made = new_credentials(name, PASSPHRASE, os.urandom)
        operator = Operator(
            name,
            made.phc,
            made.secret,
            people.recovery_hashes(name, made.codes),
            frozenset(roles or (Role.SUPPORT,)),
            created=int(NOW),
            changed=int(NOW),
        )._replace(**fields)  # type: ignore[arg-type]
        people.add(operator)
        return operator, made.codes

    return make
