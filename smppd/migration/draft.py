"""What an import has made so far: sections of our configuration, secrets apart from them, and what was left out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from smppd.passwords import weakness

MAX_OCTETS: Final = 4 << 20
"""Of one file. The largest configuration that the daemon reads is of this order too."""
MAX_LINES: Final = 200_000
MAX_LINE: Final = 16_384
MAX_THINGS: Final = 10_000
"""Groups, connectors, users and routes that one file may name."""
MAX_LEFT: Final = 5_000
"""Sentences about what was left out; what is beyond is counted."""
_SHOWN: Final = 64

Section = dict[str, Any]
Hash = Callable[[str | None], str]
"""Password -> its Argon2id hash in PHC form; None -> the hash of one that nobody knows."""


class MigrationError(Exception):
    """A file that cannot be read as what it is said to be. Holds nothing of its content."""


class Place(NamedTuple):
    """Where something stands. line: from 1; 0 where a file has none, a store of Jasmin's."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Source(NamedTuple):
    """A file: its name as it is told to people, and its octets."""

    name: str
    content: bytes

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {len(self.content)} octets)"

    def text(self) -> str:
        """Its text: UTF-8, or Latin-1 where it is none. MigrationError when it is too large, or no text."""
        if len(self.content) > MAX_OCTETS:
            raise MigrationError(f"{self.name}: more than {MAX_OCTETS >> 20} MiB")
        if b"\0" in self.content:
            raise MigrationError(f"{self.name}: not a text file")
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return self.content.decode("latin-1")

    def lines(self) -> list[str]:
        """Its lines, without their ends. MigrationError beyond the limits."""
        lines = re.split(r"\r\n|\n|\r", self.text())
        if len(lines) > MAX_LINES:
            raise MigrationError(f"{self.name}: more than {MAX_LINES:,} lines")
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_LINE:
                raise MigrationError(f"{self.name}:{number}: more than {MAX_LINE:,} characters in one line")
        return lines


class Left(NamedTuple):
    """Something that was not carried over, or not as it was, and a sentence about it."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def shown(text: str) -> str:
    """A name out of somebody's file, for a sentence: one line of printable ASCII, at most 64 characters."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in text[: _SHOWN + 1])
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + "..."


