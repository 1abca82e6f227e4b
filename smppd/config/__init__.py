"""YAML -> frozen, validated settings; every fault at once, each with file:line:column and path.

`load(path)` gives `Settings` or raises `ConfigError`; `changes(old, new)` says what a reload would change.
"""

from __future__ import annotations

from smppd.config.kinds import Addressed, IPNetwork, Model, is_loopback, split_address
from smppd.config.peers import (
    Account,
    Backoff,
    ClientCertificate,
    Listener,
    ListenerTls,
    ReceiptSettings,
    Retain,
    Route,
    Upstream,
    UpstreamTls,
    Weighted,
)
from smppd.config.rules import Action, Condition, Policy, Refuse, ReplaceSender, Rule
from smppd.config.secrets import KeyRef, PasswordHash, SecretError, SecretRef
from smppd.config.settings import DelayGrowth, Http, Keys, Limits, Log, Settings, Store

__all__ = [
    "Account",
    "Action",
    "Addressed",
    "Backoff",
    "ClientCertificate",
    "Condition",
    "DelayGrowth",
    "Http",
    "IPNetwork",
    "KeyRef",
    "Keys",
    "Limits",
    "Listener",
    "ListenerTls",
    "Log",
    "Model",
    "PasswordHash",
    "Policy",
    "ReceiptSettings",
    "Refuse",
    "ReplaceSender",
    "Retain",
    "Route",
    "Rule",
    "SecretError",
    "SecretRef",
    "Settings",
    "Store",
    "Upstream",
    "UpstreamTls",
    "Weighted",
    "is_loopback",
    "split_address",
]
