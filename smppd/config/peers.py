"""Settings of those who talk SMPP with us: listeners, accounts (customers), upstreams (carriers) and routes."""

from __future__ import annotations

import ipaddress
import math
import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smppd.config.dlt import AccountDlt, MessageClass
from smppd.config.keeping import Basis, Kept, Retain
from smppd.config.kinds import (
    MANY,
    Address,
    Addressed,
    FileOrSystem,
    FilePath,
    Int,
    Model,
    Name,
    Names,
    Network,
    NetworksOrAny,
    NumberOrPrefix,
    Percent,
    PositiveDuration,
    Prefixes,
    PrivateFile,
    Rate,
    Region,
    SourceAddress,
    Text,
    Texts,
    duration,
    is_loopback,
    rate,
    split_address,
)
from smppd.config.opt_out import AccountOptOut
from smppd.config.secrets import PasswordHashes, SecretRef
from smppd.config.traffic import SuspendAfter, Traffic

Alphabet = Literal["gsm", "gsm_packed", "latin1", "ascii"]
Version = Annotated[
    Literal["3.3", "3.4", "5.0"],
    BeforeValidator(lambda value: str(value) if isinstance(value, float) else value),
    WithJsonSchema({"enum": ["3.3", "3.4", "5.0", 3.3, 3.4, 5.0]}),
]
BindMode = Literal["transmitter", "receiver", "transceiver"]
Allowed = Literal["allowed"]
ErrorTable = Literal["dlt", "dlt_other"]
StatWord = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_.+-]{1,32}$")]
ReceiptState = Literal[
    "scheduled",
    "enroute",
    "delivered",
    "expired",
    "deleted",
    "undeliverable",
    "accepted",
    "unknown",
    "rejected",
    "skipped",
]

_PLAINTEXT = "`allowed` lets this address go without TLS off loopback; everything then crosses the network readable."


def plaintext_rule(value: str | None, info: ValidationInfo) -> str | None:
    """Field rule of a section with `address` and `tls`: no TLS off loopback unless `plaintext: allowed`."""
    if "address" not in info.data or "tls" not in info.data:
        return value  # one of them is wrong already
    given = info.data["address"]
    for address in (given,) if isinstance(given, str) else given:
        host, _ = split_address(address)
        if info.data["tls"] is None and value is None and not is_loopback(host):
            raise ValueError(f"{host} is not loopback: give it tls, or say `plaintext: allowed`")
    return value


# -- listeners -----------------------------------------------------------------------------------------------------


