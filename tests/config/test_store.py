"""The section `store`: a directory, or a database and a directory; never a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smppd.config import Store
from tests.config.helpers import BASE, lines, loaded


def section(text: str) -> str:
    return BASE.replace("store: {path: var}", f"store: {{{text}}}")


@pytest.mark.parametrize(
    "more",
    [
        "url: 'postgresql:///smppd'",
        "url: 'postgresql://smppd@127.0.0.1:5432/smppd'",
        "url: 'postgresql://localhost/smppd'",
        "url: 'postgresql://smppd@[::1]/smppd?connect_timeout=3'",
        "url: 'postgresql:///smppd?host=/run/postgresql'",
        "url: 'postgresql://%2Frun%2Fpostgresql/smppd'",
        "url: 'postgresql://smppd@db.example/smppd?sslmode=verify-full'",
        "url: 'postgresql://smppd@a.example:5432,b.example:5433/smppd?sslmode=verify-ca&target_session_attrs=read-write'",
        "url: 'postgresql://smppd@db.example/smppd', plaintext: allowed",
        "url: 'postgresql://smppd@localhost/smppd', password: {env: PGPASSWORD}",
    ],
)
def test_a_database_is_named_by_its_url(tmp_path: Path, more: str) -> None:
    store = loaded(tmp_path, section(f"path: var, {more}")).store
    assert store.url is not None and store.directory == tmp_path / "var"
    assert Store.model_validate(store.model_dump(mode="json", exclude_none=True)) == store, "as a job has it"


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("url: 'postgresql:///smppd'", "store: needs `path`"),
        ("path: null, url: 'postgresql:///smppd'", "store: needs `path`"),
        ("path: var, password: {env: PGPASSWORD}", "are about `url`, which is not there"),
        ("path: var, plaintext: allowed", "are about `url`, which is not there"),
        (
            "path: var, url: 'postgresql://smppd@localhost/smppd', password: hunter2",
            "store.password: secrets are never written",
        ),
        (
            "path: var, url: 'postgresql://smppd:hunter2@localhost/smppd'",
            "store.url: a password is never written here: use `pass",
        ),
        (
            "path: var, url: 'postgresql://smppd%3Ahunter2@localhost/smppd'",
            "store.url: a password is never written here",
        ),
        (
            "path: var, url: 'postgresql://localhost/smppd?password=hunter2'",
            "store.url: a password is never written here",
        ),
        (
            "path: var, url: 'postgresql://localhost/smppd?sslpassword=hunter2'",
            "store.url: a password is never written here",
        ),
        ("path: var, url: 'mysql://localhost/hunter2'", "store.url: must be a URL such as postgresql://"),
        ("path: var, url: 'postgresql://localhost'", "store.url: must be a URL such as"),
        ("path: var, url: 'postgresql://local host/smppd'", "store.url: must be a URL such as"),
        ("path: var, url: 'postgresql://localhost:x/smppd'", "store.url: must be a URL such as"),
        ("path: var, url: 'postgresql://[::1/smppd'", "store.url: must be a URL such as"),
        ("path: var, url: 'postgresql://localhost/smppd#x'", "store.url: must be a URL such as"),
        ("path: var, url: 'postgresql://localhost/smppd?hunter2'", "store.url: must be a URL such as"),
        (
            "path: var, url: 'postgresql://localhost/smppd?options=-chunter2'",
            "store.url: has parameters that are none of",
        ),
        (
            "path: var, url: 'postgresql://db.example/smppd'",
            "store: db.example is not loopback: give `url` sslmode=verify-full, or say",
        ),
        ("path: var, url: 'postgresql://db.example/smppd?sslmode=require'", "db.example is not loopback"),
        ("path: var, url: 'postgresql://localhost,192.0.2.1/smppd'", "192.0.2.1 is not loopback"),
        ("path: var, url: 'postgresql://localhost/smppd?host=db.example'", "db.example is not loopback"),
    ],
)
def test_what_is_wrong_is_told_and_not_repeated(tmp_path: Path, more: str, fault: str) -> None:
    found = lines(tmp_path, section(more))
    assert len(found) == 1 and fault in found[0] and "hunter2" not in found[0]


@given(st.text(max_size=60))
def test_no_text_is_anything_but_a_url_or_a_fault(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"postgresql://localhost/{text}", f"postgresql:///x?{text}"):
        try:
            assert Store(path=Path("var"), url=url, plaintext="allowed").url == url
        except ValidationError as error:
            assert [one["loc"] for one in error.errors()] == [("url",)]
