"""ISO/IEC 27001:2022 Annex A: which feature, command and test stands behind each control, and whether it is in force now.

`CONTROLS` is the one table; the duties in docs/data-protection.md are held to it by a test. That a control is named here does
not make an installation conform: what people and premises do is not in a daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from smppd.config import Settings, is_loopback
from smppd.reports.document import Report, report
from smppd.reports.source import Source


class Control(NamedTuple):
    """number: `A.8.13`; title: as in the standard; feature, command: what answers it here; configuration: the keys that say
    how; tests: of the feature; probe: name of what is looked at in the configuration, empty where it is always in force."""

    number: str
    title: str
    feature: str
    command: str
    configuration: str
    tests: tuple[str, ...]
    probe: str = ""


def _tls(settings: Settings) -> bool:
    listeners = all(one.tls is not None or is_loopback(one.host) for one in settings.listeners)
    return listeners and all(one.tls is not None or is_loopback(one.host) for one in settings.upstreams)


_PROBES: Final[dict[str, Callable[[Settings], bool]]] = {
    "accounts": lambda settings: bool(settings.accounts),
    "basis": lambda settings: all(one.basis is not None or one.content != "encrypt" for one in settings.accounts),
    "contracts": lambda settings: all(
        one.contract is not None and one.country is not None for one in settings.upstreams
    ),
    "floors": lambda settings: (
        settings.retention.at_least is not None or any(one.retain.at_least is not None for one in settings.accounts)
    ),
    "http": lambda settings: settings.http is not None,
    "kek": lambda settings: (
        settings.keys.path is None or not settings.keys.path.is_relative_to(settings.store.directory)
    ),
    "networks": lambda settings: all(one.networks != "any" for one in settings.accounts),
    "rules": lambda settings: any(one.policies for one in settings.accounts),
    "tls": _tls,
}

CONTROLS: Final = (
    Control(
        "A.5.9",
        "Inventory of information and other associated assets",
        "record of processing",
        "smppd report processing",
        "basis",
        ("reports/test_reports.py::test_the_record_of_processing_has_what_the_law_asks",),
        "basis",
    ),
    Control(
        "A.5.15",
        "Access control",
        "binds: password, network, client certificate, suspension",
        "smppd check",
        "accounts[].networks",
        ("net/test_auth.py::test_every_refusal_has_the_same_code_and_time",),
        "networks",
    ),
    Control(
        "A.5.17",
        "Authentication information",
        "Argon2id hashes; secrets in private files, credentials or the environment",
        "smppd passwd",
        "accounts[].password_hash",
        ("test_passwords.py::test_the_hash_is_salted",),
    ),
    Control(
        "A.5.20",
        "Addressing information security within supplier agreements",
        "country and contract of each carrier",
        "smppd report processors",
        "upstreams[].contract, upstreams[].country",
        ("reports/test_reports.py::test_the_carriers_are_listed_with_who_sends_there",),
        "contracts",
    ),
    Control(
        "A.5.24",
        "Information security incident management planning and preparation",
        "breach report: whose data, which records, looked at by whom",
        "smppd report breach",
        "",
        ("reports/test_breach.py::test_whose_data_and_which_records",),
    ),
    Control(
        "A.5.28",
        "Collection of evidence",
        "keyed digest chain with signed checkpoints",
        "smppd log verify",
        "",
        ("cli/test_tampering.py::test_what_is_done_to_the_log_is_found",),
    ),
    Control(
        "A.5.33",
        "Protection of records",
        "digest chain, audit trail; floors that an erasure keeps to",
        "smppd log verify, smppd audit verify",
        "retention.at_least, accounts[].retain.at_least",
        ("cli/test_tampering.py::test_what_is_done_to_the_log_is_found",),
        "floors",
    ),
    Control(
        "A.5.34",
        "Privacy and protection of personal identifiable information",
        "a basis for each account, and 24 h without one",
        "smppd check",
        "accounts[].basis",
        ("records/test_retention.py::test_after_an_upgrade_old_bodies_live_on_and_new_ones_for_a_day",),
        "basis",
    ),
    Control(
        "A.8.3",
        "Information access restriction",
        "masked by default; a look needs a reason and is on the audit trail first",
        "smppd log search, smppd log show",
        "",
        ("cli/commands/test_log.py::test_a_search_is_masked_and_recorded",),
    ),
    Control(
        "A.8.5",
        "Secure authentication",
        "binds: password, network, client certificate, suspension",
        "smppd check",
        "accounts[].password_hash, limits",
        ("net/test_auth.py::test_every_refusal_has_the_same_code_and_time",),
        "accounts",
    ),
    Control(
        "A.8.6",
        "Capacity management",
        "bounds on all that peers can make grow; metrics",
        "smppd status",
        "limits, http",
        ("relay/test_refusals.py::test_a_refusal_is_cheaper_than_the_service",),
        "http",
    ),
    Control(
        "A.8.9",
        "Configuration management",
        "every mistake at once, with its place; a reload applies all or nothing and is on the audit trail",
        "smppd check",
        "",
        ("cli/commands/test_check.py::test_five_mistakes_by_the_real_command",),
    ),
    Control(
        "A.8.10",
        "Information deletion",
        "purge: keys first, then rows, then free pages; the spool tidied",
        "smppd purge, smppd report retention",
        "accounts[].retain",
        (
            "records/test_retention.py::test_a_purge_can_be_killed_anywhere",
            "store/sqlite/test_tidy.py::test_what_is_over_opens_with_no_key",
        ),
        "accounts",
    ),
    Control(
        "A.8.11",
        "Data masking",
        "masked by default; a rule or an account hides texts",
        "smppd log search",
        "accounts[].content, do.content",
        ("vault/test_mask.py::test_number", "relay/test_hidden.py::test_a_code_leaves_no_text_and_goes_out_whole"),
    ),
    Control(
        "A.8.12",
        "Data leakage prevention",
        "no text, number or secret in logs, metrics, errors or reports",
        "smppd report",
        "log",
        ("e2e/test_privacy.py::test_nothing_is_in_the_clear_while_it_runs",),
    ),
    Control(
        "A.8.13",
        "Information backup",
        "online, keys apart, verified by restoring",
        "smppd backup, smppd restore",
        "",
        ("backup/test_take.py::test_a_backup_is_restored_as_it_was",),
    ),
    Control(
        "A.8.15",
        "Logging",
        "audit trail, structured log",
        "smppd audit show",
        "log",
        ("audit/test_trail.py::test_edits_deletions_and_reorders_show",),
    ),
    Control(
        "A.8.16",
        "Monitoring activities",
        "metrics, alert rules, readiness",
        "smppd status",
        "http",
        ("audit/test_trail.py::test_edits_deletions_and_reorders_show",),
        "http",
    ),
    Control(
        "A.8.17",
        "Clock synchronization",
        "a clock behind the newest id is said; retention counts from the later of two clocks",
        "smppd status",
        "",
        ("records/test_clock.py::test_a_clock_set_back_and_corrected_does_not_shorten_a_life",),
    ),
    Control(
        "A.8.20",
        "Networks security",
        "TLS profile, limits at the door, PROXY header",
        "smppd check",
        "listeners[].tls, upstreams[].tls, limits",
        ("net/test_tls.py::test_all_suites_are_ecdhe_and_aead_or_of_tls_1_3",),
        "tls",
    ),
    Control(
        "A.8.21",
        "Security of network services",
        "TLS profile, limits at the door, PROXY header",
        "smppd check",
        "listeners[].tls, upstreams[].tls, limits",
        ("net/test_tls.py::test_all_suites_are_ecdhe_and_aead_or_of_tls_1_3",),
        "tls",
    ),
    Control(
        "A.8.23",
        "Web filtering",
        "rules on links, domains and words in messages",
        "smppd explain",
        "policies",
        ("policy/test_explain.py::test_explanations_agree_with_decisions",),
        "rules",
    ),
    Control(
        "A.8.24",
        "Use of cryptography",
        "key hierarchy, rotation; the key-encryption key is not in the store",
        "smppd keys rotate",
        "keys",
        ("cli/commands/test_keys.py::test_rotation_and_retirement",),
        "kek",
    ),
    Control(
        "A.8.28",
        "Secure coding",
        "one grammar for each input, fuzzed by hypothesis; import rules",
        "make check",
        "",
        ("protocol/test_session.py::test_no_bytes_raise_anything",),
    ),
)

_ABOUT: Final = (
    "ISO/IEC 27001:2022 Annex A: what of a control this daemon can answer, and whether the configuration in force has it"
    " switched on. The mapping is ours; what people and premises do is not in it."
)


def in_force(settings: Settings) -> list[tuple[Control, bool]]:
    """Each control, and whether the configuration has it."""
    return [(one, not one.probe or _PROBES[one.probe](settings)) for one in CONTROLS]


def controls(source: Source) -> Report:
    """See the module."""
    rows = [
        {
            "control": one.number,
            "title": one.title,
            "feature": one.feature,
            "command": one.command,
            "configuration": one.configuration,
            "in_force": force,
            "tests": list(one.tests),
        }
        for one, force in in_force(source.settings)
    ]
    return report("ISO/IEC 27001 Annex A: controls", _ABOUT, source.now, {"controls": rows})
