"""`smppd operators add|list|role|reset|disable|enable`: the people who work with an installation.

What a new operator proves himself with is shown once, on standard output, and kept nowhere in the clear.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from smppd.cli.authority import add_login, authorise
from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.credentials import first_line, secret_from_terminal
from smppd.config import Settings
from smppd.events import AuditEvent
from smppd.office.desk import Office, open_office
from smppd.operators import totp
from smppd.operators.people import (
    Credentials,
    Operator,
    PeopleError,
    check_roles,
    is_name,
    networks_of,
    new_credentials,
)
from smppd.operators.roles import Act, Authority, Role

_CODE_TRIES: Final = 3
_ALTERED: Final = (
    "somebody put an older entry back, or a change broke off. He cannot log in until `operators role`, `reset` or `disable`"
    " says anew what he is."
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "operators",
        help="the people who work with this installation",
        description="The people who work with this installation: names, roles, passphrases and second factors.",
        epilog=f"Roles: {', '.join(Role)}; docs/data-protection.md says what each may do.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        help="a new operator",
        description="Asks twice for the passphrase, shows the secret for the authenticator app and the recovery codes once, and"
        " asks for a code: with a right one the operator is there. With --stdin nobody is asked for a code.",
    )
    listing = actions.add_parser("list", help="all operators, without anything secret")
    role = actions.add_parser("role", help="give an operator other roles, networks or accounts")
    reset = actions.add_parser("reset", help="a new passphrase, second factor and recovery codes")
    disable = actions.add_parser("disable", help="no login any more, open sessions end")
    enable = actions.add_parser("enable", help="logins again")
    for one in (add, role, reset, disable, enable):
        one.add_argument("name", metavar="NAME", help="a small letter, then letters, digits, dots, hyphens")
    for one in (add, role):
        one.add_argument(
            "--role", action="append", required=one is add, metavar="R", type=_role, help="may be repeated"
        )
        one.add_argument(
            "--network",
            action="append",
            metavar="N",
            help="only from there: 192.0.2.0/24; may be repeated; any: from everywhere (default)",
        )
        one.add_argument("--account", action="append", metavar="A", help="of an account owner; may be repeated")
    for one in (add, reset):
        one.add_argument("--stdin", action="store_true", help="the new passphrase is the first line of standard input")
    add_json(listing)
    for one in (add, listing, role, reset, disable, enable):
        add_login(one)
        add_config(one)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `operators ACTION`; 0 when it is done, 1 when it was refused, 2 without a store."""
    settings = load_settings(args)
    if getattr(args, "stdin", False) and args.credentials == "-":
        raise CommandError("standard input cannot be both: the passphrase (--stdin) and --credentials -", 2)
    authority = authorise(Act.REPORT if args.action == "list" else Act.OPERATORS, args, settings)
    action = {
        "add": _add, "list": _list, "role": _role_of, "reset": _reset, "disable": _disable, "enable": _enable,
    }[args.action]  # fmt: skip
    with open_office(settings) as office:
        try:
            return action(office, settings, authority, args)
        except PeopleError as error:
            raise CommandError(str(error)) from None


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(Role)}") from None


# -- add, reset --------------------------------------------------------------------------------------------------------


