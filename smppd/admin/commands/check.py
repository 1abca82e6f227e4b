"""`smppd check`: every mistake in a configuration at once, with line and column; also builds the policy and pairs the
certificates with their keys, so that what passes here starts."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from smppd.admin.commands import add_config, add_json, load_settings, say
from smppd.config import ConfigError, Fault, Settings, fault_at


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        description="Find every mistake in a configuration. Each is printed as file:line:column: setting: what is wrong."
        " Exit status: 0 without mistakes, 1 with, 2 when the file cannot be read.",
    )
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the faults, or one line that says what is configured."""
    now = dt.datetime.now(dt.UTC)
    try:
        settings = load_settings(args)
        faults = [fault_at(args.config, path, message) for path, message in deeper(settings, now)]
        if faults:
            raise ConfigError(sorted(faults))
    except ConfigError as error:
        if args.json:
            print(json.dumps({"ok": False, "faults": [_as_dict(fault) for fault in error.faults]}, indent=2))
        raise
    notes = list(advice(settings))
    if args.json:
        print(json.dumps({"ok": True, "file": str(args.config), **counts(settings), "advice": notes}, indent=2))
        return 0
    for note in notes:
        say(f"{args.config}: advice: {note}")
    print(f"{args.config}: ok: {', '.join(_counted(number, what) for what, number in counts(settings).items())}")
    return 0


def _as_dict(fault: Fault) -> dict[str, str | int]:
    return {name: getattr(fault, name) for name in ("file", "line", "column", "path", "message")}


def counts(settings: Settings) -> dict[str, int]:
    """How many of each section there are."""
    sections = ("listeners", "accounts", "upstreams", "routes", "policies")
    rules = sum(len(policy.rules) for policy in settings.policies.values())
    return {section: len(getattr(settings, section)) for section in sections} | {"rules": rules}


def _counted(number: int, what: str) -> str:
    singular = "policy" if what == "policies" else what.removesuffix("s")
    return f"{number} {singular if number == 1 else what}"


# -- beyond what one value shows -----------------------------------------------------------------------------------


def deeper(settings: Settings, now: dt.datetime) -> Iterator[tuple[str, str]]:
    """(setting, message) of what only shows when things are put together: the policy, certificates and their keys."""
    yield from _policy(settings)
    for index, listener in enumerate(settings.listeners):
        if listener.tls is not None:
            yield from _pair(f"listeners[{index}].tls", listener.tls.certificate, listener.tls.key, now)
            if listener.tls.client_ca is not None:
                yield from _chain(f"listeners[{index}].tls.client_ca", listener.tls.client_ca, now)
    for index, upstream in enumerate(settings.upstreams):
        if upstream.tls is not None:
            if upstream.tls.certificate is not None and upstream.tls.key is not None:
                yield from _pair(f"upstreams[{index}].tls", upstream.tls.certificate, upstream.tls.key, now)
            if isinstance(upstream.tls.ca, Path):
                yield from _chain(f"upstreams[{index}].tls.ca", upstream.tls.ca, now)


def _policy(settings: Settings) -> Iterator[tuple[str, str]]:
    from smppd.policy.pipeline import PolicyError, compile_policies  # slow to import, and only needed here

    try:
        compile_policies(settings)
    except PolicyError as error:
        yield error.path, error.message


def _pair(setting: str, certificate: Path, key: Path, now: dt.datetime) -> Iterator[tuple[str, str]]:
    faults = list(_chain(f"{setting}.certificate", certificate, now))
    yield from faults
    try:
        public = load_pem_private_key(key.read_bytes(), password=None).public_key()
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        yield f"{setting}.key", f"{key} has no private key that can be read (PEM, without a passphrase)"
        return
    if not faults:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if leaf.public_bytes(*form) != public.public_bytes(*form):
            yield f"{setting}.key", f"{key} is not the key of {certificate}"


def _chain(setting: str, path: Path, now: dt.datetime) -> Iterator[tuple[str, str]]:
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        yield setting, f"{path} has no certificate that can be read (PEM)"
        return
    if all(certificate.not_valid_after_utc < now for certificate in certificates[:1]):
        yield setting, f"{path} expired on {certificates[0].not_valid_after_utc:%Y-%m-%d}"


# -- allowed, and worth a second look ------------------------------------------------------------------------------


def advice(settings: Settings) -> Iterator[str]:
    """What is allowed and yet worth a second look; never changes the exit status."""
    for section, items in (("listener", settings.listeners), ("upstream", settings.upstreams)):
        for item in items:
            if item.tls is None and item.plaintext == "allowed":
                yield f"{section} {item.address} goes without TLS: passwords and messages cross the network readable"
    for path in _secrets(settings):
        if _open_to_others(path):
            yield f"{path} can be read by others: chmod 600"
    for account in settings.accounts:
        if account.networks == "any":
            yield f"account {account.system_id} may connect from anywhere: only its password protects it"
    if settings.accounts and not settings.routes:
        yield "there are no routes: every message will be refused"


def _secrets(settings: Settings) -> Iterator[Path]:
    for listener in settings.listeners:
        if listener.tls is not None:
            yield listener.tls.key
    for upstream in settings.upstreams:
        if upstream.password.file is not None:
            yield upstream.password.file
        if upstream.tls is not None and upstream.tls.key is not None:
            yield upstream.tls.key


def _open_to_others(path: Path) -> bool:
    try:
        return bool(os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False
