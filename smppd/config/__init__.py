"""YAML -> frozen, validated settings; every fault at once, each with file:line:column and path.

`load(path)` gives `Settings` or raises `ConfigError`; `changes(old, new)` says what a reload would change.
"""

from __future__ import annotations

from smppd.config.console import Console, ConsoleTls
from smppd.config.dlt import AccountDlt, Dlt, Registry
from smppd.config.feed import Feed, FeedFile, FeedSocket
from smppd.config.keeping import Basis, Ceiling, Floor, Kept, Retain, Retention
from smppd.config.kinds import Addressed, IPNetwork, Model, is_loopback, split_address
from smppd.config.lists import ListSource
from smppd.config.loader import ConfigError, ConfigFileError, Fault, fault_at, faults_at, load, parse
from smppd.config.opt_out import AccountOptOut, Answers, Hearing, NumberHearing, OptOut, OwnWords
from smppd.config.peers import (
    Account,
    Backoff,
    ClientCertificate,
    Listener,
    ListenerTls,
    ReceiptSettings,
    Route,
    Upstream,
    UpstreamTls,
    Weighted,
)
from smppd.config.reload import Changes, changes
from smppd.config.rules import FAMILIES, Action, Condition, Policy, ProtectedBrand, Refuse, ReplaceSender, Rule
from smppd.config.secrets import KeyRef, PasswordHash, SecretError, SecretRef
from smppd.config.senders import AuthorisedSender, Senders
from smppd.config.settings import ConsentRegister, Control, DelayGrowth, Http, Keys, Limits, Log, Settings
from smppd.config.shipping import ShippedFile, Shipping, SyslogServer, SyslogTls
from smppd.config.spans import Tracing
from smppd.config.stamps import ReadFile, Stamp, stamp_of
from smppd.config.store import Store
from smppd.config.tlvs import TlvTest
from smppd.config.tracing import Traces

__all__ = [
    "FAMILIES",
    "Account",
    "AccountOptOut",
    "AccountDlt",
    "Action",
    "Addressed",
    "Answers",
    "AuthorisedSender",
    "Backoff",
    "Basis",
    "Ceiling",
    "Changes",
    "ClientCertificate",
    "Condition",
    "ConfigError",
    "ConfigFileError",
    "ConsentRegister",
    "Console",
    "ConsoleTls",
    "Control",
    "DelayGrowth",
    "Dlt",
    "Fault",
    "Feed",
    "FeedFile",
    "FeedSocket",
    "Floor",
    "Hearing",
    "Http",
    "IPNetwork",
    "Kept",
    "KeyRef",
    "Keys",
    "Limits",
    "Listener",
    "ListSource",
    "ListenerTls",
    "Log",
    "Model",
    "NumberHearing",
    "OptOut",
    "OwnWords",
    "PasswordHash",
    "Policy",
    "ReadFile",
    "ProtectedBrand",
    "ReceiptSettings",
    "Refuse",
    "Registry",
    "ReplaceSender",
    "Retain",
    "Retention",
    "Route",
    "Rule",
    "SecretError",
    "SecretRef",
    "Senders",
    "Settings",
    "ShippedFile",
    "Shipping",
    "Stamp",
    "Store",
    "SyslogServer",
    "SyslogTls",
    "TlvTest",
    "Traces",
    "Tracing",
    "Upstream",
    "UpstreamTls",
    "Weighted",
    "changes",
    "fault_at",
    "faults_at",
    "is_loopback",
    "load",
    "parse",
    "split_address",
    "stamp_of",
]
