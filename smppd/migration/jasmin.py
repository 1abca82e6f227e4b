"""Jasmin's configuration as a draft of ours: `jasmin.cfg`, what was typed at its console, and the files of its store.

The store (`jcli-prod.smppccs`, `.router-users` and so on) is Python's pickle, and is read as data, never unpickled
(`pickled.py`). Meanings: Jasmin 0.10 and 0.11, `protocols/cli/*.py`, `protocols/smpp/configs.py`, `routing/*.py`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from smppd.migration.draft import (
    MAX_OCTETS,
    MAX_THINGS,
    Draft,
    Hash,
    MigrationError,
    Place,
    Section,
    Source,
    a_second,
    seconds,
    shown,
    whole,
)
from smppd.migration.jcli import Console, Entry, call_of, read_console
from smppd.migration.pickled import PickleError, Thing, read_pickle

_STORE: Final = b"Persisted on "
"""The first line of each file of the store."""
_HOST: Final = "0.0.0.0"
_PORT: Final = "2775"
_NUMBERS: Final = 10**18
"""No number in a store of Jasmin's is as large."""
_NO: Final = frozenset({"no", "false", "f", "n", "0"})
# smpp.pdu numbers its enumerations from 1, in this order; SMPP 3.4, 5.2.6.
_NPI: Final = (0, 1, 3, 4, 6, 8, 9, 10, 14, 18)

# Attributes of a connector in the store -> the words of the console.
_ATTRIBUTES: Final = {
    "id": "cid",
    "host": "host",
    "port": "port",
    "username": "username",
    "password": "password",
    "systemType": "systype",
    "bindOperation": "bind",
    "useSSL": "ssl",
    "submit_sm_throughput": "submit_throughput",
    "enquireLinkTimerSecs": "elink_interval",
    "responseTimerSecs": "res_to",
    "reconnectOnConnectionFailureDelay": "con_fail_delay",
    "addressRange": "addr_range",
    "dlr_msg_id_bases": "dlr_msgid",
    "addressTon": "bind_ton",
    "addressNpi": "bind_npi",
    "source_addr": "src_addr",
    "reconnectOnConnectionLoss": "con_loss_retry",
    "reconnectOnConnectionFailure": "con_fail_retry",
    "validity_period": "validity",
}
# What a connector may say that comes to nothing here, and when it is worth a sentence: never when it is the default.
_CONNECTOR: Final = {
    "src_addr": ("none", "senders pass as the customer gave them; a rule's `replace_sender` exchanges them"),
    "con_loss_retry": ("yes", "a link is always made again; `enabled: false` ends that"),
    "con_fail_retry": ("yes", "a link is always made again; `enabled: false` ends that"),
    "validity": (
        "none",
        "validity passes as the customer gave it; `accounts[].expire_after` is for messages without one",
    ),
    "src_ton": ("", "TON and NPI pass as the customer gave them"),
    "src_npi": ("", "TON and NPI pass as the customer gave them"),
    "dst_ton": ("", "TON and NPI pass as the customer gave them"),
    "dst_npi": ("", "TON and NPI pass as the customer gave them"),
    "priority": ("0", "priority_flag passes as the customer gave it"),
    "coding": ("0", "data_coding passes as the customer gave it; `default_alphabet` says what 0 means"),
    "proto_id": ("none", "protocol_id passes as the customer gave it"),
    "ripf": ("0", "replace_if_present_flag passes as the customer gave it"),
    "def_msg_id": ("0", "sm_default_msg_id passes as the customer gave it"),
    "requeue_delay": ("120", "what a carrier refuses for now is sent again with pauses that double (`retry`)"),
    "dlr_expiry": ("86400", "receipts are awaited for 72 h"),
    "bind_to": ("30", "how long a bind may take is `response`"),
    "trx_to": ("300", "a link that is silent is asked by `enquire_link`"),
    "con_loss_delay": ("10", "the pauses are `reconnect`"),
    "pdu_red_to": ("10", "how long a PDU may take is no setting"),
    "logfile": ("", "smppd writes one log, to standard error or `log.file`"),
    "loglevel": ("", "smppd writes one log, and its level is `log.level`"),
    "logrotate": ("", "smppd writes one log, to standard error or `log.file`"),
    "logprivacy": ("", "no log line of smppd has a text or a number"),
}
_SECTIONS: Final = {
    "http-api": "smppd has no HTTP API for sending: whoever sent over HTTP has to bind",
    "jcli": "smppd has commands instead of a console on a port; its operators have second factors (`smppd operators`)",
    "interceptor": "smppd runs no scripts; rules do the usual things (`policies`)",
    "interceptor-client": "smppd runs no scripts; rules do the usual things (`policies`)",
    "amqp-broker": "smppd needs no broker: messages wait in its own store. What waits in Jasmin's queues stays there",
    "redis-client": "smppd needs no Redis. Receipts that Jasmin still waits for stay with it",
    "router": "routes are part of the configuration",
    "deliversm-thrower": "messages from handsets go over the account's bind (`numbers`, `keywords`), not to a web server",
    "dlr-thrower": "receipts come over the bind, to whoever asked for one, not to a web server",
    "dlr": "receipts come over the bind; the store keeps them",
    "sm-listener": "long messages pass as they came; the record of messages is `smppd log`",
    "client-management": "carriers are part of the configuration",
    "service-smppclient": "smppd writes one log, to standard error or `log.file`",
    "smpp-server-pb": "smppd is one process, and has no such port",
    "smpp-server-pb-client": "smppd is one process, and has no such port",
    "dlrlookupd": "smppd is one process",
    "rest-api": "smppd has no HTTP API for sending: whoever sent over HTTP has to bind",
}


