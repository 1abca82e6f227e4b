"""The compiled rules of an account: what they decide on a message, by the conditions that hold.

Rules are asked in order over all policies of the account in order. ``refuse`` ends everything, ``pass`` ends its
policy, the other actions add up (of two that exchange the same thing the later wins; the shortest ``expire_after`` and
the first ``on_unknown`` do; a text is hidden if any rule says so). Shadow rules are only counted.
Conditions see the message as the customer sent it, whatever earlier rules exchanged; tags alone pass between rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from smppd.config import Condition, ReplaceSender, Rule
from smppd.config.tlvs import MOST_SET
from smppd.message import Address, Hit, Refusal, Verdict
from smppd.policy.conditions import ALPHANUMERIC_TON, ConditionFault, Conditions, sender_kind
from smppd.policy.dlt import Registered
from smppd.policy.families.index import FamilyIndex
from smppd.policy.listed import Listed
from smppd.policy.senders import SenderBook
from smppd.protocol.wire import Sm

VERDICTS: Final = 4096
"""Combinations of satisfied conditions whose verdict is kept."""

_ANY: Final = Condition.model_construct()
_NO_LISTS: Final[Mapping[str, Listed]] = {}
_NO_TAGS: Final[frozenset[str]] = frozenset()


class PolicyError(ValueError):
    """A policy that cannot be compiled: ``path`` (``policies.house[2].when.text[0]``) and ``message``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class Standing(Enum):
    """How a rule stands to a message."""

    MATCHED = "matched"
    NOT_MATCHED = "not matched"
    UNDECIDED = "undecided"  # more of the text, or the text, has to be read first
    NOT_REACHED = "not reached"


class CompiledPolicy(NamedTuple):
    """A policy that was found to compile. Its rules are compiled once more, together with those of its neighbours."""

    name: str
    hold_parts: bool
    rules: tuple[Rule, ...]


class CompiledRule(NamedTuple):
    """A rule in a program: where it comes from, and what of it is asked beside the conditions."""

    policy: int
    hit: Hit
    when_tags: frozenset[str]
    unless_tags: frozenset[str]
    refusal: Refusal | None
    ends: bool
    source: Address | None
    restore: bool
    drop_tlvs: frozenset[int]
    set_tlvs: tuple[tuple[int, bytes], ...]
    tag: str | None
    route: str | None
    expire_after: float | None
    on_unknown: str | None
    hides: bool
    message_class: str
    rule: Rule


