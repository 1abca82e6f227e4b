"""Hears STOP, START and HELP in what handsets send, by number, country and language.

Only a whole message that is nothing but the word counts; what merely looks like a refusal is for a person to read. The shipped
words, with source and date of each, are in `words.txt`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from typing import Final, NamedTuple

from smppd.config import Account, Answers, Hearing, Settings
from smppd.numbering import normalise_prefix
from smppd.policy.content import read_part
from smppd.policy.keywords import KeywordIndex, words
from smppd.policy.program import PolicyError
from smppd.protocol.text import Alphabet, fits
from smppd.protocol.wire import BodyError, Sm

FILE: Final = "words.txt"
CHARACTERS: Final = 160
"""A longer text is no word: so many septets are one message (3GPP TS 23.038 section 4)."""
_COLUMNS: Final = 6
# Marks of `policy.content` for the ends of a long message.
_ENDS: Final = {0xFDD0: None, 0xFDD1: None}
_DOTLESS: Final = {0x0131: "i"}
"""The Turkish letter i without its dot, whose capital is everybody's I."""


class Meaning(StrEnum):
    """What a message means. REVIEW: it looks like a refusal, and a person has to read it."""

    STOP = "stop"
    STOP_ALL = "stop_all"
    START = "start"
    HELP = "help"
    REVIEW = "review"


_ACTS: Final = (Meaning.STOP, Meaning.STOP_ALL, Meaning.START, Meaning.HELP)
_LIKE: Final = "like"


class Heard(NamedTuple):
    """What a message means, and by which word of the lists; empty where there is no single one."""

    meaning: Meaning
    word: str = ""


class Line(NamedTuple):
    """A line of the list. countries: of the numbers for which it counts at once, empty for all."""

    word: str
    action: str
    language: str
    countries: frozenset[str]
    source: str
    date: str


def folded(text: str) -> bytes:
    """The letters and digits of a text: without case, accents, spaces, punctuation and what nobody sees."""
    text = text.translate(_DOTLESS)
    return b"".join(words(text, text.encode("utf-8", "replace")))


def read_lines(text: str, name: str = FILE) -> Iterator[Line]:
    """The lines of a list. ValueError that names the line that is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split(" | ")]
        if len(columns) != _COLUMNS or not all(columns):
            raise ValueError(f"{name}:{number}: a line has word | action | language | countries | source | date")
        word, action, language, countries, source, date = columns
        if action != _LIKE and action not in _ACTS:
            raise ValueError(f"{name}:{number}: {action} is no action")
        if not folded(word):
            raise ValueError(f"{name}:{number}: the word has no letter")
        where = frozenset() if countries == "*" else frozenset(countries.split())
        yield Line(word, action, language, where, source, date)


@lru_cache(1)
def shipped() -> tuple[Line, ...]:
    """The shipped list."""
    return tuple(read_lines((resources.files("smppd.consent") / FILE).read_text("utf-8")))


class Book:
    """The words that count at some numbers. Immutable."""

    def __init__(self, lines: Iterable[Line], own: Iterable[tuple[str, Meaning]], without: Iterable[str]) -> None:
        left_out = {folded(word) for word in without}
        self._exact: dict[bytes, list[tuple[str, Meaning, frozenset[str]]]] = {}
        self._like = KeywordIndex()
        for word, meaning in own:
            self._exact.setdefault(folded(word), []).append((word, meaning, frozenset()))
        for line in lines:
            if line.action == _LIKE:
                self._like.add(line.word.translate(_DOTLESS), 1)
            elif (key := folded(line.word)) not in left_out:
                self._exact.setdefault(key, []).append((line.word, Meaning(line.action), line.countries))
        self._exact.pop(b"", None)
        self._like.freeze()

    def hear(self, text: str, country: str, whole: bool = True) -> Heard | None:
        """What a text means. country: of the number that it came from, ISO 3166, empty where nobody knows. whole: it is all
        that was sent, in one message; else it may look like a refusal, and be no word."""
        if whole and len(text) <= CHARACTERS:
            found = self._exact.get(folded(text))
            if found is not None:
                for word, meaning, countries in found:
                    if not countries or country in countries:
                        return Heard(meaning, word)
                if all(meaning is Meaning.HELP for _word, meaning, _countries in found):
                    return None
                return Heard(Meaning.REVIEW, found[0][0])
        text = text.translate(_DOTLESS)
        return Heard(Meaning.REVIEW) if self._like.search(text, text.encode("utf-8", "replace")) else None


class Station(NamedTuple):
    """How a number is listened to: its words, what is answered, and the keywords of its account, which may stand before a word
    on a shared number."""

    book: Book
    answers: Answers
    keywords: frozenset[str]

    def hear(self, sm: Sm, alphabet: Alphabet, country: str) -> Heard | None:
        """What a message of a handset means; None where it is an ordinary one, or binary. alphabet: that of data_coding 0 on
        the carrier's link. country: see `Book.hear`."""
        try:
            part = read_part(sm, alphabet)
        except BodyError:
            return None
        if part is None:
            return None
        text = part.text.translate(_ENDS)
        whole = part.concat is None and not part.aside
        heard = self.book.hear(text, country, whole)
        if self.keywords and (heard is None or heard.meaning is Meaning.REVIEW):
            first = text.split(None, 1)
            if len(first) > 1 and first[0].casefold() in self.keywords:
                heard = self.book.hear(first[1], country, whole) or heard
        for other in part.aside:
            heard = heard or self.book.hear(other, country, whole=False)
        return heard


