"""Decides which families a text belongs to, by the signs in it. No single word makes a family: each needs several signs.

Everything of a text is searched once for all families: its words (`signs`), its links (`hosts`), its digits (`cards`). Only
what is found there is weighed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from smppd.config import FAMILIES
from smppd.policy import links
from smppd.policy.disguises import BREAK, undo
from smppd.policy.families import cards
from smppd.policy.families.hosts import (
    ALIKE,
    BRAND,
    LETTERS,
    LITERAL,
    NESTED,
    OWN,
    SHIPPED,
    SHORT,
    Brand,
    HostIndex,
)
from smppd.policy.families.signs import SignIndex, parse_words, read_data
from smppd.policy.keywords import KeywordIndex

PHISHING_LINK: Final = 1
CREDENTIAL_LURE: Final = 2
CALLBACK: Final = 4
MARKETING: Final = 8
CARD_NUMBER: Final = 16
ONE_TIME_CODE: Final = 32
BITS: Final = {name: 1 << at for at, name in enumerate(FAMILIES)}
FICKLE: Final = CREDENTIAL_LURE | ONE_TIME_CODE
"""Families that more text can make false: an honest sender's warning weighs against a lure."""
_LINKED: Final = PHISHING_LINK | CREDENTIAL_LURE | MARKETING
_WORDED: Final = PHISHING_LINK | CREDENTIAL_LURE | CALLBACK | MARKETING | ONE_TIME_CODE

# -- signs that are no words ---------------------------------------------------------------------------------------

DISGUISED: Final = 1 << 7
USERINFO: Final = 1 << 8
PORT: Final = 1 << 9
ELSEWHERE: Final = 1 << 10
LINK: Final = 1 << 11
"""Bits beside those of `hosts`."""
_STRONG: Final = BRAND | ALIKE | LETTERS | NESTED | LITERAL | USERINFO
_WEAK: Final = SHORT | PORT | DISGUISED | ELSEWHERE
_SAID: Final = {
    BRAND: "brand in a foreign domain",
    ALIKE: "domain that looks like a brand's",
    LETTERS: "look-alike letters in a domain",
    NESTED: "domain within a foreign domain",
    LITERAL: "address instead of a domain",
    USERINFO: "name before the @ of a link",
    SHORT: "short link",
    PORT: "unusual port",
    DISGUISED: "disguised link",
    ELSEWHERE: "brand named, link to elsewhere",
}
_USERINFO: Final = re.compile(r'//[^\s/?#\\<>"@]+@[^\s/?#]')
_PORT: Final = re.compile(r"(?:[^\W_]|\]):([0-9]{2,5})(?=[/?#]|\s|\Z)")
_USUAL_PORTS: Final = frozenset({"80", "443"})
_NO_DIGITS: Final = bytes(code for code in range(256) if not 48 <= code <= 57)
_PHONE: Final = re.compile(r"(?<![\w/.=#@])(?:\+|00)?\(?[0-9](?:[ ().\-\u2010-\u2015/]{0,3}[0-9]){6,16}(?![\w@])")
_LEAST_PHONE: Final = 7
_MOST_PHONE: Final = 16


@cache
def _premium() -> tuple[tuple[str, ...], dict[tuple[str, int], None]]:
    """The data file: beginnings of international numbers; of national ones with their length, 0 for any."""
    abroad: list[str] = []
    national: dict[tuple[str, int], None] = {}
    for line in read_data("premium.txt").splitlines():
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if fields[0] != "national":
            abroad.append(fields[0])
        else:
            number, _, length = fields[1].partition("x")
            national[number, int(length or 0)] = None
    return tuple(abroad), national


@cache
def _signs() -> SignIndex:
    return SignIndex(parse_words(read_data("words.txt")))


