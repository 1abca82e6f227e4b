"""Kannel's `kannel.conf`, and the users file of its opensmppbox, as a draft of our configuration.

The form and the meaning of each key are those of Kannel's User Guide for 1.4.5, chapters 4 and 7 (`smsc = smpp`, SMSC routing,
`sendsms-user`); opensmppbox from its own manual. Files that `include` names are not opened: they are given beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from smppd.migration.draft import (
    MAX_THINGS,
    Draft,
    Hash,
    MigrationError,
    Place,
    Section,
    Source,
    a_second,
    networks_of,
    seconds,
    shown,
    whole,
)

_MAX_WORK: Final = 2_000_000
"""Prefixes times SMSCs that are compared at most."""

# What whole groups are for, where smppd has no use for them.
_GROUPS: Final = {
    "smsbox": "smsbox is Kannel's HTTP side: smppd speaks SMPP only, and whoever sent over HTTP has to bind",
    "sms-service": "a service of smsbox that answers messages: smppd answers none but STOP, START and HELP (`opt_out`); the"
    " account that `numbers` or `keywords` names gets the message",
    "smsbox-route": "routes between smsboxes: an account's `numbers` and `keywords` say who gets a message from a handset",
    "wapbox": "smppd has no WAP gateway",
    "wap-user-map": "smppd has no WAP gateway",
    "wap-url-map": "smppd has no WAP gateway",
    "ppg": "smppd has no push proxy",
    "wap-push-user": "smppd has no push proxy",
    "radius-acct": "smppd has no RADIUS side",
    "wtls": "smppd has no WAP gateway",
    "modems": "smppd speaks SMPP only, and has no modems",
    "smpp-tlv": "TLVs pass through smppd as they came, whether it knows them or not: nothing has to be declared",
    "dlr-db": "smppd keeps receipts that are awaited in its own store: those that Kannel still waits for stay with it",
    "mysql-connection": "smppd has its own store, and uses no database",
    "pgsql-connection": "smppd has its own store, and uses no database",
    "sqlite3-connection": "smppd has its own store, and uses no database",
    "oracle-connection": "smppd has its own store, and uses no database",
    "mssql-connection": "smppd has its own store, and uses no database",
    "sdb-connection": "smppd has its own store, and uses no database",
    "redis-connection": "smppd has its own store, and uses no database",
    "cass-connection": "smppd has its own store, and uses no database",
    "store-db": "smppd has its own store, and uses no database",
}
_CORE: Final = {
    "admin-port": "smppd is administered by commands on its host (`smppd status`), not over HTTP",
    "admin-password": "smppd's operators have names and second factors: `smppd operators add`",
    "status-password": "`/metrics` and `/readyz` are on the port of `http`, and need no password on loopback",
    "unified-prefix": "smppd leaves numbers as they came, and compares them in one form: name the country in `region` if"
    " customers write national numbers",
    "white-list": "a big list can do this: `lists`, and a rule with `destination_in`",
    "black-list": "a big list can do this: `lists`, and a rule with `destination_in`",
    "white-list-regex": "a rule can do this: `when: {destination: …}`",
    "black-list-regex": "a rule can do this: `when: {destination: …}`",
    "store-file": "what waits in Kannel's store stays there: let Kannel send it before you change over",
    "store-location": "what waits in Kannel's store stays there: let Kannel send it before you change over",
    "store-type": "what waits in Kannel's store stays there: let Kannel send it before you change over",
    "dlr-storage": "receipts that Kannel still waits for stay with it; smppd keeps its own in its store",
    "sms-resend-freq": "what a carrier refuses for now is sent again with pauses of its own: `upstreams[].retry`",
    "sms-resend-retry": "a message is tried until its validity ends: `accounts[].expire_after`",
    "sms-outgoing-queue-limit": "how much may wait is said for each account: `accounts[].queue`",
    "sms-incoming-queue-limit": "how much may wait for a customer is said for each account: `accounts[].receipts.limit`",
    "http-proxy-host": "smppd makes no HTTP requests",
    "ssl-certkey-file": "certificates are named where they are used: `listeners[].tls`, `upstreams[].tls`",
}
_LOGS: Final = "smppd writes one log, to standard error or `log.file`; its record of messages is `smppd log`"
_SMSC: Final = {
    "my-number": "the account whose `numbers` names a number gets its messages",
    "source-addr-ton": "TON and NPI pass as the customer gave them; a rule's `replace_sender` sets both",
    "source-addr-npi": "TON and NPI pass as the customer gave them; a rule's `replace_sender` sets both",
    "source-addr-autodetect": "TON and NPI pass as the customer gave them; a rule's `replace_sender` sets both",
    "dest-addr-ton": "TON and NPI pass as the customer gave them",
    "dest-addr-npi": "TON and NPI pass as the customer gave them",
    "service-type": "service_type passes as the customer gave it",
    "esm-class": "esm_class passes as the customer gave it",
    "priority": "priority_flag passes as the customer gave it",
    "validityperiod": "validity passes as the customer gave it; `accounts[].expire_after` is for messages without one",
    "wait-ack-expire": "what becomes of a message without an answer is said for each account: `on_unknown`",
    "connection-timeout": "a silent link is asked (`enquire_link`), and made again when it does not answer (`response`)",
    "unified-prefix": _CORE["unified-prefix"],
    "reroute": "messages from handsets go to their accounts, and are not sent out again",
    "reroute-smsc-id": "messages from handsets go to their accounts, and are not sent out again",
    "reroute-receiver": "messages from handsets go to their accounts, and are not sent out again",
    "reroute-dlr": "receipts go to the account whose message it was, always",
    "dead-start": "write `enabled: false` into the upstream",
    "alt-addr-charset": "senders pass octet by octet",
    "alt-dcs": "data_coding passes as the customer gave it",
    "max-sms-octets": "long messages pass as the customer cut them",
    "our-host": "the source address of our own connections is `upstreams[].source_address`",
    "ssl-client-certkey-file": "client certificates are two files here: `upstreams[].tls: {certificate: …, key: …}`",
    "retry": "a link is always made again: `upstreams[].reconnect`",
}
_USER: Final = {
    "default-sender": "senders pass as the customer gave them; a rule's `replace_sender` exchanges them",
    "faked-sender": "a rule's `replace_sender` does this",
    "allowed-prefix": "a rule of the account's policy can do this: `when: {destination: …}`",
    "denied-prefix": "a rule of the account's policy can do this: `when: {destination: …}`",
    "white-list": _CORE["white-list"],
    "black-list": _CORE["black-list"],
    "user-deny-ip": "smppd knows only who may connect (`networks`), not who may not",
    "dlr-url": "receipts come over the bind, to whoever asked for one",
    "max-messages": "long messages pass as the customer cut them",
    "concatenation": "long messages pass as the customer cut them",
    "header": "smppd adds nothing to texts",
    "footer": "smppd adds nothing to texts",
    "throughput": "",
}
_OPENSMPPBOX: Final = {
    "bearerbox-host": "smppd is both boxes in one process",
    "bearerbox-port": "smppd is both boxes in one process",
    "opensmppbox-id": "an account's `numbers` and `keywords` say who gets a message from a handset",
    "our-system-id": "smppd answers a bind with its own system_id",
    "timeout": "the time that a customer may be silent is `limits.inactivity`",
    "enquire-link-interval": "a customer who is silent is asked by `limits.inactivity`",
    "max-pending-submits": "",
}
_ALPHABETS: Final = {
    "gsm": "gsm",
    "gsm 03.38": "gsm",
    "iso-8859-1": "latin1",
    "iso8859-1": "latin1",
    "latin1": "latin1",
    "latin-1": "latin1",
    "ascii": "ascii",
    "us-ascii": "ascii",
}
_YES: Final = frozenset({"yes", "true", "on", "1"})


class Group(NamedTuple):
    """A `group = …`: its kind, its first line, and its keys: the last value of each, with its line."""

    kind: str
    place: Place
    keys: dict[str, tuple[str, Place]]

    def get(self, key: str, otherwise: str = "") -> str:
        """The value of a key."""
        return self.keys.get(key, (otherwise, self.place))[0]

    def place_of(self, key: str) -> Place:
        """Where a key stands; the group, where it does not."""
        return self.keys.get(key, ("", self.place))[1]

    def yes(self, key: str) -> bool:
        """Whether a key is set to yes."""
        return self.get(key).lower() in _YES

    def ids(self, key: str) -> tuple[str, ...]:
        """The parts of a value that `;` separates; SMSC ids are compared without case."""
        return tuple(part.strip().lower() for part in self.get(key).split(";") if part.strip())

    def prefixes(self, key: str) -> tuple[str, ...]:
        """The digits of the prefixes in a value. `00` is the `+` of many countries, and our numbers have neither."""
        found = (re.sub(r"[^0-9]", "", part) for part in self.get(key).split(";"))
        return tuple(dict.fromkeys(one.removeprefix("00")[:20] for one in found if one.removeprefix("00")))


class _Smsc(NamedTuple):
    """An upstream, and what Kannel's routing says of it. Prefixes without `+`."""

    name: str
    place: Place
    allowed_ids: tuple[str, ...]
    denied_ids: tuple[str, ...]
    preferred_ids: tuple[str, ...]
    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    preferred: tuple[str, ...]

    def takes(self, smsc_id: str | None, prefix: str) -> int:
        """How it stands to messages that carry an SMSC id, to numbers that begin so: 0 refuses, 1 takes, 2 prefers them."""
        if self.allowed_ids:
            if smsc_id not in self.allowed_ids:
                return 0
        elif smsc_id is not None and smsc_id in self.denied_ids:
            return 0
        allowed, denied = prefix.startswith(self.allowed), prefix.startswith(self.denied)
        if self.allowed and not allowed and (not self.denied or denied):
            return 0
        if self.denied and denied and not allowed:
            return 0
        wanted = smsc_id is not None and smsc_id in self.preferred_ids
        return 2 if wanted or prefix.startswith(self.preferred) else 1


