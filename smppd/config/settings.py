"""The whole configuration as one frozen value: the root of all sections, and those about smppd itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from smppd.config.console import Console
from smppd.config.dlt import Dlt
from smppd.config.feed import Feed
from smppd.config.hours import QuietHours
from smppd.config.keeping import Retention
from smppd.config.kinds import (
    Address,
    Addressed,
    AnyPath,
    Duration,
    HostNames,
    Int,
    Model,
    Name,
    PositiveDuration,
    Rate,
    Region,
    Size,
    Texts,
    duration,
    is_loopback,
    rate,
    size,
    split_address,
)
from smppd.config.lists import ListSource
from smppd.config.opt_out import OptOut
from smppd.config.peers import Account, Allowed, Backoff, Listener, Route, Upstream
from smppd.config.references import DEFAULT_HTTP
from smppd.config.rules import Policy, ProtectedBrand
from smppd.config.secrets import KeyRef
from smppd.config.senders import Senders
from smppd.config.shipping import Shipping
from smppd.config.spans import Tracing
from smppd.config.stamps import ReadFile
from smppd.config.store import Store
from smppd.config.tracing import Traces

Keys = KeyRef


class Http(Addressed):
    """Metrics and health. Carries no message content, numbers or secrets."""

    address: Address = Field(default=DEFAULT_HTTP, description="host:port of /metrics, /healthz and /readyz.")
    plaintext: Allowed | None = Field(
        default=None,
        validate_default=True,
        description="`allowed` opens it beyond loopback, without a login: for a network of its own.",
    )
    hosts: HostNames = Field(
        default=(), description="Names it may be asked by (Host), besides loopback's and its own address."
    )

    @field_validator("plaintext")
    @classmethod
    def _loopback(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "address" in info.data:
            host, _ = split_address(info.data["address"])
            if not is_loopback(host):
                raise ValueError(f"{host} is not loopback, and there is no login: say `plaintext: allowed` if meant")
        return value


class Control(Model):
    """A second control socket, for who may not enter the store's directory."""

    path: AnyPath | None = Field(
        default=None,
        description="Where it is; commands of root and of the daemon's user take the one in the store's directory.",
    )
    group: str | None = Field(
        default=None, min_length=1, max_length=32, description="The group that may connect to it; then it logs in."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Control:
        if self.group is not None and self.path is None:
            raise ValueError("`group` needs `path`: nobody else may enter the store's directory")
        if self.path is not None and len(os.fsencode(self.path.name)) > 64:
            raise ValueError("`path` must end in a name of at most 64 octets")
        return self


class DelayGrowth(Backoff):
    """A delay that doubles from `first` to `most`."""

    first: PositiveDuration = duration("1s", "First delay.")
    most: PositiveDuration = duration("5m", "Longest delay.")


class Limits(Model):
    """What hostile or broken peers may cost. The defaults are safe; each limit is of this process."""

    connections: Int = Field(default=10_000, ge=1, description="Connections at one time.")
    unbound: Int = Field(default=512, ge=1, description="... of which not bound yet.")
    unbound_per_address: Int = Field(default=16, ge=1, description="... of which from one address.")
    unbound_reserved: Int = Field(
        default=128, ge=0, description="... of which only from networks that accounts name; `any` names none."
    )
    proxy_pending: Int = Field(
        default=64, ge=1, description="Connections of one proxy whose PROXY header is not here yet."
    )
    handshake_share: Int = Field(
        default=10,
        ge=1,
        le=100,
        description="Percent of the daemon's time for customers' TLS handshakes, a tenth of it for those of P-384.",
    )
    handshakes_per_address: Rate = rate(
        "20/s", "TLS handshakes of one address, four times as many in accounts' networks."
    )
    handshakes_per_address_burst: Int = Field(default=50, ge=1, description="... at once.")
    handshakes_per_network: Rate = rate("40/s", "TLS handshakes of one network (IPv4 /24, IPv6 /56), likewise.")
    handshakes_per_network_burst: Int = Field(default=100, ge=1, description="... at once.")
    tls_handshake: PositiveDuration = duration("5s", "Time for a TLS handshake.")
    bind: PositiveDuration = duration("10s", "Time from connecting to a bind.")
    pdu: PositiveDuration = duration("10s", "Time from a PDU's first octet to its last.")
    inactivity: PositiveDuration = duration("150s", "Silence after which a session is cut.")
    enquire_link: PositiveDuration = duration("30s", "Silence after which we ask whether the link stands.")
    response: PositiveDuration = duration("30s", "Time for the answer to a request of ours.")
    max_pdu: Size = size("68KiB", "Longest PDU of a bound session.")
    max_pdu_unbound: Size = size("512B", "Longest PDU before the bind.")
    unsent: Size = size("256KiB", "Unsent octets at which reading from the session pauses.")
    unsent_abort: PositiveDuration = duration("30s", "... and how long until it is cut.")
    bad_bodies: Int = Field(
        default=10,
        ge=1,
        description="PDUs with a bad body in a minute before a customer's session is closed; no upstream's link ends so.",
    )
    control_rate: Rate = rate("5/s", "enquire_link and other control PDUs of a session.")
    control_burst: Int = Field(default=20, ge=1, description="... at once.")
    refusal_floor: Duration = duration("1s", "Every refused bind is answered after this time, whatever the reason.")
    id_failures: Int = Field(default=5, ge=1, description="Failed binds a minute of one name from one address.")
    id_delay: DelayGrowth = Field(default_factory=DelayGrowth, description="... after which its binds are delayed.")
    account_binds: Int = Field(
        default=60,
        ge=1,
        description="Accepted binds a minute of one account from one address, or 2 x its `max_binds`; ESME_RTHROTTLED beyond.",
    )
    address_failures: Int = Field(default=20, ge=1, description="Failed binds of one address in `address_window`.")
    address_window: PositiveDuration = duration("10m", "Time over which they count.")
    address_ban: PositiveDuration = duration("15m", "How long such an address is refused.")
    throttle_wait: Duration = duration("500ms", "Longest delay of an answer before ESME_RTHROTTLED is said.")
    max_pending_auth: Int = Field(default=64, ge=1, description="Binds waiting for their password to be checked.")
    tlvs: Int = Field(default=64, ge=1, le=1024, description="TLVs in one PDU.")
    parked: Size = size("64MiB", "Receipts of one upstream that wait for their message; then the oldest are given up.")

    @field_validator("max_pdu", "max_pdu_unbound")
    @classmethod
    def _pdu(cls, value: int) -> int:
        if not 128 <= value <= 16 << 20:
            raise ValueError("must lie between 128B and 16MiB")
        return value


class Log(Model):
    """Structured log of what happens; message text, numbers and secrets never enter it."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level written.")
    format: Literal["json", "console"] = Field(default="json", description="One JSON object a line, or for people.")
    file: AnyPath | None = Field(default=None, description="A file to append to; null: standard error.")


class ConsentRegister(Model):
    """The register of consents: who agreed to what."""

    retain: PositiveDuration = duration("1827d", "How long a consent is kept as proof after it was withdrawn.")


class Settings(Model):
    """The configuration of one smppd process."""

    include: Texts = Field(
        default=(),
        description="Further files, relative to this one, or patterns such as `accounts.d/*.yaml`. They may have `accounts`,"
        " `upstreams`, `routes`, `policies`, `lists` and `brands`.",
    )
    listeners: tuple[Listener, ...] = Field(min_length=1, description="Where customers connect.")
    accounts: tuple[Account, ...] = Field(default=(), description="The customers.")
    upstreams: tuple[Upstream, ...] = Field(default=(), description="The carriers.")
    routes: tuple[Route, ...] = Field(default=(), description="Where messages go; the first match wins.")
    policies: dict[Name, Policy] = Field(
        default_factory=dict, description="Named policies: a list of rules, or {hold_parts, rules}."
    )
    lists: dict[Name, ListSource] = Field(
        default_factory=dict, description="Big lists by name, which rules ask with `destination_in` and the like."
    )
    watch_files: PositiveDuration = duration(
        "5s", "How often the files of `lists`, and those that rules read, are looked at for a change."
    )
    opt_out: OptOut = Field(
        default_factory=OptOut,
        description="The words by which handsets say STOP, START and HELP, and what is answered.",
    )
    quiet_hours: QuietHours = Field(
        default_factory=QuietHours, description="When messages of some classes may not leave, by the recipient's clock."
    )
    brands: dict[Name, ProtectedBrand] = Field(
        default_factory=dict, description="Brands that `family: phishing_link` protects, besides the shipped examples."
    )
    senders: Senders = Field(
        default_factory=Senders, description="Who may use which sender; rules ask for it by `sender_is`."
    )
    consent: ConsentRegister = Field(
        default_factory=ConsentRegister, description="The register of consents, a purpose of its own."
    )
    dlt: Dlt = Field(default_factory=Dlt, description="What is registered in India's registries of messages (DLT).")
    retention: Retention = Field(
        default_factory=Retention, description="Between which bounds every account's `retain` lies."
    )
    store: Store = Field(description="Where messages and records are kept.")
    keys: Keys = Field(description="Where the key-encryption key is kept.")
    http: Http | None = Field(default_factory=Http, description="Metrics and health; null: none.")
    control: Control = Field(
        default_factory=Control, description="A second control socket, for a group that has to log in."
    )
    console: Console = Field(default_factory=Console, description="The web console, a process of its own.")
    limits: Limits = Field(default_factory=Limits, description="What hostile or broken peers may cost.")
    log: Log = Field(default_factory=Log, description="Structured log.")
    shipping: Shipping = Field(
        default_factory=Shipping, description="Where the audit trail and the log's checkpoints go as they are made."
    )
    feed: Feed = Field(default_factory=Feed, description="What happened to messages, for other programs.")
    tracing: Tracing = Field(
        default_factory=Tracing, description="A sample of the messages' lives as OpenTelemetry spans."
    )
    traces: Traces = Field(default_factory=Traces, description="What `smppd act trace` keeps of a peer's PDUs.")
    drain: Duration = duration("30s", "Time to finish what is in flight when told to stop.")
    region: Region | None = Field(
        default=None, description="Country whose national numbers are meant where no country code stands."
    )
    node: Int = Field(
        default=0,
        ge=0,
        le=63,
        description="This node's number, part of every message id. Each of several nodes on one database has one of its own.",
    )
    node_name: Name | None = Field(
        default=None, description="Its name for people, where `store.url` is set; the machine's where none stands."
    )
    path: SkipJsonSchema[Path] = Field(default=Path(), exclude=True, description="The file this came from.")

    _read_files: tuple[ReadFile, ...] = PrivateAttr(default=())
    _files: tuple[ReadFile, ...] = PrivateAttr(default=())
    _digest: str = PrivateAttr(default="")

    @property
    def control_socket(self) -> Path:
        """Where whoever need not be root or the daemon's user asks the daemon: `control.path`, else the socket in the store's
        directory, which only these two can reach."""
        return self.control.path or self.store.directory / "control.sock"

    @property
    def read_files(self) -> tuple[ReadFile, ...]:
        """The files of keywords and domains that this was made of beside the configuration's own files."""
        return self._read_files

    @property
    def files(self) -> tuple[ReadFile, ...]:
        """The configuration file itself and all that it includes, in their order."""
        return self._files

    @property
    def digest(self) -> str:
        """SHA-256 of these files in hexadecimal (`includes.digest_of`); empty of settings that no file was read for."""
        return self._digest

    def region_of(self, account: str) -> str | None:
        """The country of an account's national numbers; None where nobody says."""
        mine = next((one.region for one in self.accounts if one.system_id == account), None)
        return mine or self.region

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        """A section whose lines are all commented out is the same as none."""
        if isinstance(value, dict):
            optional = (
                "include",
                "accounts",
                "upstreams",
                "routes",
                "policies",
                "lists",
                "opt_out",
                "quiet_hours",
                "brands",
                "senders",
                "consent",
                "dlt",
                "retention",
                "console",
                "control",
                "limits",
                "log",
                "shipping",
                "feed",
                "tracing",
                "traces",
            )
            return {key: item for key, item in value.items() if item is not None or key not in optional}
        return value

    @field_validator("include")
    @classmethod
    def _named_files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name or "\0" in name for name in value):
            raise ValueError("must be paths or patterns of files")
        return value

    @field_validator("policies", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Gives each policy its key as name, and turns a bare list into one with rules."""
        if not isinstance(value, dict):
            return value
        named: dict[Any, Any] = {}
        for name, policy in value.items():
            if isinstance(policy, dict):
                # A `name` from the file is left to be refused as an unknown key.
                named[name] = {("name_" if key == "name" else key): item for key, item in policy.items()} | {
                    "name": name
                }
            elif isinstance(policy, (list, tuple)):
                named[name] = {"name": name, "rules": policy}
            elif isinstance(policy, Policy):
                named[name] = policy
            else:
                raise ValueError(f"{name} must be a list of rules, or {{hold_parts: true, rules: [...]}}")
        return named
