"""The page for a customer's engineers: how to connect, what is allowed, what answers mean; made of the configuration.

It has nothing in it that is not this customer's: no password or its hash, no other account, no carrier, and of policies only
the statuses that they answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509

from smppd.config import Account, Listener, Policy, Refuse, Settings, is_loopback
from smppd.config.statuses import STATUSES
from smppd.config.units import format_duration, format_rate, format_size

LANGUAGES: Final = {"python": "Python, smpplib", "node": "Node.js, smpp", "java": "Java, jSMPP"}
TRIED: Final = ("python", "node")
"""The first sessions that smppd's own tests run against it. The others were written and not run."""
HOST_UNKNOWN: Final = "smpp.example.net"
_FORMS: Final = {
    "hex16": "16 hexadecimal digits",
    "hex8": "8 hexadecimal digits",
    "decimal10": "10 decimal digits",
}
_ALPHABETS: Final = {
    "gsm": "GSM 03.38, one septet in each octet",
    "gsm_packed": "GSM 03.38, packed",
    "latin1": "ISO 8859-1",
    "ascii": "ASCII",
}
_STATES: Final = (
    ("DELIVRD", "the handset has it", "final"),
    ("UNDELIV", "it could not be delivered; `err` says more where the network told us", "final"),
    ("EXPIRED", "its validity ended before it could be delivered", "final"),
    ("REJECTD", "the network, or we, would not take it", "final"),
    ("DELETED", "it was cancelled", "final"),
    ("ACCEPTD", "the network has taken it; more may follow", "not final unless nothing follows within 72 h"),
    ("UNKNOWN", "nobody can say what became of it", "final"),
    ("ENROUTE", "on its way: only to who asked for intermediate notifications", "not final"),
)


class Endpoint(NamedTuple):
    """Where the customer connects. ``client_certificate``: off, optional or required, by the listener."""

    host: str
    port: int
    tls: bool
    client_certificate: str


class Named(NamedTuple):
    """The server's certificate: its names, who issued it, and when it ends (ISO 8601)."""

    names: tuple[str, ...]
    issuer: str
    expires: str


class StatusLine(NamedTuple):
    """An answer that is not ESME_ROK: when, and what to do."""

    status: str
    value: str
    when: str
    what_to_do: str


def facts(settings: Settings, account: Account, address: tuple[str, int] | None = None) -> dict[str, Any]:
    """All of the guide, for `--json`. ``address``: (host, port) that the customer connects to, where it is another than a
    listener's, as behind a load balancer. Times are seconds, rates messages a second. ValueError where there is no listener
    that others than this machine could reach and none is named."""
    endpoints, certificate = _endpoints(settings, address)
    limits = settings.limits
    certificate_asked = account.client_certificate
    return {
        "account": account.system_id,
        "endpoints": [one._asdict() for one in endpoints],
        "certificate": None if certificate is None else certificate._asdict(),
        "client_certificate": None if certificate_asked is None else certificate_asked.model_dump(exclude_none=True),
        "networks": account.networks if account.networks == "any" else [str(one) for one in account.networks],
        "binds": list(account.binds),
        "interface_versions": list(account.interface_versions),
        "strict_fields": account.strict_fields,
        "suspended": account.suspended,
        "limits": {
            "max_binds": account.max_binds,
            "when_full": account.when_full,
            "window": account.window,
            "throughput": account.throughput,
            "burst": account.burst,
            "throttle_wait": limits.throttle_wait,
            "queue": account.queue,
            "max_pdu": limits.max_pdu,
            "bind": limits.bind,
            "enquire_link": limits.enquire_link,
            "inactivity": limits.inactivity,
            "response": limits.response,
            "control_rate": limits.control_rate,
            "bad_bodies": limits.bad_bodies,
            "id_failures": limits.id_failures,
            "address_failures": limits.address_failures,
            "address_ban": limits.address_ban,
        },
        "acknowledge": account.acknowledge,
        "message_id": account.message_id,
        "default_alphabet": account.default_alphabet,
        "class": account.class_,
        "expire_after": account.expire_after,
        "codes_expire_after": account.one_time_codes.expire_after,
        "deduplicate": account.deduplicate,
        "on_unknown": account.on_unknown,
        "receipts": {
            "keep": account.receipts.keep,
            "limit": account.receipts.limit,
            "window": account.deliver_window,
            "retry": account.receipts.retry,
        },
        "content": account.content,
        "retain": {"body": account.kept.new_body, "numbers": account.kept.numbers, "billing": account.kept.billing},
        "opt_out": account.opt_out.told,
        "numbers": len(account.numbers),
        "consent": account.consent,
        "consent_classes": list(account.consent_classes),
        "quiet_hours": account.quiet_hours,
        "statuses": [one._asdict() for one in statuses(settings, account)],
        "first_sessions": {name: _sample(name, account, endpoints[0]) for name in LANGUAGES},
    }