def read_kannel(sources: Sequence[Source], logins: Sequence[Source], hashed: Hash) -> Draft:
    """A draft from Kannel's configuration files and the users files of opensmppbox. MigrationError when one cannot be read."""
    draft = Draft(hashed)
    groups = [group for source in sources for group in read_groups(source, draft)]
    if not groups:
        raise MigrationError(f"{sources[0].name if sources else 'Kannel'}: there is no `group = …` in it")
    links = _links(groups, draft)
    boxes = [group for group in groups if group.kind == "opensmppbox"]
    senders: dict[str | None, list[str]] = {}
    for group in groups:
        if group.kind == "sendsms-user":
            _sendsms_user(group, draft, senders)
    for box in boxes:
        _opensmppbox(box, draft, bool(logins))
    routed_to = next((box.get("route-to-smsc").lower() for box in boxes if box.get("route-to-smsc")), None)
    window = next((whole(box.get("max-pending-submits"), 1, 1000) for box in boxes), None)
    for source in logins:
        _logins(source, draft, senders, routed_to, window)
    draft.accounts_made(Place((logins or sources)[0].name))
    for group in groups:
        _rest(group, draft)
    _routes(links, senders, draft)
    return draft


# -- the file -------------------------------------------------------------------------------------------------------


def read_groups(source: Source, draft: Draft) -> list[Group]:
    """The groups of a file. What is no `key = value` is told with its line, and nothing of it is shown."""
    groups: list[Group] = []
    for number, raw in enumerate(source.lines(), 1):
        line, place = raw.strip(), Place(source.name, number)
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals or not re.fullmatch(r"[a-z0-9_-]{1,64}", key):
            draft.leave(place, "this line is no `key = value`")
            continue
        value = _value(value.strip())
        if key == "include":
            draft.leave(place, f"include: name {shown(value)!r} on the command line too, if it matters")
        elif key == "group":
            if len(groups) >= MAX_THINGS:
                raise MigrationError(f"{source.name}: more than {MAX_THINGS:,} groups")
            groups.append(Group(value.lower(), place, {}))
        elif not groups:
            draft.leave(place, f"{key}: it stands before the first `group`")
        else:
            groups[-1].keys[key] = (value, place)
    return groups


