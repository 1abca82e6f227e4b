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
    how; tests: of the feature; probe: name of what is looked at in the configuration or the store, empty where it is always in
    force."""

    number: str
    title: str
    feature: str
    command: str
    configuration: str
    tests: tuple[str, ...]
    probe: str = ""


def _tls(settings: Settings) -> bool:
    listeners = all(one.tls is not None or is_loopback(one.host) for one in settings.listeners)
    return listeners and all(
        one.tls is not None or all(is_loopback(host) for host, _ in one.endpoints) for one in settings.upstreams
    )


def _ships(settings: Settings) -> bool:
    return settings.shipping.file is not None or settings.shipping.syslog is not None


_PROBES: Final[dict[str, Callable[[Source], bool]]] = {
    "accounts": lambda source: bool(source.settings.accounts),
    "basis": lambda source: all(one.basis is not None or one.content != "encrypt" for one in source.settings.accounts),
    "contracts": lambda source: all(
        one.contract is not None and one.country is not None for one in source.settings.upstreams
    ),
    "floors": lambda source: (
        source.settings.retention.at_least is not None
        or any(one.retain.at_least is not None for one in source.settings.accounts)
    ),
    "http": lambda source: source.settings.http is not None,
    "kek": lambda source: (
        source.settings.keys.path is None
        or not source.settings.keys.path.is_relative_to(source.settings.store.directory)
    ),
    "networks": lambda source: all(one.networks != "any" for one in source.settings.accounts),
    "rules": lambda source: any(one.policies for one in source.settings.accounts),
    "people": lambda source: source.people,
    "shipping": lambda source: _ships(source.settings),
    "tls": lambda source: _tls(source.settings),
}

CONTROLS: Final = (
    Control(
        "A.5.3",
        "Segregation of duties",
        "two people for reveals for the law or of many records, and for holds",
        "smppd approvals",
        "",
        ("cli/test_authority.py::test_for_the_law_two_have_to_agree",),
        "people",
    ),
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
        "A.5.16",
        "Identity management",
        "operators, each under a name of his own",
        "smppd operators",
        "",
        ("cli/commands/test_operators.py::test_a_reset_takes_the_old_ones_away",),
        "people",
    ),
    Control(
        "A.5.17",
        "Authentication information",
        "Argon2id hashes; secrets in private files, credentials or the environment; operators' second factor",
        "smppd passwd, smppd operators",
        "accounts[].password_hash",
        (
            "test_passwords.py::test_the_hash_is_salted",
            "cli/commands/test_operators.py::test_a_reset_takes_the_old_ones_away",
        ),
    ),
    Control(
        "A.5.18",
        "Access rights",
        "operators' roles, accounts and networks; disable and reset",
        "smppd operators",
        "",
        ("cli/commands/test_operators.py::test_a_reset_takes_the_old_ones_away",),
        "people",
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
        "A.7.14",
        "Secure disposal or re-use of equipment",
        "all keys destroyed, with signed certificates",
        "smppd keys shred",
        "",
        ("cli/commands/test_shred.py::test_nothing_is_left_and_the_certificates_say_so",),
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
        "binds: password, network, client certificate, suspension; operators: passphrase and one-time code",
        "smppd check, smppd login",
        "accounts[].password_hash, limits",
        (
            "net/test_auth.py::test_every_refusal_has_the_same_code_and_time",
            "cli/test_authority.py::test_every_failed_login_is_the_same_answer",
        ),
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
        "purge: keys first, then rows, then free pages; the spool tidied; erasure of a person; disposal",
        "smppd purge, smppd subject erase, smppd keys shred, smppd report retention",
        "accounts[].retain",
        (
            "records/test_retention.py::test_a_purge_can_be_killed_anywhere",
            "store/sqlite/test_tidy.py::test_what_is_over_opens_with_no_key",
            "e2e/test_purge_proof.py::test_no_octet_of_what_was_purged_is_left",
            "e2e/test_erasure.py::test_a_person_is_erased_everywhere",
            "cli/commands/test_shred.py::test_nothing_is_left_and_the_certificates_say_so",
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
        "audit trail that leaves the host as it is made, structured log",
        "smppd audit show, smppd audit verify --shipped",
        "shipping, log",
        (
            "audit/test_trail.py::test_edits_deletions_and_reorders_show",
            "e2e/test_shipping.py::test_kills_leave_no_gap",
        ),
        "shipping",
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
        (
            "cli/commands/test_keys.py::test_rotation_and_retirement",
            "cli/test_kek_told.py::test_every_command_tells_and_writes_nothing",
        ),
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


def in_force(source: Source) -> list[tuple[Control, bool]]:
    """Each control, and whether the installation has it."""
    return [(one, not one.probe or _PROBES[one.probe](source)) for one in CONTROLS]


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
        for one, force in in_force(source)
    ]
    return report("ISO/IEC 27001 Annex A: controls", _ABOUT, source.now, {"controls": rows})
