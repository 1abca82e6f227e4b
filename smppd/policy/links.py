"""Finds the links in a text and the domains that they lead to, also where they are disguised in the usual ways.

Disguises: capitals, full-width and other compatibility letters, unseen characters between letters, ideographic full
stops, ports, ``user@`` before the host, a dot at the end, internationalised names in either form, and what keeps a machine from
taking it for a link while a reader still does: ``hxxp``, ``evil[.]com``, ``evil(dot)com``, ``evil dot com``, ``evil .com``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

import re2
from phonenumbers import SUPPORTED_REGIONS

from smppd.policy.keywords import is_unseen

# Without "http://" phones make a link only of a name under a top-level domain that exists. These are the country domains and
# the general ones in wide use (IANA root zone). Behind a scheme any host is a link.
_GENERAL: Final = """
    academy agency ai app art asia audio auction autos baby band bank bar beauty best bet bid bike bingo biz black blog
    blue bond boutique build business buzz cafe cam camp capital car cards care careers cash casino cat center ceo
    chat cheap church city click clinic cloud club coach codes coffee com community company computer consulting cool
    coop coupons credit creditcard cricket cruises cyou date dating deals delivery dental design dev diet digital
    direct directory discount doctor dog domains download edu education email energy enterprises equipment estate eu
    events exchange expert express fail faith family fan fans farm fashion finance financial fish fit fitness flights
    florist football forsale forum foundation fun fund futbol fyi gallery game games gifts gives glass global gmbh gold
    golf gov graphics gratis green group guide guru hair haus health help hiphop hockey holdings holiday homes horse
    hospital host hosting hot house how icu immo info ink institute insure int investments irish jetzt jewelry jobs
    kim kitchen land lat law lawyer lease legal lgbt life lighting limited limo link live loan loans lol london lotto
    love ltd luxury maison makeup management market marketing mba media men menu miami mil mobi moda mom money monster
    mortgage movie museum name net network news ngo ninja nyc one online ooo org page paris partners parts party
    pay pet phd photo photography photos pics pictures pink pizza plumbing plus poker porn press pro productions
    promo properties property pub quest racing realestate recipes red rehab reise rent rentals repair report
    republican rest restaurant review reviews rich rip rocks rodeo run sale salon sarl sbs school schule science
    security services sex sexy shiksha shoes shop shopping show singles site ski skin social software solar solutions
    soy space sport store stream studio study style su sucks supplies supply support surf surgery systems tattoo tax
    taxi team tech technology tel tennis theater tickets tienda tips tires today tokyo tools top tours town toys trade
    trading training travel tube uk university uno vacations vegas ventures vet viajes video villas vin vip vision
    vodka vote voyage watch webcam website wedding wiki win wine work works world wtf xin xxx xyz yachts yoga zone
""".split()
_NATIONAL_SCRIPTS: Final = """
    рф бел укр срб мкд мон қаз бг ею ελ ευ հայ გე 中国 中國 香港 台湾 台灣 澳門 新加坡 한국 भारत ভারত ਭਾਰਤ ભારત இந்தியா
    భారత్ ಭಾರತ ഭാരതം ଭାରତ বাংলা ලංකා இலங்கை சிங்கப்பூர் ไทย ລາວ بھارت پاکستان ایران الاردن الجزائر السعودية المغرب
    امارات تونس سورية عراق عمان فلسطين قطر مصر مليسيا موريتانيا اليمن بارت онлайн сайт орг ком москва дети рус
    在线 网络 网站 公司 商城 商店 集团 移动 みんな コム 닷컴 닷넷 कॉम नेट संगठन شبكة موقع