class _Connector(NamedTuple):
    """A carrier. keys: words of the console -> value."""

    place: Place
    keys: dict[str, str]
    started: bool


class _User(NamedTuple):
    """A customer. password: None where only its digest is known. creds: `quota smpps_throughput` and the like -> value."""

    place: Place
    uid: str
    gid: str
    username: str
    password: str | None
    enabled: bool
    creds: dict[str, str]


class _Filter(NamedTuple):
    """A condition of a route. value: a regular expression, a uid, gid, cid or tag."""

    kind: str
    value: str


class _Route(NamedTuple):
    """A route. connectors: (`smppc`, cid), (`smpps`, system_id), (`http`, cid). filters: all of them have to hold; None: one of
    them is not known."""

    place: Place
    order: int
    kind: str
    connectors: list[tuple[str, str]]
    filters: list[_Filter | None]


class _Found:
    """What all files say together."""

    def __init__(self) -> None:
        self.connectors: list[_Connector] = []
        self.users: list[_User] = []
        self.groups_off: set[str] = set()
        self.routes: list[_Route] = []
        self.mo_routes: list[_Route] = []


def read_jasmin(sources: Sequence[Source], hashed: Hash) -> Draft:
    """A draft from any of Jasmin's files, told apart by what is in them. MigrationError when one cannot be read."""
    draft, found, console = Draft(hashed), _Found(), Console()
    listening: tuple[Place, dict[str, str]] | None = None
    for source in sources:
        if source.content.startswith(_STORE):
            _store(source, found, draft)
        elif re.search(rb"(?m)^[ \t]*\[[\w-]+\][ \t]*\r?$", source.content[:MAX_OCTETS]):
            listening = _ini(source, draft) or listening
        else:
            read_console(source, console, draft)
    _console(console, found, draft)
    if not (found.connectors or found.users or found.routes or listening):
        if not draft.left:
            raise MigrationError(
                f"{sources[0].name if sources else 'Jasmin'}: nothing in it is of Jasmin's configuration"
            )
        draft.leave(Place(sources[0].name if sources else "jasmin"), "nothing was found that smppd could take over")
    if listening is not None:
        place, keys = listening
        draft.listen(place, keys.get("bind", _HOST), keys.get("port", _PORT))
    elif found.users:
        draft.leave(
            found.users[0].place,
            "no jasmin.cfg was given, so customers connect to 127.0.0.1:2775: give it too, or write `listeners`",
        )
    names = _upstreams(found, draft)
    accounts = _accounts(found, draft)
    _routes(found, names, accounts, draft)
    _owners(found, accounts, draft)
    return draft