def _value(text: str) -> str:
    """A value without its quotes; `\\` takes the next character as it is, within quotes."""
    if not text.startswith('"'):
        return text
    found: list[str] = []
    characters = iter(text[1:])
    for char in characters:
        if char == '"':
            break
        found.append(next(characters, "") if char == "\\" else char)
    return "".join(found)


# -- carriers -------------------------------------------------------------------------------------------------------


def _links(groups: Iterable[Group], draft: Draft) -> list[_Smsc]:
    """An upstream for each SMSC of SMPP. Groups that differ in nothing but their direction, or in nothing, are one."""
    found: list[_Smsc] = []
    seen: dict[tuple[str, ...], tuple[Section, set[str]]] = {}
    for group in groups:
        if group.kind != "smsc":
            continue
        kind = group.get("smsc").lower()
        if kind != "smpp":
            draft.leave(group.place, f"an SMSC of type {shown(kind)!r}: smppd speaks SMPP only")
            continue
        # A group with receive-port alone is the receiving half of a pair, in 1.4 and later.
        direction = "both" if group.yes("transceiver-mode") else "rx" if _port(group, "receive-port") else "tx"
        port = _port(group, "port") or _port(group, "receive-port")
        label = group.get("smsc-id") or group.get("host") or "smsc"
        key = (label.lower(), group.get("host"), port, group.get("smsc-username"), group.get("system-type"))
        if key in seen:
            upstream, directions = seen[key]
            if direction in directions:
                upstream["sessions"] = min(64, int(upstream.get("sessions", 1)) + 1)
            directions.add(direction)
            if {"tx", "rx"} <= directions:
                upstream["bind"] = "transmitter+receiver"
            continue
        made = _upstream(group, draft, label, port, direction)
        if made is None:
            continue
        draft.upstreams.append(made)
        seen[key] = (made, {direction})
        found.append(
            _Smsc(
                str(made["name"]),
                group.place,
                *(group.ids(f"{word}-smsc-id") for word in ("allowed", "denied", "preferred")),
                *(group.prefixes(f"{word}-prefix") for word in ("allowed", "denied", "preferred")),
            )
        )
    return found


