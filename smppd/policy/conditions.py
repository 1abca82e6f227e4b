"""The conditions of all rules of an account, compiled so that a message is put to all of them at once.

Every condition is one bit of an integer. Each kind of test (sender, destination, text ...) turns a message into the mask
of the conditions it satisfies or leaves open, and the masks are ANDed: the cost grows with the kinds of test and the
length of the text, hardly with the number of rules. Tests of the head (everything but the text) come first; the text is
looked at only for conditions that are still alive.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final

from smppd.config import Condition, Senders, TlvTest
from smppd.numbering import normalise, normalise_prefix
from smppd.policy import links
from smppd.policy.countries import KEY_DIGITS, country_of
from smppd.policy.disguises import read_words
from smppd.policy.dlt import Registered
from smppd.policy.families.index import BITS, FICKLE, FamilyIndex, shipped
from smppd.policy.keywords import KeywordIndex
from smppd.policy.links import DomainIndex
from smppd.policy.listed import Listed, ListIndex
from smppd.policy.patterns import PatternFault, PatternSet, compile_pattern
from smppd.policy.senders import ALPHANUMERIC_TON as ALPHANUMERIC_TON
from smppd.policy.senders import STANDINGS, SenderBook, shown
from smppd.policy.senders import sender_kind as sender_kind
from smppd.protocol.text import is_text
from smppd.protocol.wire import Sm

REMEMBERED: Final = 4096
"""Senders, and beginnings of destinations, whose masks are kept."""

HEAD_KINDS: Final = (
    "sender",
    "sender_kind",
    "sender_pattern",
    "sender_is",
    "destination",
    "country",
    "destination_in",
    "sender_in",
    "data_coding",
    "binary",
    "size_over",
    "has_tlv",
    "tlv",
    "service_type",
)
TEXT_KINDS: Final = ("text", "keywords", "family", "links", "domains", "domain_in", "longer_than", "dlt")


_NO_LISTS: Final[Mapping[str, Listed]] = {}


class ConditionFault(ValueError):
    """A condition that cannot be compiled: ``path`` (``text[0]``) is the place in it, the text says why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


def _plain_sender(digits: bytes) -> bytes:
    digits = digits.strip().lower()
    return digits[1:] if digits[:1] == b"+" and digits[1:].isdigit() else digits


def _listed_sender(form: bytes, prefix: bool) -> bytes:
    """A sender of a condition in its normal form; names as they stand."""
    plain = _plain_sender(form)
    if not plain.isdigit():
        return plain
    return normalise_prefix(plain) if prefix else normalise(plain)


