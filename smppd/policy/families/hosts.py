"""What the name of a host says of who is behind it: look-alikes of protected brands, names within names, short links.

Judged by the registrable domain (Mozilla's Public Suffix List, in the package `publicsuffixlist`), since whoever owns that owns
all below it: of ``bank.co.uk.evil.example`` it is ``evil.example``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from publicsuffixlist import PublicSuffixList

from smppd.policy.families.signs import read_data
from smppd.policy.links import canonical
from smppd.policy.skeleton import skeleton

REMEMBERED: Final = 4096
"""Hosts whose judgement is kept."""

OWN: Final = 1  # a protected brand's own domain, or below it
BRAND: Final = 2  # a brand's name in somebody else's domain
ALIKE: Final = 4  # a domain that looks like a brand's
LETTERS: Final = 8  # letters of another script that look like Latin ones
NESTED: Final = 16  # a whole domain as the beginning of another
LITERAL: Final = 32  # an address instead of a name
SHORT: Final = 64  # a link shortener

_LEAST_PART: Final = 6  # characters of a name that is found at an end of a label
_LEAST_INSIDE: Final = 8  # ... inside one
_LEAST_TYPO: Final = 6  # ... with one letter wrong
_LEAST_NAME: Final = 3

_NUMERIC: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")
_ENCODED: Final = re.compile(r"(?:[0-9]{8,10}|0x[0-9a-f]{6,8})\Z")
# Networks that lead no further than the reader's own (RFC 1918, 3927, 1122).
_AT_HOME: Final = re.compile(r"(?:10|127)\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2[0-9]|3[01])\.")
# What a whole domain ends with, as the beginning of another's name or with hyphens for its dots.
_NESTED: Final = re.compile(
    r"(?:^|\.)[^.]+\.(?:com|net|org|edu|gov|int|(?:co|com|net|org|gov|gob|gouv|gov|gv|govt|ac|edu)\.[a-z]{2}|bank|example)\Z"
)
_HYPHENED: Final = re.compile(
    r"(?:^|[.-])[^.-]+-(?:com|net|org|co-[a-z]{2}|com-[a-z]{2}|gov-[a-z]{2}|gouv-fr)(?:[.-]|\Z)"
)


class Brand(NamedTuple):
    """A name that is protected, as it is written in texts, in all its forms, and the domains that are its owner's."""

    names: tuple[str, ...]
    domains: tuple[str, ...]


SHIPPED: Final = (
    Brand(("Northwold Bank", "Northwold"), ("northwold-bank.example", "northwold.example")),
    Brand(("Banque Valmont", "Valmont Banque"), ("banque-valmont.example",)),
    Brand(("Kestrel Parcels", "Kestrelparcel"), ("kestrelparcels.example",)),
)
"""Brands that do not exist, so that the family is whole without a configuration. An operator names real ones: `brands`."""


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@cache
def shorteners() -> frozenset[str]:
    """The domains of the data file."""
    lines = (line.split("#")[0].split() for line in read_data("shorteners.txt").splitlines())
    return frozenset(line[0] for line in lines if line)


def _deletions(key: str) -> list[str]:
    """``key`` without one of its characters, in every way."""
    return [key[:at] + key[at + 1 :] for at in range(len(key))]


def _unicode(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return label


def _imitates(label: str) -> bool:
    """Whether a label mixes Latin letters with others that look like them, or is wholly of such."""
    if label.isascii():
        return False
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in label if letter.isalpha()}
    if scripts <= {"LATIN"} or not scripts & {
        "CYRILLIC",
        "GREEK",
        "ARMENIAN",
        "CHEROKEE",
        "COPTIC",
        "GEORGIAN",
        "LISU",
    }:
        return False  # accents are no imitation, and in East Asia Latin letters stand beside others
    return len(scripts) > 1 or skeleton(label).isascii()