class Draft:
    """The configuration as far as it is made. hashed: makes the hash of an account's password."""

    def __init__(self, hashed: Hash) -> None:
        self._hashed = hashed
        self.listeners: list[Section] = []
        self.accounts: list[Section] = []
        self.upstreams: list[Section] = []
        self.routes: list[Section] = []
        self.left: list[Left] = []
        self.more_left = 0
        self.secrets: dict[str, str] = {}
        self._names: set[str] = set()
        self._system_ids: set[str] = set()

    def __repr__(self) -> str:
        return f"Draft({len(self.accounts)} accounts, {len(self.upstreams)} upstreams, {len(self.secrets)} secrets)"

    def leave(self, place: Place, what: str) -> None:
        """Writes down that something was not carried over, or only in part. Nothing of it moves a terminal."""
        what = "".join(char if char.isprintable() else "?" for char in what)
        if len(self.left) < MAX_LEFT:
            self.left.append(Left(place, what))
        else:
            self.more_left += 1

    def settings(self) -> Section:
        """The configuration as plain data, in the order of our own examples."""
        found: Section = {}
        for name in ("listeners", "accounts", "upstreams", "routes"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        # A daemon has to listen somewhere: on the usual port of SMPP, and on loopback, where no stranger reaches it.
        found.setdefault("listeners", [{"address": "127.0.0.1:2775"}])
        found = {"listeners": found.pop("listeners"), **found}
        return {**found, "store": {"path": "var/smppd"}, "keys": {"file": "var/keys/kek"}}

    # -- the pieces ------------------------------------------------------------------------------------------------

    def name_of(self, wanted: str) -> str:
        """A name for an upstream, of the letters that ours may have, and of no other one."""
        base = re.sub(r"[^a-z0-9_.-]+", "-", wanted.lower()).strip("-._")[:50] or "upstream"
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}-{number}", number + 1
        self._names.add(name)
        return name

    def secret(self, name: str, value: str) -> Section:
        """Puts a password aside, and gives what stands for it in the configuration."""
        path = f"secrets/{name}"
        self.secrets[path] = value
        return {"file": path}

    def listen(self, place: Place, host: str, port: str, *, tls: bool = False) -> None:
        """A listener. One without TLS goes on without, and that is said."""
        address = address_of(host or "0.0.0.0", port)
        if address is None:
            self.leave(place, "the address where customers connect is none: write it into `listeners`")
            return
        if address in {one["address"] for one in self.listeners}:
            self.leave(place, f"a second listener on {address}: one is enough for all accounts")
            return
        listener: Section = {"address": address}
        if not _loopback(host):
            listener["plaintext"] = "allowed"
        if tls:
            self.leave(
                place,
                f"{address} had TLS: give the listener `tls: {{certificate: …, key: …}}` and take `plaintext` away",
            )
        elif "plaintext" in listener:
            self.leave(
                place,
                f"{address} goes on without TLS (`plaintext: allowed`), as it was: passwords and messages cross the network"
                " readable. Give it `tls` as soon as your customers can",
            )
        self.listeners.append(listener)

    def carrier_address(self, place: Place, name: str, host: str, port: str, upstream: Section, *, tls: bool) -> bool:
        """Puts address, and TLS or its absence, into an upstream; False, and a sentence, where there is no address."""
        address = address_of(host, port)
        if address is None:
            self.leave(place, f"upstream {name} is left out: it has no host and port")
            return False
        upstream["address"] = address
        if tls:
            upstream["tls"] = {"ca": "system"}
            self.leave(
                place,
                f"upstream {name}: its certificate is checked from now on, against the system's CAs and the host's name"
                " (`tls: {ca: FILE, server_name: …}` where it has others)",
            )
        elif not _loopback(host):
            upstream["plaintext"] = "allowed"
            self.leave(
                place, f"upstream {name} goes on without TLS (`plaintext: allowed`), as it was: ask the carrier for TLS"
            )
        return True

    def account(self, place: Place, system_id: str, password: str | None, networks: list[str] | str) -> Section | None:
        """An account; None, and a sentence, where there cannot be one. password: None when only a digest of it is known."""
        if not re.fullmatch(r"[!-9;-~]{1,64}", system_id) or re.search(r"[/\"'\\]", system_id):
            self.leave(
                place,
                f"account {shown(system_id)!r} is left out: a system_id has 1 to 64 printable ASCII characters without blanks,"
                " quotes, ':', '/' or '\\'",
            )
            return None
        if system_id in self._system_ids:
            self.leave(place, f"account {shown(system_id)} stands there twice: the first is taken")
            return None
        self._system_ids.add(system_id)
        found: Section = {"system_id": system_id, "networks": networks}
        if not password:
            self.leave(
                place,
                f"account {system_id}: its password is not known there in a form that can be carried over. Nobody can bind"
                " until you put a hash from `smppd passwd` in the place of this one",
            )
        else:
            weak = weakness(password, system_id)
            if weak is not None:
                self.leave(
                    place, f"account {system_id}: its password is carried over, and is weak ({weak}): give it a new one"
                )
        found["password_hash"] = self._hashed(password or None)
        found["throughput"] = None  # no limit, as it was, where no limit is set below
        if networks == "any":
            self.leave(place, f"account {system_id} may connect from anywhere, as before: name its `networks`")
        self.accounts.append(found)
        return found

    def accounts_made(self, place: Place) -> None:
        """Says once, at the end, what goes for accounts that set no limit."""
        unlimited = sum(account["throughput"] is None for account in self.accounts)
        if unlimited:
            self.leave(
                place, f"accounts that set no rate have no limit here either ({unlimited} of them): `throughput: null`"
            )
        if any("max_binds" not in account for account in self.accounts):
            self.leave(place, "accounts that set no number of sessions have 4 at most, our default: `max_binds`")


# -- values ---------------------------------------------------------------------------------------------------------


def address_of(host: str, port: str) -> str | None:
    """`host:port`, an IPv6 host in brackets; None when one of them is none."""
    host, port = host.strip().strip("[]"), port.strip()
    if not re.fullmatch(r"[0-9A-Za-z._:-]{1,255}", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        return None
    if not 0 < int(port) < 65_536:
        return None
    return f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"


def _loopback(host: str) -> bool:
    if host.strip().lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip().strip("[]")).is_loopback
    except ValueError:
        return False


def whole(text: str, least: int, most: int) -> int | None:
    """A whole number within limits; None when it is none."""
    if not re.fullmatch(r"[0-9]{1,10}", text.strip()):
        return None
    number = int(text)
    return number if least <= number <= most else None


def seconds(text: str) -> str | None:
    """A duration of ours, `30s`, from theirs in seconds; None for zero and what is no number."""
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", text.strip()):
        return None
    value = float(text)
    if value <= 0:
        return None
    return f"{int(value)}s" if value == int(value) else f"{int(value * 1000)}ms"


def a_second(text: str) -> str | None:
    """A rate of ours, `50/s`, from theirs in messages a second; None for zero and what is no number."""
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", text.strip()):
        return None
    value = float(text)
    if value <= 0:
        return None
    if value == int(value):
        return f"{int(value)}/s"
    minute = value * 60
    return f"{max(1, round(minute))}/m" if minute >= 1 else f"{max(1, round(value * 3600))}/h"


def networks_of(patterns: Iterable[str]) -> list[str]:
    """Networks from addresses in which the last octets may be `*`; what is none of them is passed over."""
    found = []
    for one in patterns:
        text = one.strip()
        octets = text.split(".")
        if len(octets) == 4 and "*" in octets:
            named = octets[: octets.index("*")]
            if set(octets[len(named) :]) != {"*"} or not named:
                continue
            text = ".".join([*named, *["0"] * (4 - len(named))]) + f"/{8 * len(named)}"
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            continue
    return list(dict.fromkeys(found))