class Program:
    """The rules of a list of policies, compiled. Holds nothing of a message but bounded memories of what matched.

    Condition i is the ``when`` of rule i; condition count + i its ``unless``.
    """

    def __init__(
        self,
        policies: Sequence[CompiledPolicy],
        lists: Mapping[str, Listed] = _NO_LISTS,
        families: FamilyIndex | None = None,
        book: SenderBook | None = None,
    ) -> None:
        """``lists``: big lists by name, see `listed`. ``families``: with the brands that are protected; None for the shipped
        ones. ``book``: what is known of senders. Raises ``PolicyError``."""
        self.lines = [_line(number, policy, rule) for number, policy in enumerate(policies) for rule in policy.rules]
        self._check_tlvs(policies)
        count = len(self.lines)
        unless = [line.rule.unless for line in self.lines]
        self._count = count
        self._exceptions = sum(1 << (count + i) for i, condition in enumerate(unless) if condition is not None)
        when = [line.rule.when or _ANY for line in self.lines]
        shadows = sum((1 << i | 1 << (count + i)) for i, line in enumerate(self.lines) if line.hit.shadow)
        try:
            self.conditions = Conditions(
                [*when, *(c or _ANY for c in unless)], self._exceptions, lists, shadows, families, book
            )
        except ConditionFault as fault:
            raise self._located(policies, fault) from None
        # Conditions of an absent `unless` are taken as never satisfied.
        self._real = ((1 << count) - 1) | self._exceptions
        self.texts = self.conditions.texts & self._real
        self.hold = any(
            policies[line.policy].hold_parts and (self.texts >> i | self.texts >> (count + i)) & 1
            for i, line in enumerate(self.lines)
        )
        self.replaces = any(line.source is not None for line in self.lines)
        self.stand_ins = _stand_ins(self.lines)
        self.hides = any(line.hides and not line.hit.shadow for line in self.lines)
        self._early: dict[int, Verdict | Standing | None] = {}
        self._late: dict[int | tuple[int, int], Verdict | None] = {}

    def _located(self, policies: Sequence[CompiledPolicy], fault: ConditionFault) -> PolicyError:
        number, _, rest = fault.path.partition(".")
        place = self._place(policies, int(number) % self._count)
        return PolicyError(f"{place}.{'when' if int(number) < self._count else 'unless'}.{rest}", str(fault))

    def _place(self, policies: Sequence[CompiledPolicy], index: int) -> str:
        line = self.lines[index]
        policy = policies[line.policy]
        at = index - next(i for i, other in enumerate(self.lines) if other.policy == line.policy)
        return f"policies.{policy.name}{'.rules' if policy.hold_parts else ''}[{at}]"

    def _check_tlvs(self, policies: Sequence[CompiledPolicy]) -> None:
        tags: set[int] = set()
        for index, line in enumerate(self.lines):
            if not line.hit.shadow:
                tags.update([tag for tag, _ in line.set_tlvs])
                if len(tags) > MOST_SET:
                    why = (
                        f"sets TLVs beside those of rules before it: more than {MOST_SET} different ones in one message"
                    )
                    raise PolicyError(f"{self._place(policies, index)}.do.set_tlv", why)

    # -- deciding --------------------------------------------------------------------------------------------------

    def head(self, sm: Sm, region: str | None = None, account: str = "") -> int:
        """The conditions that hold as far as everything but the text goes. Raises ``wire.BodyError``, `listed.ListAbsent`."""
        return self.conditions.head(sm, region, account) & self._real

    def early(self, head: int) -> Verdict | Standing | None:
        """The verdict where the head alone gives one, else ``Standing.UNDECIDED``: the text must be read."""
        try:
            return self._early[head]
        except KeyError:
            pass
        verdict = self.walk(head & ~self.texts, head & self.texts, need_all=True)
        if len(self._early) >= VERDICTS:
            self._early.clear()
        self._early[head] = verdict
        return verdict

    def late(
        self,
        head: int,
        texts: Sequence[str],
        complete: bool = True,
        sm: Sm | None = None,
        registered: Registered | None = None,
    ) -> Verdict | None:
        """The verdict from the head and the text, or what is known of the text. Raises `listed.ListAbsent`. ``registered`` is
        asked about ``sm`` where a rule needs it."""
        holds = self.conditions.body(texts, head, sm, registered)
        maybe = 0
        if not complete:
            holds &= ~self.conditions.fickle
            maybe = head & self.texts & ~holds
        key = (holds, maybe) if maybe else holds
        try:
            return self._late[key]
        except KeyError:
            pass
        verdict = self.walk(holds, maybe)
        assert not isinstance(verdict, Standing)
        if len(self._late) >= VERDICTS:
            self._late.clear()
        self._late[key] = verdict
        return verdict

    def walk(
        self, holds: int, maybe: int, *, need_all: bool = False, trace: list[Standing] | None = None
    ) -> Verdict | Standing | None:
        """Asks the rules in order, by the conditions that hold and those that may hold when more is known. A pure function
        of the two.

        With ``need_all`` the first rule that cannot be decided ends it with ``Standing.UNDECIDED``. ``trace`` receives
        the standing of every rule that is reached.
        """
        count = self._count
        hits: list[Hit] = []
        tags: frozenset[str] = _NO_TAGS
        possible_tags: frozenset[str] = _NO_TAGS
        source: Address | None = None
        restore = False
        drop_tlvs: frozenset[int] = frozenset()
        set_tlvs: dict[int, bytes] = {}
        route: str | None = None
        expire_after: float | None = None
        on_unknown: str | None = None
        hide = may_hide = False
        message_class = ""
        over = -1
        for i, line in enumerate(self.lines):
            if line.policy == over:
                if trace is not None:
                    trace.append(Standing.NOT_REACHED)
                continue
            when = _both(_of(holds, maybe, i), _tagged(line.when_tags, tags, possible_tags))
            unless = _of(holds, maybe, count + i)
            if line.rule.unless is not None:
                unless = _both(unless, _tagged(line.unless_tags, tags, possible_tags))
            standing = _standing(when, unless)
            if trace is not None:
                trace.append(standing)
            if standing is Standing.NOT_MATCHED:
                continue
            if standing is Standing.UNDECIDED:
                if need_all:
                    return standing
                if not line.hit.shadow:
                    if line.ends:
                        over = line.policy
                    if line.tag is not None:
                        possible_tags |= {line.tag}
                    may_hide = may_hide or line.hides
                continue
            hits.append(line.hit)
            if line.hit.shadow:
                continue
            if line.refusal is not None:
                return Verdict(refusal=line.refusal, hits=tuple(hits), hide=hide, may_hide=may_hide)
            if line.ends:
                over = line.policy
            if line.source is not None:
                source, restore = line.source, line.restore and line.source not in self.stand_ins
            if line.drop_tlvs:
                drop_tlvs |= line.drop_tlvs
                set_tlvs = {tag: value for tag, value in set_tlvs.items() if tag not in line.drop_tlvs}
            if line.set_tlvs:
                set_tlvs.update(line.set_tlvs)
                drop_tlvs = drop_tlvs.difference(set_tlvs)  # `-` with keys makes a set, which the compiled code refuses
            route = line.route or route
            if line.expire_after is not None and (expire_after is None or line.expire_after < expire_after):
                expire_after = line.expire_after
            on_unknown = on_unknown or line.on_unknown
            hide = hide or line.hides
            message_class = line.message_class or message_class
            if line.tag is not None:
                tags |= {line.tag}
        if not hits and not may_hide:
            return None
        return Verdict(
            source=source,
            drop_tlvs=drop_tlvs,
            tags=tags,
            route=route,
            hits=tuple(hits),
            expire_after=expire_after,
            on_unknown=on_unknown,
            hide=hide,
            may_hide=may_hide,
            message_class=message_class,
            restore=restore,
            set_tlvs=tuple(set_tlvs.items()),
        )


