"""Decides on messages by the compiled rules of an account (``program``), which are asked once for each message.

Parts of a long message: a rule that refuses does so as soon as the text known so far satisfies it. What more text
could still undo waits for the last part: an ``unless`` about the text, ``links: false``, and refusals behind a ``pass``
about the text. No part is delayed for it, except by a policy with ``hold_parts``. A part is read with all that phones
might show beside it (``protocol.joiner``), and refused if one of these texts would be. Likewise a part is recorded without its
text if one of these texts would be; where parts are held, also if a text that is not known yet may still say so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import time
from typing import Final

from smppd.config import Account, Policy, ReplaceSender, Settings
from smppd.message import Address, Refusal, Verdict
from smppd.numbering import normalise
from smppd.policy.conditions import ALPHANUMERIC_TON
from smppd.policy.content import (
    PartKey,
    TextContent,
    TooLarge,
    content_of,
    join_key,
    place_of,
    read,
    read_part,
    whole_text,
)
from smppd.policy.countries import country_of
from smppd.policy.dlt import Catalogue, Registered
from smppd.policy.families.hosts import Brand
from smppd.policy.families.index import FamilyIndex
from smppd.policy.listed import ABSENT, ListAbsent, Listed
from smppd.policy.program import CompiledPolicy as CompiledPolicy
from smppd.policy.program import PolicyError as PolicyError
from smppd.policy.program import Program as Program
from smppd.policy.program import Standing as Standing
from smppd.policy.program import replacement as replacement
from smppd.policy.senders import SenderBook, sender_book
from smppd.protocol.joiner import Budget, Joiner, JoinerFull
from smppd.protocol.text import Alphabet
from smppd.protocol.wire import UDHI, BodyError, Sm, Status

REFUSALS: Final = 10_000
"""Refused long messages whose refusal is kept for their later parts."""

HOLD: Final = Verdict(hold=True)
HOLD_HIDDEN: Final = Verdict(hold=True, hide=True)
_UNCHANGED: Final = Verdict()
NO_ROOM: Final = Verdict(refusal=Refusal(int(Status.RMSGQFUL), "too many unfinished long messages", "long-message"))
_NO_LISTS: Final[Mapping[str, Listed]] = {}
NOT_REPLACED: Final = Verdict(
    refusal=Refusal(int(Status.RREPLACEFAIL), "the other parts of the message are not known any more", "long-message")
)


class Policies(dict[str, CompiledPolicy]):
    """All policies by name, with the programs made of them: accounts with the same policies share one, and all the
    memory for unfinished long messages (``budget``). ``catalogues``: registries by name, as they were read last."""

    def __init__(
        self,
        lists: Mapping[str, Listed] = _NO_LISTS,
        families: FamilyIndex | None = None,
        book: SenderBook | None = None,
    ) -> None:
        """lists: see `listed`."""
        super().__init__()
        self.budget = Budget()
        self._lists = lists
        self.families = families
        self.book = book
        self.catalogues: dict[str, Catalogue] = {}
        self._programs: dict[tuple[str, ...], Program] = {}

    def program(self, names: tuple[str, ...]) -> Program:
        """The program of these policies in this order. Raises KeyError for an unknown one."""
        program = self._programs.get(names)
        if program is None:
            program = self._programs[names] = Program(
                [self[name] for name in names], self._lists, self.families, self.book
            )
        return program


class Pipeline:
    """The policies of one account, with the parts of its long messages. Each account has one. ``decide`` decides on a
    message.

    The verdict on a part that is not held counts for the parts of the same message that were (`policy.content.part_of`):
    ``None`` or a verdict without refusal lets them go, a refusal refuses them all.
    """

    __slots__ = (
        "_book",
        "_joiner",
        "_refusals",
        "_stand_ins",
        "account",
        "alphabet",
        "program",
        "region",
        "registered",
    )

    def __init__(
        self,
        program: Program | None,
        alphabet: Alphabet = Alphabet.GSM,
        region: str | None = None,
        budget: Budget | None = None,
        account: str = "",
        book: SenderBook | None = None,
        registered: Registered | None = None,
    ) -> None:
        """``account``: whose it is; ``book``: what is known of senders, as the program has it."""
        self.account = account
        self._book = book
        self.registered = registered
        self.program = program if program is not None and program.lines else None
        self.alphabet = alphabet
        self.region = region
        self._joiner = Joiner(budget=budget)
        self._refusals: OrderedDict[PartKey, Refusal] = OrderedDict()
        stand_ins = self.program.stand_ins if self.program is not None else {}
        self._stand_ins = {normalise(one.digits, one.ton, 0, region): of for one, of in stand_ins.items()}

    def stands_for(self, number: bytes) -> Address | None:
        """The one sender that this number (in its normal form) replaces and that replies are to reach; None for none or
        several."""
        return self._stand_ins.get(number)

    def is_authorised(self, sm: Sm) -> bool:
        """Whether the account has an entry for the sender of a message that counts in the destination's country."""
        if self._book is None:
            return False
        country = country_of(normalise(sm.destination_digits, sm.destination_ton, 0, self.region)) or ""
        return self._book.is_authorised(self.account, sm.source_ton, sm.source_digits, country, self.region)

    def decide(self, sm: Sm, now: float) -> Verdict | None:
        """What is to be done with a message; None: pass it on as it came. ``now`` in seconds of any steady clock.

        Never raises: a message whose TLVs are broken is refused with the status that says so.
        """
        program = self.program
        registered = self.registered
        if registered is not None and registered.active and registered.concerns(sm):
            return self._decide_registered(sm, now, registered)
        if program is None:
            return None
        try:
            head = program.head(sm, self.region, self.account)
            verdict = program.early(head)
            if sm.esm_class & UDHI or sm.at_tlvs != len(sm.raw):
                self._joiner.settled()
                if not isinstance(verdict, Standing) and program.texts:
                    self._remember(sm, verdict, now)
            if not isinstance(verdict, Standing):
                return verdict
            text = whole_text(sm, self.alphabet)
            if text is not None:
                return program.late(head, (text,), True, sm, registered)
            content = self.read(sm, now)
            try:
                return self.judge(program, head, content, now, sm)
            except ListAbsent:
                self._joiner.undo()  # sent again when the list is there, it is a part like any other
                raise
        except ListAbsent as asked:
            return absent(asked, program.hides)
        except BodyError as error:
            return Verdict(refusal=Refusal(error.status, str(error), "tlv"), hide=program.hides)
        except TooLarge as large:
            return self.too_large(large, now)
        except JoinerFull:
            return Verdict(refusal=NO_ROOM.refusal, hide=True) if program.hides else NO_ROOM

    def _decide_registered(self, sm: Sm, now: float, registered: Registered) -> Verdict | None:
        """``decide`` for a message to India of an account that is registered there: its text is always read, since its
        template says its class and, with `set`, its TLVs."""
        program = self.program
        content: TextContent | None = None
        try:
            verdict: Verdict | Standing | None = None
            head = 0
            if program is not None:
                head = program.head(sm, self.region, self.account)
                verdict = program.early(head)
            self._joiner.settled()
            if verdict is not None and not isinstance(verdict, Standing) and verdict.refusal is not None:
                return verdict
            content = self.read(sm, now)
            if program is not None and isinstance(verdict, Standing):
                verdict = self.judge(program, head, content, now, sm)
            assert not isinstance(verdict, Standing)
            return self.supplied(sm, content, verdict)
        except ListAbsent as asked:
            if content is not None:
                self._joiner.undo()  # as in `decide`
            return absent(asked, self.hides)
        except BodyError as error:
            return Verdict(refusal=Refusal(error.status, str(error), "tlv"), hide=self.hides)
        except TooLarge as large:
            return self.too_large(large, now)
        except JoinerFull:
            return Verdict(refusal=NO_ROOM.refusal, hide=True) if self.hides else NO_ROOM

    def supplied(self, sm: Sm, content: TextContent, verdict: Verdict | None) -> Verdict | None:
        """The verdict of the rules with what the account's registry adds to a message to India."""
        registered = self.registered
        if registered is None or not registered.active or not registered.concerns(sm):
            return verdict
        if verdict is not None and (verdict.refusal is not None or verdict.hold):
            return verdict
        return registered.supply(sm, registered.look(sm, content.texts) if content.complete else None, verdict)

    def read(self, sm: Sm, now: float) -> TextContent:
        """The text of a message; a part joins those that came before. Raises ``BodyError``, ``TooLarge``, ``JoinerFull``."""
        program = self.program
        return read(sm, self.alphabet, self._joiner, now, program is not None and program.replaces)

    def _remember(self, sm: Sm, verdict: Verdict | None, now: float) -> None:
        """Remembers a part whose text no rule needs, and that is passed on: its message may have other parts whose text
        rules need."""
        if (verdict is not None and verdict.refusal is not None) or place_of(sm) is None:
            return
        try:
            self.read(sm, now)
        except (BodyError, TooLarge, JoinerFull):
            return  # then the other parts under its key are refused, or it is no part

    def judge(self, program: Program, head: int, content: TextContent, now: float, sm: Sm) -> Verdict | None:
        """The verdict on a message whose text was read."""
        key = content.key
        if key is None:
            return program.late(head, content.texts, True, sm, self.registered)
        if content.refused:
            refusal = self._refusals.get(key)
            return Verdict(
                refusal=refusal or Refusal(int(Status.RSUBMITFAIL), "part of a refused message", "long-message"),
                hide=program.hides,
            )
        verdict, _, _ = self.judge_part(program, head, content, sm)
        if verdict is not None and verdict.refusal is not None:
            self._refuse(key, verdict.refusal, now)
        elif program.hold and not content.complete:
            return HOLD if verdict is None or not (verdict.hide or verdict.may_hide) else HOLD_HIDDEN
        return verdict

    def judge_part(
        self, program: Program, head: int, content: TextContent, sm: Sm
    ) -> tuple[Verdict | None, tuple[str, ...], bool]:
        """The verdict on a part. It is judged with each text that a phone might show, and refused if one of these is
        refused. Returned beside it: the texts that decided, and whether they are the whole message."""
        verdict = program.late(head, content.texts, content.complete, sm, self.registered)
        if verdict is None or verdict.refusal is None:
            for texts, complete in content.others:
                other = program.late(head, texts, complete, sm, self.registered)
                if other is None:
                    continue
                if other.refusal is not None:
                    return other, texts, complete
                if other.hide or other.may_hide:
                    before = verdict or _UNCHANGED
                    verdict = replace(
                        before, hide=before.hide or other.hide, may_hide=before.may_hide or other.may_hide
                    )
        return verdict, content.texts, content.complete

    def judge_replacement(self, old: Sm, new: Sm, now: float) -> Verdict | None:
        """The verdict on a message whose text replace_sm exchanges while it waits. A part is judged with the other parts of
        its message. Where a rule needs these and they are not known any more, it is refused."""
        program = self.program
        if program is None:
            return None
        try:
            place = place_of(old)
            if place != place_of(new):
                return NOT_REPLACED  # of another message, or another part of this one
            part, before = read_part(new, self.alphabet), read_part(old, self.alphabet)
            if part is None or part.concat is None or before is None or not program.texts:
                return self.decide(new, now)
            key = join_key(new, part.concat, program.replaces)
            joined = self._joiner.replace(key, part.concat, before.text, part.text, now)
            head = program.head(new, self.region, self.account)
            early = program.early(head)
            if not isinstance(early, Standing):
                verdict = early
            elif joined is None or joined.refused:
                return NOT_REPLACED
            else:
                content = content_of(new, part.concat, joined, part.aside)
                verdict, _, _ = self.judge_part(program, head, content, new)
                if program.hold and not content.complete and (verdict is None or verdict.refusal is None):
                    verdict = NOT_REPLACED
        except ListAbsent as asked:
            verdict = absent(asked, False)
        except BodyError as error:
            return Verdict(refusal=Refusal(error.status, str(error), "tlv"))
        if verdict is not None and verdict.refusal is not None:
            self._joiner.undo()
        return verdict

    def undo_last(self) -> None:
        """The part that was decided on last is refused for another reason than policy: it is forgotten, as if it had not
        come."""
        self._joiner.undo()

    def forget_parts(self, sm: Sm) -> None:
        """The held parts of a long message are refused: parts that come later belong to a new message."""
        concat = place_of(sm)
        if concat is not None and self.program is not None:
            self._joiner.forget(join_key(sm, concat, self.program.replaces), concat)

    def take_over_parts(self, other: Pipeline) -> None:
        """After a reload: takes over what the account's pipeline before knows of its long messages."""
        self._joiner, self._refusals = other._joiner, other._refusals

    def too_large(self, error: TooLarge, now: float) -> Verdict:
        """The verdict on a long message that cannot be judged: this part and all later ones are refused."""
        refusal = Refusal(int(Status.RSUBMITFAIL), str(error), "long-message")
        self._refuse(error.key, refusal, now)
        return Verdict(refusal=refusal, hide=self.hides)

    def _refuse(self, key: PartKey, refusal: Refusal, now: float) -> None:
        self._joiner.refuse(now)
        self._refusals[key] = refusal
        self._refusals.move_to_end(key)
        if len(self._refusals) > REFUSALS:
            self._refusals.popitem(last=False)

    @property
    def hides(self) -> bool:
        """Whether a rule may have a message recorded without its text."""
        return self.program is not None and self.program.hides

    @property
    def waiting(self) -> int:
        """Long messages of which parts are missing."""
        return len(self._joiner)

    @property
    def forgotten(self) -> int:
        """Incomplete long messages that were dropped at a limit of memory or time."""
        return self._joiner.forgotten

    def expire(self, now: float) -> None:
        """Forgets parts that waited too long; to be called now and then."""
        self._joiner.expire(now)