def _port(group: Group, key: str) -> str:
    value = group.get(key)
    return "" if value in ("", "0") else value


def _upstream(group: Group, draft: Draft, label: str, port: str, direction: str) -> Section | None:
    name = draft.name_of(label)
    upstream: Section = {"name": name}
    if not draft.carrier_address(group.place, name, group.get("host"), port, upstream, tls=group.yes("use-ssl")):
        return None
    if not group.get("smsc-username"):
        draft.leave(group.place, f"upstream {name} is left out: it has no smsc-username")
        return None
    upstream["system_id"] = group.get("smsc-username")
    if not group.get("smsc-password"):
        draft.leave(group.place, f"upstream {name} has no smsc-password: put it into secrets/{name}")
    upstream["password"] = draft.secret(name, group.get("smsc-password"))
    upstream["system_type"] = group.get("system-type", "VMA")  # Kannel's default
    if direction != "both":
        upstream["bind"] = "transmitter+receiver"
        _port_of_other(group, draft, name, direction)
    _values(group, draft, name, upstream)
    if instances := whole(group.get("instances"), 2, 64):
        upstream["sessions"] = instances
    return upstream


def _port_of_other(group: Group, draft: Draft, name: str, direction: str) -> None:
    port, other = _port(group, "port"), _port(group, "receive-port")
    if port and other and port != other:
        draft.leave(
            group.place_of("receive-port"),
            f"upstream {name}: a receiver on a port of its own; smppd binds both to one address",
        )
    elif direction == "tx" and not other:
        draft.leave(
            group.place,
            f"upstream {name} binds as a transmitter and a receiver, where Kannel's group made a transmitter alone: receipts"
            " need the receiver. `bind: transceiver` is one link for both",
        )