# -- where -------------------------------------------------------------------------------------------------------------


def _endpoints(settings: Settings, address: tuple[str, int] | None) -> tuple[list[Endpoint], Named | None]:
    open_ = [one for one in settings.listeners if not is_loopback(one.host)] or list(settings.listeners)
    listeners = sorted(open_, key=lambda one: one.tls is None)
    certificate = _named(listeners[0])
    if address is not None:
        return [_endpoint(listeners[0], *address)], certificate
    if listeners[0].port == 0:
        raise ValueError("the listener takes any free port: name host and port with --address")
    return [_endpoint(one, _host(one, _named(one)), one.port) for one in listeners], certificate


def _endpoint(listener: Listener, host: str, port: int) -> Endpoint:
    asked = "off" if listener.tls is None else listener.tls.client_certificates
    return Endpoint(host, port, listener.tls is not None, asked)


def _host(listener: Listener, certificate: Named | None) -> str:
    """What a customer writes: a name of the certificate, else the address that is listened on, where that is one."""
    for name in certificate.names if certificate is not None else ():
        if "*" not in name and not is_loopback(name):
            return name
    return HOST_UNKNOWN if listener.host in ("0.0.0.0", "::") else listener.host


def _named(listener: Listener) -> Named | None:
    if listener.tls is None:
        return None
    return _read(listener.tls.certificate)