""".split()

_LABEL: Final = r"[\pL\pN\pM_\-]+"
# Either //authority and the rest of the address, or a dotted name and what follows it.
_FOUND: Final = re2.compile(
    rf"""//([^\s/?#\\<>"]+)([^\s<>"]*)|((?:{_LABEL}\.)+{_LABEL})(\.?(?::[0-9]+)?[/?#][^\s<>"]*)?"""
)
# The same for ASCII, where Python's engine is several times faster; possessive and begun at the start of a word only, so
# that its time is linear too.
_FOUND_ASCII: Final = re.compile(
    r"""//([^\s/?#\\<>"]++)([^\s<>"]*+)"""
    r"""|((?<![a-z0-9_\-])(?:[a-z0-9_\-]++\.)+[a-z0-9_\-]++)(\.?(?::[0-9]+)?[/?#][^\s<>"]*+)?"""
)
_AUTHORITY: Final = re.compile(r'//([^\s/?#\\<>"]+)')
_NUMERIC: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")
# Every character that is or contains a full stop or a slash once compatibility forms are replaced, before no space.
_SIGNS: Final = re.compile(
    "[./\u3002\ufe12\uff61\u2024-\u2026\u2488-\u249b\u33c2\u33c7\u33d8\ufe19\ufe30\ufe52\uff0e\U0001f100"
    r"\u2100\u2101\u2105\u2106\uff0f]\S"
)
_DOTS: Final = str.maketrans({"\u3002": ".", "\u2024": "."})
# A dot, a colon, slashes or the word for a dot in brackets.
_DOT: Final = r"(?:dot|punkt|punto|point|nokta|\u0442\u043e\u0447\u043a\u0430|\u70b9)"
_BRACKETED: Final = re.compile(rf"\s?[(\[{{<]\s?(\.|://|:|//|/|{_DOT})\s?[)\]}}>]\s?")
# The word without brackets, and a gap beside a dot. Only where a top-level domain follows that is no word one writes there.
_SPELLED: Final = re.compile(
    rf"(?<=[^\W_])(?:\s{{1,2}}({_DOT})\s{{1,2}}|\s\.\s)([^\W\d_]{{2,24}})(?![\w@.]*@)(?![^\W_])"
)
_SPELLED_TOP: Final = frozenset("com net org xyz ru \u0440\u0444".split())
_DOT_TOP: Final = _SPELLED_TOP | frozenset(
    "info biz top online site shop club co uk io app link click vip icu cc cn".split()
)
_SPLIT: Final = re.compile(r"\.\s([^\W\d_]{2,24})(?=/[^\s/])")
_LEFT: Final = re.compile(r"\s\.([^\W\d_]{2,24})(?![^\W_])")
_WORDS: Final = ("dot", "point", "punto", "punkt", "nokta")
_OTHER_WORDS: Final = (*_WORDS, "\u0442\u043e\u0447\u043a\u0430", "\u70b9")
_OPENERS: Final = "([{<"
_TRAILING: Final = ".,;:!?'\")]}*…»”’"
_MOST_LABELS: Final = 127


class Host(NamedTuple):
    """A host named in a text, in canonical form; ``link`` when a phone would make it something to tap."""

    name: str
    link: bool


class Links(NamedTuple):
    """Hosts of a text. Most texts have none."""

    hosts: tuple[Host, ...]

    @property
    def any(self) -> bool:
        """Whether there is a URL or bare domain."""
        return any(host.link for host in self.hosts)


NONE: Final = Links(())


def canonical(name: str) -> str:
    """A domain name in the one form all its spellings share: lower case, IDN labels as ``xn--``, no dot at the end."""
    name = plain(name).strip(".")
    return ".".join(_label(label) for label in name.split("."))


def _label(label: str) -> str:
    if label.startswith("xn--"):
        # Punycode of another spelling (capitals, ß) must become the same label.
        try:
            label = plain(label[4:].encode("ascii").decode("punycode"))
        except (UnicodeError, ValueError, OverflowError):
            return label
    if label.isascii():
        return label
    try:
        return "xn--" + label[:255].encode("punycode").decode("ascii")
    except (UnicodeError, ValueError):
        return label