def _octets(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class _Prefixes:
    """Values and beginnings of values, each with a mask; found by one look-up for each length there is."""

    __slots__ = ("_by_length", "_exact", "longest")

    def __init__(self) -> None:
        self._exact: dict[bytes, int] = {}
        self._by_length: dict[int, dict[bytes, int]] = {}
        self.longest = 0

    def add(self, value: bytes, prefix: bool, mask: int) -> None:
        table = self._by_length.setdefault(len(value), {}) if prefix else self._exact
        table[value] = table.get(value, 0) | mask
        self.longest = max(self.longest, len(value))

    def of(self, value: bytes) -> int:
        mask = self._exact.get(value, 0)
        for length, table in self._by_length.items():
            mask |= table.get(value[:length], 0)
        return mask


class _TlvValues:
    """What conditions ask of the value of one tag. ``asking``: the conditions that do."""

    __slots__ = ("_patterns", "_values", "asking")

    def __init__(self) -> None:
        self._values = _Prefixes()
        self._patterns: list[tuple[Any, int]] = []
        self.asking = 0

    def add(self, test: TlvTest, mask: int) -> None:
        """Raises ``PatternFault``."""
        if test.pattern is None:
            self._values.add(test.octets, test.prefix, mask)
        else:
            self._patterns.append((compile_pattern(test.pattern), mask))
        self.asking |= mask

    def of(self, value: bytes) -> int:
        value = value.rstrip(b"\0")
        mask = self._values.of(value)
        if self._patterns:
            text = value.decode("utf-8", "replace")
            for pattern, of in self._patterns:
                if pattern.search(text) is not None:
                    mask |= of
        return mask


class _Thresholds:
    """Masks of the conditions ``more than n``."""

    __slots__ = ("_limits", "_masks")

    def __init__(self, limits: dict[int, int]) -> None:
        self._limits = sorted(limits)
        self._masks = [0]
        for limit in self._limits:
            self._masks.append(self._masks[-1] | limits[limit])

    def of(self, value: int) -> int:
        return self._masks[bisect_left(self._limits, value)]


class Conditions:
    """Conditions 0 to n-1, where ``exceptions`` (a mask) are those of an ``unless``.

    Their ``domains`` and ``domain_in`` hold only when every link of the text leads to a listed domain, so that one welcome link
    does not excuse another. ``texts`` is the mask of the conditions that need the text, ``fickle`` of those that more text can
    make false.
    """

    __slots__ = (
        "_alphanumeric",
        "_any_link",
        "_by_kind",
        "_coded",
        "_codings",
        "_countries",
        "_destination_key",
        "_destinations",
        "_domains",
        "_exceptions",
        "_families",
        "_family_masks",
        "_findings",
        "_free",
        "_free_family",
        "_free_keywords",
        "_free_patterns",
        "_keywords",
        "_linkless",
        "_listed_destinations",
        "_listed_domains",
        "_listed_senders",
        "_uses_family",
        "_uses_dlt",
        "_uses_keywords",
        "_uses_links",
        "_uses_patterns",
        "_kinds",
        "_longer",
        "_no_link",
        "_pattern_masks",
        "_patterns",
        "_prefixes",
        "_regional",
        "_sender_patterns",
        "_sender_pattern_masks",
        "_book",
        "_senders",
        "_senders_seen",
        "_services",
        "_sizes",
        "_standings",
        "_tlv_values",
        "_tlvs",
        "_used",
        "_wanted",
        "every",
        "fickle",
        "texts",
    )

    def __init__(
        self,
        conditions: Sequence[Condition],
        exceptions: int = 0,
        lists: Mapping[str, Listed] = _NO_LISTS,
        shadows: int = 0,
        families: FamilyIndex | None = None,
        book: SenderBook | None = None,
    ) -> None:
        """``lists``: big lists by name. ``shadows``: conditions of rules that only count. ``families``: with the brands that
        are protected; None for the shipped ones. ``book``: what ``sender_is`` asks; None: a configuration that says nothing of
        senders. Raises ``ConditionFault``; its path begins with the condition's number: ``3.text[0]``."""
        self.every = (1 << len(conditions)) - 1
        self._exceptions = exceptions
        self._families = families
        self._book = book if book is not None else SenderBook(Senders())
        # For each kind of test: the conditions that have it, and those that do not.
        self._used = {kind: _using(conditions, kind) for kind in (*HEAD_KINDS, *TEXT_KINDS)}
        self._free = {kind: self.every & ~used for kind, used in self._used.items()}
        self._compile_sender(conditions)
        self._compile_destination(conditions)
        self._compile_rest_of_head(conditions)
        self._compile_lists(conditions, lists, shadows)
        self._compile_text(conditions)

    # -- compiling -------------------------------------------------------------------------------------------------

    def _compile_sender(self, conditions: Sequence[Condition]) -> None:
        self._senders = _Prefixes()
        self._kinds = {"alphanumeric": 0, "numeric": 0, "short": 0}
        patterns: dict[str, int] = {}
        for index, condition in enumerate(conditions):
            bit = 1 << index
            for sender in condition.sender:
                prefix = len(sender) > 1 and sender.endswith("*")
                for form in {_octets(sender), sender.encode("utf-8", "replace")}:
                    self._senders.add(_listed_sender(form[:-1] if prefix else form, prefix), prefix, bit)
            for kind in condition.sender_kind:
                self._kinds[kind] |= bit
            for pattern in condition.sender_pattern:
                patterns[pattern] = patterns.get(pattern, 0) | bit
        self._sender_patterns = _compile(conditions, "sender_pattern", patterns)
        self._sender_pattern_masks = list(patterns.values())
        used = self._used
        asked = used["sender"] | used["sender_kind"] | used["sender_pattern"]
        self._senders_seen: dict[bytes, int] | None = {} if asked else None
        self._alphanumeric: dict[bytes, int] = {}
        self._regional: dict[tuple[str, int], dict[bytes, int]] = {}
        self._by_kind = bool(used["sender_kind"])
        # The conditions that hold for each standing there can be; none where no condition asks.
        self._standings: list[int] = []
        if used["sender_is"]:
            bits = [sum(STANDINGS[name] for name in set(condition.sender_is)) for condition in conditions]
            for standing in range(1 << len(STANDINGS)):
                mask = self._free["sender_is"]
                for index, wanted in enumerate(bits):
                    if wanted & standing:
                        mask |= 1 << index
                self._standings.append(mask)

    def _compile_destination(self, conditions: Sequence[Condition]) -> None:
        self._prefixes = _Prefixes()
        self._countries: dict[str | None, int] = {}
        for index, condition in enumerate(conditions):
            bit = 1 << index
            for prefix in condition.destination:
                self._prefixes.add(normalise_prefix(prefix.encode("utf-8", "replace")), True, bit)
            for country in condition.country:
                code = country.upper()
                self._countries[code] = self._countries.get(code, 0) | bit
        asked = self._used["destination"] | self._used["country"]
        self._destinations: dict[bytes, int] | None = {} if asked else None
        # The beginning of a destination that decides. Whole numbers are not worth remembering: they seldom come again.
        longest = self._prefixes.longest
        self._destination_key = longest if longest <= KEY_DIGITS else 0

    def _compile_rest_of_head(self, conditions: Sequence[Condition]) -> None:
        codings = [self._free["data_coding"]] * 256
        binary = {True: self._free["binary"], False: self._free["binary"]}
        sizes: dict[int, int] = {}
        self._tlvs: dict[int, int] = {}
        self._tlv_values: dict[int, _TlvValues] = {}
        self._services: dict[bytes, int] = {}
        for index, condition in enumerate(conditions):
            bit = 1 << index
            for coding in condition.data_coding:
                codings[coding] |= bit
            if condition.binary is not None:
                binary[condition.binary] |= bit
            if condition.size_over is not None:
                sizes[condition.size_over] = sizes.get(condition.size_over, 0) | bit
            for tag in condition.has_tlv:
                self._tlvs[tag] = self._tlvs.get(tag, 0) | bit
            for tag, tests in condition.tlv:
                values = self._tlv_values.setdefault(tag, _TlvValues())
                for test in tests:
                    try:
                        values.add(test, bit)
                    except PatternFault as fault:
                        raise ConditionFault(f"{index}.tlv", str(fault)) from None
            for service in condition.service_type:
                name = service.strip().lower().encode()
                self._services[name] = self._services.get(name, 0) | bit
        self._codings = [(codings[value], binary[not is_text(value)]) for value in range(256)]
        self._coded = [coding & kind for coding, kind in self._codings]
        self._sizes = _Thresholds(sizes) if sizes else None

    def _compile_lists(self, conditions: Sequence[Condition], lists: Mapping[str, Listed], shadows: int) -> None:
        strict = self.every & ~shadows

        def index_of(kind: str) -> ListIndex | None:
            named = [(name, 1 << at) for at, condition in enumerate(conditions) for name in getattr(condition, kind)]
            return ListIndex(named, lists, self._exceptions, strict) if named else None

        self._listed_destinations = index_of("destination_in")
        self._listed_senders = index_of("sender_in")
        self._listed_domains = index_of("domain_in")

    def _compile_text(self, conditions: Sequence[Condition]) -> None:
        patterns: dict[str, int] = {}
        self._keywords = KeywordIndex()
        self._domains = DomainIndex()
        self._any_link = self._no_link = 0
        longer: dict[int, int] = {}
        self._family_masks = [0] * len(BITS)
        self._wanted = 0
        fickle = 0
        for index, condition in enumerate(conditions):
            bit = 1 << index
            for at, name in enumerate(BITS):
                if name in condition.family:
                    self._family_masks[at] |= bit
                    self._wanted |= BITS[name]
                    if BITS[name] & FICKLE:
                        fickle |= bit
            for pattern in condition.text:
                patterns[pattern] = patterns.get(pattern, 0) | bit
            for at, keyword in enumerate(condition.keywords):
                if not self._keywords.add(keyword, bit):
                    raise ConditionFault(f"{index}.keywords[{at}]", "has no letters or digits to look for: use `text`")
            for at, domain in enumerate(condition.domains):
                if not self._domains.add(domain, bit):
                    raise ConditionFault(f"{index}.domains[{at}]", "must be a domain name such as example.net")
            if condition.links is not None:
                if condition.links:
                    self._any_link |= bit
                else:
                    self._no_link |= bit
            if condition.longer_than is not None:
                longer[condition.longer_than] = longer.get(condition.longer_than, 0) | bit
        if self._wanted and self._families is None:
            self._families = shipped()
        self._patterns = _compile(conditions, "text", patterns)
        self._pattern_masks = list(patterns.values())
        self._keywords.freeze()
        self._longer = _Thresholds(longer) if longer else None
        self._findings: dict[str, int] = {}
        for index, condition in enumerate(conditions):
            for finding in condition.dlt:
                self._findings[finding] = self._findings.get(finding, 0) | 1 << index
        self.texts = 0
        for kind in TEXT_KINDS:
            self.texts |= self._used[kind]
        # The same masks again, where the code that each message runs finds them fastest.
        self._uses_patterns, self._free_patterns = self._used["text"], self._free["text"]
        self._uses_keywords, self._free_keywords = self._used["keywords"], self._free["keywords"]
        self._uses_family, self._free_family = self._used["family"], self._free["family"]
        self._uses_links = self._used["links"] | self._used["domains"] | self._used["domain_in"]
        self._linkless = (self._free["links"] | self._no_link) & self._free["domains"] & self._free["domain_in"]
        self._uses_dlt = self._used["dlt"]
        # What is registered is a whole text: part of it fits no template.
        excused = (self._used["domains"] | self._used["domain_in"]) & self._exceptions
        self.fickle = self._no_link | excused | fickle | self._uses_dlt

    # -- the head --------------------------------------------------------------------------------------------------

    def head(self, sm: Sm, region: str | None = None, account: str = "") -> int:
        """The conditions whose tests of everything but the text hold. ``region``: the country of national numbers;
        ``account``: whose senders count. Raises ``wire.BodyError`` on broken TLVs, and `listed.ListAbsent`."""
        mask = self._coded[sm.data_coding]
        if self._senders_seen is not None:
            digits = sm.source_digits
            seen = self._senders_seen
            if self._by_kind and sm.source_ton == ALPHANUMERIC_TON:
                seen = self._alphanumeric
            if region is not None:
                seen = self._regional.setdefault((region, sm.source_ton), {})
            known = seen.get(digits)
            mask &= self._sender(sm, seen, region) if known is None else known
        if self._destinations is not None:
            digits = came = sm.destination_digits
            if region is not None or digits < b"1":  # + or 0
                digits = normalise(came, sm.destination_ton, 0, region)
            known = self._destinations.get(digits[: self._destination_key])
            found = self._destination(digits) if known is None else known
            if came is not digits and came[:1] != b"+":
                found |= self._prefixes.of(came)  # a condition may name numbers as they came
            mask &= found
            if self._countries:
                mask &= self._country_mask(digits)
        if self._standings:
            mask &= self._standings[self._standing(sm, region, account)]
        if self._sizes is not None:
            mask &= self._free["size_over"] | self._sizes.of(len(sm.body))
        if self._tlvs:
            mask &= self._tags(sm)
        # Big lists last, and only for conditions that are still alive: they are dear, and not remembered, since they change.
        if self._listed_destinations is not None and mask & self._used["destination_in"]:
            digits = normalise(sm.destination_digits, sm.destination_ton, 0, region)
            mask &= self._free["destination_in"] | self._listed_destinations.of(digits, mask)
        if self._listed_senders is not None and mask & self._used["sender_in"]:
            listed = self._listed_senders.of_sender(sm.source_digits, sm.source_ton, region, mask)
            mask &= self._free["sender_in"] | listed
        if self._tlv_values:
            mask &= self._tlv_mask(sm)
        if self._services:
            mask &= self._service_mask(sm)
        return mask

    def _standing(self, sm: Sm, region: str | None, account: str) -> int:
        destination = normalise(sm.destination_digits, sm.destination_ton, 0, region)
        country = country_of(destination) or ""
        return self._book.standing(account, sm.source_ton, sm.source_digits, country, region)

    def standing_shown(self, sm: Sm, region: str | None, account: str) -> str:
        """How the sender of a message stands, in the words of ``sender_is``."""
        return shown(self._standing(sm, region, account))

    def _sender(self, sm: Sm, seen: dict[bytes, int], region: str | None) -> int:
        masks = self._sender_masks(sm, region)
        mask = masks["sender"] & masks["sender_kind"] & masks["sender_pattern"]
        if len(seen) >= REMEMBERED:
            seen.clear()
        seen[sm.source_digits] = mask
        return mask

    def _sender_masks(self, sm: Sm, region: str | None) -> dict[str, int]:
        digits = sm.source_digits
        free = self._free
        pattern = free["sender_pattern"]
        for index in self._sender_patterns.search(digits.decode("latin-1").encode()):
            pattern |= self._sender_pattern_masks[index]
        plain = _plain_sender(digits)
        sender = free["sender"] | self._senders.of(plain)
        if plain[:1].isdigit() or plain[:1] == b"+":
            sender |= self._senders.of(normalise(plain, sm.source_ton, 0, region))
        return {
            "sender": sender,
            "sender_kind": free["sender_kind"] | self._kinds[sender_kind(sm.source_ton, digits)],
            "sender_pattern": pattern,
        }

    def _destination(self, digits: bytes) -> int:
        mask = self._prefix_mask(digits)
        seen = self._destinations
        if seen is not None and self._destination_key:
            if len(seen) >= REMEMBERED:
                seen.clear()
            seen[digits[: self._destination_key]] = mask
        return mask

    def _prefix_mask(self, digits: bytes) -> int:
        return self._free["destination"] | self._prefixes.of(digits)

    def _country_mask(self, digits: bytes) -> int:
        free = self._free["country"]
        return free | self._countries.get(country_of(digits), 0) if self._countries else free

    def _tags(self, sm: Sm) -> int:
        mask = self._free["has_tlv"]
        for tag, _ in sm.tlvs:
            mask |= self._tlvs.get(tag, 0)
        return mask

    def _tlv_mask(self, sm: Sm) -> int:
        """All tags that a condition names must have one of its values; of a tag that came twice, either value counts."""
        mask = self.every
        tlvs = sm.tlvs
        for tag, values in self._tlv_values.items():
            found = 0
            for sent, value in tlvs:
                if sent == tag:
                    found |= values.of(value)
            mask &= found | ~values.asking
        return mask

    def _service_mask(self, sm: Sm) -> int:
        return self._free["service_type"] | self._services.get(sm.service_type.strip().lower(), 0)

    # -- the text --------------------------------------------------------------------------------------------------

    def body(self, texts: Sequence[str], alive: int, sm: Sm | None = None, registered: Registered | None = None) -> int:
        """The conditions of ``alive`` whose tests of the text hold. ``registered``: what the account is in its registry, which
        is asked about ``sm``.

        ``texts`` are the text of the message, or the runs known of it, which are searched one by one; none if it is
        binary: then nothing is found in it. Raises `listed.ListAbsent`.
        """
        if self._uses_dlt & alive:
            alive &= self._dlt_mask(texts, sm, registered)
        if len(texts) == 1:
            return self._one_text(texts[0], alive)
        raws = [text.encode("utf-8", "replace") for text in texts]
        mask = alive & self._pattern_mask(raws) & self._length_mask(texts)
        if mask & (self._uses_keywords | self._uses_family):
            mask &= self._keyword_mask(texts, raws) & self._family_mask(texts, raws)
        if mask & self._uses_links:
            has_link, domains, listed = self._link_masks(texts, mask, self._listed_domains)
            mask &= has_link & domains & listed
        return mask

    def _one_text(self, text: str, alive: int) -> int:
        """``body`` for the usual message: without loops, and with only those tests that a condition needs."""
        mask = alive
        raw = text.encode("utf-8", "replace")
        if mask & self._uses_patterns:
            found = self._free_patterns
            for index in self._patterns.search(raw):
                found |= self._pattern_masks[index]
            mask &= found
        if mask & (self._uses_keywords | self._uses_family):
            found_words = read_words(text, raw)
            if mask & self._uses_keywords:
                mask &= self._free_keywords | self._keywords.search_words(found_words, len(raw) == len(text))
            if mask & self._uses_family:
                mask &= self._free_family | self._family_of(text, raw, found_words)
        if mask & self._uses_links:
            if links.suspicious(text):
                has_link, domains, listed = self._link_masks((text,), mask, self._listed_domains)
                mask &= has_link & domains & listed
            else:
                mask &= self._linkless
        if self._longer is not None:
            mask &= self._length_mask((text,))
        return mask

    def _pattern_mask(self, raws: Sequence[bytes]) -> int:
        mask = self._free["text"]
        for raw in raws:
            for index in self._patterns.search(raw):
                mask |= self._pattern_masks[index]
        return mask

    def _keyword_mask(self, texts: Sequence[str], raws: Sequence[bytes]) -> int:
        mask = self._free["keywords"]
        for text, raw in zip(texts, raws, strict=True):
            mask |= self._keywords.search_words(read_words(text, raw), len(raw) == len(text))
        return mask

    def _family_mask(self, texts: Sequence[str], raws: Sequence[bytes]) -> int:
        mask = self._free["family"]
        if self._wanted:
            for text, raw in zip(texts, raws, strict=True):
                mask |= self._family_of(text, raw, read_words(text, raw))
        return mask

    def _family_of(self, text: str, raw: bytes, found: list[bytes]) -> int:
        assert self._families is not None
        families = self._families.search(text, raw, found, self._wanted)
        mask = 0
        if families:
            for at, of in enumerate(self._family_masks):
                if families >> at & 1:
                    mask |= of
        return mask

    def _dlt_mask(self, texts: Sequence[str], sm: Sm | None, registered: Registered | None) -> int:
        finding = "no_entity"
        if sm is not None and registered is not None:
            finding = registered.look(sm, tuple(texts)).finding
        return self._free["dlt"] | self._findings.get(finding, 0)

    def _length_mask(self, texts: Sequence[str]) -> int:
        free = self._free["longer_than"]
        return free | self._longer.of(max(map(len, texts), default=0)) if self._longer is not None else free

    def _link_masks(self, texts: Sequence[str], alive: int, lists: ListIndex | None) -> tuple[int, int, int]:
        """The masks of ``links``, ``domains`` and ``domain_in``; of the last, which asks ``lists``, only what ``alive`` has is
        right."""
        asked = alive & self._used["domain_in"]
        known = listed = 0
        welcome = welcome_lists = -1
        tappable = False
        for text in texts:
            for name, link in links.find(text).hosts:
                of = self._domains.of(name)
                known |= of
                on_list = lists.of_host(name, asked) if lists is not None and asked else 0
                listed |= on_list
                if link:
                    tappable = True
                    welcome &= of
                    welcome_lists &= on_list
        if not tappable:
            welcome = welcome_lists = 0
        exceptions = self._exceptions
        return (
            self._free["links"] | (self._any_link if tappable else self._no_link),
            self._free["domains"] | (known & ~exceptions) | (welcome & exceptions),
            self._free["domain_in"] | (listed & ~exceptions) | (welcome_lists & exceptions),
        )

    # -- for people ------------------------------------------------------------------------------------------------

    def by_kind(
        self,
        sm: Sm,
        texts: Sequence[str],
        region: str | None = None,
        account: str = "",
        registered: Registered | None = None,
    ) -> dict[str, int]:
        """The mask of every kind of test by itself, in the order they are made. Slow: for explanations."""
        coding, binary = self._codings[sm.data_coding]
        came = sm.destination_digits
        digits = normalise(came, sm.destination_ton, 0, region)
        free = self._free
        masks = self._sender_masks(sm, region)
        if self._standings:
            masks["sender_is"] = self._standings[self._standing(sm, region, account)]
        masks["destination"] = self._prefix_mask(digits) | (self._prefixes.of(came) if came != digits else 0)
        masks["country"] = self._country_mask(digits)
        masks["destination_in"] = free["destination_in"]
        if self._listed_destinations is not None:
            masks["destination_in"] |= self._listed_destinations.leniently().of(digits, self.every)
        masks["sender_in"] = free["sender_in"]
        if self._listed_senders is not None:
            lists = self._listed_senders.leniently()
            masks["sender_in"] |= lists.of_sender(sm.source_digits, sm.source_ton, region, self.every)
        masks["data_coding"] = coding
        masks["binary"] = binary
        masks["size_over"] = free["size_over"] | (self._sizes.of(len(sm.body)) if self._sizes is not None else 0)
        masks["has_tlv"] = self._tags(sm)
        masks["tlv"] = self._tlv_mask(sm)
        masks["service_type"] = self._service_mask(sm)
        raws = [text.encode("utf-8", "replace") for text in texts]
        masks["text"] = self._pattern_mask(raws)
        masks["keywords"] = self._keyword_mask(texts, raws)
        domains = self._listed_domains.leniently() if self._listed_domains is not None else None
        masks["family"] = self._family_mask(texts, raws)
        masks["links"], masks["domains"], masks["domain_in"] = self._link_masks(texts, self.every, domains)
        masks["longer_than"] = self._length_mask(texts)
        masks["dlt"] = self._dlt_mask(texts, sm, registered)
        return masks

    def family_signs(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """The families of the texts, and by which signs; nothing of the texts. Slow: for explanations."""
        said: dict[str, list[str]] = {}
        if self._families is not None and self._wanted:
            for text in texts:
                raw = text.encode("utf-8", "replace")
                for name, signs in self._families.signs(text, raw, read_words(text, raw), self._wanted).items():
                    said.setdefault(name, signs)
        return said


def _using(conditions: Sequence[Condition], kind: str) -> int:
    """The conditions that have a test of this kind; an empty list and None are no test."""
    mask = 0
    for index, condition in enumerate(conditions):
        if getattr(condition, kind) not in (None, ()):
            mask |= 1 << index
    return mask


def _compile(conditions: Sequence[Condition], kind: str, patterns: dict[str, int]) -> PatternSet:
    """One set of all patterns of a kind; a bad one is named by the condition it stands in."""
    texts = list(patterns)
    try:
        return PatternSet(texts)
    except PatternFault as fault:
        bad = texts[fault.index]
        lists: list[tuple[str, ...]] = [getattr(condition, kind) for condition in conditions]
        index, at = next((index, entries.index(bad)) for index, entries in enumerate(lists) if bad in entries)
        raise ConditionFault(f"{index}.{kind}[{at}]", str(fault)) from None
