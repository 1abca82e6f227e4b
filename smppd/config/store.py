"""Where messages and records are kept: a directory, or a database of PostgreSQL and a directory beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from smppd.config.kinds import AnyPath, Int, Model, Size, is_loopback, size
from smppd.config.peers import Allowed
from smppd.config.secrets import SecretRef

_FORM: Final = "must be a URL such as postgresql://user@host:5432/database?sslmode=verify-full"
_SECRET: Final = "a password is never written here: use `password`, or what libpq finds by itself (a .pgpass file)"
_LONGEST: Final = 1024
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::[0-9]{1,5})?")
_QUERY: Final = frozenset(
    (
        "host port sslmode sslrootcert sslcert sslkey sslcrl sslcrldir sslsni ssl_min_protocol_version channel_binding"
        " connect_timeout target_session_attrs load_balance_hosts passfile service"
    ).split()
)
"""Parameters of libpq that may stand in the URL; those of the session are ours."""
_VERIFIED: Final = ("verify-ca", "verify-full")


class Store(Model):
    """Where messages and records are kept."""

    path: AnyPath = Field(
        description="A directory; may exist already. The embedded store lies in it. With `url` it has what stays on this node:"
        " the audit trail, the control socket, compiled lists, traces, the places of feed and shipping."
    )
    url: str | None = Field(
        default=None,
        description="A database of PostgreSQL instead of the embedded store, as"
        " postgresql://user@host:5432/database?sslmode=verify-full. Never with a password. Needs the extra `postgres`.",
    )
    password: SecretRef | None = Field(
        default=None,
        description="Of `url`: {file: path}, {credential: NAME} or {env: NAME}; none where libpq finds it itself.",
    )
    plaintext: Allowed | None = Field(
        default=None,
        validate_default=True,
        description="`allowed` lets `url` go without verified TLS to another machine: passwords and keys cross the network.",
    )
    reserve: Size = size(
        "256MiB",
        "Free space on the disk of `path` below which the embedded store takes nothing more, and no trace is begun.",
    )
    hot: Int = Field(default=100_000, ge=1, description="Messages kept in memory; more wait in the store only.")
    hot_octets: Size = size(
        "192MiB", "Memory for these and for mail; more wait in the store only. Changed at a restart."
    )
    read_only: bool = Field(default=False, description="Serve records, accept no messages.")

    @model_validator(mode="before")
    @classmethod
    def _needs_path(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("path") is None:
                raise ValueError(
                    "needs `path`: a directory for the embedded store, or with `url` for what stays on this node"
                )
            if value.get("url") is None and (value.get("password") is not None or value.get("plaintext") is not None):
                raise ValueError("`password` and `plaintext` are about `url`, which is not there")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None:
            _hosts(value)
        return value

    @field_validator("plaintext")
    @classmethod
    def _verified(cls, value: str | None, info: ValidationInfo) -> str | None:
        url = info.data.get("url")
        if url is None or value is not None:
            return value
        hosts, words = _hosts(url)
        away = [host for host in hosts if not (host.startswith("/") or is_loopback(host))]
        if away and words.get("sslmode") not in _VERIFIED:
            raise ValueError(f"{away[0]} is not loopback: give `url` sslmode=verify-full, or say `plaintext: allowed`")
        return value

    @field_validator("path")
    @classmethod
    def _directory(cls, value: Path) -> Path:
        try:
            wrong = value.is_absolute() and value.exists() and not value.is_dir()
        except OSError as error:
            raise ValueError(f"{value} cannot be used: {error.strerror}") from None
        if wrong:
            raise ValueError(f"{value} is not a directory")
        return value

    @property
    def directory(self) -> Path:
        """What stays on this machine, whatever has the store: `path`."""
        return self.path


def _hosts(url: str) -> tuple[list[str], dict[str, str]]:
    """The hosts of a database's URL, or the directories of its sockets, and its parameters. ValueError where it is none, and
    where it has a password, which is not repeated."""
    try:
        parts = urlsplit(url)
        words = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(_FORM) from None
    user, _, place = parts.netloc.rpartition("@")
    if ":" in unquote(user) or "password" in words or "sslpassword" in words:
        raise ValueError(_SECRET)
    found = [_HOST.fullmatch(one) for one in unquote(place).split(",")] if not unquote(place).startswith("/") else []
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _LONGEST
    if not plain or parts.scheme != "postgresql" or parts.fragment or not all(found) or len(parts.path) < 2:
        raise ValueError(_FORM)
    strange = sorted(words.keys() - _QUERY)
    if strange:
        raise ValueError("has parameters that are none of: " + ", ".join(sorted(_QUERY)))
    hosts = [one[1].strip("[]") for one in found if one is not None and one[1]] or [unquote(place)]
    if "host" in words:
        hosts = words["host"].split(",")
    return [host for host in hosts if host] or ["localhost"], words