# -- jasmin.cfg -----------------------------------------------------------------------------------------------------


def _ini(source: Source, draft: Draft) -> tuple[Place, dict[str, str]] | None:
    """Where customers connect; a sentence for every section that comes to nothing and has something in it."""
    section, told = "", set()
    server: tuple[Place, dict[str, str]] | None = None
    for number, raw in enumerate(source.lines(), 1):
        line, place = raw.strip(), Place(source.name, number)
        if not line or line[0] in "#;" or raw[0].isspace():
            continue
        if match := re.fullmatch(r"\[([\w.-]{1,64})\]", line):
            section = match[1].lower()
            if section == "smpp-server":
                server = (place, {})
            continue
        key, equals, value = line.partition("=") if "=" in line else line.partition(":")
        key = key.strip().lower()
        if not equals or not re.fullmatch(r"[a-z0-9_.-]{1,64}", key):
            draft.leave(place, "this line is no `key = value`")
        elif section == "smpp-server" and server is not None:
            if key in ("bind", "port"):
                server[1][key] = value.strip()
            else:
                draft.leave(place, f"smpp-server {key}: {_server_key(key)}")
        elif section not in told:
            told.add(section)
            draft.leave(
                place,
                f"[{shown(section)}]: {_SECTIONS.get(section, 'smppd has nothing like it, or it is not known here')}",
            )
    return server


def _server_key(key: str) -> str:
    if key.startswith("log"):
        return "smppd writes one log, to standard error or `log.file`"
    if key.endswith("secs"):
        return "the times that customers have are in `limits`"
    return "smppd does no billing" if key == "billing_feature" else "smppd has nothing like it, or it is not known here"


# -- the store ------------------------------------------------------------------------------------------------------


def _store(source: Source, found: _Found, draft: Draft) -> None:
    """One file of the store, told apart by what is in it."""
    if len(source.content) > MAX_OCTETS:
        raise MigrationError(f"{source.name}: more than {MAX_OCTETS >> 20} MiB")
    place = Place(source.name)
    try:
        data = read_pickle(source.content.partition(b"\n")[2])
    except PickleError as error:
        raise MigrationError(f"{source.name}: not a file of Jasmin's store: {error}") from None
    if isinstance(data, Thing):
        _table(place, data, found, draft)
    elif isinstance(data, list):
        for item in data[:MAX_THINGS]:
            _stored(place, item, found, draft)
        if len(data) > MAX_THINGS:
            raise MigrationError(f"{source.name}: more than {MAX_THINGS:,} things in it")
    elif isinstance(data, dict) and data:
        first = next(iter(data.values()))
        if isinstance(first, Thing) and first.kind == "HttpConnector":
            draft.leave(place, f"{len(data)} HTTP connectors: {_SECTIONS['deliversm-thrower']}")


def _stored(place: Place, item: Any, found: _Found, draft: Draft) -> None:
    if isinstance(item, dict) and isinstance(item.get("config"), Thing):
        state = item["config"].state
        keys = {word: _plain(state[name]) for name, word in _ATTRIBUTES.items() if name in state}
        for word in ("bind_ton", "bind_npi"):
            if word in keys:
                keys[word] = _enumerated(word, keys[word])
        keys["cid"] = _plain(item.get("id", keys.get("cid", "")))
        found.connectors.append(_Connector(place, keys, bool(item.get("service_status"))))
    elif isinstance(item, Thing) and item.kind == "User":
        found.users.append(_stored_user(place, item))
    elif isinstance(item, Thing) and item.kind == "Group":
        if item.state.get("enabled") is False:
            found.groups_off.add(_plain(item.state.get("gid", "")))
    else:
        draft.leave(place, "something in it is neither connector, user nor group")


