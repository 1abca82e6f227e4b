"""Why policy decides as it does: every rule in order, whether it matched, and if not, which of its conditions failed."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from smppd.config import Action, Condition, units
from smppd.message import Refusal, Verdict
from smppd.policy.conditions import HEAD_KINDS, TEXT_KINDS
from smppd.policy.content import TooLarge
from smppd.policy.listed import ListAbsent
from smppd.policy.pipeline import NO_ROOM, Pipeline, Program, Standing, absent, replacement
from smppd.protocol.joiner import JoinerFull
from smppd.protocol.wire import BodyError, Sm, status_name

_TEXT = frozenset(TEXT_KINDS)


class Step(NamedTuple):
    """One rule: what became of it (``standing``), why, what it does, and whether it only counts (``shadow``)."""

    policy: str
    rule: str
    standing: Standing
    why: str
    action: str
    shadow: bool


class Explanation(NamedTuple):
    """The rules in order and the verdict: the one ``Pipeline.decide`` gives."""

    steps: list[Step]
    verdict: Verdict | None


class _Notes(NamedTuple):
    """What is said of a message beside whether a condition holds: the families of its text and their signs, what its account's
    registry says of it, how its sender stands."""

    families: dict[str, list[str]]
    finding: str
    stands: str


def explain(pipeline: Pipeline, sm: Sm, now: float) -> Explanation:
    """Decides on ``sm`` as ``Pipeline.decide`` does, and says why. A part of a long message is remembered as there.

    Where the head alone decides the text is read all the same, to show how every rule that was reached stands.
    """
    program = pipeline.program
    if program is None:
        return Explanation([], pipeline.decide(sm, now))
    try:
        head = program.head(sm, pipeline.region, pipeline.account)
        early = program.early(head)
        content = pipeline.read(sm, now)
        verdict = early if not isinstance(early, Standing) else pipeline.judge(program, head, content, now, sm)
        verdict = pipeline.supplied(sm, content, verdict)
    except ListAbsent as asked:
        return Explanation([], absent(asked, program.hides))
    except BodyError as error:
        return Explanation([], Verdict(refusal=Refusal(error.status, str(error), "tlv"), hide=program.hides))
    except JoinerFull:
        return Explanation([], replace(NO_ROOM, hide=program.hides))
    except TooLarge as error:
        if not isinstance(early, Standing):
            return Explanation([], early)
        return Explanation([], pipeline.too_large(error, now))
    if isinstance(early, Standing) and content.refused:
        return Explanation([], verdict)
    conditions = program.conditions
    try:
        _, texts, complete = pipeline.judge_part(program, head, content, sm)
        holds = conditions.body(texts, head, sm, pipeline.registered)
    except ListAbsent:  # the text was not needed, and cannot be asked about
        return Explanation([], verdict)
    maybe = 0
    if not complete:
        holds &= ~conditions.fickle
        maybe = head & program.texts & ~holds
    trace: list[Standing] = []
    program.walk(holds, maybe, trace=trace)
    trace += [Standing.NOT_REACHED] * (len(program.lines) - len(trace))
    registered = pipeline.registered
    finding = registered.look(sm, texts).finding if registered is not None and complete else ""
    kinds = conditions.by_kind(sm, texts, pipeline.region, pipeline.account, pipeline.registered)
    stands = ""
    if "sender_is" in kinds:
        stands = conditions.standing_shown(sm, pipeline.region, pipeline.account) or "nothing of it"
    notes = _Notes(conditions.family_signs(texts), finding, stands)
    steps = [
        Step(
            line.hit.policy,
            line.hit.rule,
            trace[i],
            _why(program, i, trace[i], kinds, holds, complete, notes),
            describe(line.rule.do),
            line.hit.shadow,
        )
        for i, line in enumerate(program.lines)
    ]
    return Explanation(steps, verdict)


def _why(
    program: Program,
    i: int,
    standing: Standing,
    kinds: dict[str, int],
    holds: int,
    complete: bool,
    notes: _Notes,
) -> str:
    line = program.lines[i]
    count = len(program.lines)
    if standing is Standing.NOT_REACHED:
        return "ended before"
    if standing is Standing.UNDECIDED:
        return "needs the other parts"
    given = (
        [] if line.rule.when is None else [k for k in (*HEAD_KINDS, *TEXT_KINDS, "tag") if _given(line.rule.when, k)]
    )
    if standing is Standing.MATCHED:
        told = [_said(line.rule.when, kind, notes) for kind in given]
        if line.rule.unless is not None and line.rule.unless.dlt:
            told.append(f"dlt: {notes.finding}")
        return ", ".join(told) or "every message"
    failed = [kind for kind in given if kind in kinds and not kinds[kind] >> i & 1]
    if failed:
        unread = not complete and set(failed) & _TEXT
        shown = {
            "dlt": f"dlt ({notes.finding})" if notes.finding else "dlt",
            "sender_is": f"sender_is ({notes.stands})",
        }
        return "not " + ", not ".join([shown.get(kind, kind) for kind in failed]) + (" so far" if unread else "")
    if line.rule.unless is not None and holds >> (count + i) & 1:
        kept = [k for k in (*HEAD_KINDS, *TEXT_KINDS, "tag") if _given(line.rule.unless, k)]
        return "unless " + ", ".join(_said(line.rule.unless, kind, notes) for kind in kept)
    return "not tag"


def _said(condition: Condition | None, kind: str, notes: _Notes) -> str:
    """A kind of condition that holds, in words; of families which, and by which signs."""
    if kind == "dlt":
        return f"dlt: {notes.finding}"
    if kind == "sender_is":
        return f"sender_is ({notes.stands})"
    if kind != "family" or condition is None:
        return kind
    named = [(name, signs) for name, signs in notes.families.items() if name in condition.family]
    return "; ".join([f"family {name}: {', '.join(signs)}" for name, signs in named])


def _given(condition: object, kind: str) -> bool:
    return getattr(condition, kind) not in (None, ())


def describe(do: Action) -> str:
    """An action in words, for people."""
    if do.refuse is not None:
        return f"refuse {status_name(do.refuse.status)}" + (f" ({do.refuse.reason})" if do.refuse.reason else "")
    if do.replace_sender is not None:
        address = replacement(do.replace_sender)
        back = ", and back in replies" if do.replace_sender.restore else ""
        return f"replace sender by {do.replace_sender.address} (TON {address.ton}, NPI {address.npi}){back}"
    if do.drop_tlv:
        return "drop TLV " + ", ".join(f"0x{tag:04X}" for tag in do.drop_tlv)
    if do.set_tlv:
        return "set TLV " + ", ".join(f"0x{tag:04X}" for tag, _ in do.set_tlv)
    if do.tag is not None:
        return f"tag {do.tag}"
    if do.expire_after is not None:
        return f"expire after {units.format_duration(do.expire_after)}"
    if do.on_unknown is not None:
        return f"on unknown {do.on_unknown}"
    if do.content is not None:
        return "record without its text"
    if do.class_ is not None:
        return f"class {do.class_.replace('_', ' ')}"
    return f"route {do.route}" if do.route is not None else "pass"


def sentence(verdict: Verdict | None) -> str:
    """A verdict in words, for people."""
    if verdict is None:
        return "passes unchanged; no rule matched"
    if verdict.refusal is not None:
        refusal = verdict.refusal
        reason = f": {refusal.reason}" if refusal.reason else ""
        return f"refused with {status_name(refusal.status)} by {refusal.rule}{reason}{_unseen(verdict)}"
    if verdict.hold:
        return f"held until the other parts of the message are there{_unseen(verdict)}"
    changes = []
    if verdict.source is not None:
        address = verdict.source
        changes.append(f"with sender {address.digits.decode('latin-1')} (TON {address.ton}, NPI {address.npi})")
        if verdict.restore:
            changes.append("with replies restored")
    if verdict.drop_tlvs:
        changes.append("without TLV " + ", ".join(f"0x{tag:04X}" for tag in sorted(verdict.drop_tlvs)))
    if verdict.set_tlvs:
        changes.append("with TLV " + ", ".join(f"0x{tag:04X}" for tag, _ in verdict.set_tlvs))
    if verdict.tags:
        changes.append("tagged " + ", ".join(sorted(verdict.tags)))
    if verdict.route is not None:
        changes.append(f"to upstream {verdict.route}")
    if verdict.expire_after is not None:
        changes.append(f"expiring after {units.format_duration(verdict.expire_after)} at the latest")
    if verdict.on_unknown is not None:
        changes.append("sent again if unanswered" if verdict.on_unknown == "resend" else "held if unanswered")
    if verdict.message_class:
        changes.append(f"as {verdict.message_class.replace('_', ' ')}")
    return "passes " + (", ".join(changes) if changes else "unchanged") + _unseen(verdict)


def _unseen(verdict: Verdict) -> str:
    return ", recorded without its text" if verdict.hide else ""