def _read(path: Path) -> Named | None:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        return None
    names: list[str] = []
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += [str(one) for one in alternatives.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        pass
    return Named(tuple(names), found.issuer.rfc4514_string(), found.not_valid_after_utc.isoformat())


# -- statuses ----------------------------------------------------------------------------------------------------------

_LATER: Final = "send it again, after a pause that doubles with each try"
_NEVER: Final = "do not send it again as it is"


def statuses(settings: Settings, account: Account) -> list[StatusLine]:
    """What this account may be answered, and what to do."""
    lines = list(_of_smppd(account))
    told = {one.value for one in lines}
    for value in sorted(_of_rules(settings, account)):
        line = StatusLine(_name(value), f"0x{value:08X}", "refused by a rule", f"{_NEVER}; ask us")
        if line.value not in told:
            lines.append(line)
    return lines


def _of_smppd(account: Account) -> Iterator[StatusLine]:
    """Those that smppd itself gives."""
    upstream = account.acknowledge == "upstream"
    yield _status(
        "ESME_RBINDFAIL",
        "a bind: name, password, network, certificate, mode or version is not the account's, or it is suspended; which of"
        " these is not told",
        "check what stands above; after a few wrong ones binds are refused for a while, right ones too",
    )
    yield _status(
        "ESME_RALYBND",
        "a second bind on one session"
        + (f"; more than {account.max_binds} sessions" if account.when_full == "refuse" else ""),
        "end a session first",
    )
    yield _status("ESME_RTHROTTLED", _throttled(account), "wait a second, then go on more slowly")
    yield _status(
        "ESME_RMSGQFUL",
        f"{account.queue:,} messages wait, or there is no room for another"
        + ("; no network can take it now" if upstream else ""),
        _LATER,
    )
    yield _status("ESME_RSYSERR", "the message could not be handled: an error of ours", f"{_LATER}; tell us")
    yield _status(
        "ESME_RINVDSTADR",
        "the destination is empty or too long, or there is no way to it" + _unwanted(account),
        _NEVER,
    )
    yield _status("ESME_RINVSRCADR", "the source address is too long", _NEVER)
    yield _status(
        "ESME_RINVEXPIRY",
        "validity_period is no time, or has passed"
        + ("; or quiet hours last longer than it" if account.quiet_hours in ("hold", "refuse") else ""),
        "give it another one",
    )
    yield _status("ESME_RINVSCHED", "schedule_delivery_time is no time", "correct it")
    yield _status(
        "ESME_RSUBMITFAIL",
        "refused by a rule, or the account's right to submit is suspended"
        + ("; or it is quiet hours at the recipient" if _refuses_at_night(account) else ""),
        f"{_NEVER}; where all are refused, ask us",
    )
    for name in ("ESME_RINVMSGLEN", "ESME_RINVOPTPARSTREAM", "ESME_RINVPARLEN", "ESME_ROPTPARNOTALLWD"):
        yield _status(name, "the PDU is not well formed", "a fault in the sending program")
    yield _status("ESME_RINVBNDSTS", "a request that this bind does not allow", "bind in another mode")
    yield _status("ESME_RINVMSGID", "query_sm, cancel_sm or replace_sm of a message that is not known", _NEVER)
    yield _status("ESME_RCANCELFAIL", "cancel_sm of a message that has left", _NEVER)
    yield _status("ESME_RREPLACEFAIL", "replace_sm of a message that has left", _NEVER)


def _refuses_at_night(account: Account) -> bool:
    """Whether quiet hours refuse: whoever waits for the network's answer cannot wait until the morning."""
    return account.quiet_hours == "refuse" or (account.quiet_hours == "hold" and account.acknowledge == "upstream")


def _throttled(account: Account) -> str:
    rate = "" if account.throughput is None else f"more than {format_rate(account.throughput)}; "
    return f"{rate}too many binds in a minute"


def _unwanted(account: Account) -> str:
    said = "; the recipient wants no messages" if account.opt_out.told == "refuse" else ""
    return said + ("; the recipient's consent is not on record" if account.consent == "required" else "")


def _name(value: int) -> str:
    return next((name for name, number in STATUSES.items() if number == value), f"0x{value:08X}")


def _status(name: str, when: str, what_to_do: str) -> StatusLine:
    return StatusLine(name, f"0x{STATUSES[name]:08X}", when, what_to_do)


def _of_rules(settings: Settings, account: Account) -> set[int]:
    """The statuses that its policies answer, beside the usual one."""
    found: set[int] = set()
    for name in account.policies:
        policy: Policy | None = settings.policies.get(name)
        for rule in policy.rules if policy is not None else ():
            refuse = getattr(rule.do, "refuse", None)
            if isinstance(refuse, Refuse):
                found.add(refuse.status)
    return found


# -- a first session ---------------------------------------------------------------------------------------------------


def _sample(language: str, account: Account, endpoint: Endpoint) -> str:
    """The program, with this account's values in it. Its password comes from the environment."""
    mode = "transceiver" if "transceiver" in account.binds else "transmitter"
    receipt = mode == "transceiver"
    text = resources.files("smppd.reports").joinpath(f"first_sessions/{language}.txt").read_text("utf-8")
    words = {
        "host": json.dumps(endpoint.host),
        "port": str(endpoint.port),
        "system_id": json.dumps(account.system_id),
        "mode": mode,
        "mode:java": "BIND_TRX" if receipt else "BIND_TX",
        "receipt:python": str(receipt),
        "tls:python": str(endpoint.tls),
        "receipt:node": str(receipt).lower(),
        "tls:node": str(endpoint.tls).lower(),
        "receipt:java": str(receipt).lower(),
        "tls:java": str(endpoint.tls).lower(),
    }
    for word, value in words.items():
        text = text.replace(f"<<{word}>>", value)
    return text


# -- the page ----------------------------------------------------------------------------------------------------------


def markdown(guide: dict[str, Any]) -> str:
    """The page of `facts`, in Markdown."""
    parts = [
        f"# SMPP access for {guide['account']}",
        "For the engineers who connect. The values are those in force when this page was made; we tell you when one changes.",
        _connecting(guide),
        _binding(guide),
        _limits(guide),
        _messages(guide),
        _receipts(guide),
        _privacy(guide),
        _recipients(guide),
        "## Answers, and what to do\n\n"
        + ("Statuses that do not stand here are the network's own.\n\n" if guide["acknowledge"] == "upstream" else "")
        + _table(("status", "value", "when", "what to do"), [list(one.values()) for one in guide["statuses"]])
        + "\n\nESME_ROK means: the message is stored safely and will reach a final state. A response that never comes, since"
        " the connection broke, says nothing about the message: sending it again may deliver it twice"
        + (
            f", unless it is sent again within {format_duration(guide['deduplicate'])}, when it gets the same id and is not"
            " sent a second time."
            if guide["deduplicate"]
            else "."
        ),
        _sessions(guide),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(one) for one in row) + " |" for row in rows)])