def _values(group: Group, draft: Draft, name: str, upstream: Section) -> None:
    """The keys of which smppd has the like."""
    versions = {"33": "3.3", "34": "3.4", "50": "5.0"}
    simple = {
        "address_range": group.get("address-range")[:40] or None,
        "interface_version": versions.get(group.get("interface-version")),
        "throughput": a_second(group.get("throughput")),
        "window": whole(group.get("max-pending-submits"), 1, 1000) or 10,  # Kannel's default
        "enquire_link": seconds(group.get("enquire-link-interval")),
        "response": seconds(group.get("wait-ack")),
        "addr_ton": whole(group.get("bind-addr-ton"), 1, 255),
        "addr_npi": whole(group.get("bind-addr-npi"), 1, 255),
        # 0: both decimal, 1: hexadecimal in answers, 2: in receipts, 3: both.
        "message_id_form": {"0": "alike", "1": "hex_to_decimal", "2": "decimal_to_hex", "3": "alike"}.get(
            re.sub(r"^0x0?", "", group.get("msg-id-type").lower())
        ),
    }
    upstream.update({key: value for key, value in simple.items() if value is not None})
    if pause := seconds(group.get("reconnect-delay")):
        upstream["reconnect"] = {"first": pause, "most": pause}
    charset = group.get("alt-charset").lower()
    if charset in _ALPHABETS:
        upstream["default_alphabet"] = _ALPHABETS[charset]
    elif charset:
        draft.leave(
            group.place_of("alt-charset"),
            f"upstream {name}: no alphabet of smppd's is called so; texts pass as they came, octet by octet"
            " (`default_alphabet`)",
        )
    wrong = ("throughput", "max-pending-submits", "enquire-link-interval", "wait-ack", "reconnect-delay")
    for key in wrong:
        value = group.get(key)
        if value not in ("", "0") and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            draft.leave(group.place_of(key), f"upstream {name}: {key} is no number")
    if group.get("interface-version", "34") not in versions:
        draft.leave(group.place_of("interface-version"), f"upstream {name}: interface-version is none of 33, 34 and 50")


# -- customers ------------------------------------------------------------------------------------------------------


def _sendsms_user(group: Group, draft: Draft, senders: dict[str | None, list[str]]) -> None:
    name = group.get("username")
    networks = _networks(group.get("user-allow-ip").split(";"), name, group.place_of("user-allow-ip"), draft)
    account = draft.account(group.place, name, group.get("password"), networks)
    if account is None:
        return
    if rate := a_second(group.get("throughput")):
        account["throughput"] = rate
    draft.leave(
        group.place,
        f"account {name} sent over HTTP: smppd takes messages over SMPP only, so it has to bind, with that name and password",
    )
    smsc_id = (group.get("forced-smsc") or group.get("default-smsc")).lower() or None
    senders.setdefault(smsc_id, []).append(name)


def _networks(patterns: Iterable[str], name: str, place: Place, draft: Draft) -> list[str] | str:
    """Where an account may connect from. Addresses that cannot be read are told, and never open it to everybody."""
    named = [one.strip() for one in patterns if one.strip()]
    if not named or "*.*.*.*" in named:
        return "any"
    read = networks_of(named)
    unread = sum(not networks_of([one]) for one in named)
    if unread:
        where = "from there" if read else "from anywhere but this host"
        draft.leave(
            place,
            f"account {shown(name)}: {unread} of its {len(named)} addresses could not be read, and it may not connect {where}:"
            " write them into its `networks`",
        )
    return read or ["127.0.0.1/32"]


def _opensmppbox(box: Group, draft: Draft, has_logins: bool) -> None:
    tls = box.yes("use-ssl") or "ssl-server-cert-file" in box.keys
    draft.listen(box.place, "0.0.0.0", box.get("opensmppbox-port", "2346"), tls=tls)
    if box.get("smpp-logins") and not has_logins:
        draft.leave(
            box.place_of("smpp-logins"),
            "the customers stand in this file: give it too, `smppd import kannel … --logins FILE`",
        )


def _logins(
    source: Source, draft: Draft, senders: dict[str | None, list[str]], routed_to: str | None, window: int | None
) -> None:
    """The users of opensmppbox, a line each: system_id, password, system_type, addresses."""
    for number, raw in enumerate(source.lines(), 1):
        place, words = Place(source.name, number), raw.split()
        if not words or raw.lstrip().startswith("#"):
            continue
        if len(words) < 2:
            draft.leave(place, "this line is no system_id and password")
            continue
        if len(draft.accounts) >= MAX_THINGS:
            raise MigrationError(f"{source.name}: more than {MAX_THINGS:,} accounts")
        patterns = [part for word in words[3:] for part in re.split(r"[;,]", word) if part]
        account = draft.account(place, words[0], words[1], _networks(patterns, words[0], place, draft))
        if account is None:
            continue
        if window is not None:
            account["window"] = window
        senders.setdefault(routed_to, []).append(words[0])


# -- routes ---------------------------------------------------------------------------------------------------------