class ListenerTls(Model):
    """TLS towards customers."""

    certificate: FilePath = Field(description="PEM file with the server's certificate and its chain.")
    key: PrivateFile = Field(description="PEM file with the server's private key, mode 0600 or 0640.")
    client_ca: FilePath | None = Field(default=None, description="PEM file of the CAs that sign client certificates.")
    client_certificates: Literal["off", "optional", "required"] = Field(
        default="off",
        validate_default=True,
        description="Whether customers show a certificate. Default: `required` with `client_ca`, else `off`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("client_ca") is not None and "client_certificates" not in value:
            return {**value, "client_certificates": "required"}
        return value

    @field_validator("client_certificates")
    @classmethod
    def _needs_ca(cls, value: str, info: ValidationInfo) -> str:
        if value != "off" and "client_ca" in info.data and info.data["client_ca"] is None:
            raise ValueError("needs client_ca")
        return value


class Listener(Addressed):
    """An address where customers connect."""

    tls: ListenerTls | None = Field(default=None, description="TLS; without it, plain SMPP on loopback only.")
    plaintext: Allowed | None = Field(default=None, validate_default=True, description=_PLAINTEXT)
    proxy_from: Annotated[tuple[Network, ...], MANY] = Field(
        default=(), description="Networks of the proxies whose PROXY header is believed."
    )
    proxy_protocol: Literal["off", "required"] = Field(
        default="off", description="`required`: every connection begins with a PROXY protocol header (v1 or v2)."
    )

    _plaintext = field_validator("plaintext")(plaintext_rule)

    @field_validator("proxy_protocol")
    @classmethod
    def _proxy(cls, value: str, info: ValidationInfo) -> str:
        if value == "required" and info.data.get("proxy_from") == ():
            raise ValueError("needs proxy_from: the networks of the proxies that may say who connects")
        return value


# -- accounts ------------------------------------------------------------------------------------------------------


class ReceiptSettings(Model):
    """Receipts and MO messages waiting for a customer."""

    keep: PositiveDuration = duration("72h", "How long a receipt waits for the customer; then a visible final state.")
    limit: Int = Field(default=1_000_000, ge=1, description="How many may wait for this account.")
    window: Annotated[Int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="deliver_sm in flight towards one session. Default: the account's `window`."
    )
    retry: PositiveDuration = duration("30s", "First pause before a deliver_sm that was not acknowledged goes again.")


class ClientCertificate(Model):
    """The client certificate an account must show, by exactly one of its marks."""

    shorthand = {"type": "string"}

    fingerprint: str | None = Field(default=None, description="SHA-256 of the certificate, hex, colons allowed.")
    name: str | None = Field(default=None, description="Its subject common name or one of its DNS names.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        if isinstance(value, str):
            bare = value.replace(":", "")
            return {"fingerprint" if re.fullmatch(r"[0-9A-Fa-f]{64}", bare) else "name": value}
        if isinstance(value, dict) and len(value.keys() & {"fingerprint", "name"}) != 1:
            raise ValueError("must be exactly one of {fingerprint: sha256} and {name: common name or DNS name}")
        return value

    @field_validator("fingerprint")
    @classmethod
    def _hex(cls, value: str | None) -> str | None:
        if value is None:
            return None
        bare = value.replace(":", "").lower()
        if not re.fullmatch(r"[0-9a-f]{64}", bare):
            raise ValueError("must be 64 hex digits: the SHA-256 of the certificate")
        return bare

    @field_validator("name")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not 0 < len(value) <= 255:
            raise ValueError("must have 1 to 255 characters")
        return value


class OneTimeCodes(Model):
    """One-time codes of an account: messages of that class. They overtake all others."""

    expire_after: PositiveDuration | None = duration(
        "5m", "They expire after this time at the latest: nobody wants a code that came late; null: as other messages."
    )


class Account(Model):
    """A customer: who it is, what it may do, what becomes of its messages."""

    system_id: Text = Field(description="The name it binds with: 1 to 64 characters (15 with `strict_fields`).")
    password_hash: PasswordHashes = Field(description="From `smppd passwd`; two while a password is rotated.")
    networks: NetworksOrAny = Field(description="Networks it may connect from, or `any`.")
    max_binds: Int = Field(default=4, ge=1, description="Sessions at one time.")
    when_full: Literal["refuse", "evict_oldest"] = Field(
        default="refuse", description="What a bind above `max_binds` does: it is refused, or the oldest goes."
    )
    window: Int = Field(default=10, ge=1, le=1000, description="Unanswered requests of one session.")
    throughput: Rate | None = rate("50/s", "Messages of the account, all sessions together; null for no limit.")
    burst: Annotated[Int, Field(ge=1)] | None = Field(
        default=None, validate_default=True, description="Messages at once above the rate. Default: 2 x throughput."
    )
    acknowledge: Literal["stored", "upstream"] = Field(
        default="stored", description="When ESME_ROK is said: on stable storage, or accepted by the SMSC as well."
    )
    content: Literal["encrypt", "hash", "hide"] = Field(
        default="encrypt", description="The body in the record: sealed, only a keyed hash of it, or no trace."
    )
    basis: Basis | None = Field(
        default=None,
        description="Why texts may be kept: `contract`, or {purpose, reference}. Without one they are kept 24 h at most.",
    )
    retain: Retain = Field(
        default_factory=Retain, description="How long the record is kept: one duration, or {body, numbers, billing}."
    )
    policies: Names = Field(default=(), description="Policies its messages pass, in order.")
    class_: MessageClass = Field(
        default="transactional",
        alias="class",
        description="What kind its messages are, unless a rule's `class` says it.",
    )
    quiet_hours: Literal["hold", "refuse", "shadow", "off"] = Field(
        default="hold",
        description="What is done with a message whose class may not leave now (`quiet_hours` of all): held until its hour,"
        " refused, only counted, or nothing. With `acknowledge: upstream`, `hold` refuses.",
    )
    one_time_codes: OneTimeCodes = Field(
        default_factory=OneTimeCodes, description="What goes for messages of the class `one_time_code`."
    )
    consent: Literal["required", "shadow", "off"] = Field(
        default="off",
        description="Whether the recipient of a message must have agreed, by the register of consents: `required` refuses"
        " (ESME_RINVDSTADR), `shadow` counts what it would refuse.",
    )
    consent_classes: Annotated[tuple[MessageClass, ...], MANY] = Field(
        default=("promotional",), description="Classes of message for which it must."
    )
    dlt: AccountDlt | None = Field(
        default=None,
        description="What it is in India's registry (DLT); without it, none of its messages there is `ok`.",
    )
    binds: Annotated[tuple[BindMode, ...], MANY] = Field(
        default=("transmitter", "receiver", "transceiver"), min_length=1, description="Bind operations allowed."
    )
    interface_versions: Annotated[tuple[Version, ...], MANY] = Field(
        default=("3.3", "3.4", "5.0"), min_length=1, description="SMPP versions allowed."
    )
    client_certificate: ClientCertificate | None = Field(
        default=None, description="The certificate it must show: SHA-256 fingerprint, or a name in it."
    )
    message_id: Literal["hex16", "hex8", "decimal10"] = Field(
        default="hex16", description="Form of the message ids it gets; SMPP 3.3 binds always get hex8."
    )
    default_alphabet: Alphabet = Field(default="gsm", description="What data_coding 0 means on its sessions.")
    region: Region | None = Field(
        default=None, description="Country of its national numbers. Default: the `region` of all."
    )
    numbers: Annotated[tuple[NumberOrPrefix, ...], MANY] = Field(
        default=(), description="Its own numbers, or prefixes with `*`: MO messages to these are its."
    )
    keywords: Texts = Field(
        default=(), description="First words of MO messages to a number it shares with other accounts."
    )
    opt_out: AccountOptOut = Field(
        default_factory=AccountOptOut, description="STOP, START and HELP of handsets, and messages to who opted out."
    )
    receipts: ReceiptSettings = Field(default_factory=ReceiptSettings, description="Receipts waiting for the customer.")
    queue: Int = Field(default=1_000_000, ge=1, description="Messages that may wait; then ESME_RMSGQFUL.")
    expire_after: PositiveDuration | None = duration(
        "72h", "Validity of a message that names none; null leaves it to the upstream."
    )
    on_unknown: Literal["resend", "hold"] = Field(
        default="resend", description="A submit_sm that got no answer: sent once more (flagged), or held as unknown."
    )
    unknown_after: PositiveDuration = duration("60s", "How long an answer or receipt may still resolve it.")
    deduplicate: PositiveDuration | None = Field(
        default=None, description="A resend of the same message within this time gets the same id and is not sent."
    )
    strict_fields: bool = Field(
        default=False, description="Fields to the letter of SMPP 3.4, and no octet behind short_message."
    )
    suspended: bool = Field(default=False, description="Refuses its binds; what is stored is kept and delivered.")
    traffic: Traffic | None = Field(
        default=None, description="Looks for what is unusual in its traffic; `{}`: all of it, alerts only. Default: no."
    )
    suspend_after: SuspendAfter | None = Field(
        default=None,
        description="Refusals after which it may submit no more, until an operator lifts it. Default: none.",
    )

    @cached_property
    def kept(self) -> Kept:
        """How long each part is kept: `retain`, unless a text would be kept for longer than that is allowed without a basis."""
        return Kept.of(self.retain, self.content, self.basis)

    @property
    def deliver_window(self) -> int:
        """deliver_sm in flight towards one session: what a customer may send ahead it takes ahead too, unless told otherwise.
        A smaller one would let receipts fall behind at full load, however fast the customer answers them."""
        return self.receipts.window or self.window

    @field_validator("system_id")
    @classmethod
    def _system_id(cls, value: str) -> str:
        # ':' '/' and blanks would make scopes, labels and log lines ambiguous.
        if not re.fullmatch(r"[!-9;-~]{1,64}", value) or re.search(r"[/\"'\\]", value):
            raise ValueError("must be 1 to 64 printable ASCII characters without blanks, quotes, ':', '/' or '\\'")
        return value

    @field_validator("burst")
    @classmethod
    def _burst(cls, value: int | None, info: ValidationInfo) -> int | None:
        throughput = info.data.get("throughput")
        return max(1, math.ceil(2 * throughput)) if value is None and throughput is not None else value

    @field_validator("keywords")
    @classmethod
    def _keywords(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word or len(word.split()) != 1 for word in value):
            raise ValueError("must be single words")
        return value

    @field_validator("strict_fields")
    @classmethod
    def _strict(cls, value: bool, info: ValidationInfo) -> bool:
        if value and len(info.data.get("system_id", "")) > 15:
            raise ValueError("allows a system_id of at most 15 characters (SMPP 3.4, 5.2.1)")
        return value


# -- upstreams -----------------------------------------------------------------------------------------------------


class UpstreamTls(Model):
    """TLS towards a carrier. The certificate's name is always checked."""

    ca: FileOrSystem = Field(default="system", description="`system`, or a PEM file of the CAs to trust.")
    certificate: FilePath | None = Field(default=None, description="PEM file of our client certificate.")
    key: PrivateFile | None = Field(
        default=None,
        validate_default=True,
        description="PEM file of its private key, mode 0600 or 0640; with `certificate` only.",
    )
    server_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Name to expect in the certificate, if not the host."
    )

    @field_validator("key")
    @classmethod
    def _pair(cls, value: object, info: ValidationInfo) -> object:
        if "certificate" in info.data and (info.data["certificate"] is None) != (value is None):
            raise ValueError("certificate and key are given both or not at all")
        return value


class Backoff(Model):
    """Jittered pauses that double from `first` to `most`."""

    first: PositiveDuration = duration("1s", "First pause.")
    most: PositiveDuration = duration("60s", "Longest pause.")

    @field_validator("most")
    @classmethod
    def _order(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("first", 0):
            raise ValueError("must not be shorter than `first`")
        return value


class Upstream(Model):
    """A carrier's SMSC that we bind to."""

    address: Annotated[tuple[Address, ...], MANY] = Field(
        min_length=1,
        max_length=8,
        description="host:port; an IPv6 host in brackets. Of several each link tries the next when one fails.",
    )
    source_address: SourceAddress | None = Field(
        default=None, description="The address of this host that our connections to it come from."
    )
    name: Name = Field(description="Its name in routes, records and metrics.")
    country: Region | None = Field(
        default=None, description="Country of the carrier, for the record of processing and the list of processors."
    )
    contract: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Which contract it works under, for the same: text without personal data."
    )
    tls: UpstreamTls | None = Field(default=None, description="TLS; without it, on loopback only.")
    plaintext: Allowed | None = Field(default=None, validate_default=True, description=_PLAINTEXT)
    system_id: Text = Field(min_length=1, max_length=64, description="The name we bind with.")
    password: SecretRef = Field(
        description="Where the password is kept: {file: path}, {credential: NAME} or {env: NAME}."
    )
    system_type: Text = Field(default="", max_length=12, description="system_type of our binds.")
    interface_version: Version = Field(
        default="3.4",
        description="SMPP version of our binds. To `3.3` goes nothing that 3.4 added: no TLVs, no data_sm.",
    )
    bind: Literal["transceiver", "transmitter+receiver"] = Field(
        default="transceiver", description="One session for both directions, or a pair."
    )
    sessions: Int = Field(default=1, ge=1, le=64, description="Sessions (or pairs) held open.")
    window: Int = Field(default=100, ge=1, le=1000, description="Unanswered submit_sm of one session.")
    throughput: Rate | None = Field(default=None, description="Messages to it, all sessions together; null: no limit.")
    burst: Annotated[Int, Field(ge=1)] | None = Field(
        default=None,
        validate_default=True,
        description="Messages at once above the rate. Default: a tenth of a second's worth.",
    )
    reserve_for_codes: Percent = Field(
        default=0,
        description="Share of its windows that only one-time codes may take, so that they need not wait for an answer to"
        " other messages: `10%`.",
        json_schema_extra={"default": "0%"},
    )
    enquire_link: PositiveDuration = duration("30s", "Silence after which we ask whether the link stands.")
    response: PositiveDuration = duration("30s", "How long it may take to answer a request.")
    reconnect: Backoff = Field(default_factory=Backoff, description="Pauses between attempts to connect.")
    retry: Backoff = Field(
        default_factory=Backoff, description="Pauses after it said throttled or queue full, or nothing."
    )
    default_alphabet: Alphabet = Field(default="gsm", description="What data_coding 0 means on its sessions.")
    region: Region | None = Field(
        default=None, description="Country of national numbers in what it delivers. Default: the `region` of all."
    )
    addr_ton: Int = Field(default=0, ge=0, le=255, description="addr_ton of our binds.")
    addr_npi: Int = Field(default=0, ge=0, le=255, description="addr_npi of our binds.")
    address_range: Text = Field(default="", max_length=40, description="address_range of our binds.")
    final_statuses: Annotated[tuple[Annotated[Int, Field(ge=1, le=0xFFFFFFFF)], ...], MANY] | None = Field(
        default=None, description="command_status values that refuse a message for good; null: the usual ones."
    )
    error_table: ErrorTable | None = Field(
        default=None,
        description="What it means by error codes from 600 on, for metrics and `smppd log`: `dlt` as most carriers of India,"
        " `dlt_other` as those that use 611 to 616 otherwise.",
    )
    message_id_form: Literal["learn", "raw", "hex_to_decimal", "decimal_to_hex", "alike"] = Field(
        default="learn",
        description="Its message ids: `hex_to_decimal` are hexadecimal in responses and decimal in receipts; `alike` "
        "differ in case, dashes, zeros or base. A form that is set needs only the destination of a receipt to agree.",
    )
    receipt_states: Annotated[dict[StatWord, ReceiptState], Field(max_length=100)] = Field(
        default_factory=dict,
        description='What the words or numbers in its receipts\' `stat:` mean: `{"0": delivered, BUFFERD: enroute}`. Goes '
        "before smppd's own list and before message_state.",
    )
    enabled: bool = Field(
        default=True,
        description="Whether we connect to it. While we do not, new messages take the other upstreams of their route; where"
        " there are none they are refused with ESME_RINVDSTADR, and those accepted before wait.",
    )

    _plaintext = field_validator("plaintext")(plaintext_rule)

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Its addresses as (host, port), in their order."""
        return tuple(split_address(address) for address in self.address)

    @field_validator("address")
    @classmethod
    def _address(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names an address twice")
        return value

    @field_validator("source_address")
    @classmethod
    def _source(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            family = ipaddress.ip_address(value).version
            for host, _ in (split_address(address) for address in info.data.get("address", ())):
                try:
                    other = ipaddress.ip_address(host).version
                except ValueError:
                    continue  # a name: those of its addresses are tried that are of this family
                if other != family:
                    raise ValueError(f"is IPv{family}, and {host} is not")
        return value

    @field_validator("burst")
    @classmethod
    def _burst(cls, value: int | None, info: ValidationInfo) -> int | None:
        throughput = info.data.get("throughput")
        return max(1, math.ceil(throughput / 10)) if value is None and throughput is not None else value


# -- routes --------------------------------------------------------------------------------------------------------


class Weighted(Model):
    """An upstream of a route and its share of the traffic."""

    shorthand = {"type": "string"}

    name: Name = Field(description="Name of an upstream.")
    weight: Int = Field(default=1, ge=1, le=1000, description="Its share, against the other weights.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Route(Model):
    """Where messages go: the first route that matches and has an upstream standing is taken."""

    name: Name | None = Field(default=None, description="Its name in records and explanations.")
    destination: Prefixes = Field(default=(), description="Prefixes of the destination; none: every destination.")
    sender: Texts = Field(default=(), description="Senders, exact or `prefix*`; none: every sender.")
    accounts: Texts = Field(default=(), description="system_ids; none: every account.")
    tags: Names = Field(default=(), description="Tags that policy gave the message; none: no tag needed.")
    upstreams: Annotated[tuple[Weighted, ...], MANY] = Field(
        min_length=1, description="Names of upstreams, or {name, weight}."
    )