def _stored_user(place: Place, item: Thing) -> _User:
    state = item.state
    group = state.get("group")
    creds: dict[str, str] = {}
    for name, prefix in (("mt_credential", "mt_messaging_cred"), ("smpps_credential", "smpps_cred")):
        credential = state.get(name)
        for part, word in (("authorizations", "authorization"), ("quotas", "quota"), ("value_filters", "valuefilter")):
            values = credential.state.get(part) if isinstance(credential, Thing) else None
            for key, value in values.items() if isinstance(values, dict) else ():
                creds[f"{prefix} {word} {_plain(key)}"] = _plain(value)
    # The store has the MD5 digest of the password: sixteen octets, or as text where an older release wrote it.
    return _User(
        place,
        _plain(state.get("uid", "")),
        _plain(group.state.get("gid", "")) if isinstance(group, Thing) else "",
        _plain(state.get("username", "")),
        None,
        state.get("enabled") is not False,
        creds,
    )


def _table(place: Place, data: Thing, found: _Found, draft: Draft) -> None:
    rows = data.state.get("table")
    if not isinstance(rows, list):
        return
    if len(rows) > MAX_THINGS:
        raise MigrationError(f"{place.file}: more than {MAX_THINGS:,} routes in it")
    if "Interception" in data.kind:
        if rows:
            draft.leave(place, f"{len(rows)} interceptors: {_SECTIONS['interceptor']}")
        return
    routes = found.mo_routes if data.kind.startswith("MO") else found.routes
    for row in rows:
        for order, route in row.items() if isinstance(row, dict) else ():
            if isinstance(route, Thing) and isinstance(order, int) and abs(order) < _NUMBERS:
                routes.append(_stored_route(place, order, route))


def _stored_route(place: Place, order: int, route: Thing) -> _Route:
    given = route.state.get("connector", route.state.get("connectors"))
    connectors = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, Thing):
            kind = {"SmppClientConnector": "smppc", "SmppServerSystemIdConnector": "smpps"}.get(one.kind, "http")
            connectors.append((kind, _plain(one.state.get("cid", one.state.get("system_id", "")))))
    filters = route.state.get("filters")
    return _Route(
        place,
        order,
        route.kind,
        connectors,
        [_stored_filter(one) for one in filters] if isinstance(filters, list) else [],
    )


def _stored_filter(item: Any) -> _Filter | None:
    if not isinstance(item, Thing):
        return None
    where = {
        "UserFilter": ("user", "uid"),
        "GroupFilter": ("group", "gid"),
        "ConnectorFilter": ("connector", "cid"),
        "SourceAddrFilter": ("source_addr", None),
        "DestinationAddrFilter": ("destination_addr", None),
        "TagFilter": ("tag", None),
    }.get(item.kind)
    if where is None:
        return _Filter(item.kind, "")
    value = item.state.get(where[0])
    if where[1] is not None:
        value = value.state.get(where[1]) if isinstance(value, Thing) else ""
    return _Filter(item.kind, _plain(value))


