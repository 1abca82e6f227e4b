"""Where secrets are kept, and password hashes: what the configuration may hold about a secret, never the secret.

A literal secret in the file is refused without being repeated; `resolve()` reads the secret when it is needed, and its
errors name the place only.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from smppd.config import private
from smppd.config.kinds import MANY, AnyPath, Model, PrivateFile, Text, context_of, file_problem

SECRET_MAX: Final = 64 * 1024


class SecretError(Exception):
    """A secret cannot be had. The text says where it was looked for and why, never what was found."""


_LITERAL: Final = "secrets are never written here: use {file: path}, {credential: NAME} or {env: NAME}"


class SecretRef(Model):
    """Where a secret is kept. Never the secret."""

    file: PrivateFile | None = Field(
        default=None, description="A file that holds the secret, mode 0600 or 0640; one newline at its end is dropped."
    )
    credential: str | None = Field(
        default=None, description="The name of a systemd credential (LoadCredential=) that holds the secret."
    )
    env: str | None = Field(default=None, description="An environment variable that holds the secret.")

    @model_validator(mode="before")
    @classmethod
    def _no_literal(cls, value: Any) -> Any:
        if isinstance(value, SecretRef):
            return value
        if not isinstance(value, dict):
            raise ValueError(_LITERAL)
        if len(value) != 1 or not value.keys() <= {"file", "credential", "env"}:
            raise ValueError("must be exactly one of {file: path}, {credential: NAME} and {env: NAME}")
        return value

    @field_validator("file")
    @classmethod
    def _holds_something(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return _filled(value, info)

    @field_validator("credential")
    @classmethod
    def _credential(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and context_of(info) is not None:
            path = private.credential_path(private.credential_name(value))
            problem = file_problem(path) or private.exposure(path, path.stat().st_mode)
            if problem:
                raise ValueError(f"credential {value}: {problem}")
            _filled(path, info)
        return value

    @field_validator("env")
    @classmethod
    def _env(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("must be the name of an environment variable")
        return value

    def resolve(self) -> bytes:
        """The secret, without one newline at its end. SecretError names the place, never the content."""
        if self.file is not None:
            return _strip(read_secret_file(self.file), f"file {self.file}")
        if self.credential is not None:
            return _strip(read_secret_file(_credential_file(self.credential)), f"credential {self.credential}")
        if self.env is not None:
            value = os.environb.get(self.env.encode())
            if value is None:
                raise SecretError(f"environment variable {self.env} is not set")
            return _strip(value, f"environment variable {self.env}")
        raise SecretError("no place of the secret is configured")


class KeyRef(Model):
    """Where the key-encryption key is kept: a file, what a command prints, or a systemd credential."""

    file: AnyPath | None = Field(default=None, description="A file, mode 0600; `smppd keys init` creates it.")
    command: tuple[Text, ...] | None = Field(
        default=None, description="A command and its arguments (no shell) that prints the key: Vault, a KMS client."
    )
    credential: str | None = Field(default=None, description="The name of a systemd credential (LoadCredential=).")

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: Any) -> Any:
        if isinstance(value, KeyRef):
            return value
        if not isinstance(value, dict):
            raise ValueError("keys are never written here: use {file: path}, {command: [...]} or {credential: name}")
        known = value.keys() & {"file", "command", "credential"}
        if len(known) != 1 and not value.keys() - known:
            raise ValueError("must be exactly one of {file: path}, {command: [...]} and {credential: name}")
        return value

    @field_validator("command")
    @classmethod
    def _command(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or not value[0]):
            raise ValueError("must begin with the program to run")
        return value

    @field_validator("credential")
    @classmethod
    def _credential(cls, value: str | None) -> str | None:
        return None if value is None else private.credential_name(value)

    @property
    def path(self) -> Path | None:
        """The file that holds the key, for `file` and `credential`; None for a command or outside systemd."""
        if self.file is not None:
            return self.file
        try:
            return private.credential_path(self.credential) if self.credential is not None else None
        except ValueError:
            return None

    def resolve(self, timeout: float = 10.0) -> bytes:
        """The key text, without one newline at its end; a command has `timeout` seconds. SecretError otherwise."""
        if self.command is not None:
            return _strip(_run(self.command, timeout), f"command {self.command[0]}")
        path = self.path
        if path is None:
            raise SecretError(f"credential {self.credential}: CREDENTIALS_DIRECTORY is not set (not run by systemd?)")
        return _strip(read_secret_file(path), f"file {path}")


def _credential_file(name: str) -> Path:
    try:
        return private.credential_path(name)
    except ValueError as error:
        raise SecretError(str(error)) from None


def _filled(path: Path | None, info: ValidationInfo) -> Path | None:
    """The path of a secret again; ValueError where the file holds none, which would show only when it is needed."""
    if path is not None and context_of(info) is not None and path.is_file():
        with path.open("rb") as file:
            if not file.read(SECRET_MAX).strip(b"\r\n"):
                raise ValueError(f"{path} is empty")
    return path


def read_secret_file(path: Path) -> bytes:
    """The file's content, at most 64 KiB. SecretError names the path and says why it cannot be read or is not safe."""
    try:
        with path.open("rb") as file:
            problem = private.exposure(path, os.fstat(file.fileno()).st_mode)
            if problem:
                raise SecretError(f"file {path}: {problem}")
            content = file.read(SECRET_MAX + 1)
    except OSError as error:
        raise SecretError(f"file {path} cannot be read: {error.strerror}") from None
    if len(content) > SECRET_MAX:
        raise SecretError(f"file {path} is too long for a secret")
    return content


