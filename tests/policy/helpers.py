"""Frames and pipelines for the tests of policy, made from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smppd.config import Rule
from smppd.message import Verdict
from smppd.policy.listed import Listed
from smppd.policy.pipeline import CompiledPolicy, Pipeline, Program
from smppd.protocol import wire
from smppd.protocol.longmessage import Carriage, split
from smppd.protocol.text import Alphabet, encode
from smppd.protocol.wire import Sm

TO = b"447700900123"


def frame(
    body: bytes = b"",
    *,
    sender: bytes = b"ACME",
    to: bytes = TO,
    ton: int | None = None,
    to_ton: int = 1,
    coding: int = 0,
    esm: int = 0,
    tlvs: bytes = b"",
    service: bytes = b"",
    command: int = wire.Command.SUBMIT_SM,
) -> Sm:
    """A submit_sm; ``body`` goes into message_payload when short_message has no room for it, or in a data_sm."""
    source = bytes((5 if not sender.isdigit() else 1, 0)) if ton is None else bytes((ton, 0))
    if len(body) > 254 or (body and command == wire.Command.DATA_SM):
        body, tlvs = b"", wire.tlv(wire.Tag.MESSAGE_PAYLOAD, body) + tlvs
    head = service + b"\0" + source + sender + b"\0" + bytes((to_ton, 1)) + to + b"\0" + bytes((esm,))
    if command == wire.Command.DATA_SM:
        return Sm(wire.pdu(command, 0, 1, head + bytes((0, coding)) + tlvs))
    return Sm(wire.pdu(command, 0, 1, head + bytes((0, 0, 0, 0, 1, 0, coding, 0, len(body))) + body + tlvs))


def text(words: str, **fields: Any) -> Sm:
    """A submit_sm with this text, in the default alphabet or UCS-2."""
    try:
        return frame(encode(words, 0), **fields)
    except ValueError:
        return frame(encode(words, 8), **{"coding": 8, **fields})


def parts(words: str, by: Carriage = Carriage.UDH, ref: int = 7, **fields: Any) -> list[Sm]:
    """The parts of a long text."""
    pieces = split(words, by=by, ref=ref)
    made = []
    for seq, piece in enumerate(pieces, 1):
        tlvs = b""
        if by is Carriage.SAR:
            tlvs = wire.tlv(0x020C, ref.to_bytes(2, "big")) + wire.tlv(0x020E, bytes([len(pieces)]))
            tlvs += wire.tlv(0x020F, bytes([seq]))
        made.append(
            frame(
                piece.udh + piece.body,
                coding=piece.data_coding,
                esm=0x40 if piece.udh else 0,
                tlvs=tlvs,
                **fields,
            )
        )
    return made


def part(words: str, ref: int, total: int, seq: int, **fields: Any) -> Sm:
    """One part with exactly these words, 8-bit reference."""
    return frame(bytes((5, 0, 3, ref, total, seq)) + encode(words, 0), esm=0x40, **fields)


def policy(name: str, rules: Sequence[dict[str, Any]], *, hold: bool = False) -> CompiledPolicy:
    """A policy; rules without a name are called r0, r1 ..., without an action they refuse."""
    made = [Rule.model_validate({"name": f"r{i}", "do": "refuse", **rule}) for i, rule in enumerate(rules)]
    return CompiledPolicy(name, hold, tuple(made))


class FakeList:
    """A big list by name as policy sees it, of entries in memory."""

    def __init__(self, name: str, *entries: bytes, absent: bool = False, refuses: bool = True) -> None:
        self.name, self.entries, self.absent, self.refuses = name, set(entries), absent, refuses

    @property
    def version(self) -> int:
        return hash(frozenset(self.entries))

    def has(self, form: bytes) -> bool:
        assert not self.absent, "an absent list was asked"
        return form in self.entries


LISTS: dict[str, Listed] = {
    one.name: one
    for one in (
        FakeList("dnd", b"447700900123"),
        FakeList("brands", b"acme bank", b"60777", b"447700900001"),
        FakeList("phishing", b"evil.example", b"xn--e1afmkfd.xn--p1ai"),
        FakeList("good", b"good.example", b"fine.example"),
        FakeList("nobody"),
    )
}


def pipeline(
    *rules: dict[str, Any],
    hold: bool = False,
    alphabet: Alphabet = Alphabet.GSM,
    lists: Mapping[str, Listed] = LISTS,
    region: str | None = None,
) -> Pipeline:
    """The pipeline of one policy ``p`` with these rules."""
    return Pipeline(Program([policy("p", rules, hold=hold)], lists), alphabet, region)


def said(verdict: Verdict | None) -> str:
    """A verdict in a word: ``-`` nothing matched, ``refused RULE``, ``hold``, or the rules that matched."""
    if verdict is None:
        return "-"
    if verdict.refusal is not None:
        return f"refused {verdict.refusal.rule.removeprefix('p/')}"
    if verdict.hold:
        return "hold"
    return ",".join(hit.rule + "*" * hit.shadow for hit in verdict.hits)


def run(pipe: Pipeline, *messages: Sm, now: float = 0.0) -> list[str]:
    """What the pipeline says to each message in turn."""
    return [said(pipe.decide(sm, now)) for sm in messages]