def _cell(value: object) -> str:
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _connecting(guide: dict[str, Any]) -> str:
    endpoints = guide["endpoints"]
    rows = [[one["host"], one["port"], "TLS 1.2 or 1.3" if one["tls"] else "no TLS"] for one in endpoints]
    text = "## Connecting\n\n" + _table(("host", "port", "TLS"), rows)
    if any(one["host"] == HOST_UNKNOWN for one in endpoints):
        text += f"\n\n{HOST_UNKNOWN} stands for the host name, which we tell you."
    if any(one["tls"] for one in endpoints):
        text += (
            "\n\nTLS starts with the connection; there is no STARTTLS. Key exchange is ECDHE with X25519, P-256 or P-384, the"
            " ciphers are AES-GCM and ChaCha20-Poly1305; older versions, other ciphers and session resumption are refused."
        )
    certificate = guide["certificate"]
    if certificate is not None:
        names = ", ".join(certificate["names"]) or "none"
        text += (
            f" Check the server's certificate: its names are {_cell(names)}, its issuer is {_cell(certificate['issuer'])}, and"
            f" it ends on {certificate['expires'][:10]}; it is renewed before, so check the name and the CA, not this one"
            " certificate."
        )
    wanted = guide["client_certificate"]
    if wanted is not None:
        mark = f"SHA-256 fingerprint {wanted['fingerprint']}" if "fingerprint" in wanted else f"name {wanted['name']}"
        text += f"\n\nYou must show a client certificate: the one with the {_cell(mark)}."
    elif any(one["client_certificate"] == "required" for one in endpoints):
        text += "\n\nYou must show a client certificate of the CA that we agreed on."
    networks = guide["networks"]
    where = "any address" if networks == "any" else ", ".join(networks) + "; from elsewhere binds are refused"
    return text + f"\n\nConnect from {where}."