class FamilyIndex:
    """The shipped families, with the brands that are protected."""

    __slots__ = (
        "_abroad",
        "_act",
        "_asks",
        "_brands",
        "_call",
        "_charge",
        "_code",
        "_digits",
        "_endangers",
        "_fee",
        "_is_amiss",
        "_gambling",
        "_hosts",
        "_limited",
        "_lives",
        "_loan",
        "_missed",
        "_named",
        "_national",
        "_never",
        "_offer",
        "_optout",
        "_other_code",
        "_otp",
        "_pressure",
        "_prize",
        "_reward",
        "_signs",
        "_threat",
        "_urgent",
        "_wants_sent",
    )

    def __init__(self, brands: Sequence[Brand] = ()) -> None:
        """Raises ``ValueError`` where a data file of ours is broken."""
        brands = (*SHIPPED, *brands)
        self._hosts = HostIndex(brands)
        self._brands = KeywordIndex()
        for brand in brands:
            for name in brand.names:
                self._brands.add(name, 1)
        self._brands.freeze()
        self._abroad, self._national = _premium()
        signs = self._signs = _signs()
        bit = signs.bit
        self._asks, self._endangers, self._wants_sent = bit("asks"), bit("endangers"), bit("wants sent")
        self._threat, self._urgent, self._never, self._fee = bit("threat"), bit("urgent"), bit("never"), bit("fee")
        self._is_amiss = bit("is amiss")
        self._otp, self._code, self._lives = bit("otp"), bit("code"), bit("lives")
        self._other_code, self._digits = bit("other code"), bit("digits")
        self._offer, self._limited, self._act, self._prize = bit("offer"), bit("limited"), bit("act"), bit("prize")
        self._loan, self._gambling, self._optout = bit("loan"), bit("gambling"), bit("optout")
        self._call, self._missed, self._charge = bit("call"), bit("missed"), bit("charge")
        self._pressure, self._reward = bit("pressure"), bit("reward")

    def search(self, text: str, raw: bytes, found: list[bytes], wanted: int) -> int:
        """The bits of the families of ``wanted`` that ``text`` belongs to (``raw``: the same in UTF-8; ``found``: its words as
        `disguises.read_words` gives them)."""
        families = 0
        if wanted & CARD_NUMBER and self._card(text, raw, found):
            families |= CARD_NUMBER
        if wanted & _WORDED:
            signs = self._signs.search(b" " + b" ".join(found) + b" ")
            hosts = self._links(text, raw, found) if wanted & _LINKED and links.suspicious(text) else 0
            if signs or hosts:
                families |= self._weigh(text, signs, hosts, wanted)
        return families

    def _weigh(self, text: str, signs: int, hosts: int, wanted: int) -> int:
        families = 0
        if hosts and wanted & PHISHING_LINK and self._is_phishing(signs, hosts):
            families |= PHISHING_LINK
        phone = 0
        if (wanted & CREDENTIAL_LURE and signs & (self._asks | self._endangers | self._threat)) or (
            wanted & CALLBACK and signs & self._call
        ):
            phone = self._phone(text)
        if wanted & CREDENTIAL_LURE and self._is_lure(signs, hosts, phone):
            families |= CREDENTIAL_LURE
        if wanted & CALLBACK and phone and self._is_callback(signs, phone):
            families |= CALLBACK
        if wanted & MARKETING and self._is_marketing(signs, hosts):
            families |= MARKETING
        if wanted & ONE_TIME_CODE and self._is_code(signs):
            families |= ONE_TIME_CODE
        return families

    # -- links -----------------------------------------------------------------------------------------------------

    def _links(self, text: str, raw: bytes, found: list[bytes]) -> int:
        """What is known of the links of a text."""
        hosts = 0
        foreign = False
        plain, clear = links.cleared(text)
        for name, link in links.find_clear(clear).hosts:
            if link:
                known = self._hosts.judge(name)
                hosts |= known | LINK
                foreign = foreign or not known & OWN
        if not hosts:
            return 0
        if clear != plain or "hxxp" in plain or "h**p" in plain:
            hosts |= DISGUISED
        if "@" in clear and _USERINFO.search(clear) is not None:
            hosts |= USERINFO
        if ":" in clear.replace("://", "") and any(port not in _USUAL_PORTS for port in _PORT.findall(clear)):
            hosts |= PORT
        if foreign and (hosts & OWN or self._brands.search_words(found, len(raw) == len(text))):
            hosts |= ELSEWHERE
        return hosts

    def _is_phishing(self, signs: int, hosts: int) -> bool:
        """One strong sign, or two weak ones, of which a pretext may be one."""
        if hosts & _STRONG:
            return True
        weak = hosts & _WEAK
        if not weak:
            return False
        pretext = signs & (self._asks | self._endangers | self._threat | self._fee | self._is_amiss | self._wants_sent)
        return pretext != 0 or weak.bit_count() > 1

    # -- words -----------------------------------------------------------------------------------------------------

    def _is_lure(self, signs: int, hosts: int, phone: int) -> bool:
        if signs & self._wants_sent and not signs & self._never:
            return True
        if not (hosts or phone):
            return False
        weight = (
            (signs & self._asks != 0) + (signs & (self._endangers | self._threat) != 0) + (signs & self._urgent != 0)
        )
        return weight > 2 or (weight == 2 and not signs & self._never)

    def _is_callback(self, signs: int, phone: int) -> bool:
        if not signs & self._call:
            return False
        money = (
            (signs & self._charge != 0)
            + (signs & self._pressure != 0)
            + (signs & (self._reward | self._prize) != 0)
            + (signs & (self._endangers | self._threat) != 0)
        )
        urgent = signs & self._urgent != 0
        missed = signs & self._missed != 0
        if phone > 1:
            return money > 0 or urgent or missed
        return money > 1 or (money > 0 and (urgent or missed))

    def _is_marketing(self, signs: int, hosts: int) -> bool:
        weight = (
            (signs & self._offer != 0)
            + 2 * (signs & self._prize != 0)
            + 2 * (signs & self._loan != 0)
            + 2 * (signs & self._gambling != 0)
        )
        if not weight:
            return False
        weight += (signs & self._limited != 0) + (signs & self._act != 0) + 2 * (signs & self._optout != 0)
        return weight + (hosts != 0) > 2

    def _is_code(self, signs: int) -> bool:
        if not signs & self._digits:
            return False
        if signs & self._otp:
            return not signs & self._other_code or signs & self._lives != 0
        return signs & self._code != 0 and signs & self._lives != 0 and not signs & self._other_code

    # -- digits ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _card(text: str, raw: bytes, found: list[bytes]) -> bool:
        if text.isascii():
            return len(raw.translate(None, _NO_DIGITS)) >= cards.LEAST and cards.find(text)
        # Digits of other scripts are ASCII in the folded words, and only there.
        if len(b"".join(found).translate(None, _NO_DIGITS)) < cards.LEAST:
            return False
        return cards.find(undo(text))

    def _phone(self, text: str) -> int:
        """0 without a phone number in the text, 1 with one, 2 with one that costs more than others."""
        if not text.isascii():
            text = undo(text)
        best = 0
        for match in _PHONE.finditer(text):
            number = match[0]
            digits = "".join(character for character in number if "0" <= character <= "9")
            if not _LEAST_PHONE <= len(digits) <= _MOST_PHONE:
                continue
            best = max(best, 1)
            if number.startswith("+") or digits.startswith("00"):
                if digits.lstrip("0").startswith(self._abroad):
                    return 2
            elif any(digits.startswith(prefix) and length in (0, len(digits)) for prefix, length in self._national) or (
                len(digits) == 11 and digits.startswith("1900")
            ):
                return 2
        return best

    # -- for people ------------------------------------------------------------------------------------------------

    def signs(self, text: str, raw: bytes, found: list[bytes], wanted: int) -> dict[str, list[str]]:
        """The families of ``wanted`` that ``text`` belongs to, each with its signs in words; nothing of the text."""
        families = self.search(text, raw, found, wanted)
        signs = self._signs.search(b" " + b" ".join(found) + b" ")
        hosts = self._links(text, raw, found) if links.suspicious(text) else 0
        said: dict[str, list[str]] = {}
        for name, bit in BITS.items():
            if families & bit:
                said[name] = self._said(bit, text, signs, hosts)
                if BREAK in found:
                    said[name].append("disguised words")
        return said

    def _said(self, family: int, text: str, signs: int, hosts: int) -> list[str]:
        if family == CARD_NUMBER:
            return ["number of a payment card"]
        names: tuple[str, ...] = _NAMES[family]
        if family == PHISHING_LINK:
            said = [words for bit, words in _SAID.items() if hosts & bit]
        else:
            said = ["link"] if hosts and family in (CREDENTIAL_LURE, MARKETING) else []
            phone = self._phone(text)
            if phone and family in (CREDENTIAL_LURE, CALLBACK):
                said.append("premium number" if phone > 1 else "phone number")
        return said + [_WORDS[name] for name in names if signs & self._signs.bit(name)]