def absent(asked: ListAbsent, hide: bool) -> Verdict:
    """The verdict on a message that a list would have to be asked about which is not there: an error of ours, which passes."""
    return Verdict(refusal=Refusal(int(Status.RSYSERR), f"list {asked.name} is not ready", ABSENT), hide=hide)


def _check(policy: Policy, families: FamilyIndex | None) -> CompiledPolicy:
    compiled = CompiledPolicy(policy.name, policy.hold_parts, policy.rules)
    for index, rule in enumerate(policy.rules):
        sender = rule.do.replace_sender
        if sender is not None:
            _check_sender(sender, f"policies.{policy.name}{'.rules' if policy.hold_parts else ''}[{index}]")
    Program([compiled], families=families)
    return compiled


def _check_sender(sender: ReplaceSender, place: str) -> None:
    path = f"{place}.do.replace_sender.address"
    if not sender.address.isascii() or not sender.address.isprintable():
        raise PolicyError(path, "must be printable ASCII")
    address = replacement(sender)
    # 11 characters of seven bits are what an alphanumeric address has room for (3GPP TS 23.040 section 9.1.2.5).
    if address.ton == ALPHANUMERIC_TON and len(address.digits) > 11:
        raise PolicyError(path, "an alphanumeric sender has at most 11 characters")
    if len(address.digits) > 20:
        raise PolicyError(path, "has more than 20 characters")


