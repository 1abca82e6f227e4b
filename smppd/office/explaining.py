"""What policy and routing would do with a message, rule by rule. Nothing is sent, counted or stored."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from smppd.config import ConfigError, Settings, fault_at
from smppd.control.client import ask
from smppd.control.wire import ANSWERED_WITHIN, EXPLAIN, WITHIN, ControlError
from smppd.lists.lists import Lists
from smppd.lists.named import NamedList
from smppd.message import Verdict
from smppd.office.errors import WRONG, OfficeError
from smppd.office.unlocking import unlock
from smppd.policy.conditions import sender_kind
from smppd.policy.explain import Explanation, explain, sentence
from smppd.policy.pipeline import Pipeline, PolicyError, compile_policies, pipeline_for
from smppd.protocol import wire
from smppd.protocol.longmessage import split
from smppd.protocol.text import Alphabet, TextError, encode
from smppd.relay.accept.routing import Router
from smppd.vault.kek import VaultError

_TON: Final = {"alphanumeric": (5, 0), "short": (3, 0), "numeric": (1, 1)}
_SHORT_MESSAGE: Final = 254


class Trial(NamedTuple):
    """A message that nobody sends. text, or octets of the body; data_coding: None: 0, or 8 where the text needs it; tlvs:
    packed."""

    account: str
    sender: str
    to: str
    text: str | None
    octets: bytes | None = None
    data_coding: int | None = None
    esm_class: int = 0
    tlvs: bytes = b""

    def __repr__(self) -> str:
        return "<Trial ***>"


class Part(NamedTuple):
    """What would be done with one part of it. way: the upstreams that would be tried, in order; None when it goes nowhere.
    screens: what is asked behind the rules, by name, and what each would say now: of the running daemon, since it knows who
    opted out, what an account's traffic is like and what time it is. None where none runs; nothing of what rules refuse."""

    explanation: Explanation
    way: list[str] | None
    screens: list[tuple[str, str]] | None

    def __repr__(self) -> str:
        return "<Part ***>"


class Explained(NamedTuple):
    """remarks: sentences about what could not be asked."""

    parts: list[Part]
    remarks: list[str]


def explain_trial(settings: Settings, trial: Trial, within: float = WITHIN + ANSWERED_WITHIN) -> Explained:
    """What would be done with each part of a message. within: seconds that the daemon has to answer for all of them.
    OfficeError where it is none; ConfigError where the policies cannot be used."""
    remarks: list[str] = []
    pipeline = _pipeline(settings, trial, remarks)
    router = Router(settings)
    parts = []
    until = time.monotonic() + within
    for number, sm in enumerate(_frames(trial, pipeline.alphabet)):
        explanation = explain(pipeline, sm, float(number))
        screens = _screens(settings, trial.account, sm, explanation.verdict, until)
        parts.append(Part(explanation, _way(router, trial.account, sm, explanation.verdict), screens))
    return Explained(parts, remarks)


def _pipeline(settings: Settings, trial: Trial, remarks: list[str]) -> Pipeline:
    names = [account.system_id for account in settings.accounts]
    if trial.account not in names:
        near = difflib.get_close_matches(trial.account, names, n=1)
        raise OfficeError(f"there is no account {trial.account!r}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        return pipeline_for(settings, trial.account, compile_policies(settings, _lists(settings, remarks)))
    except PolicyError as error:
        raise ConfigError([fault_at(settings.path, error.path, error.message)]) from None


def _lists(settings: Settings, remarks: list[str]) -> Mapping[str, NamedList]:
    """The big lists as they are compiled. Where the keys cannot be had none can be asked, and it is said why."""
    if not settings.lists:
        return {}
    try:
        lists = Lists(settings.store.directory, unlock(settings).install.lists).of(settings)
    except VaultError as error:
        remarks.append(f"lists cannot be asked: {error}")
        return {name: NamedList(name, one.kind, one.when_absent == "refuse") for name, one in settings.lists.items()}
    absent = [name for name, one in lists.items() if one.absent]
    if absent:
        remarks.append(f"not compiled: {', '.join(absent)}")
    return lists


def _frames(trial: Trial, alphabet: Alphabet) -> list[wire.Sm]:
    if trial.octets is not None:
        bodies = [(trial.esm_class, trial.octets, trial.data_coding or 0)]
    else:
        text = trial.text or ""
        try:
            if trial.data_coding is not None:
                bodies = [(trial.esm_class, encode(text, trial.data_coding, alphabet), trial.data_coding)]
            else:
                bodies = [
                    (trial.esm_class | (0x40 if piece.udh else 0), piece.udh + piece.body, piece.data_coding)
                    for piece in split(text, default=alphabet)
                ]
        except TextError as error:
            raise OfficeError(f"the text cannot be sent so: {error}", WRONG) from None
    return [_frame(trial.sender, trial.to, esm, body, coding, trial.tlvs) for esm, body, coding in bodies]


def _frame(sender: str, to: str, esm_class: int, body: bytes, data_coding: int, tlvs: bytes) -> wire.Sm:
    if len(body) > _SHORT_MESSAGE:
        body, tlvs = b"", wire.tlv(wire.Tag.MESSAGE_PAYLOAD, body) + tlvs
    if not to.strip():
        raise OfficeError("such a message would be refused with ESME_RINVDSTADR: its destination_addr is empty", WRONG)
    head = b"\0" + _address(sender, "from") + _address(to, "to") + bytes((esm_class, 0, 0)) + b"\0\0"
    raw = wire.pdu(wire.Command.SUBMIT_SM, 0, 1, head + bytes((1, 0, data_coding, 0, len(body))) + body + tlvs)
    try:
        return wire.Sm(raw)
    except wire.BodyError as error:
        raise OfficeError(f"such a message would not be accepted: {error}", WRONG) from None


def _address(text: str, which: str) -> bytes:
    try:
        digits = text.strip().encode("latin-1")
    except UnicodeEncodeError:
        digits = b"\0"
    if b"\0" in digits:
        raise OfficeError(f"`{which}` has characters an SMPP address cannot have", WRONG)
    ton, npi = _TON[sender_kind(0, digits)]
    return bytes((ton, npi)) + (digits.removeprefix(b"+") if ton == 1 else digits) + b"\0"


def _way(router: Router, account: str, sm: wire.Sm, verdict: Verdict | None) -> list[str] | None:
    if verdict is not None and (verdict.refusal is not None or verdict.hold):
        return None
    if verdict is not None and verdict.route is not None:
        return [verdict.route]
    tags = verdict.tags if verdict is not None else frozenset()
    joined = router.route_of(account, sm, tags)
    return joined.split(",") if joined else []


def _screens(
    settings: Settings, account: str, sm: wire.Sm, verdict: Verdict | None, until: float
) -> list[tuple[str, str]] | None:
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
    left = until - time.monotonic()
    if left <= 0:
        return None
    try:
        answer = ask(settings.store.directory, request, within=left)
    except ControlError:
        return None
    return [(str(name), str(says)) for name, says in answer["screens"]]


def conclusion(part: Part) -> str:
    """The verdict and the way, in a sentence."""
    verdict = sentence(part.explanation.verdict)
    if part.way is None:
        return verdict
    return verdict + (f"; by {', else '.join(part.way)}" if part.way else "; no route takes it, so it is refused")


def as_dict(part: Part) -> dict[str, Any]:
    """A part as JSON has it."""
    one = part.explanation
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
        "conclusion": conclusion(part),
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
        "upstreams": part.way or [],
    }
