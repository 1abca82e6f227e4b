"""Delivery receipts: read and written as SMPP 3.4 Appendix B has them, and as carriers really send them.

A receipt that passes through is spliced, not rewritten: only the message id changes. Which message an id means is
`receiptid`'s.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from smppd.protocol.receipt_states import STATES, MessageState

# sm_length is one octet and 255 is reserved (SMPP 3.4 section 5.2.21): a short_message holds this much.
SHORT_MESSAGE_LIMIT: Final = 254
# message_id with its NUL is 65 octets (SMPP 3.4 section 5.2.23), and some carriers give longer ones: what is longer than
# this is no id.
ID_LIMIT: Final = 512
# Characters in which fields are looked for: a receipt is short, and what follows is content.
_LOOKED_AT: Final = 2048


class Receipt(NamedTuple):
    """The fields of a receipt as they came; one that is missing is empty.

    `stat` is in capitals and `state` what it means, if anything. `text`, the beginning of the message, is content,
    and where a message only looks like a receipt the other fields are too: none is printed. (A tuple, because building
    one takes a third of a frozen dataclass's time.) `others`: further ids it names, where it names several. `plain`: it is
    written exactly as appendix B has it, so its id stands at octet 3 and nowhere else.
    """

    id: bytes
    sub: bytes
    dlvrd: bytes
    submit_date: bytes
    done_date: bytes
    stat: bytes
    err: bytes
    text: bytes
    state: MessageState | None
    others: tuple[bytes, ...] = ()
    plain: bool = False

    def __repr__(self) -> str:
        return f"Receipt(state={self.state!r}, id=<{len(self.id)} octets>, text=<{len(self.text)} octets>)"


# Plain classes and counts keep it fast; what it does not match is read by `_scan`.
_CANONICAL: Final = re.compile(
    rb"id:([\w-]{1,65}) sub:(\d{3}) dlvrd:(\d{3}) submit date:(\d{10,12}) done date:(\d{10,12}) stat:([A-Z]{7})"
    rb" err:(\w{1,3}) [Tt]ext:(.*)",
    re.DOTALL,
)

_FIELDS: Final = (
    rb"(?:(?P<id>(?:(?:message|msg)[ _-]?)?id)|(?P<sub>sub)|(?P<dlvrd>dlvrd)"
    rb"|(?P<submit_date>submit[ _-]{0,3}date)|(?P<done_date>done[ _-]{0,3}date)|(?P<stat>stat(?:us)?)"
    rb"|(?P<err>err(?:or)?)|(?P<text>text))"
)
# The name of a field in any spelling, at the start or after a separator.
_NAME: Final = re.compile(rb"(?:(?<=[\s,;|])|\A)" + _FIELDS + rb" ?:", re.IGNORECASE)
_TOKEN: Final = re.compile(rb"""\s*["']?([^\s,;|\0"'&^]*)""")
_DATE: Final = re.compile(rb"""\s*["']?(\d[\d:/.T -]*\d|)""")
# The same where other things stand around it: SMSAlert^id:7, "id":"7", id=7&stat=DELIVRD. No letter or digit before it.
_LOOSE_NAME: Final = re.compile(rb"""(?<![0-9A-Za-z])""" + _FIELDS + rb"""["']?[ \t]{0,3}[:=]""", re.IGNORECASE)
# Where nothing else names an id: whatever stands before it. A short value may be anything: "paid:100".
_GLUED_ID: Final = re.compile(
    rb"""id["']?[ \t]{0,3}[:=]\s{0,3}["']?([0-9A-Z][0-9A-Z._-]{5,})(?![0-9A-Z._:=-])""", re.IGNORECASE
)
_TEXT: Final = re.compile(rb"""(?:(?<=[\s,;|"'&^\0])|\A)text["']?[ \t]{0,3}[:=]""", re.IGNORECASE)
_LOOSE_TOKEN: Final = re.compile(rb"""\s{0,3}["']?((?:[^\s,;|\0"'^&<>{}()\[\]]*[0-9A-Za-z])?)""")
_LETTER: Final = re.compile(rb"[0-9A-Za-z]")
_WORD: Final = re.compile(rb"[0-9A-Za-z_-]+")
_BETWEEN: Final = b" \t\r\n,;|\0\"'"


_ZEROS: Final = 3  # in the shortest receipt in UCS-2, id:1


class _View(NamedTuple):
    """A text with one octet for each character, as fields are looked for in it. In the message it begins at octet `at`, after
    a byte order mark or a user data header, with characters of one octet, or of two (`big`: the high octet first)."""

    text: bytes
    at: int = 0
    wide: bool = False
    big: bool = True

    def inside(self, octets: bytes) -> bytes:
        """ASCII as this text has it."""
        if not self.wide:
            return octets
        return octets.decode("latin-1").encode("utf-16-be" if self.big else "utf-16-le")

    def cut(self, octets: bytes, length: int) -> bytes:
        """The first characters of a piece of this text that are not longer than ``length`` octets, none of them half."""
        if not self.wide:
            return octets[: max(length, 0)]
        octets = octets[: max(length - length % 2, 0)]
        high = octets[-2:][0 if self.big else 1 :][:1]
        return octets[:-2] if b"\xd8" <= high < b"\xdc" else octets


def _view(text: bytes, at: int) -> _View:
    """How to read a receipt's text from octet `at` on: as UTF-16 of either order where a mark says so or names of fields are
    there, whatever its data_coding, else octet by octet (a UTF-8 mark is passed over)."""
    mark = text[at : at + 3]
    if mark == b"\xef\xbb\xbf":
        return _View(text[at + 3 :], at + 3)
    if mark[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return _narrowed(text, at + 2, mark[:1] == b"\xfe")
    if b"\0" not in text or _LOOSE_NAME.search(text, at, at + _LOOKED_AT) is not None:
        return _View(text[at:] if at else text, at)
    even, odd = text[at::2].count(0), text[at + 1 :: 2].count(0)
    if max(even, odd) >= _ZEROS:
        for big in (even >= odd, even < odd):
            view = _narrowed(text, at, big)
            if _LOOSE_NAME.search(view.text, 0, _LOOKED_AT) is not None:
                return view
    return _View(text[at:] if at else text, at)


def _narrowed(text: bytes, at: int, big: bool) -> _View:
    end = len(text) - (len(text) - at) % 2
    high, low = (text[at:end:2], text[at + 1 : end : 2]) if big else (text[at + 1 : end : 2], text[at:end:2])
    if any(high):
        low = bytes(b if not a else 0xFF for a, b in zip(high, low, strict=True))
    return _View(low, at, True, big)


def parse(text: bytes, at: int = 0) -> Receipt | None:
    """Read a receipt's short_message or message_payload, in any order, case and spelling of its fields.

    None when it has neither id nor stat. Never raises. UCS-2 is read too, with or without its mark, in either order of octets.
    It begins at octet ``at``, behind a user data header. An id longer than 512 octets counts as missing.
    """
    if not at:
        match = _CANONICAL.fullmatch(text)
        if match is not None:
            message_id, sub, dlvrd, submitted, done, stat, err, content = match.groups()
            return Receipt(message_id, sub, dlvrd, submitted, done, stat, err, content, STATES.get(stat), (), True)
    data = _view(text, at).text
    spans, ids = _scan(data)
    names = list(dict.fromkeys(data[start:end] for start, end in ids if 0 < end - start <= ID_LIMIT))
    found = {name: data[start:end] for name, (start, end) in spans.items()}
    stat = found.get("stat", b"").upper()
    if not names and not stat:
        return None
    return Receipt(
        names[0] if names else b"",
        found.get("sub", b""),
        found.get("dlvrd", b""),
        found.get("submit_date", b""),
        found.get("done_date", b""),
        stat,
        found.get("err", b""),
        found.get("text", b""),
        MessageState.from_word(stat),
        tuple(names[1:4]),
    )


_Spans = dict[str, tuple[int, int]]


def _scan(data: bytes) -> tuple[_Spans, list[tuple[int, int]]]:
    """Where the value of each field lies, and each value of an id.

    The first field of a name counts. ``text`` is what a customer wrote and may look like fields, so it reaches to the end,
    unless what stands there is the rest of a receipt (see ``_tail``).
    """
    spans: _Spans = {}
    ids: list[tuple[int, int]] = []
    looked = data[:_LOOKED_AT]
    text = _TEXT.search(looked)
    stop, begin = (text.start(), text.end()) if text is not None else (len(looked), -1)
    names = [(match.lastgroup or "", match.start(), match.end()) for match in _NAME.finditer(looked)]
    _take(looked, [one for one in names if one[1] < stop], stop, spans, ids, _TOKEN)
    if not ids or "stat" not in spans:
        loose = [(m.lastgroup or "", m.start(), m.end()) for m in _LOOSE_NAME.finditer(looked, 0, stop)]
        _take(looked, loose, stop, spans, ids, _LOOSE_TOKEN)
        if not ids and "stat" in spans and (glued := _GLUED_ID.search(looked, 0, stop)) is not None:
            ids.append(glued.span(1))
    if begin >= 0:
        rest = _tail(data, looked, [one for one in names if one[1] >= begin], begin, spans)
        spans["text"] = begin, max(rest[0][1] - 1, begin) if rest else len(data)
        _take(looked, rest, len(looked), spans, ids, _TOKEN)
    return spans, ids


def _take(
    data: bytes,
    names: list[tuple[str, int, int]],
    stop: int,
    spans: _Spans,
    ids: list[tuple[int, int]],
    token: re.Pattern[bytes],
) -> None:
    """Adds the values of fields, each reaching no further than the next one's name, the last one's than `stop`."""
    seek_ids = not ids
    for place, (name, _, end) in enumerate(names):
        following = names[place + 1][1] if place + 1 < len(names) else stop
        value = (_DATE if name.endswith("date") else token).match(data, end, following)
        if value is None:
            continue
        if name == "id":
            if seek_ids and _LETTER.search(value.group(1)) is not None:
                ids.append(value.span(1))
        elif name not in spans:
            spans[name] = value.span(1)


def _tail(
    data: bytes, looked: bytes, names: list[tuple[str, int, int]], begin: int, spans: _Spans
) -> list[tuple[str, int, int]]:
    """The fields behind a ``text:`` that are the receipt's and not the customer's: they reach to the end with nothing between
    them, none of them had come before, and there are two at least, or a stat. Whatever else stands there is content."""
    if len(data) > len(looked):
        return []
    end = len(looked.rstrip(_BETWEEN))
    tail = len(names)
    came = set(spans)
    while tail:
        name, start, after = names[tail - 1]
        if name == "text" or name in came:
            break
        value = (_DATE if name.endswith("date") else _TOKEN).match(looked, after, end)
        if value is None or len(looked[: max(value.end(1), after)].rstrip(_BETWEEN)) != end:
            break
        came.add(name)
        tail -= 1
        end = max(len(looked[:start].rstrip(_BETWEEN)), begin)
    rest = names[tail:]
    if len(rest) > 1:
        return rest
    if not rest or rest[0][0] != "stat":
        return []
    word = _TOKEN.match(looked, rest[0][2])
    return rest if word is not None and MessageState.from_word(word.group(1)) is not None else []


def splice(
    text: bytes,
    new_id: bytes,
    limit: int = SHORT_MESSAGE_LIMIT,
    *,
    at: int = 0,
    old: tuple[bytes, ...] = (),
    add: bool = False,
) -> bytes:
    """The receipt `text` under `new_id`, everything else as it was, octet for octet.

    Every id it names is exchanged, and where else one of the ids `old` (of 6 octets or more) stands as a word of its own, but
    nothing in what the customer wrote; in a text without stat and date only the ids `old`, where any are given. If that is
    longer than `limit` octets (pass the payload's where it is a message_payload), the end of its ``text:`` is cut off. Where
    even that is not enough, the receipt is written anew from its known fields. A text without an id comes back as it is, or
    with `add`, if it has a stat, begins with an id of its own.
    For `at` see `parse`.
    """
    view = _view(text, at)
    data = view.text
    spans, places = _scan(data)
    begin, end = spans.get("text", (len(data), len(data)))
    if old and "stat" not in spans and "done_date" not in spans:
        places = [place for place in places if data[place[0] : place[1]] in old]
    words = [word for word in old if len(word) >= _UNMISTAKABLE]
    if words:
        for word in _WORD.finditer(data, 0, _LOOKED_AT):
            if word.group() in words and not begin <= word.start() < end:
                places.append(word.span())
    if not places:
        if not add or "stat" not in spans:
            return text
        spliced = b"id:%b %b" % (new_id, data)
        changed = text[: view.at] + view.inside(b"id:%b " % new_id) + text[view.at :]
    else:
        spliced, changed = _exchanged(data, text, view, sorted(set(places)), new_id)
    size = 2 if view.wide else 1
    excess = len(changed) - limit
    if excess <= 0:
        return changed
    spans, _ = _scan(spliced)
    first, last = spans.get("text", (0, 0))
    content = changed[view.at + first * size : view.at + last * size]
    if last - first >= -(-excess // size):
        return (
            changed[: view.at + first * size]
            + view.cut(content, len(content) - excess)
            + changed[view.at + last * size :]
        )
    fields = {name: spliced[start:end] for name, (start, end) in spans.items()}
    written = text[: view.at] + view.inside(
        _canonical(
            new_id[:_WRITTEN_ID],
            fields.get("sub", b"")[:3],
            fields.get("dlvrd", b"")[:3],
            fields.get("submit_date", b"")[:12],
            fields.get("done_date", b"")[:12],
            fields.get("stat", b"")[:16],
            fields.get("err", b"")[:8],
            b"",
        )
    )
    return written[:limit] + view.cut(content, limit - len(written))


_UNMISTAKABLE: Final = 6


def _exchanged(
    data: bytes, text: bytes, view: _View, places: list[tuple[int, int]], new_id: bytes
) -> tuple[bytes, bytes]:
    """The narrow text and the one as it came, with these places exchanged."""
    size = 2 if view.wide else 1
    inside = view.inside(new_id)
    narrow, octets = [], [text[: view.at]]
    done = 0
    for start, end in places:
        if start < done:
            continue
        narrow += [data[done:start], new_id]
        octets += [text[view.at + done * size : view.at + start * size], inside]
        done = end
    return b"".join([*narrow, data[done:]]), b"".join([*octets, text[view.at + done * size :]])


def write(
    id: bytes,
    state: MessageState,
    *,
    submitted: int,
    done: int,
    err: bytes = b"000",
    text: bytes = b"",
    sub: int = 1,
    dlvrd: int | None = None,
) -> bytes:
    """The receipt of SMPP 3.4 Appendix B, never longer than the 254 octets of a short_message: `text` is cut for it, an `err`
    counts up to 16 octets, an `id` up to 65.

    `submitted` and `done` are seconds since 1970, UTC, and are written as YYMMDDhhmm in UTC. `dlvrd` is `sub` when the
    message was delivered and 0 when not, unless given. Three digits of either are written, at the most 999.
    """
    if dlvrd is None:
        dlvrd = sub if state is MessageState.DELIVERED else 0
    return _canonical(
        id[:_WRITTEN_ID],
        b"%03d" % min(max(sub, 0), 999),
        b"%03d" % min(max(dlvrd, 0), 999),
        _minute(submitted // 60),
        _minute(done // 60),
        state.word,
        err[:_WRITTEN_ERR],
        text,
    )[:SHORT_MESSAGE_LIMIT]


def completed(
    text: bytes,
    id: bytes,
    state: MessageState | None,
    *,
    submitted: int,
    done: int,
    err: bytes = b"000",
    at: int = 0,
    wide: bool = False,
) -> bytes:
    """The text of a receipt whose id or state stands somewhere else, for a reader who has nothing but the text.

    One that names `id` and has a stat comes back as it is, and one that names it where `state` is not known either.
    Otherwise the form of Appendix B is written, with the fields that the text has, and what it says besides behind
    ``text:``, as far as 254 octets reach. `submitted`, `done`, `err`: for fields it has not. It begins at octet `at`, behind
    a user data header; `wide`: it is UCS-2, and stays so.
    """
    found = parse(text, at)
    named = found is not None and (found.id == id or id in found.others)
    if found is not None and named and (found.stat or state is None):
        return text
    said = found if named else None
    known = state or MessageState.UNKNOWN
    sub, dlvrd, first, last = (said.sub, said.dlvrd, said.submit_date, said.done_date) if said else (b"", b"", b"", b"")
    head = _canonical(
        id[:_WRITTEN_ID],
        sub[:3] or b"001",
        dlvrd[:3] or (b"001" if known is MessageState.DELIVERED else b"000"),
        first[:12] or _minute(submitted // 60),
        last[:12] or _minute(done // 60),
        known.word,
        (said.err if said else b"")[:_WRITTEN_ERR] or err[:_WRITTEN_ERR],
        b"",
    )
    view = _View(text, at, wide)
    # Of UCS-2 that had fields `said` has one octet for each character: what came is not to be had from it.
    content = text[at:] if said is None else said.text if not wide else b""
    written = text[:at] + view.inside(head)
    return written[:SHORT_MESSAGE_LIMIT] + view.cut(content, SHORT_MESSAGE_LIMIT - len(written))


_WRITTEN_ID: Final = 65
_WRITTEN_ERR: Final = 16
_LAST_MINUTE: Final = 4_102_444_800 // 60  # the year 2100, whose two digits are 1900's


def _canonical(
    id: bytes, sub: bytes, dlvrd: bytes, submitted: bytes, done: bytes, stat: bytes, err: bytes, text: bytes
) -> bytes:
    return b"id:%b sub:%b dlvrd:%b submit date:%b done date:%b stat:%b err:%b text:%b" % (
        id,
        sub,
        dlvrd,
        submitted,
        done,
        stat,
        err,
        text,
    )


@lru_cache(maxsize=64)
def _minute(minutes: int) -> bytes:
    """YYMMDDhhmm of minutes since 1970; receipts of the same minutes come in crowds."""
    minutes = min(max(minutes, 0), _LAST_MINUTE)
    return datetime.fromtimestamp(60 * minutes, UTC).strftime("%y%m%d%H%M").encode()


_DATE_FORMS: Final = {
    10: ("%y%m%d%H%M",),
    12: ("%y%m%d%H%M%S", "%Y%m%d%H%M"),
    14: ("%Y%m%d%H%M%S",),
}


def seconds(date: bytes) -> int | None:
    """A receipt's date in seconds since 1970, read as UTC since none says its zone; None if it is no date.

    YYMMDDhhmm and YYMMDDhhmmss, the same with a four-digit year, and separators between the digits are understood.
    """
    digits = bytes(octet for octet in date if 0x30 <= octet <= 0x39).decode("ascii")
    for form in _DATE_FORMS.get(len(digits), ()):
        try:
            return int(datetime.strptime(digits, form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    return None


__all__ = [
    "ID_LIMIT",
    "SHORT_MESSAGE_LIMIT",
    "MessageState",
    "Receipt",
    "completed",
    "parse",
    "seconds",
    "splice",
    "write",
]