def _of(holds: int, maybe: int, bit: int) -> Standing:
    if holds >> bit & 1:
        return Standing.MATCHED
    return Standing.UNDECIDED if maybe >> bit & 1 else Standing.NOT_MATCHED


def _tagged(wanted: frozenset[str], tags: frozenset[str], possible: frozenset[str]) -> Standing:
    if not wanted or wanted & tags:
        return Standing.MATCHED
    return Standing.UNDECIDED if wanted & possible else Standing.NOT_MATCHED


def _both(one: Standing, other: Standing) -> Standing:
    if one is Standing.MATCHED:
        return other
    return one if other is Standing.MATCHED or one is Standing.NOT_MATCHED else other


def _standing(when: Standing, unless: Standing) -> Standing:
    if when is Standing.NOT_MATCHED or unless is Standing.MATCHED:
        return Standing.NOT_MATCHED
    if when is Standing.MATCHED and unless is Standing.NOT_MATCHED:
        return Standing.MATCHED
    return Standing.UNDECIDED


def replacement(sender: ReplaceSender) -> Address:
    """The address of a ``replace_sender``. TON and NPI that are not given follow its form (SMPP 3.4 5.2.5, 5.2.6):
    alphanumeric 5/0, short code 3/0, phone number 1/1."""
    digits = sender.address.encode("utf-8")
    number = digits.translate(None, b" -().").removeprefix(b"+")
    if sender.ton != ALPHANUMERIC_TON and number.isdigit():
        digits = number
    kind = sender_kind(ALPHANUMERIC_TON if sender.ton == ALPHANUMERIC_TON else 0, digits)
    ton, npi = {"alphanumeric": (ALPHANUMERIC_TON, 0), "short": (3, 0), "numeric": (1, 1)}[kind]
    if sender.ton is not None and sender.npi is None:
        ton, npi = sender.ton, 1 if sender.ton in (1, 2) else 0
    return Address(ton if sender.ton is None else sender.ton, npi if sender.npi is None else sender.npi, digits)


def _stand_ins(lines: Sequence[CompiledRule]) -> dict[Address, Address]:
    """Replacements of rules that restore, each of which stands for one sender alone, with that sender: who replies to it needs
    not to be remembered."""
    wanted: dict[Address, set[str]] = {}
    for line in lines:
        if line.source is not None and line.restore and not line.hit.shadow:
            when = line.rule.when
            senders = wanted.setdefault(line.source, set())
            senders.update(when.sender if when is not None and when.sender else ("*",))
    alone = {source: next(iter(senders)) for source, senders in wanted.items() if len(senders) == 1}
    return {
        source: replacement(ReplaceSender(address=sender))
        for source, sender in alone.items()
        if not sender.endswith("*") and sender.isascii() and 0 < len(sender) <= 20
    }


def _line(number: int, policy: CompiledPolicy, rule: Rule) -> CompiledRule:
    do = rule.do
    name = f"{policy.name}/{rule.name}"
    return CompiledRule(
        policy=number,
        hit=Hit(policy.name, rule.name, rule.mode == "shadow"),
        when_tags=frozenset(rule.when.tag if rule.when is not None else ()),
        unless_tags=frozenset(rule.unless.tag if rule.unless is not None else ()),
        refusal=None if do.refuse is None else Refusal(do.refuse.status, do.refuse.reason, name),
        ends=do.kind == "pass",
        source=None if do.replace_sender is None else replacement(do.replace_sender),
        restore=do.replace_sender is not None and do.replace_sender.restore,
        drop_tlvs=frozenset(do.drop_tlv),
        set_tlvs=tuple(do.set_tlv),
        tag=do.tag,
        route=do.route,
        expire_after=do.expire_after,
        on_unknown=do.on_unknown,
        hides=do.content is not None,
        message_class=do.class_ or "",
        rule=rule,
    )