class HostIndex:
    """The protected brands and shorteners, and what was judged lately."""

    __slots__ = ("_domains", "_keys", "_seen", "_shorteners", "_suffixes", "_typos")

    def __init__(self, brands: Sequence[Brand]) -> None:
        self._suffixes = _suffixes()
        self._shorteners = shorteners()
        self._seen: dict[str, int] = {}
        self._domains = frozenset(canonical(domain) for brand in brands for domain in brand.domains)
        keys: set[str] = set()
        for brand in brands:
            keys.update([skeleton(name) for name in brand.names])
            for domain in brand.domains:
                own = self.registrable(canonical(domain))
                keys.add(skeleton(_unicode(own.partition(".")[0])))
        self._keys = sorted(key for key in keys if len(key) >= _LEAST_NAME)
        self._typos: set[str] = set()
        for key in self._keys:
            if len(key) >= _LEAST_TYPO:
                self._typos.update(_deletions(key))
                self._typos.add(key)

    def registrable(self, host: str) -> str:
        """The domain that somebody registered, of which ``host`` is a part; ``host`` itself where there is none."""
        found = self._suffixes.privatesuffix(host)
        return found if isinstance(found, str) else host

    def judge(self, host: str) -> int:
        """What is known of a host (`links.canonical`), as a mask; 0 for nothing."""
        known = self._seen.get(host)
        if known is None:
            known = self._judge(host)
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[host] = known
        return known

    def _judge(self, host: str) -> int:
        if _NUMERIC.match(host) is not None:
            return 0 if _AT_HOME.match(host) is not None else LITERAL
        if host.startswith("[") or _ENCODED.match(host) is not None:
            return LITERAL
        below = host
        while below:
            if below in self._domains:
                return OWN
            below = below.partition(".")[2]
        registrable = self.registrable(host)
        if host in self._shorteners or registrable in self._shorteners:
            return SHORT
        found = 0
        sub = host[: -len(registrable)].strip(".") if len(host) > len(registrable) else ""
        if sub and _NESTED.search(sub) is not None:
            found |= NESTED
        if _HYPHENED.search(host.rpartition(".")[0]) is not None:
            found |= NESTED
        labels = [_unicode(label) for label in host.split(".")]
        top = labels[-1]
        if any(_imitates(label) for label in labels[:-1]) and (top.isascii() or not all(map(_imitates, labels[:-1]))):
            found |= LETTERS
        return found | self._brands(labels, registrable)

    def _brands(self, labels: list[str], registrable: str) -> int:
        """Whether a brand's name, or what looks like it, is in somebody's labels."""
        found = 0
        dots = registrable.count(".")
        own = labels[-1 - dots] if dots else labels[0]
        for label in labels[: max(1, len(labels) - dots)]:
            plain = label.replace("-", "").replace("_", "")
            whole = skeleton(label)
            parts = {skeleton(part) for part in re.split("[-_]", label)} | {whole}
            for key in self._keys:
                if key in parts or _has(whole, key):
                    # Written as the brand is, or forged.
                    found |= BRAND if _has(plain, key) or skeleton(plain) == plain else ALIKE
        whole = skeleton(own)
        for candidate in {whole, *(skeleton(part) for part in re.split("[-_]", own))}:
            if len(candidate) >= _LEAST_TYPO and not found & BRAND and self._is_typo(candidate):
                found |= ALIKE
        if len(labels) > 1 and not found:
            # north.wold-bank.example: a name cut by dots
            joined = skeleton("".join(labels[:-1]))
            if any(len(key) >= _LEAST_INSIDE and key in joined for key in self._keys):
                found |= BRAND
        return found

    def _is_typo(self, candidate: str) -> bool:
        """Whether a name is one letter away from a brand's: one more, one less, another, or two exchanged."""
        if candidate in self._typos:
            return True
        return any(shorter in self._typos for shorter in _deletions(candidate[:64]))


def _has(whole: str, key: str) -> bool:
    if whole == key:
        return True
    if len(key) >= _LEAST_INSIDE:
        return key in whole
    return len(key) >= _LEAST_PART and (whole.startswith(key) or whole.endswith(key))