def _run(command: tuple[str, ...], timeout: float) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise SecretError(f"command {command[0]} took longer than {timeout:g} s") from None
    except OSError as error:
        raise SecretError(f"command {command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise SecretError(f"command {command[0]} ended with status {done.returncode}")
    return done.stdout


def _strip(secret: bytes, where: str) -> bytes:
    secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise SecretError(f"{where} is empty")
    return secret


# -- password hashes -----------------------------------------------------------------------------------------------

# OWASP's equivalent settings (19 MiB x 2, 12 MiB x 3, 9 MiB x 4, 7 MiB x 5 ...) all lie above this many KiB x passes.
MINIMAL_COST: Final = 35_840
MINIMAL_MEMORY: Final = 7_168
_PHC: Final = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,7}),t=([1-9][0-9]{0,2}),p=([1-9][0-9]?)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


class PasswordHash(str):
    """An Argon2id hash in PHC form. Equal to its text and usable as it, but prints and formats masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'$argon2id$***'"

    def __str__(self) -> str:
        return "$argon2id$***"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _password_hash(value: Any) -> PasswordHash:
    if not isinstance(value, str):
        raise ValueError("must be an Argon2id hash as `smppd passwd` prints it")
    if isinstance(value, PasswordHash):
        return value
    match = _PHC.fullmatch(value)
    if re.fullmatch(r"\$argon2id\$v=19\$m=[0-9]+", value):
        raise ValueError("is cut off at its first comma: within {...} the hash needs quotes")
    if match is None:
        raise ValueError("must be an Argon2id hash as `smppd passwd` prints it ($argon2id$v=19$m=...)")
    memory, passes, lanes = int(match[1]), int(match[2]), int(match[3])
    if memory < MINIMAL_MEMORY or memory * passes < MINIMAL_COST:
        raise ValueError("is too cheap to compute: at least m=19456,t=2 (make it with `smppd passwd`)")
    if memory > 1 << 20 or passes > 20 or lanes > 16 or memory < 8 * lanes:
        raise ValueError("is too dear to compute: at most m=1048576,t=20,p=16")
    if _decoded(match[4]) < 8 or _decoded(match[5]) < 16:
        raise ValueError("has a salt under 8 or a hash under 16 octets, or is cut off")
    return PasswordHash(value)


def _decoded(text: str) -> int:
    try:
        return len(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except binascii.Error:
        return 0


if TYPE_CHECKING:
    PasswordHashes = tuple[PasswordHash, ...]
else:
    PasswordHashes = Annotated[
        tuple[
            Annotated[
                Any,
                AfterValidator(_password_hash),
                WithJsonSchema({"type": "string", "pattern": r"^\$argon2id\$v=19\$"}),
            ],
            ...,
        ],
        MANY,
        Field(min_length=1, max_length=2),
    ]
