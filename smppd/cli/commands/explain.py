"""`smppd explain`: what policy and routing would do with a message, rule by rule, without a daemon, keys or a carrier."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smppd.cli.commands import CommandError, add_config, add_json, load_settings, say
from smppd.cli.unlocking import unlock
from smppd.config import ConfigError, Settings, fault_at
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.daemon.explaining import EXPLAIN
from smppd.lists.lists import Lists
from smppd.lists.named import NamedList
from smppd.message import Verdict
from smppd.policy.conditions import sender_kind
from smppd.policy.explain import Explanation, explain, sentence
from smppd.policy.pipeline import Pipeline, PolicyError, Standing, compile_policies, pipeline_for
from smppd.protocol import wire
from smppd.protocol.longmessage import split
from smppd.protocol.text import Alphabet, TextError, encode
from smppd.relay.accept.routing import Router
from smppd.vault.kek import VaultError

_TON: Final = {"alphanumeric": (5, 0), "short": (3, 0), "numeric": (1, 1)}
_STYLES: Final = {Standing.MATCHED: "bold", Standing.UNDECIDED: "yellow"}
_SHORT_MESSAGE: Final = 254


def register(subparsers: Any) -> None:
    """Adds the command's parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        description="Show what policy would do with a message of an account: every rule in order, whether it matches"
        " and why not, the verdict, and the upstreams that would be tried. A long text is cut into parts, each shown."
        " Nothing is sent.",
    )
    add_config(parser)
    parser.add_argument("--account", required=True, metavar="NAME", help="system_id of the account that sends it")
    parser.add_argument("--from", required=True, dest="sender", metavar="SENDER", help="source address")
    parser.add_argument("--to", required=True, metavar="NUMBER", help="destination address")
    body = parser.add_mutually_exclusive_group(required=True)
    body.add_argument("--text", help="the text, encoded as the account's default alphabet or UCS-2")
    body.add_argument("--hex", metavar="BODY", help="the octets of the body, in hexadecimal")
    parser.add_argument("--data-coding", type=_octet, metavar="N", help="data_coding (default: 0, or 8 where needed)")
    parser.add_argument(
        "--esm-class", type=_octet, default=0, metavar="N", help="esm_class, 0x40 for a header in --hex"
    )
    parser.add_argument(
        "--tlv", type=_tlv, action="append", default=[], metavar="TAG=HEX", help="a TLV: 0x1400=31323334"
    )
    add_json(parser)