def _add(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    people, accounts = office.people, tuple(dict.fromkeys(args.account or ()))
    if not is_name(args.name):
        raise PeopleError("a name is a small letter, then up to 31 small letters, digits, dots, underlines or hyphens")
    if people.get(args.name) is not None:
        raise PeopleError(f"there is an operator {args.name} already: `operators reset` gives a new passphrase")
    check_roles(args.role, accounts, [account.system_id for account in settings.accounts])
    networks = networks_of(args.network or ())
    now = int(time.time())
    operator = Operator(
        args.name,
        "",
        b"",
        (),
        frozenset(args.role),
        networks,
        accounts,
        by=authority.operator,
        created=now,
        changed=now,
    )
    if not operator.may(Act.OPERATORS) and not _is_root(authority) and not people.managed():
        raise PeopleError(f"the first operator has to be one who may manage operators: --role {Role.OPERATOR}")
    credentials, step = _credentials(args)
    operator = _with(office, operator, credentials)._replace(step=step)
    _record(office, authority, "add", operator)
    try:
        people.add(operator)
    except PeopleError as error:  # somebody else added one of this name just now
        _refused(office, authority, args, error)
        raise
    say(f"{operator.name} is an operator now.")
    if not people.managed():
        say("Nobody but root can manage operators: none has the role for it.")
    return 0


def _reset(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    _existing(office, args.name)
    credentials, step = _credentials(args)
    _change(office, authority, args, lambda one: _with(office, one, credentials)._replace(step=step))
    say(f"{args.name} has a new passphrase and a new second factor; open sessions have ended.")
    return 0


def _with(office: Office, operator: Operator, credentials: Credentials) -> Operator:
    hidden = office.people.recovery_hashes(operator.name, credentials.codes)
    return operator._replace(phc=credentials.phc, secret=credentials.secret, recovery=hidden)


def _credentials(args: argparse.Namespace) -> tuple[Credentials, int]:
    """New credentials, shown; and the step of the code that proved them, 0 where nobody was asked. CommandError where no right
    code came: then nothing has changed."""
    if args.stdin:
        passphrase = first_line()
    else:
        passphrase = secret_from_terminal(f"New passphrase of {args.name}: ")
        if secret_from_terminal("Once more: ") != passphrase:
            raise CommandError("the two passphrases differ")
    made = new_credentials(args.name, passphrase, os.urandom)
    uri = totp.provisioning_uri(made.secret, args.name, f"smppd@{platform.node()}")
    letters = base64.b32encode(made.secret).decode("ascii")
    print(f"For the authenticator app, as a URI:\n{uri}\n")
    print(f"... or typed:\n{' '.join(letters[at : at + 4] for at in range(0, len(letters), 4))}\n")
    print("Recovery codes, each for one login without the phone; keep them apart from it:")
    for code in made.codes:
        print(f"  {code}")
    print("None of this is shown again.")
    sys.stdout.flush()
    if args.stdin:
        return made, 0
    for _ in range(_CODE_TRIES):
        code = totp.plain(secret_from_terminal("Code that the app shows: "))
        step = totp.accepted_step(made.secret, code, time.time(), 0)
        if step is not None:
            return made, step
        say("That is not the code.")
    raise CommandError("nothing was changed: no right code came; is the clock of the phone, and of this host, right?")


# -- changes -----------------------------------------------------------------------------------------------------------


def _role_of(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    operator = _existing(office, args.name)
    if args.role is None and args.network is None and args.account is None:
        raise CommandError("say what changes: --role, --network or --account", 2)
    roles = operator.roles if args.role is None else frozenset(args.role)
    kept = operator.accounts if Role.ACCOUNT_OWNER in roles else ()
    accounts = kept if args.account is None else tuple(dict.fromkeys(args.account))
    networks = operator.networks if args.network is None else networks_of(args.network)
    check_roles(roles, accounts, [account.system_id for account in settings.accounts])
    _change(office, authority, args, lambda one: one._replace(roles=roles, accounts=accounts, networks=networks))
    say(f"{args.name} is {', '.join(sorted(roles))}; open sessions have ended.")
    return 0


def _disable(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    operator = _existing(office, args.name)
    if operator.disabled:
        raise PeopleError(f"{args.name} is disabled already")
    _change(office, authority, args, lambda one: one._replace(disabled=True))
    say(f"{args.name} cannot log in any more; open sessions have ended.")
    return 0


def _enable(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    operator = _existing(office, args.name)
    if not operator.disabled:
        raise PeopleError(f"{args.name} is not disabled")
    _change(office, authority, args, lambda one: one._replace(disabled=False))
    say(f"{args.name} can log in again, with the passphrase and second factor of before.")
    return 0


def _existing(office: Office, name: str) -> Operator:
    operator = office.people.get(name)
    if operator is None:
        raise PeopleError(f"there is no operator {name[:64]!r}")
    if not office.vouched(operator):
        say(f"{name} is not as the audit trail left him: {_ALTERED}")
    return operator


def _change(
    office: Office, authority: Authority, args: argparse.Namespace, how: Callable[[Operator], Operator]
) -> None:
    try:
        office.people.change(
            args.name,
            how,
            time.time(),
            authority.operator,
            unchecked=_is_root(authority),
            tell=lambda after: _record(office, authority, args.action, after),
        )
    except PeopleError as error:
        _refused(office, authority, args, error)
        raise


def _refused(office: Office, authority: Authority, args: argparse.Namespace, error: PeopleError) -> None:
    facts: dict[str, str | int] = {"action": args.action, "name": args.name, "reason": str(error), **authority.facts}
    there = office.people.get(args.name)
    if there is not None:
        facts["state"] = office.people.state(there)  # of whoever was quicker, or of what was taken back
    office.record(AuditEvent.OPERATOR, authority.who, facts, "refused", authority.actor)


def _is_root(authority: Authority) -> bool:
    return not authority.operator and os.geteuid() == 0


def _record(office: Office, authority: Authority, action: str, operator: Operator) -> None:
    facts: dict[str, str | int] = {"action": action, "name": operator.name, "roles": " ".join(sorted(operator.roles))}
    facts["state"] = office.people.state(operator)
    if operator.networks:
        facts["networks"] = " ".join(operator.networks)
    if operator.accounts:
        facts["accounts"] = " ".join(operator.accounts)
    office.record(AuditEvent.OPERATOR, authority.who, facts | authority.facts, "done", authority.actor)


# -- list --------------------------------------------------------------------------------------------------------------


def _list(office: Office, settings: Settings, authority: Authority, args: argparse.Namespace) -> int:
    found = office.people.all()
    rows = [_facts(one) | {"altered": not office.vouched(one)} for one in found]
    if args.json:
        print(json.dumps({"operators": rows}, indent=2))
        return 0
    for row in rows:
        places = ", ".join(row["networks"]) or "any"
        of = f"  accounts {', '.join(row['accounts'])}" if row["accounts"] else ""
        print(
            f"{row['name']}  {', '.join(row['roles'])}{of}  from {places}  {'disabled' if row['disabled'] else 'active'}"
            f"  {row['recovery_codes']} recovery codes  changed {row['changed']}"
        )
    for one in found:
        if not office.vouched(one):
            say(f"{one.name} is not as the audit trail left him: {_ALTERED}")
    say(f"{len(rows)} operator{'s' * (len(rows) != 1)}.")
    return 0


def _facts(one: Operator) -> dict[str, Any]:
    return {
        "name": one.name,
        "roles": sorted(one.roles),
        "networks": list(one.networks),
        "accounts": list(one.accounts),
        "disabled": one.disabled,
        "recovery_codes": len(one.recovery),
        "created": _iso(one.created),
        "changed": _iso(one.changed),
        "by": one.by,
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