@cache
def shipped() -> FamilyIndex:
    """The families with the shipped brands alone."""
    return FamilyIndex()


_NAMES: Final[dict[int, tuple[str, ...]]] = {
    PHISHING_LINK: ("asks", "endangers", "threat", "fee", "is amiss", "wants sent"),
    CREDENTIAL_LURE: ("wants sent", "asks", "endangers", "threat", "urgent"),
    CALLBACK: ("call", "missed", "charge", "pressure", "reward", "prize", "endangers", "threat", "urgent"),
    MARKETING: ("offer", "prize", "loan", "gambling", "limited", "act", "optout"),
    ONE_TIME_CODE: ("digits", "otp", "code", "lives"),
}
_WORDS: Final = {
    "asks": "asks for credentials",
    "endangers": "account in danger",
    "threat": "threat",
    "fee": "pretext of a fee or parcel",
    "is amiss": "something amiss with a parcel or bill",
    "wants sent": "wants a secret sent",
    "urgent": "urgency",
    "call": "asks for a call",
    "missed": "missed call or message",
    "charge": "money charged",
    "pressure": "pressure of law or family",
    "reward": "reward",
    "prize": "prize",
    "offer": "offer",
    "loan": "loan or earnings",
    "gambling": "gambling",
    "limited": "limited time",
    "act": "call to buy",
    "optout": "opt-out words",
    "digits": "digits of a code",
    "otp": "named as a one-time code",
    "code": "named as a code",
    "lives": "lives minutes, or is not to be shared",
}
