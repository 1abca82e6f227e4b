"""`smppd check`: every mistake in a configuration at once, with line and column; also builds the policy and pairs the
certificates with their keys, so that what passes here starts."""

from __future__ import annotations

import argparse
import datetime as dt
import grp
import json
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from smppd.cli import reload_plan
from smppd.cli.commands import add_config, add_json, load_settings, say
from smppd.config import Account, ConfigError, Fault, Listener, Policy, Settings, Upstream, faults_at, units
from smppd.config.retention import unfounded
from smppd.control.wire import group_number
from smppd.lists.compiler import place_of
from smppd.lists.lists import DIRECTORY
from smppd.spans.job import TracingError, job_of
from smppd.store.api import StoreError
from smppd.store.opening import installation
from smppd.vault.kek import KekMissing, VaultError, advice_for_missing, load_kek
from smppd.vault.keys import load_install

SOON = dt.timedelta(days=30)
"""How long before its end a certificate, or the evidence for a sender, is worth a word."""
_SENDERS = 20  # that are told one by one
_NO_FILES = "which its own tools back up (`smppd backup` and `smppd keys shred` are not for it)"


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        description="Find every mistake in a configuration. Each is printed as file:line:column: setting: what is wrong."
        " Exit status: 0 without mistakes, 1 with, 2 when the file cannot be read. With --plan also 1 when the running daemon"
        " would refuse it in a reload, and 2 when none answers.",
    )
    add_config(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="ask the running daemon what a reload would change, which sessions it would end, and which links bind anew",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the faults, or one line that says what is configured."""
    now = dt.datetime.now(dt.UTC)
    try:
        settings = load_settings(args)
        faults = faults_at(args.config, deeper(settings, now))
        if faults:
            raise ConfigError(sorted(faults))
    except ConfigError as error:
        if args.json:
            print(json.dumps({"ok": False, "faults": [_as_dict(fault) for fault in error.faults]}, indent=2))
        raise
    notes = faults_at(args.config, [*without_basis(settings), *_evidence(settings, now.date())])
    advised = list(advice(settings))
    store = installation(settings).name
    plan = reload_plan.plan_of(settings, args.config) if args.plan else None
    refused = plan is not None and bool(plan["faults"])
    if args.json:
        found: dict[str, Any] = {"notes": [_as_dict(note) for note in notes], "advice": advised}
        if plan is not None:
            found["plan"] = plan
        found = {"store": store} | found
        print(json.dumps({"ok": not refused, "file": str(args.config), **counts(settings), **found}, indent=2))
        return int(refused)
    for note in notes:
        say(f"{note.file}:{note.line}:{note.column}: note: {note.path}: {note.message}")
    for sentence in advised:
        say(f"{args.config}: advice: {sentence}")
    where = f"; the store is {store}, {_NO_FILES}" if settings.store.url is not None else ""
    print(f"{args.config}: ok: {', '.join(_counted(number, what) for what, number in counts(settings).items())}{where}")
    if plan is not None:
        reload_plan.show(plan)
    return int(refused)


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
    yield from _keys(settings)
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
    yield from _shipping(settings, now)
    yield from _control(settings)
    yield from _feed(settings)
    yield from _tracing(settings, now)
    for name, source in settings.lists.items():
        if not source.file.is_file() and not place_of(settings.store.directory / DIRECTORY, name).exists():
            yield f"lists.{name}.file", f"{source.file} does not exist, and nothing is compiled of it"


def _shipping(settings: Settings, now: dt.datetime) -> Iterator[tuple[str, str]]:
    shipping = settings.shipping
    tls = shipping.syslog.tls if shipping.syslog is not None else None
    if tls is not None:
        if tls.certificate is not None and tls.key is not None:
            yield from _pair("shipping.syslog.tls", tls.certificate, tls.key, now)
        if isinstance(tls.ca, Path):
            yield from _chain("shipping.syslog.tls.ca", tls.ca, now)
    if shipping.file is not None:
        directory = shipping.file.path.parent
        if not directory.is_dir():
            yield "shipping.file.path", f"{directory} is not a directory"


def _control(settings: Settings) -> Iterator[tuple[str, str]]:
    path, group = settings.control.path, settings.control.group
    if path is not None and not path.parent.is_dir():
        yield "control.path", f"{path.parent} is not a directory"
    if path is not None and group is not None and path.is_relative_to(settings.store.directory):
        yield "control.path", "lies in the store's directory, which only root and the daemon's user may enter"
    try:
        group_number(group)
    except ValueError as error:
        yield "control.group", str(error).partition(": ")[2]


def _feed(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in ("file", "socket"):
        target = getattr(settings.feed, name)
        if target is not None and not target.path.parent.is_dir():
            yield f"feed.{name}.path", f"{target.path.parent} is not a directory"
    socket = settings.feed.socket
    if socket is not None and socket.group is not None:
        try:
            grp.getgrnam(socket.group)
        except KeyError:
            yield "feed.socket.group", f"there is no group {socket.group} here"


def _tracing(settings: Settings, now: dt.datetime) -> Iterator[tuple[str, str]]:
    if settings.tracing.on and isinstance(settings.tracing.ca, Path):
        yield from _chain("tracing.ca", settings.tracing.ca, now)
    try:
        job_of(settings)
    except TracingError as error:
        yield error.setting, error.message


def _policy(settings: Settings) -> Iterator[tuple[str, str]]:
    from smppd.consent.words import WordTable  # slow to import, and only needed here
    from smppd.policy.pipeline import PolicyError, compile_policies

    try:
        compile_policies(settings)
        WordTable(settings)
    except PolicyError as error:
        yield error.path, error.message


def _keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """What `run` would say of the KEK and the keys in the store. A KEK that is not there yet is no fault before `keys init`."""
    initialised, name = False, ""
    try:
        store = installation(settings)
        name = store.name
        if why := store.closed(daemon=True):
            yield "store", why
            return
        initialised = store.has_keys()
        if lost := store.keys_lost():
            yield "store", lost
            return
        store.check()
        kek = load_kek(settings.keys)
        if initialised:
            rows = store.read_only_keys()
            try:
                load_install(kek, rows)
            finally:
                rows.close()
    except KekMissing as error:
        if initialised:
            yield "keys", advice_for_missing(error, name, settings.path)
    except VaultError as error:
        yield "keys", str(error)
    except StoreError as error:
        yield "store", str(error)


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


# -- without a basis -----------------------------------------------------------------------------------------------


def without_basis(settings: Settings) -> Iterator[tuple[str, str]]:
    """(setting, message) of each account that names no `basis` and keeps texts, or has them looked at by rules. Never changes
    the exit status: what is kept without one is kept for 24 h at most."""
    from smppd.policy.conditions import TEXT_KINDS  # slow to import, and only needed here

    looking = {name for name, policy in settings.policies.items() if _looks(policy, TEXT_KINDS)}
    limited = frozenset(unfounded(settings))
    for index, account in enumerate(settings.accounts):
        if account.basis is None:
            yield from _unfounded(f"accounts[{index}]", account, account.system_id in limited, looking)


def _unfounded(place: str, account: Account, limited: bool, looking: set[str]) -> Iterator[tuple[str, str]]:
    name = f"account {account.system_id}"
    if limited:
        kept, asked = (units.format_duration(one) for one in (account.kept.new_body, account.retain.body))
        yield (
            f"{place}.retain.body",
            f"{name} names no `basis`: its texts are kept for {kept}, not for {asked}",
        )
    used = [policy for policy in account.policies if policy in looking]
    if used:
        yield (
            f"{place}.policies",
            f"{name} names no `basis`, and rules look at its texts: {', '.join(used)}",
        )


def _looks(policy: Policy, kinds: Iterable[str]) -> bool:
    """Whether a rule of a policy, in shadow too, asks for the text of a message."""
    conditions = [one for rule in policy.rules for one in (rule.when, rule.unless) if one is not None]
    return any(getattr(one, kind) not in (None, ()) for one in conditions for kind in kinds)


# -- senders -------------------------------------------------------------------------------------------------------


def _evidence(settings: Settings, today: dt.date) -> Iterator[tuple[str, str]]:
    """(setting, message) of each authorised sender whose evidence has ended or ends within `SOON`, or whose account is in no
    configuration; the first `_SENDERS`, and how many more. Never changes the exit status: rules say what becomes of them."""
    accounts = {one.system_id for one in settings.accounts}
    found = 0
    for index, entry in enumerate(settings.senders.authorised):
        place = f"senders.authorised[{index}]" if not entry.place else "senders.authorised"
        where = f"{entry.place}: " if entry.place else ""
        said = ""
        if entry.account not in accounts:
            said = f"there is no account {entry.account}"
        elif entry.expires is not None and entry.expires < today:
            said = f"{entry.sender} of account {entry.account} is not authorised since its evidence ended on {entry.expires}"
        elif entry.expires is not None and entry.expires < today + SOON:
            said = f"the evidence for {entry.sender} of account {entry.account} ends on {entry.expires}"
        if said:
            found += 1
            if found <= _SENDERS:
                yield place, where + said
    if found > _SENDERS:
        yield "senders.authorised", f"and {found - _SENDERS} more senders like these"


# -- allowed, and worth a second look ------------------------------------------------------------------------------


def _node(settings: Settings) -> Iterator[str]:
    said = settings.model_fields_set
    if settings.store.url is None:
        if settings.node_name is not None:
            yield "node_name does nothing: it is shown where several nodes are on one database (`store.url`)"
        if settings.node:
            yield f"node {settings.node} is part of the ids alone: the embedded store has one node"
    elif "node" not in said:
        yield "node is not set, so this is node 0: each node on a database needs a number of its own"


def advice(settings: Settings) -> Iterator[str]:
    """What is allowed and yet worth a second look; never changes the exit status."""
    with suppress(StoreError):  # which `deeper` tells
        if not installation(settings).has_keys():
            yield f"there are no keys yet: `smppd keys init --config {settings.path}` makes them"
    key = settings.keys.path
    if key is not None and key.is_relative_to(settings.store.directory):
        yield f"the key-encryption key {key} lies in the store's directory: whoever copies that has both"
    used = {name for account in settings.accounts for name in account.policies}
    for name in settings.policies:
        if name not in used:
            yield f"policy {name} is used by no account"
    yield from _lists(settings)
    yield from _node(settings)
    for upstream in settings.upstreams:
        if upstream.password.env is not None and not os.environ.get(upstream.password.env):
            state = "empty" if upstream.password.env in os.environ else "not set here"
            yield f"upstream {upstream.name}: environment variable {upstream.password.env}, its password, is {state}"
    yield from _ending(settings, dt.datetime.now(dt.UTC))
    addressed: list[tuple[str, str, Listener | Upstream]]
    addressed = [("listener", one.address, one) for one in settings.listeners]
    addressed += [("upstream", ", ".join(one.address), one) for one in settings.upstreams]
    for section, address, item in addressed:
        if item.tls is None and item.plaintext == "allowed":
            yield f"{section} {address} goes without TLS: passwords and messages cross the network readable"
    yield from _sources(settings)
    yield from _writable(settings)
    syslog = settings.shipping.syslog
    if syslog is not None and syslog.tls is None and syslog.plaintext == "allowed":
        yield f"shipping.syslog {syslog.address} goes without TLS: the audit trail crosses the network readable"
    file = settings.shipping.file
    if file is not None and file.path.is_relative_to(settings.store.directory):
        yield f"the shipped file {file.path} lies in the store's directory: whoever can change that can change both"
    for account in settings.accounts:
        if account.networks == "any":
            yield f"account {account.system_id} may connect from anywhere: only its password protects it"
    disabled = {upstream.name for upstream in settings.upstreams if not upstream.enabled}
    for index, route in enumerate(settings.routes):
        if disabled.issuperset(one.name for one in route.upstreams):
            yield (
                f"routes[{index}] has no upstream that is enabled: new messages that no other route takes are refused with"
                " ESME_RINVDSTADR"
            )
    if settings.accounts and not settings.routes:
        yield "there are no routes: every message will be refused"


def _sources(settings: Settings) -> Iterator[str]:
    """Addresses that connections are to come from and that this host has not."""
    for upstream in settings.upstreams:
        source = upstream.source_address
        if source is not None:
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
            try:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.bind(socket.getaddrinfo(source, 0, family, flags=socket.AI_NUMERICHOST)[0][4])
            except OSError as error:
                yield f"upstream {upstream.name}: source_address {source} cannot be used on this host: {error.strerror}"


def _writable(settings: Settings) -> Iterator[str]:
    """Files of the configuration that anybody may write to: who can may give himself an account."""
    for path, _ in settings.files:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & 0o002:
            yield f"{path} can be written by everybody: mode {stat.S_IMODE(mode):04o}"


def _lists(settings: Settings) -> Iterator[str]:
    """Big lists that nothing is compiled of, whose file is not there, or that no rule asks."""
    asked = {
        name
        for policy in settings.policies.values()
        for rule in policy.rules
        for condition in (rule.when, rule.unless)
        if condition is not None
        for name in (*condition.destination_in, *condition.sender_in, *condition.domain_in)
    }
    for name, source in settings.lists.items():
        if not place_of(settings.store.directory / DIRECTORY, name).exists():
            yield f"list {name} is not compiled yet: the daemon does it, or `smppd lists compile {name}`"
        elif not source.file.is_file():
            yield f"list {name}: {source.file} does not exist; what was compiled of it is used"
        if name not in asked:
            yield f"list {name} is asked by no rule"


def _ending(settings: Settings, now: dt.datetime) -> Iterator[str]:
    """Certificates that end within `SOON`; those that have ended are faults."""
    certificates = [one.tls.certificate for one in settings.listeners if one.tls is not None]
    certificates += [
        one.tls.certificate for one in settings.upstreams if one.tls is not None and one.tls.certificate is not None
    ]
    syslog = settings.shipping.syslog
    if syslog is not None and syslog.tls is not None and syslog.tls.certificate is not None:
        certificates.append(syslog.tls.certificate)
    for path in dict.fromkeys(certificates):
        ends = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
        if ends < now + SOON:
            yield f"{path} ends on {ends:%Y-%m-%d}: renew it, then SIGHUP"