def _binding(guide: dict[str, Any]) -> str:
    modes = ", ".join(guide["binds"])
    strict = (
        "\n\nFields are read to the letter of SMPP 3.4: a system_id of at most 15 characters, a password of at most 8, and"
        " nothing behind short_message."
        if guide["strict_fields"]
        else ""
    )
    limits = guide["limits"]
    return (
        f"## Binding\n\n- system_id: `{guide['account']}`; the password comes by another way than this page\n"
        f"- binds: {modes}\n- SMPP versions: {', '.join(guide['interface_versions'])}\n"
        "- system_type, addr_ton, addr_npi and address_range are not looked at\n\n"
        f"Bind within {format_duration(limits['bind'])} of connecting. A refused bind is ESME_RBINDFAIL, whatever is wrong"
        " with it; ESME_RALYBND and ESME_RTHROTTLED say that there are too many."
        f" After {limits['id_failures']} wrong binds in a minute further ones are delayed; after"
        f" {limits['address_failures']} from one address that address is refused for"
        f" {format_duration(limits['address_ban'])}. So wait between tries, doubling the pause up to a minute." + strict
    )


def _limits(guide: dict[str, Any]) -> str:
    limits = guide["limits"]
    rate = limits["throughput"]
    full = "is refused: ESME_RALYBND" if limits["when_full"] == "refuse" else "ends the oldest of them"
    rows: list[tuple[str, object, str]] = [
        ("sessions at one time", limits["max_binds"], f"one more {full}"),
        ("unanswered requests of a session", limits["window"], "more are not read until some are answered"),
        (
            "messages, all sessions together",
            "no limit" if rate is None else f"{format_rate(rate)}, {limits['burst']} at once",
            "-"
            if rate is None
            else f"answers are delayed by up to {format_duration(limits['throttle_wait'])}, then ESME_RTHROTTLED",
        ),
        ("messages that wait here", f"{limits['queue']:,}", "ESME_RMSGQFUL"),
        ("octets of a PDU", format_size(limits["max_pdu"]), "the connection is closed"),
        (
            "enquire_link and other control PDUs",
            format_rate(limits["control_rate"]),
            "they are read more slowly",
        ),
        ("PDUs with a bad body in a minute", limits["bad_bodies"], "the session is closed"),
        (
            "silence",
            format_duration(limits["inactivity"]),
            f"the session is closed; after {format_duration(limits['enquire_link'])} we send enquire_link",
        ),
        (
            "time to answer a request of ours",
            format_duration(limits["response"]),
            "a deliver_sm comes again later; without an answer to enquire_link the session is closed",
        ),
    ]
    return "## Limits\n\n" + _table(("what", "limit", "beyond it"), rows)


def _messages(guide: dict[str, Any]) -> str:
    expire, codes = guide["expire_after"], guide["codes_expire_after"]
    validity = "the network's own" if expire is None else format_duration(expire)
    lines = [
        f"- **Message ids** have {_FORMS[guide['message_id']]} (8 hexadecimal digits on binds of SMPP 3.3). Take them as text.",
        f"- **data_coding 0** is {_ALPHABETS[guide['default_alphabet']]}. 8 is UCS-2 (UTF-16BE), 3 is ISO 8859-1, 4 is binary."
        " What you send passes unchanged where the network's alphabet allows it.",
        "- **Long messages**: user data headers (8 or 16 bit reference), SAR TLVs or message_payload. All parts of one message"
        " have the same sender, recipient and reference, and each is answered and counted by itself.",
        f"- **Validity** without a validity_period: {validity}. Past it a message is never sent: it ends EXPIRED.",
    ]
    if guide["class"] == "one_time_code" and codes is not None:
        lines.append(
            f"- Your messages are one-time codes: they overtake others and expire {format_duration(codes)} later."
        )
    if guide["acknowledge"] == "upstream":
        lines.append("- **ESME_ROK** comes when the network has taken the message, which may take seconds.")
    else:
        lines.append("- **ESME_ROK** comes when the message is stored safely, before the network has it.")
    lines.append("- TLVs pass through, vendors' own too.")
    return "## Messages\n\n" + "\n".join(lines)