class WordTable:
    """How each number of each account is listened to, by one configuration. Made beside the reactor. Raises PolicyError where
    an answer is none."""

    def __init__(self, settings: Settings) -> None:
        common = settings.opt_out
        self._books: dict[tuple[object, ...], Book] = {}
        self._numbers: list[tuple[bytes, bool, Hearing]] = []
        for one in common.numbers:
            bare = one.number.removesuffix("*")
            self._numbers.append((normalise_prefix(bare.encode(), settings.region), bare != one.number, one))
        self._accounts: dict[str, tuple[Account, Hearing]] = {}
        self._stations: dict[tuple[str, int], Station] = {}
        self._common = common
        for account in settings.accounts:
            if account.opt_out.told != "off":
                self._accounts[account.system_id] = (account, account.opt_out)
        self._check("opt_out", common, (common,))
        for at, number in enumerate(common.numbers):
            self._check(f"opt_out.numbers[{at}]", number, (number, common))
        for at, account in enumerate(settings.accounts):
            self._check(f"accounts[{at}].opt_out", account.opt_out, (account.opt_out, common))

    def station(self, account: str, number: bytes) -> Station | None:
        """How a number (`numbering.normalise`) of an account is listened to; None: not at all."""
        found = self._accounts.get(account)
        if found is None:
            return None
        at = -1
        for index, (digits, prefix, _hearing) in enumerate(self._numbers):
            if number.startswith(digits) if prefix else number == digits:
                at = index
                break
        station = self._stations.get((account, at))
        if station is None:
            of, own = found
            hearings = (own, self._common) if at < 0 else (self._numbers[at][2], own, self._common)
            keywords = frozenset(word.casefold() for word in of.keywords)
            station = Station(self._book(hearings), _answers(hearings), keywords)
            self._stations[account, at] = station
        return station

    def _book(self, hearings: tuple[Hearing, ...]) -> Book:
        """hearings: the closest first."""
        languages = next((one.languages for one in hearings if one.languages is not None), None)
        own = tuple((word, meaning) for one in hearings for meaning in _ACTS for word in getattr(one.words, meaning))
        without = tuple(word for one in hearings for word in one.without)
        book = self._books.get((languages, own, without))
        if book is None:
            lines = [line for line in shipped() if languages is None or line.language in languages]
            book = self._books[languages, own, without] = Book(lines, own, without)
        return book

    def _check(self, path: str, here: Hearing, hearings: tuple[Hearing, ...]) -> None:
        for name in ("stop", "start", "help"):
            text = getattr(here.answers, name)
            if text is None:
                continue
            if fits(text).parts > 1:
                raise PolicyError(
                    f"{path}.answers.{name}", "does not fit into one message (160 septets, or 70 characters)"
                )
            heard = self._book(hearings).hear(text, "")
            if heard is not None and heard.meaning is not Meaning.REVIEW:
                raise PolicyError(f"{path}.answers.{name}", "is itself one of the words: it might be answered for ever")


def _answers(hearings: tuple[Hearing, ...]) -> Answers:
    def first(name: str) -> str | None:
        return next((text for one in hearings if (text := getattr(one.answers, name)) is not None), None)

    return Answers(stop=first("stop"), start=first("start"), help=first("help"))