def _octet(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 255")
    return value


def _tlv(text: str) -> bytes:
    tag, _, value = text.partition("=")
    try:
        number, octets = int(tag, 0), bytes.fromhex(value)
    except ValueError:
        number, octets = -1, b""
    if not 0 <= number <= 0xFFFF or len(octets) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not TAG=HEX, such as 0x1400=31323334")
    return wire.tlv(number, octets)


def run(args: argparse.Namespace) -> int:
    """Prints a table of the rules for each part, the verdict and the way it would take."""
    settings = load_settings(args)
    pipeline = _pipeline(settings, args)
    frames = _frames(args, pipeline.alphabet)
    explanations = [explain(pipeline, sm, float(number)) for number, sm in enumerate(frames)]
    said = [_screens(settings, args.account, sm, one.verdict) for sm, one in zip(frames, explanations, strict=True)]
    ways = [_way(settings, args.account, sm, one.verdict) for sm, one in zip(frames, explanations, strict=True)]
    if args.json:
        parts = [
            {**_as_dict(one, way), "screens": screens and [{"screen": name, "says": says} for name, says in screens]}
            for one, way, screens in zip(explanations, ways, said, strict=True)
        ]
        print(json.dumps({"account": args.account, "parts": parts}, indent=2))
        return 0
    console = Console(highlight=False)
    for number, (one, way, screens) in enumerate(zip(explanations, ways, said, strict=True), 1):
        _show(console, one, way, screens, f"Part {number} of {len(frames)}" if len(frames) > 1 else "")
    return 0


def _pipeline(settings: Settings, args: argparse.Namespace) -> Pipeline:
    names = [account.system_id for account in settings.accounts]
    if args.account not in names:
        near = difflib.get_close_matches(args.account, names, n=1)
        raise CommandError(f"there is no account {args.account!r}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        return pipeline_for(settings, args.account, compile_policies(settings, lists_of(settings)))
    except PolicyError as error:
        raise ConfigError([fault_at(args.config, error.path, error.message)]) from None


def lists_of(settings: Settings) -> Mapping[str, NamedList]:
    """The big lists as they are compiled. Where the keys cannot be had none can be asked, and it is said why."""
    if not settings.lists:
        return {}
    try:
        lists = Lists(settings.store.directory, unlock(settings).install.lists).of(settings)
    except VaultError as error:
        say(f"lists cannot be asked: {error}")
        lists = {name: NamedList(name, one.kind, one.when_absent == "refuse") for name, one in settings.lists.items()}
    else:
        absent = [name for name, one in lists.items() if one.absent]
        if absent:
            say(f"not compiled: {', '.join(absent)}")
    return lists


def _frames(args: argparse.Namespace, alphabet: Alphabet) -> list[wire.Sm]:
    tlvs = b"".join(args.tlv)
    if args.hex is not None:
        try:
            bodies = [(args.esm_class, bytes.fromhex(args.hex), args.data_coding or 0)]
        except ValueError:
            raise CommandError("--hex is not hexadecimal", 2) from None
    else:
        try:
            if args.data_coding is not None:
                bodies = [(args.esm_class, encode(args.text, args.data_coding, alphabet), args.data_coding)]
            else:
                bodies = [
                    (args.esm_class | (0x40 if piece.udh else 0), piece.udh + piece.body, piece.data_coding)
                    for piece in split(args.text, default=alphabet)
                ]
        except TextError as error:
            raise CommandError(f"the text cannot be sent so: {error}", 2) from None
    return [_frame(args.sender, args.to, esm, body, coding, tlvs) for esm, body, coding in bodies]


def _frame(sender: str, to: str, esm_class: int, body: bytes, data_coding: int, tlvs: bytes) -> wire.Sm:
    if len(body) > _SHORT_MESSAGE:
        body, tlvs = b"", wire.tlv(wire.Tag.MESSAGE_PAYLOAD, body) + tlvs
    if not to.strip():
        raise CommandError("such a message would be refused with ESME_RINVDSTADR: its destination_addr is empty", 2)
    head = b"\0" + _address(sender, "--from") + _address(to, "--to") + bytes((esm_class, 0, 0)) + b"\0\0"
    raw = wire.pdu(wire.Command.SUBMIT_SM, 0, 1, head + bytes((1, 0, data_coding, 0, len(body))) + body + tlvs)
    try:
        return wire.Sm(raw)
    except wire.BodyError as error:
        raise CommandError(f"such a message would not be accepted: {error}", 2) from None


def _address(text: str, option: str) -> bytes:
    try:
        digits = text.strip().encode("latin-1")
    except UnicodeEncodeError:
        digits = b"\0"
    if b"\0" in digits:
        raise CommandError(f"{option} has characters an SMPP address cannot have", 2)
    ton, npi = _TON[sender_kind(0, digits)]
    return bytes((ton, npi)) + (digits.removeprefix(b"+") if ton == 1 else digits) + b"\0"


def _way(settings: Settings, account: str, sm: wire.Sm, verdict: Verdict | None) -> list[str] | None:
    """The upstreams that would be tried, in order; None when the message goes nowhere."""
    if verdict is not None and (verdict.refusal is not None or verdict.hold):
        return None
    if verdict is not None and verdict.route is not None:
        return [verdict.route]
    tags = verdict.tags if verdict is not None else frozenset()
    joined = Router(settings).route_of(account, sm, tags)
    return joined.split(",") if joined else []


def _screens(settings: Settings, account: str, sm: wire.Sm, verdict: Verdict | None) -> list[tuple[str, str]] | None:
    """What is asked behind the rules, by name, and what each would say now: of the running daemon, since it knows who opted
    out, what an account's traffic is like and what time it is. None where none runs; nothing of what rules refuse."""
    if verdict is not None and (verdict.refusal is not None or verdict.hold):
        return []
    source = None if verdict is None or verdict.source is None else verdict.source
    request: dict[str, object] = {
        "do": EXPLAIN,
        "account": account,
        "frame": sm.raw.hex(),
        "class": verdict.message_class if verdict is not None else "",
        "source": source and [source.ton, source.npi, source.digits.hex()],
    }
    try:
        return [(str(name), str(says)) for name, says in ask(settings.store.directory, request)["screens"]]
    except ControlError:
        return None


def _conclusion(one: Explanation, way: list[str] | None) -> str:
    if way is None:
        return sentence(one.verdict)
    return sentence(one.verdict) + (f"; by {', else '.join(way)}" if way else "; no route takes it, so it is refused")


def _show(
    console: Console, one: Explanation, way: list[str] | None, screens: list[tuple[str, str]] | None, title: str
) -> None:
    if title:
        console.print(title, style="bold")
    if one.steps:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in ("rule", "", "because", "action"):
            table.add_column(heading, overflow="fold")
        for step in one.steps:
            style = _STYLES.get(step.standing, "dim")
            action = f"{step.action}, shadow: counted only" if step.shadow else step.action
            cells = (f"{step.policy}/{step.rule}", step.standing.value, step.why, action)
            table.add_row(*(Text(cell, style=style) for cell in cells))
        console.print(table)
    console.print(Text(f"Verdict: {_conclusion(one, way)}."))
    if screens is None:
        console.print(
            Text("Opt-outs, consents, traffic and hours were not asked: no daemon runs on this store.", style="dim")
        )
    for name, says in screens or ():
        console.print(Text(f"{name}: {says.removeprefix(f'{name}: ')}."))


def _as_dict(one: Explanation, way: list[str] | None) -> dict[str, Any]:
    verdict = one.verdict or Verdict()
    refusal = verdict.refusal
    source = verdict.source
    return {
        "rules": [
            {
                "policy": step.policy,
                "rule": step.rule,
                "standing": step.standing.value,
                "because": step.why,
                "action": step.action,
                "shadow": step.shadow,
            }
            for step in one.steps
        ],
        "verdict": "refused" if refusal is not None else "held" if verdict.hold else "passes",
        "conclusion": _conclusion(one, way),
        "refusal": None
        if refusal is None
        else {
            "status": refusal.status,
            "name": wire.status_name(refusal.status),
            "reason": refusal.reason,
            "rule": refusal.rule,
        },
        "source": None
        if source is None
        else {"ton": source.ton, "npi": source.npi, "address": source.digits.decode("latin-1")},
        "drop_tlvs": sorted(verdict.drop_tlvs),
        "set_tlvs": {f"0x{tag:04X}": value.hex() for tag, value in verdict.set_tlvs},
        "tags": sorted(verdict.tags),
        "expire_after": verdict.expire_after,
        "on_unknown": verdict.on_unknown,
        "upstreams": way or [],
    }