def _receipts(guide: dict[str, Any]) -> str:
    receipts = guide["receipts"]
    return (
        "## Receipts\n\nAsk with registered_delivery: 1 for every final state, 2 for failures only. A receipt is a deliver_sm"
        " with esm_class 0x04, the id in receipted_message_id and in its text:\n\n"
        "    id:ID sub:001 dlvrd:001 submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DELIVRD err:000 text:\n\n"
        "Dates of receipts that we write are UTC. Find the message by the id, not by order or number, and answer each"
        f" deliver_sm with ESME_ROK when you have stored it. Up to {receipts['window']} come without waiting for answers. One"
        f" that is not answered, or answered with an error, comes again after {format_duration(receipts['retry'])}, then with"
        " pauses that double up to an hour: so the same receipt may come twice. While you are not bound as receiver or"
        f" transceiver they wait, for {format_duration(receipts['keep'])} and up to {receipts['limit']:,}. ESME_RX_P_APPN and"
        " ESME_RX_R_APPN say that you will never take it.\n\n"
        + _table(("stat", "what it means", "final or not"), _STATES)
        + "\n\n`err` is the network's own code, three digits as a rule; 000 where there is none."
    )


def _privacy(guide: dict[str, Any]) -> str:
    content, retain = guide["content"], guide["retain"]
    body = {
        "encrypt": f"texts are kept encrypted for {format_duration(retain['body'])}",
        "hash": "of texts only a keyed hash is kept",
        "hide": "of texts nothing is kept",
    }[content]
    return (
        f"## What is kept\n\nIn our records {body}; both numbers are kept encrypted for {format_duration(retain['numbers'])},"
        f" and time, state and parts for {format_duration(retain['billing'])}. No text and no number stands in our logs. Until"
        " a message has reached its final state it is kept whole, encrypted, so that it can be delivered."
    )


def _recipients(guide: dict[str, Any]) -> str:
    lines = []
    told = guide["opt_out"]
    if told in ("refuse", "receipt"):
        how = "refused with ESME_RINVDSTADR" if told == "refuse" else "accepted and end with a receipt REJECTD"
        heard = " that come to your numbers" if guide["numbers"] else ""
        lines.append(
            f"- **Opt-outs**: STOP and its like{heard} are heard by us and passed on to you. Messages to who opted out are"
            f" {how}, until START."
        )
    if guide["consent"] == "required":
        classes = ", ".join(one.replace("_", " ") for one in guide["consent_classes"])
        lines.append(
            f"- **Consent**: {classes} messages go only to recipients whose consent is on record with us; others are refused"
            " with ESME_RINVDSTADR."
        )
    quiet = guide["quiet_hours"]
    if quiet in ("hold", "refuse"):
        held = quiet == "hold" and guide["acknowledge"] != "upstream"
        how = (
            "wait here until the next one begins, where their validity lasts that long"
            if held
            else "are refused (ESME_RSUBMITFAIL)"
        )
        lines.append(
            "- **Quiet hours**: messages of some classes, promotional ones first of all, may leave only in the hours of the"
            f" recipient's country. Outside these hours they {how}. Yours are {guide['class'].replace('_', ' ')} unless a rule"
            " says otherwise."
        )
    return "## Recipients\n\n" + "\n".join(lines) if lines else ""


def _sessions(guide: dict[str, Any]) -> str:
    tried = " and ".join(LANGUAGES[name] for name in TRIED)
    others = " and ".join(text for name, text in LANGUAGES.items() if name not in TRIED)
    parts = [
        "## A first session\n\nEach binds, sends one message, waits for its receipt where it may and unbinds. The password"
        f" comes from the environment. {tried} were run against this server's software as they stand here;"
        f" {others} was written and not run."
    ]
    for name, title in LANGUAGES.items():
        mark = {"python": "python", "node": "js", "java": "java"}[name]
        parts.append(f"### {title}\n\n```{mark}\n{guide['first_sessions'][name].rstrip()}\n```")
    return "\n\n".join(parts)
