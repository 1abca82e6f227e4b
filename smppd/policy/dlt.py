"""Compares messages to India with the registry of their account (DLT): entity, chain, header, template, class.

A template is found by its id where the message brings one (TLV 0x1401), else by the text. Each template is filed under the
word of its fixed text that the fewest templates of its entity have, so that of 100,000 templates a few are compared.

Templates are compared by code of ours: as RE2 patterns, whose repetitions are counted, each takes 0.35 ms to compile and 80 KB
once it was searched. The comparison walks through the text once for each variable, whatever the text
(`tests/policy/test_dlt.py` holds it to RE2).
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from typing import Final

from smppd.config import AccountDlt
from smppd.config.dlt import EMPTY, LETTERS, LINKS, VARIABLES, Content, Template, plain
from smppd.message import Verdict
from smppd.numbering import normalise
from smppd.pacing import breathe
from smppd.policy import links
from smppd.protocol.wire import Sm

PE_ID: Final = 0x1400
TEMPLATE_ID: Final = 0x1401
TM_ID: Final = 0x1402
"""TLVs of India's carriers (portal.mobtexting.com/docs/v2/sms/smpp, read 2026-11)."""
INDIA: Final = b"91"
MOST_TRIED: Final = 1000
"""Templates that one text is compared with. More than this share their rarest word with it only in a registry of templates that
hardly differ; such messages must bring their Template-ID."""

MOST_STEPS: Final = 100_000
"""Places at which variables of the templates that one text is compared with may end: some 0.1 s. Only templates of dozens of
variables with next to nothing between them have more; a text that fits none of them by then fits none."""

_RUNS: Final = {kind: re.compile(f"(?s:{characters})+") for kind, characters in VARIABLES.items()}
# AX-ACMEBK-S: the carrier and circle in front, the class behind.
_SENDER: Final = re.compile(rb"(?:[A-Za-z]{2}-)?([A-Za-z0-9]{1,11})(?:-([PSTGpstg]))?")
_BY_LETTER: Final = {"P": "promotional", "S": "service", "T": "transactional", "G": "government"}