def plain(text: str) -> str:
    """Case folded, compatibility letters replaced, unseen characters dropped, every kind of dot a dot."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_DOTS)
    unseen = {code: None for code in set(map(ord, folded)) if code > 127 and is_unseen(code)}
    return folded.translate(unseen) if unseen else folded


_TOP: Final = frozenset([*map(str.lower, SUPPORTED_REGIONS), *_GENERAL, *map(canonical, _NATIONAL_SCRIPTS)])


def suspicious(text: str) -> bool:
    """Whether ``text`` may have a link: ``//``, or a dot with a letter or digit right after it. The cheap test that
    spares most messages the search."""
    if not text.isascii():
        return _SIGNS.search(text) is not None or _says_dot(text, _OTHER_WORDS)
    if "//" in text:
        return True
    at = text.find(".")
    end = len(text) - 1
    while 0 <= at < end:
        if text[at + 1].isalnum() or (at and text[at - 1] in " ([{<"):
            return True
        at = text.find(".", at + 1)
    return _says_dot(text, _WORDS)


def _says_dot(text: str, said: tuple[str, ...]) -> bool:
    """Whether a dot is spelled, or set apart, as one does who hides a link."""
    small = text.lower()
    for word in said:
        at = small.find(word)
        while at > 0:
            before = small[at - 1]
            if before.isspace() or before in _OPENERS:
                return True
            at = small.find(word, at + 1)
    return ". " in small and "/" in small


def refang(small: str) -> str:
    """A text in small letters, with what is done to links so that a machine does not see them undone."""
    if "(" in small or "[" in small or "{" in small or "<" in small:
        small = _BRACKETED.sub(lambda match: match[1] if match[1] in _KEPT else ".", small)
    if " . " in small or _says_dot(small, _OTHER_WORDS):
        small = _SPELLED.sub(_said, small)
        small = _SPLIT.sub(_split, small)
    if " ." in small:
        small = _LEFT.sub(_split, small)
    return small


_KEPT: Final = frozenset({".", "://", ":", "//", "/"})


def _said(match: re.Match[str]) -> str:
    top = match[2]
    return "." + top if top in (_DOT_TOP if match[1] in ("dot", None) else _SPELLED_TOP) else match[0]


def _split(match: re.Match[str]) -> str:
    at = match.start()
    top = match[1]
    return "." + top if at and match.string[at - 1].isalnum() and canonical(top) in _TOP else match[0]


def find(text: str) -> Links:
    """The links of ``text``."""
    return find_clear(cleared(text)[1])


# What was read last: families and conditions about links ask for the same text, one after the other.
_last_raw: str = ""
_last_cleared: tuple[str, str] = ("", "")
_last_text: str = ""
_last_links: Links = NONE


def cleared(text: str) -> tuple[str, str]:
    """``text`` as `plain` has it, and the same as `refang` has it."""
    global _last_raw, _last_cleared
    if text == _last_raw:
        return _last_cleared
    small = plain(text)
    made = small, refang(small)
    _last_raw, _last_cleared = text, made
    return made


def find_clear(small: str) -> Links:
    """The links of a text that ``plain`` and ``refang`` made."""
    global _last_text, _last_links
    if small == _last_text:
        return _last_links
    found = _read(small)
    _last_text, _last_links = small, found
    return found


def _read(small: str) -> Links:
    # No link contains a space, and only few words can be a link: only those are searched with the expression.
    small = " ".join([word for word in small.split() if "." in word or "//" in word])
    if not small:
        return NONE
    found = _FOUND_ASCII.finditer if small.isascii() else _FOUND.finditer
    hosts: dict[Host, None] = {}
    for match in found(small):
        authority, rest, name, path = match.groups()
        if name is None:
            _add(hosts, authority, True)
        else:
            start, end = match.span(3)
            # A mailbox's domain is no link of its own, nor is the name before its @.
            mailbox = small[end : end + 1] == "@" or (path is None and small[start - 1 : start] == "@")
            _add(hosts, name, False if mailbox else None, path is not None)
            rest = path
        if rest and "//" in rest:
            # Another address may hide in the path.
            for inner in _AUTHORITY.findall(rest):
                _add(hosts, inner, True)
    return Links(tuple(hosts)) if hosts else NONE


def _add(hosts: dict[Host, None], authority: str, link: bool | None, path: bool = False) -> None:
    """Adds the host of ``authority`` ([user@]host[:port]). ``link`` None: to be told by its top-level domain."""
    host = authority.rpartition("@")[2].rstrip(_TRAILING)
    name, colon, port = host.rpartition(":")
    if colon and (not port or port.isdecimal()):
        host = name
    host = host.strip(".-_")
    if "xn--" in host or not host.isascii():
        host = canonical(host)
    if not host or host.count(".") > _MOST_LABELS:
        return
    if link is None:
        top = host.rpartition(".")[2]
        link = top in _TOP or host.startswith("www.") or (path and _NUMERIC.match(host) is not None)
    hosts[Host(host, link)] = None


class DomainIndex:
    """All listed domains of a pipeline with the conditions (a bit mask) each satisfies."""

    __slots__ = ("_masks",)

    def __init__(self) -> None:
        self._masks: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, domain: str, mask: int) -> bool:
        """Adds a domain; its subdomains count too. False when it is no domain."""
        name = canonical(domain.strip())
        if not name or "." not in name:
            return False
        self._masks[name] = self._masks.get(name, 0) | mask
        return True

    def of(self, host: str) -> int:
        """The mask of all listed domains that ``host`` is or lies below."""
        mask = 0
        get = self._masks.get
        while True:
            mask |= get(host, 0)
            host = host.partition(".")[2]
            if not host:
                return mask