def _routes(smscs: list[_Smsc], senders: dict[str | None, list[str]], draft: Draft) -> None:
    """Kannel asks each SMSC whether it takes a message; we name upstreams for numbers. Each prefix that somebody names gets the
    SMSCs that take it: those that prefer it first, then the others."""
    if not smscs:
        return
    prefixes = {one for smsc in smscs for one in (*smsc.allowed, *smsc.denied, *smsc.preferred)}
    kinds: list[str | None] = list(senders) or [None]
    if (len(prefixes) + 1) * len(smscs) * len(kinds) > _MAX_WORK:
        raise MigrationError("too many prefixes and SMSCs: take fewer groups at once")
    national = sorted(prefix for prefix in prefixes if prefix.startswith("0"))
    if national:
        draft.leave(
            next(smsc.place for smsc in smscs if {*smsc.allowed, *smsc.denied, *smsc.preferred} & set(national)),
            f"{len(national)} prefixes begin with 0: smppd compares numbers with their country code, so write those instead",
        )
    for smsc_id in kinds:
        accounts = senders.get(smsc_id, []) if len(kinds) > 1 else []
        _routes_of(smscs, prefixes, smsc_id, accounts, draft)


def _routes_of(smscs: list[_Smsc], prefixes: set[str], smsc_id: str | None, accounts: list[str], draft: Draft) -> None:
    taken = {prefix: _takers(smscs, smsc_id, prefix) for prefix in (*prefixes, "")}
    for prefix in sorted(taken, key=lambda one: (-len(one), one)):
        shorter = next((prefix[:end] for end in range(len(prefix) - 1, -1, -1) if prefix[:end] in taken), None)
        if shorter is not None and taken[shorter] == taken[prefix]:
            continue  # the next route says the same
        whose = f" of {len(accounts)} accounts" if accounts else ""
        if not any(taken[prefix]):
            beginning = f"numbers that begin with {prefix}" if prefix else "all other numbers"
            draft.leave(
                smscs[0].place,
                f"no SMSC takes messages{whose} to {beginning}: there is no route for them, and one for fewer digits would take"
                " them: a rule can refuse them",
            )
        for names in taken[prefix]:
            if names:
                route: Section = {"destination": [f"+{prefix}"]} if prefix else {}
                if accounts:
                    route["accounts"] = list(accounts)
                draft.routes.append({**route, "upstreams": list(names)})


def _takers(smscs: list[_Smsc], smsc_id: str | None, prefix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those who prefer it, and the others who take it."""
    stands = [(smsc.takes(smsc_id, prefix), smsc.name) for smsc in smscs]
    return tuple(name for stand, name in stands if stand == 2), tuple(name for stand, name in stands if stand == 1)


# -- what is left ---------------------------------------------------------------------------------------------------

_TAKEN: Final = {
    "smsc": frozenset(
        "smsc smsc-id smsc-admin-id host port receive-port use-ssl transceiver-mode smsc-username smsc-password system-type"
        " address-range interface-version throughput max-pending-submits enquire-link-interval wait-ack reconnect-delay"
        " bind-addr-ton bind-addr-npi msg-id-type alt-charset instances allowed-smsc-id denied-smsc-id preferred-smsc-id"
        " allowed-prefix denied-prefix preferred-prefix".split()
    ),
    "sendsms-user": frozenset("username password user-allow-ip throughput forced-smsc default-smsc name".split()),
    "opensmppbox": frozenset("opensmppbox-port smpp-logins route-to-smsc use-ssl max-pending-submits".split()),
    "core": frozenset(),
}
_KNOWN: Final = {"smsc": _SMSC, "sendsms-user": _USER, "opensmppbox": _OPENSMPPBOX, "core": _CORE}


def _rest(group: Group, draft: Draft) -> None:
    """A sentence for each key that came to nothing, or for the group where smppd has no use for it."""
    if group.kind not in _KNOWN:
        what = _GROUPS.get(group.kind, "smppd has nothing like it, or it is not known here")
        draft.leave(group.place, f"group {shown(group.kind)}: {what}")
        return
    if group.kind == "smsc" and group.get("smsc").lower() != "smpp":
        return
    for key, (_, place) in group.keys.items():
        if key in _TAKEN[group.kind]:
            continue
        if key.endswith("-regex"):
            what = "regular expressions over ids and prefixes: write the routes that they mean"
        elif key.startswith(("log-", "access-log")) or key in ("syslog-level", "syslog-facility"):
            what = _LOGS
        else:
            what = _KNOWN[group.kind].get(key, "smppd has nothing like it, or it is not known here")
        draft.leave(place, f"{key}: {what}")