def _plain(value: Any) -> str:
    """A value of the store as the console would have it: text of at most 4,096 characters."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value[:4096].decode("latin-1")
    if isinstance(value, Thing):
        # A regular expression is made by `re._compile(pattern, flags)`; a number of SMPP by its enumeration.
        return (
            _plain(value.arguments[0]) if value.arguments and not isinstance(value.arguments[0], (Thing, tuple)) else ""
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str):
        # Half of a surrogate pair cannot be written into a file.
        return value[:4096].encode("utf-8", "replace").decode()
    if isinstance(value, int) and abs(value) >= _NUMBERS:
        return ""
    return str(value) if isinstance(value, (int, float)) else ""


def _enumerated(word: str, text: str) -> str:
    number = whole(text, 1, 20)
    if number is None:
        return "0"
    if word == "bind_ton":
        return str(number - 1)
    return str(_NPI[number - 1]) if number <= len(_NPI) else "0"


# -- the console ----------------------------------------------------------------------------------------------------


def _console(console: Console, found: _Found, draft: Draft) -> None:
    """What was typed, added to what the store has: in Jasmin the two are one."""
    for entry in console.of("smppccm"):
        started = f"smppccm {entry.keys['cid']}" not in console.stopped
        found.connectors.append(_Connector(entry.place, entry.keys, started))
    for entry in console.of("user"):
        keys = entry.keys
        creds = {key: value for key, value in keys.items() if " " in key}
        uid = keys["uid"]
        found.users.append(
            _User(
                entry.place,
                uid,
                keys.get("gid", ""),
                keys.get("username", uid),
                keys.get("password"),
                f"user {uid}" not in console.stopped,
                creds,
            )
        )
    found.groups_off |= {name.removeprefix("group ") for name in console.stopped if name.startswith("group ")}
    filters = {entry.keys["fid"]: _typed_filter(entry) for entry in console.of("filter")}
    for kind, routes in (("mtrouter", found.routes), ("morouter", found.mo_routes)):
        for entry in console.of(kind):
            routes.append(_typed_route(entry, filters))
    for kind in ("mtinterceptor", "mointerceptor"):
        for entry in console.of(kind):
            draft.leave(entry.place, f"{kind}: {_SECTIONS['interceptor']}")
    for entry in console.of("httpccm"):
        draft.leave(entry.place, f"httpccm {shown(entry.keys['cid'])}: {_SECTIONS['deliversm-thrower']}")


def _typed_filter(entry: Entry) -> _Filter:
    kinds = {
        "userfilter": ("UserFilter", "uid"),
        "groupfilter": ("GroupFilter", "gid"),
        "connectorfilter": ("ConnectorFilter", "cid"),
        "sourceaddrfilter": ("SourceAddrFilter", "source_addr"),
        "destinationaddrfilter": ("DestinationAddrFilter", "destination_addr"),
        "transparentfilter": ("TransparentFilter", ""),
    }
    wanted = entry.keys.get("type", "")
    kind, key = kinds.get(wanted.lower(), (wanted or "filter", ""))
    return _Filter(kind, entry.keys.get(key, ""))


def _typed_route(entry: Entry, filters: dict[str, _Filter]) -> _Route:
    keys = entry.keys
    named = [call_of(part) for part in f"{keys.get('connector', '')};{keys.get('connectors', '')}".split(";")]
    return _Route(
        entry.place,
        whole(keys.get("order", "0"), 0, 10**9) or 0,
        keys.get("type", ""),
        [one for one in named if one is not None],
        [filters.get(fid.strip()) for fid in keys.get("filters", "").split(";") if fid.strip()],
    )


# -- carriers -------------------------------------------------------------------------------------------------------


def _upstreams(found: _Found, draft: Draft) -> dict[str, str]:
    """An upstream for each connector: cid -> its name here. A later one of the same cid replaces an earlier one."""
    names: dict[str, str] = {}
    for connector in {one.keys["cid"]: one for one in found.connectors}.values():
        keys, place, cid = connector.keys, connector.place, connector.keys["cid"]
        name = draft.name_of(cid)
        upstream: Section = {"name": name}
        tls = keys.get("ssl", "no").lower() == "yes"
        if not draft.carrier_address(
            place, name, keys.get("host", "127.0.0.1"), keys.get("port", "2775"), upstream, tls=tls
        ):
            continue
        upstream["system_id"] = keys.get("username", "smppclient")  # Jasmin's defaults, here and below
        upstream["password"] = draft.secret(name, keys.get("password", "password"))
        _connector(connector, draft, name, upstream)
        names[cid] = name
        draft.upstreams.append(upstream)
    return names


def _connector(connector: _Connector, draft: Draft, name: str, upstream: Section) -> None:
    keys, place = connector.keys, connector.place
    mode = keys.get("bind", "transceiver").lower()
    if mode != "transceiver":
        upstream["bind"] = "transmitter+receiver"
        draft.leave(
            place, f"upstream {name} was bound as a {shown(mode)} alone: smppd binds a transmitter and a receiver"
        )
    simple = {
        "system_type": _set(keys.get("systype", "")),
        "throughput": a_second(keys.get("submit_throughput", "1")),
        "enquire_link": seconds(keys.get("elink_interval", "30")),
        "response": seconds(keys.get("res_to", "120")),
        "addr_ton": whole(keys.get("bind_ton", ""), 1, 255),
        "addr_npi": whole(keys.get("bind_npi", ""), 1, 255),
        "address_range": _set(keys.get("addr_range", "")),
        "message_id_form": {"1": "hex_to_decimal", "2": "decimal_to_hex"}.get(keys.get("dlr_msgid", "")),
    }
    upstream.update({key: value for key, value in simple.items() if value is not None})
    if pause := seconds(keys.get("con_fail_delay", "10")):
        upstream["reconnect"] = {"first": pause, "most": pause}
    if not connector.started:
        upstream["enabled"] = False
        draft.leave(place, f"upstream {name} was stopped: `enabled: false`")
    if "submit_throughput" not in keys and not place.file.endswith("smppccs"):
        draft.leave(place, f"upstream {name} names no submit_throughput: Jasmin's default of 1/s goes on")
    for key, value in keys.items():
        if key in _CONNECTOR and value.lower() not in (_CONNECTOR[key][0], ""):
            draft.leave(place, f"upstream {name}, {key}: {_CONNECTOR[key][1]}")


def _set(text: str) -> str | None:
    return None if text.lower() in ("", "none") else text[:40]


# -- customers ------------------------------------------------------------------------------------------------------


def _accounts(found: _Found, draft: Draft) -> dict[str, tuple[_User, Section]]:
    """An account for each user: uid -> the user and the account."""
    accounts: dict[str, tuple[_User, Section]] = {}
    for user in {one.uid: one for one in found.users}.values():
        account = draft.account(user.place, user.username, user.password, "any")
        if account is None:
            continue
        accounts[user.uid] = (user, account)
        creds, place, who = user.creds, user.place, user.username
        account["throughput"] = a_second(creds.get("mt_messaging_cred quota smpps_throughput", ""))
        if binds := whole(creds.get("smpps_cred quota max_bindings", ""), 1, 10_000):
            account["max_binds"] = binds
        if not user.enabled or user.gid in found.groups_off or _no(creds, "smpps_cred authorization bind"):
            account["suspended"] = True
        if _no(creds, "mt_messaging_cred authorization smpps_send"):
            account["binds"] = ["receiver"]
            draft.leave(place, f"account {who} might not send over SMPP: it may bind as a receiver only")
        for quota in ("balance", "sms_count", "submit_sm_count"):
            if creds.get(f"mt_messaging_cred quota {quota}", "none").lower() not in ("none", ""):
                draft.leave(
                    place, f"account {who}: a limit in money or messages (quota {quota}): smppd does no billing"
                )
        for key, value in creds.items():
            if " valuefilter " in key and value not in (".*", "^.*$", r"^\d+$", "^[0-3]$", ""):
                draft.leave(
                    place,
                    f"account {who}, {key.split(' ', 1)[1]}: a rule of the account's policy can do this (`policies`)",
                )
            elif " defaultvalue " in key and value.lower() != "none":
                draft.leave(place, f"account {who}: a default sender; a rule's `replace_sender` can do this")
    if found.users:
        draft.accounts_made(found.users[0].place)
    return accounts


def _no(creds: dict[str, str], key: str) -> bool:
    return creds.get(key, "yes").lower() in _NO


# -- routes ---------------------------------------------------------------------------------------------------------


def _routes(found: _Found, names: dict[str, str], accounts: dict[str, tuple[_User, Section]], draft: Draft) -> None:
    """Jasmin takes the route of the highest order that matches; ours stand in that order."""
    for route in sorted(found.routes, key=lambda one: -one.order):
        what = f"the route of order {route.order}"
        upstreams = [names[cid] for kind, cid in route.connectors if kind == "smppc" and cid in names]
        if len(upstreams) < len(route.connectors) or not upstreams:
            draft.leave(route.place, f"{what}: one of its connectors is not known, or was left out")
        if not upstreams:
            continue
        section = _conditions(route, what, accounts, draft)
        if section is None:
            continue
        section["name"] = f"order-{route.order}"
        section = {"name": section.pop("name"), **section}
        if "failover" in route.kind.lower():
            # The first that stands: a route each, one after another.
            for number, upstream in enumerate(upstreams, 1):
                draft.routes.append({**section, "name": f"order-{route.order}-{number}", "upstreams": [upstream]})
        else:
            draft.routes.append({**section, "upstreams": list(dict.fromkeys(upstreams))})


def _conditions(route: _Route, what: str, accounts: dict[str, tuple[_User, Section]], draft: Draft) -> Section | None:
    """The conditions of a route; None, and a sentence, where one of them cannot be carried over: a route without it would take
    more than it may."""
    section: Section = {}
    whose: set[str] | None = None
    for one in route.filters:
        if one is None or one.kind not in (
            "TransparentFilter",
            "UserFilter",
            "GroupFilter",
            "SourceAddrFilter",
            "DestinationAddrFilter",
        ):
            kind = "one that is not known" if one is None else shown(one.kind)
            draft.leave(
                route.place,
                f"{what} is left out: its filter ({kind}) has no like here; tags, texts and hours are for rules",
            )
            return None
        if one.kind in ("UserFilter", "GroupFilter"):
            of = {
                account["system_id"]
                for uid, (user, account) in accounts.items()
                if (uid if one.kind == "UserFilter" else user.gid) == one.value
            }
            whose = of if whose is None else whose & of
        elif one.kind != "TransparentFilter":
            key = "sender" if one.kind == "SourceAddrFilter" else "destination"
            values = _beginnings(one.value)
            if values is None or key in section:
                draft.leave(
                    route.place, f"{what} is left out: {key} is a regular expression that is no list of beginnings"
                )
                return None
            section[key] = [
                f"+{text}" if key == "destination" else text if exact else f"{text}*" for text, exact in values
            ]
            if key == "destination" and any(not text.isdigit() for text, _ in values):
                draft.leave(route.place, f"{what} is left out: its destination is no number")
                return None
    if whose is not None:
        if not whose:
            draft.leave(route.place, f"{what} is left out: nobody is left whom it is for")
            return None
        section["accounts"] = sorted(whose)
    return section


def _beginnings(pattern: str) -> list[tuple[str, bool]] | None:
    """(text, whether that is all) of a regular expression that says no more than how something begins; None for any other.
    Jasmin matches at the beginning, with or without `^`."""
    inner = pattern.removeprefix("^").removeprefix("\\+").removeprefix("?")
    exact = inner.endswith("$")
    inner = inner.removesuffix("$")
    for tail in (".*", ".+", "\\d+", "\\d*", "[0-9]+", "[0-9]*"):
        if inner.endswith(tail):
            inner, exact = inner.removesuffix(tail), False
            break
    if match := re.fullmatch(r"\((?:\?:)?([^()]*)\)", inner):
        inner = match[1]
    parts = [part.removeprefix("\\+").removeprefix("^") for part in inner.split("|")]
    if len(parts) > 1_000 or any(not re.fullmatch(r"[0-9A-Za-z _-]{1,20}", part) for part in parts):
        return None
    return [(part, exact) for part in parts]


def _owners(found: _Found, accounts: dict[str, tuple[_User, Section]], draft: Draft) -> None:
    """Routes of messages from handsets: the account that they name owns the number."""
    by_name = {account["system_id"]: account for _, account in accounts.values()}
    for route in sorted(found.mo_routes, key=lambda one: -one.order):
        what = f"the route of order {route.order} for messages from handsets"
        owners = [by_name[name] for kind, name in route.connectors if kind == "smpps" and name in by_name]
        numbers = list(_numbers(route.filters))
        if len(owners) != 1 or not numbers:
            draft.leave(
                route.place,
                f"{what}: smppd gives them to the account that has the number in `numbers` or the word in"
                " `keywords`, and this one names no account or no number",
            )
            continue
        owned = owners[0].setdefault("numbers", [])
        owned += [number for number in numbers if number not in owned]


def _numbers(filters: Iterable[_Filter | None]) -> Iterator[str]:
    if len([one for one in filters if one is None or one.kind != "TransparentFilter"]) != 1:
        return
    for one in itertools.islice(filters, MAX_THINGS):
        if one is not None and one.kind == "DestinationAddrFilter":
            for text, exact in _beginnings(one.value) or ():
                if text.isdigit():
                    yield f"+{text}" if exact else f"+{text}*"