def compile_policies(
    settings: Settings, lists: Mapping[str, Listed] = _NO_LISTS, wall: Callable[[], float] = time
) -> Policies:
    """All policies by name, each compiled once to find its faults. ``lists``: big lists by name, see `listed`. ``wall``:
    epoch seconds, by which entries of senders end. Raises
    ``PolicyError`` for the first."""
    families = _families(settings)
    policies = Policies(lists, families, sender_book(settings, wall))
    for name, registry in settings.dlt.registries.items():
        policies.catalogues[name] = Catalogue(registry.content)
    for name, policy in settings.policies.items():
        policies[name] = _check(policy, families)
    return policies


def _families(settings: Settings) -> FamilyIndex | None:
    """The families of content with the configured brands; None where no rule asks for one."""
    rules = [rule for policy in settings.policies.values() for rule in policy.rules]
    if not any(condition is not None and condition.family for rule in rules for condition in (rule.when, rule.unless)):
        return None
    return FamilyIndex([Brand(brand.names, brand.domains) for brand in settings.brands.values()])


def pipeline_for(settings: Settings, account: Account | str, compiled: Mapping[str, CompiledPolicy]) -> Pipeline:
    """The pipeline of an account (or of the account with this system_id). Raises ``PolicyError``, KeyError for no such
    account or policy."""
    if isinstance(account, str):
        found = next((one for one in settings.accounts if one.system_id == account), None)
        if found is None:
            raise KeyError(account)
        account = found
    names = tuple(account.policies)
    program: Program | None = None
    if names:
        program = compiled.program(names) if isinstance(compiled, Policies) else None
        if program is None:
            program = Program([compiled[n] for n in names], families=_families(settings))
    budget = compiled.budget if isinstance(compiled, Policies) else None
    region = account.region or settings.region
    registered: Registered | None = None
    if account.dlt is not None:
        name = account.dlt.registry
        registries = settings.dlt.registries
        catalogue = compiled.catalogues.get(name) if isinstance(compiled, Policies) else None
        registered = Registered(account.dlt, catalogue or Catalogue(registries[name].content), region)
    elif program is not None:
        registered = Registered(None, None, region)
    return Pipeline(
        program,
        Alphabet[account.default_alphabet.upper()],
        region,
        budget,
        account.system_id,
        compiled.book if isinstance(compiled, Policies) else None,
        registered,
    )


def pipelines(
    settings: Settings, lists: Mapping[str, Listed] = _NO_LISTS, wall: Callable[[], float] = time
) -> dict[str, Pipeline | None]:
    """The pipeline of each account by its system_id, None for one without policies and registry. ``lists``: see `listed`.
    Raises ``PolicyError``."""
    compiled = compile_policies(settings, lists, wall)
    return {
        one.system_id: pipeline_for(settings, one, compiled) if one.policies or one.dlt is not None else None
        for one in settings.accounts
    }