class Steps:
    """How many steps a text may take yet. What is compared when none is left does not fit."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_STEPS


class Compiled:
    """A template as it is compared."""

    __slots__ = ("first", "hosts", "last", "least", "linked", "template")

    def __init__(self, template: Template) -> None:
        self.template = template
        self.first = template.literals[0]
        self.last = template.literals[-1]
        self.least = sum(map(len, template.literals)) + sum([one.least for one in template.variables])
        self.linked = any(one.kind in LINKS for one in template.variables)
        self.hosts: frozenset[str] | None = None

    def fits(self, text: str, steps: Steps) -> bool:
        """Whether ``text`` (`config.dlt.plain`) is the template with values of the right kinds."""
        if len(text) < self.least or not text.startswith(self.first) or not text.endswith(self.last):
            return False
        template = self.template
        count = len(template.variables)
        if not count:
            return text == self.first
        starts = [len(self.first)]
        for at in range(count - 1):
            starts = self._behind(text, starts, at, template.literals[at + 1], steps)
            if not starts:
                return False
        return bool(self._ends(text, starts, count - 1, len(text) - len(self.last), len(text) - len(self.last)))

    def _behind(self, text: str, starts: list[int], at: int, literal: str, steps: Steps) -> list[int]:
        """Where the literal behind a variable may end, if the variable begins at one of ``starts`` (rising)."""
        variable = self.template.variables[at]
        length = len(literal)
        found: list[int] = []
        where = text.find(literal, starts[0] + variable.least)
        end = starts[-1] + variable.most
        while 0 <= where <= end:
            steps.left -= 1
            if steps.left < 0:
                return []
            if self._ends(text, starts, at, where, where):
                found.append(where + length)
            where = text.find(literal, where + 1)
        return found

    def _ends(self, text: str, starts: list[int], at: int, low: int, high: int) -> bool:
        """Whether the variable, begun at one of ``starts``, may end at ``high``. The nearest start decides: the others would
        need the same characters, and more."""
        variable = self.template.variables[at]
        nearest = bisect_right(starts, high - variable.least) - 1
        if nearest < 0:
            return False
        start = starts[nearest]
        if low - start > variable.most:
            return False
        run = _RUNS[variable.kind].match(text, start, high)
        return run is not None and run.end() == high

    def hides_link(self, text: str) -> bool:
        """Whether a link stands in a variable that is not for links."""
        if self.linked or not links.suspicious(text):
            return False
        if self.hosts is None:
            fixed = " 0 ".join(self.template.literals)
            self.hosts = frozenset([host.name for host in links.find(fixed).hosts])
        return any(host.link and host.name not in self.hosts for host in links.find(text).hosts)


class Catalogue:
    """One registry, ready for look-ups."""

    def __init__(self, content: Content) -> None:
        self.entities = content.entities
        self.headers = content.headers
        self.templates: dict[str, Compiled] = {}
        for one in content.templates:
            breathe()
            self.templates[one.id] = Compiled(one)
        self._by_word: dict[str, dict[str, list[Compiled]]] = {}
        often: dict[tuple[str, str], int] = {}
        for one in content.templates:
            breathe()
            for word in fixed_words(one.literals):
                often[one.entity, word] = often.get((one.entity, word), 0) + 1
        for compiled in self.templates.values():
            breathe()
            template = compiled.template
            rarest, least = "", len(self.templates) + 1
            for word in fixed_words(template.literals):
                number = often[template.entity, word]
                if number < least:
                    rarest, least = word, number
            self._by_word.setdefault(template.entity, {}).setdefault(rarest, []).append(compiled)

    def candidates(self, entity: str, text: str) -> list[Compiled]:
        """Templates of the entity that the text may be, at most ``MOST_TRIED``. A text that fits none of them fits none."""
        found: list[Compiled] = []
        by_word = self._by_word.get(entity)
        if by_word is None:
            return found
        words = set(text.split(" "))
        words.add("")
        for word in words:
            filed = by_word.get(word)
            if filed is not None:
                found += filed
        return found if len(found) <= MOST_TRIED else found[:MOST_TRIED]


def fixed_words(literals: tuple[str, ...]) -> set[str]:
    """The words between blanks that every text of a template has: not those that touch a variable, which may be longer."""
    words: set[str] = set()
    last = len(literals) - 1
    for at, literal in enumerate(literals):
        split = literal.split(" ")
        words.update(split[0 if at == 0 else 1 : len(split) if at == last else -1])
    words.discard("")
    return words


class Found:
    """What was found of a message: the finding, and what is known of it."""

    __slots__ = ("entity", "finding", "message_class", "template")

    def __init__(self, finding: str, entity: str = "", template: str = "", message_class: str = "") -> None:
        self.finding = finding
        self.entity = entity
        self.template = template
        self.message_class = message_class


_OK: Final = Found("ok")
_NO_ENTITY: Final = Found("no_entity")


def _text_of(octets: bytes) -> str:
    """An id in a TLV: some write a NUL behind it, or blanks."""
    return octets.rstrip(b"\0").strip().decode("latin-1")


class Registered:
    """One account and what it is registered as. ``settings``: None for one that is not."""

    def __init__(
        self, settings: AccountDlt | None, catalogue: Catalogue | None = None, region: str | None = None
    ) -> None:
        self._region = region
        self.active = settings is not None
        self.sets = settings is not None and settings.set_
        self._catalogue = catalogue or Catalogue(EMPTY)
        self._entity = (settings.entity or "") if settings is not None else ""
        self._chain = settings.telemarketers if settings is not None else ()
        self._separator = settings.separator if settings is not None else ","
        self._hashes: dict[str, str] = {}
        # The last message and what was found of it: rules ask, and then whoever supplies what it lacks.
        self._asked: Sm | None = None
        self._read: tuple[str, ...] = ()
        self._found = _OK

    def concerns(self, sm: Sm) -> bool:
        """Whether the message goes to India."""
        return normalise(sm.destination_digits, sm.destination_ton, 0, self._region).startswith(INDIA)

    def look(self, sm: Sm, texts: tuple[str, ...]) -> Found:
        """The first check that fails, or ``ok``, for a message that says ``texts``. Messages to other countries are ``ok``.
        Raises ``wire.BodyError`` on broken TLVs."""
        if not self.concerns(sm):
            return _OK
        if not self.active:
            return _NO_ENTITY
        if sm is not self._asked or texts != self._read:
            self._found = self._look(sm, texts)
            self._asked, self._read = sm, texts
        return self._found

    def _look(self, sm: Sm, texts: tuple[str, ...]) -> Found:
        sent = dict(sm.tlvs)
        entity = _text_of(sent[PE_ID]) if PE_ID in sent else self._entity
        status = self._catalogue.entities.get(entity)
        if self._entity and entity != self._entity:
            return Found("entity_mismatch", entity)
        if status is None:
            return Found("no_entity", entity)
        if status != "active":
            return Found("entity_" + status, entity)
        if TM_ID in sent and self._chain and _text_of(sent[TM_ID]).lower() != self.chain(entity):
            return Found("chain_mismatch", entity)
        return self._sender(sm, sent, entity, texts)

    def _sender(self, sm: Sm, sent: dict[int, bytes], entity: str, texts: tuple[str, ...]) -> Found:
        found = _SENDER.fullmatch(sm.source_digits.strip())
        name = found[1].decode().upper() if found else ""
        letter = (found[2] or b"").decode().upper() if found else ""
        header = self._catalogue.headers.get(name)
        if header is None:
            return Found("no_header", entity)
        if header.entity != entity:
            return Found("header_mismatch", entity)
        if header.status != "active":
            return Found("header_" + header.status, entity)
        usual = _BY_LETTER.get(letter or header.letters, "")
        text = plain(texts[0]) if texts else ""
        for other in texts[1:]:
            if plain(other) != text:
                return Found("no_template", entity, "", usual)  # nobody knows which of them the phone shows
        if TEMPLATE_ID in sent:
            named = self._catalogue.templates.get(_text_of(sent[TEMPLATE_ID]))
            if named is None or named.template.entity != entity:
                return Found("no_template", entity, "", usual)
            if not named.fits(text, Steps()):
                return Found("template_mismatch", entity, named.template.id, named.template.message_class)
            return _judged(named, text, name, letter, header.letters)
        best: Found | None = None
        steps = Steps()
        for compiled in self._catalogue.candidates(entity, text):
            if compiled.fits(text, steps):
                judged = _judged(compiled, text, name, letter, header.letters)
                if judged.finding == "ok":
                    return judged
                best = best or judged
        return best or Found("no_template", entity, "", usual)

    def chain(self, entity: str) -> str:
        """The hash of the chain: SHA-256, hexadecimal, of the ids with the separator between them (BSNL, *PE TM Chain Hash
        Generation*; tanla.freshdesk.com, *DLT chain hashing*, read 2026-11)."""
        known = self._hashes.get(entity)
        if known is None:
            ids = self._separator.join([entity, *self._chain])
            if len(self._hashes) >= MOST_TRIED:
                self._hashes.clear()
            known = self._hashes[entity] = hashlib.sha256(ids.encode()).hexdigest()
        return known

    def supply(self, sm: Sm, found: Found | None, verdict: Verdict | None) -> Verdict | None:
        """The verdict with what the registry adds: the class of the template, where no rule gives one, and the TLVs that the
        message does not bring, where the account says `set`. ``found``: None where the text is not known yet."""
        sent = [tag for tag, _ in sm.tlvs]
        entity = found.entity if found is not None else self._entity
        values: list[tuple[int, bytes]] = []
        if self.sets:
            if entity and PE_ID not in sent:
                values.append((PE_ID, entity.encode()))
            if found is not None and found.template and TEMPLATE_ID not in sent:
                values.append((TEMPLATE_ID, found.template.encode()))
            if entity and self._chain and TM_ID not in sent:
                values.append((TM_ID, self.chain(entity).encode()))
        message_class = found.message_class if found is not None else ""
        if verdict is None:
            if not values and not message_class:
                return None
            return Verdict(set_tlvs=tuple(values), message_class=message_class)
        by_rule = {tag for tag, _ in verdict.set_tlvs} | verdict.drop_tlvs
        values = [one for one in values if one[0] not in by_rule]
        if not values and (verdict.message_class or not message_class):
            return verdict
        return verdict.with_tlvs((*verdict.set_tlvs, *values), verdict.message_class or message_class)


def _judged(compiled: Compiled, text: str, header: str, letter: str, letters: str) -> Found:
    """What is said of a message whose text fits a template."""
    template = compiled.template
    fitting = LETTERS[template.message_class]
    finding = "ok"
    if template.status != "active":
        finding = "template_" + template.status
    elif template.headers and header not in template.headers:
        finding = "template_header"
    elif compiled.hides_link(text):
        finding = "link_in_variable"
    elif (letter and letter not in fitting) or (letters and not any(one in letters for one in fitting)):
        finding = "class_mismatch"
    return Found(finding, template.entity, template.id, template.message_class)
