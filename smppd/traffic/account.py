"""What is known of one account's traffic, and what is unusual in it.

Each message is counted by prefix (all but the last four digits, nine at most) and country; each count is compared with what is
usual there. What is unusual becomes a `Decision`, which meets the messages that follow. Nothing here refers to a
configuration: a reload brings other `Limits` and forgets nothing. Memory is bounded whatever is sent: docs/traffic.md
has the figures.
"""

from __future__ import annotations

import math
from typing import Any, Final

from smppd.message import Hit, Refusal
from smppd.policy.screens import Question
from smppd.protocol.wire import UDHI, Sm, Status
from smppd.traffic.caps import DAY, Caps
from smppd.traffic.decisions import (
    ALERT,
    BLOCK,
    CAP,
    COUNTRY,
    LIMIT,
    OFF,
    PREFIX,
    RANK,
    SCATTERED,
    SHADOW,
    TEXT,
    Decision,
    Notice,
    Shown,
    key_of,
)
from smppd.traffic.sketches import HOURS, Cells, Distinct, Frequent, PrefixCounts, Runs, beside

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DECISIONS: Final = 256
"""Decisions of one account that stand at one time; then the one that would end next goes."""
WATCHED: Final = 128
"""Prefixes that are looked at more closely at one time."""
TEXTS: Final = 128
"""Texts of which it is known to whom they went."""
_COUNTRIES: Final = 300
_MASK: Final = (1 << 62) - 1
_LOOK: Final = 0.5  # seconds between two looks at the clock
_WATCH_FROM: Final = 5  # messages of a minute
_FREQUENT: Final = 20  # times that a text came before it is looked at more closely
# Numbers one after another that are a run: two or three are so by chance among customers who live close.
_RUN: Final = 4
_SCATTERED: Final = 15  # messages of a minute that are more than usual where they go ...
_SCATTERED_SHARE: Final = 0.015  # ... and their share in all
_USUAL_TIMES: Final = 4.0  # so many times its usual share is too much of runs and of scattered bursts
_RECEIPTS: Final = 60.0
_IDLE: Final = 600.0  # seconds after which a prefix is looked at no more
_KNOWN: Final = 50.0  # receipts after which a ratio is known
_SOON: Final = 10.0  # so many times sooner than usual is too soon ...
_SLOW_ENOUGH: Final = 2.0  # ... where it is usually later than so many seconds
_FORGETS: Final = 0.25

# Digits, and what codes and amounts are written with, do not make another text; neither do capitals.
_LOWER: Final = bytes(octet + 32 if 65 <= octet <= 90 else octet for octet in range(256))
_DROPPED: Final = b"0123456789\0 \r\n.,:-"

_CAP: Final = Refusal(Status.RSUBMITFAIL, "over the day's limit for this country", "traffic/cap")
_TOLD: Final = {
    "new_countries": "the account does not send to this country",
    "runs": "numbers one after another",
    "velocity": "far more than usual to this destination",
    "same_text": "one text to many strangers",
    "receipts": "messages to this destination are not received",
}
_STATUS: Final = {"new_countries": Status.RINVDSTADR}
_BLOCKED: Final = {
    name: Refusal(_STATUS.get(name, Status.RSUBMITFAIL), _TOLD[name], f"traffic/{name}") for name in _TOLD
}
_LIMITED: Final = {name: Refusal(Status.RTHROTTLED, _TOLD[name], f"traffic/{name}") for name in _TOLD}


class Limits:
    """What a configuration says (`config.traffic.Traffic`), as it is asked for each message."""

    __slots__ = (
        "caps",
        "default_cap",
        "factor",
        "lasts",
        "learn",
        "minute",
        "hour",
        "day",
        "new_countries",
        "rate",
        "ratio",
        "receipts",
        "receipts_least",
        "runs",
        "runs_least",
        "same_text",
        "text_least",
        "velocity",
    )

    def __init__(
        self,
        caps: dict[str, int],
        default_cap: int,
        *,
        learn: float,
        lasts: float,
        rate: float,
        new_countries: str,
        runs: str,
        runs_least: int,
        velocity: str,
        factor: float,
        minute: int,
        hour: int,
        day: int,
        same_text: str,
        text_least: int,
        receipts: str,
        receipts_least: int,
        ratio: float,
    ) -> None:
        """``caps``: messages a day by country; ``default_cap``: of each other one, 0 for none. Times are seconds."""
        self.caps = caps
        self.default_cap = default_cap
        self.learn = learn
        self.lasts = lasts
        self.rate = rate
        self.new_countries = new_countries
        self.runs = runs
        self.runs_least = runs_least
        self.velocity = velocity
        self.factor = factor
        self.minute = minute
        self.hour = hour
        self.day = day
        self.same_text = same_text
        self.text_least = text_least
        self.receipts = receipts
        self.receipts_least = receipts_least
        self.ratio = ratio

    def action(self, signal: str) -> str:
        """What is done about a signal."""
        if signal == "new_countries":
            return self.new_countries
        if signal == "runs":
            return self.runs
        if signal == "velocity":
            return self.velocity
        return self.same_text if signal == "same_text" else self.receipts


class Fading:
    """Receipts, the older the less: how many, how many of them of delivery, and after how many seconds these came."""

    __slots__ = ("_at", "_span", "all", "delivered", "seconds")

    def __init__(self, span: float, now: float) -> None:
        """``span``: seconds after which one counts a third."""
        self._span = span
        self._at = now
        self.all = 0.0
        self.delivered = 0.0
        self.seconds = 0.0

    def add(self, delivered: bool, seconds: float, now: float) -> None:
        """A message ended."""
        if now > self._at:
            left = math.exp((self._at - now) / self._span)
            self.all *= left
            self.delivered *= left
            self.seconds *= left
            self._at = now
        self.all += 1.0
        if delivered:
            self.delivered += 1.0
            self.seconds += seconds

    @property
    def ratio(self) -> float:
        """Delivered, of all."""
        return self.delivered / self.all if self.all > 0 else 0.0

    @property
    def mean(self) -> float:
        """Seconds to delivery."""
        return self.seconds / self.delivered if self.delivered > 0 else 0.0


class Country:
    """What an account sent to one country."""

    __slots__ = ("endings", "hour", "known", "last_hour", "last_minute", "minute", "usual", "usual_endings", "week")

    def __init__(self, now: float) -> None:
        self.known = False
        self.minute = 0
        self.last_minute = 0
        self.hour = 0
        self.last_hour = 0
        self.week = 0.0
        self.usual = [0.0] * HOURS
        self.endings = Fading(_RECEIPTS, now)
        self.usual_endings = Fading(float(DAY), now)


class Watched:
    """A prefix that many messages go to, looked at more closely. ``seen``: when it last was sent to, steady clock."""

    __slots__ = ("country", "distinct", "endings", "messages", "seen")

    def __init__(self, country: str, now: float) -> None:
        self.country = country
        self.distinct = Distinct()
        self.endings = Fading(_RECEIPTS, now)
        self.messages = 0
        self.seen = now


class TextSeen:
    """A text that came often. ``strange``: messages with it to prefixes that are not written to usually."""

    __slots__ = ("began", "distinct", "messages", "strange")

    def __init__(self, now: float) -> None:
        self.distinct = Distinct()
        self.messages = 0
        self.strange = 0
        self.began = now


class AccountTraffic:
    """See the module. ``cells``: where prefixes stand; ``shift``: seconds by which its hours begin later than others',
    so that not all accounts end an hour in the same moment."""

    def __init__(self, name: str, cells: Cells, shift: float = 0.0) -> None:
        self.name = name
        self.caps = Caps()
        self.changed = False
        """Whether there is something that the disk does not know."""
        self._cells = cells
        self._shift = shift
        self._since = 0.0  # epoch seconds of the first message
        self._counts: PrefixCounts | None = None
        self._runs = Runs()
        self._frequent = Frequent()
        self._texts: dict[int, TextSeen] = {}
        self._watched: dict[bytes, Watched] = {}
        self._countries: dict[str, Country] = {}
        self._endings = Fading(float(DAY), 0.0)
        self._decisions: dict[str, Decision] = {}
        self._numbers = 0
        self._minute_began = 0.0
        self._hour = 0
        self._looked = -1.0
        self._left = 1.0
        self._learning = True
        self._run = 0
        self._last_run = 0
        self._usual_run = 0.0
        self._burst = 0
        self._last_burst = 0
        self._usual_burst = 0.0
        self._fresh: list[Decision] = []
        self._hits: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<AccountTraffic {self.name}>"

    # -- a message -----------------------------------------------------------------------------------------------------

    def look(self, question: Question, limits: Limits) -> Refusal | None:
        """Counts a message, and refuses it where something that stands says so."""
        now = question.now
        if now - self._looked >= _LOOK or now < self._looked:
            self._look_at_clock(now, question.wall, limits)
        country = question.country
        cap = limits.caps.get(country, limits.default_cap) if limits.caps or limits.default_cap else 0
        if cap and self.caps.used(country) >= cap and country not in self.caps.lifted:
            decision = self._decide("cap", BLOCK, CAP, country, country, now, question.wall, limits, f"{cap} a day")
            self._meet(decision, question)
            return _CAP
        sm = question.sm
        digits = question.destination
        prefix = prefix_of(digits)
        text = 0
        if limits.same_text != OFF and not (sm.esm_class & UDHI and _is_later_part(sm)):
            text = text_key(sm)
        if self._decisions:
            refusal = self._met(prefix, country, text, now, question, limits)
            if refusal is not None:
                return refusal
        if prefix:
            refusal = self._judge(digits, prefix, country, text, question, limits)
            if refusal is not None:
                return refusal
        if cap:
            self.caps.count(country, cap)
        question.counted = True
        return None

    def not_taken(self, question: Question, limits: Limits) -> None:
        """A message that `look` has just let pass was refused after all: it uses no cap and does not become usual."""
        question.counted = False
        country = question.country
        if limits.caps.get(country, limits.default_cap):
            self.caps.take_back(country)
        prefix = prefix_of(question.destination)
        counts = self._counts
        if prefix and counts is not None:
            cells = self._cells.of(prefix)
            counts.take_back(cells & 0xFFF, cells >> 12)
            seen = self._countries.get(country)
            if seen is not None and seen.minute:
                seen.minute -= 1

    def _met(
        self, prefix: bytes, country: str, text: int, now: float, question: Question, limits: Limits
    ) -> Refusal | None:
        """What stands against a message; the strictest refuses it."""
        decisions = self._decisions
        found: Decision | None = None
        for key in (f"p{prefix.decode('latin-1')}" if prefix else "", f"c{country}", f"t{text}" if text else ""):
            decision = decisions.get(key) if key else None
            if decision is None:
                continue
            if decision.until <= now:
                self._end(key, decision)
                continue
            if found is None or RANK[decision.action] > RANK[found.action]:
                found = decision
        if found is None:
            return None
        return self._apply(found, question)

    def _apply(self, decision: Decision, question: Question) -> Refusal | None:
        self._meet(decision, question)
        if decision.action == BLOCK:
            return _BLOCKED[decision.signal]
        if decision.action == LIMIT and not decision.may_pass(question.now):
            return _LIMITED[decision.signal]
        return None

    def _meet(self, decision: Decision, question: Question) -> None:
        decision.met += 1
        key = (decision.signal, decision.action)
        self._hits[key] = self._hits.get(key, 0) + 1
        question.hits.append(Hit("traffic", decision.signal, decision.action in (ALERT, SHADOW)))

    def _judge(
        self, digits: bytes, prefix: bytes, country: str, text: int, question: Question, limits: Limits
    ) -> Refusal | None:
        """Counts a message whose destination is a number, and looks whether that makes anything unusual."""
        now, wall = question.now, question.wall
        counts = self._counts
        if counts is None:
            counts = self._counts = PrefixCounts()
            counts.set_left(1.0, 1.0, int((wall + self._shift) // HOUR) % HOURS)
        self.changed = True
        cells = self._cells.of(prefix)
        first, second = cells & 0xFFF, cells >> 12
        counts.add(first, second)
        seen = self._countries.get(country)
        if seen is None:
            seen = self._new_country(country, now)
        seen.minute += 1
        learning = self._learning
        refusal: Refusal | None = None
        if not seen.known:
            if learning or limits.new_countries in (OFF, ALERT, SHADOW):
                seen.known = True
            if not learning and limits.new_countries != OFF:
                why = "nothing was sent there before"
                decision = self._decide("new_countries", "", COUNTRY, country, country, now, wall, limits, why)
                refusal = self._once(decision, question, refusal)
        if limits.runs != OFF:
            length = self._runs.add(digits)
            if length >= _RUN:
                self._run += 1
                inside = self._run + self._last_run * self._left
                if inside >= limits.runs_least and inside > _USUAL_TIMES * self._usual_run * counts.minute:
                    why = f"{inside:.0f} messages of a minute within runs, the longest now {length}"
                    refusal = self._raise("runs", prefix, country, question, limits, why, refusal)
        in_minute = min(counts.in_minute(first), counts.in_minute(second))
        watched = self._watched.get(prefix)
        if watched is None:
            if in_minute >= _WATCH_FROM:
                watched = self._watch(prefix, country, now)
        if watched is not None:
            watched.messages += 1
            watched.seen = now
            watched.distinct.add(hash(digits) & _MASK)
        if limits.velocity != OFF and not learning:
            refusal = self._fast(
                counts, first, second, in_minute, prefix, country, seen, watched, question, limits, refusal
            )
        if text and self._frequent.add(text) >= _FREQUENT:
            strange = not learning and min(counts.in_week(first), counts.in_week(second)) < 1.0
            told = self._text(text, digits, strange, now)
            if (
                not learning
                and told.strange * 2 >= told.messages
                and told.strange >= limits.text_least
                and told.distinct.count() >= limits.text_least
            ):
                why = (
                    f"one text to about {told.distinct.count():.0f} numbers, half of them where nothing is sent usually"
                )
                decision = self._decide("same_text", "", TEXT, str(text), country, now, wall, limits, why)
                refusal = self._once(decision, question, refusal)
        return refusal

    def _fast(
        self,
        counts: PrefixCounts,
        first: int,
        second: int,
        in_minute: float,
        prefix: bytes,
        country: str,
        seen: Country,
        watched: Watched | None,
        question: Question,
        limits: Limits,
        refusal: Refusal | None,
    ) -> Refusal | None:
        """Whether a prefix, or a country, is sent to faster than usual."""
        if in_minute > 3.0:
            usual = max(counts.expected_in_minute(first), counts.expected_in_minute(second))
            if in_minute > 3.0 + 1.5 * usual + 2.0 * math.sqrt(usual):
                # More than chance gives. One prefix alone may be so, many at once are not.
                self._burst += 1
                scattered = self._burst + self._last_burst * self._left
                everything = counts.minute
                if (
                    scattered >= _SCATTERED
                    and scattered > _SCATTERED_SHARE * everything
                    and scattered > _USUAL_TIMES * self._usual_burst * everything
                ):
                    why = f"{scattered:.0f} messages of a minute are more than usual where they go"
                    decision = self._decide(
                        "velocity", "", SCATTERED, "", country, question.now, question.wall, limits, why
                    )
                    refusal = self._apply(decision, question) or refusal
                else:
                    standing = self._decisions.get(key_of(SCATTERED, ""))
                    if standing is not None and standing.until > question.now:
                        refusal = self._apply(standing, question) or refusal
            if in_minute >= limits.minute and in_minute > _least(usual, limits.factor):
                several = watched is not None and watched.distinct.count() * 4 >= limits.minute
                if several:
                    why = f"{in_minute:.0f} messages of a minute where {usual:.1f} are usual"
                    return self._raise("velocity", prefix, country, question, limits, why, refusal)
        if watched is not None:
            in_hour = min(counts.in_hour(first), counts.in_hour(second))
            if in_hour >= limits.hour:
                usual = max(counts.expected_in_hour(first), counts.expected_in_hour(second))
                if in_hour > _least(usual, limits.factor):
                    why = f"{in_hour:.0f} messages of an hour where {usual:.0f} are usual"
                    return self._raise("velocity", prefix, country, question, limits, why, refusal)
            in_day = min(counts.in_day(first), counts.in_day(second))
            if in_day >= limits.day:
                usual = max(counts.expected_in_day(first), counts.expected_in_day(second))
                if in_day > _least(usual, limits.factor):
                    why = f"{in_day:.0f} messages of a day where {usual:.0f} are usual"
                    return self._raise("velocity", prefix, country, question, limits, why, refusal)
        to_country = seen.minute + seen.last_minute * self._left
        if to_country >= 2 * limits.minute:
            hour = int((question.wall + self._shift) // HOUR) % HOURS
            share = seen.week / counts.week if counts.week > 0 else 0.0
            usual = max(
                max(seen.usual[hour], seen.usual[(hour + 1) % HOURS]) / 60.0, beside(share, counts.minute - to_country)
            )
            if to_country > _least(usual, limits.factor):
                why = f"{to_country:.0f} messages of a minute to the country where {usual:.1f} are usual"
                decision = self._decide(
                    "velocity", "", COUNTRY, country, country, question.now, question.wall, limits, why
                )
                return self._once(decision, question, refusal)
        return refusal

    def _once(self, decision: Decision, question: Question, refusal: Refusal | None) -> Refusal | None:
        """Applies a decision to the message that brought it about. One that stood before has met the message already."""
        return refusal if refusal is not None or decision.met else self._apply(decision, question)

    def _raise(
        self,
        signal: str,
        prefix: bytes,
        country: str,
        question: Question,
        limits: Limits,
        why: str,
        refusal: Refusal | None,
    ) -> Refusal | None:
        """Decides about a prefix."""
        decision = self._decide(
            signal, "", PREFIX, prefix.decode("latin-1"), country, question.now, question.wall, limits, why
        )
        return self._once(decision, question, refusal)

    def _decide(
        self,
        signal: str,
        action: str,
        kind: str,
        what: str,
        country: str,
        now: float,
        wall: float,
        limits: Limits,
        why: str,
    ) -> Decision:
        """The decision that stands about something; a new one, or the one there is where that is as strict."""
        action = action or limits.action(signal)
        key = key_of(kind, what)
        standing = self._decisions.get(key)
        if standing is not None and standing.until > now and RANK[standing.action] >= RANK[action]:
            return standing
        if standing is None and len(self._decisions) >= DECISIONS:
            soonest = min(self._decisions, key=lambda one: self._decisions[one].until)
            self._end(soonest, self._decisions[soonest])
        self._numbers += 1
        lasts = DAY - wall % DAY if signal == "cap" else limits.lasts
        decision = Decision(
            self._numbers, signal, action, kind, what, country, wall, now + lasts, limits.rate, now, why
        )
        self._decisions[key] = decision
        if len(self._fresh) < DECISIONS:
            self._fresh.append(decision)
        self.changed = True
        return decision

    def _end(self, key: str, decision: Decision) -> None:
        """A decision is over. A new country whose messages passed is none any more."""
        self._decisions.pop(key, None)
        if decision.signal == "new_countries" and decision.action == LIMIT:
            seen = self._countries.get(decision.what)
            if seen is not None:
                seen.known = True
        self.changed = True

    def _new_country(self, country: str, now: float) -> Country:
        seen = Country(now)
        if len(self._countries) < _COUNTRIES:
            self._countries[country] = seen
        return seen

    def _watch(self, prefix: bytes, country: str, now: float) -> Watched:
        if len(self._watched) >= WATCHED:
            # The one with the fewest messages gives way (space saving, Metwally et al. 2005), but begins at nothing.
            least = min(self._watched, key=lambda one: self._watched[one].messages)
            del self._watched[least]
        watched = self._watched[prefix] = Watched(country, now)
        return watched

    def _text(self, text: int, digits: bytes, strange: bool, now: float) -> TextSeen:
        seen = self._texts.get(text)
        if seen is None or now - seen.began >= HOUR:
            if seen is None and len(self._texts) >= TEXTS:
                self._forget_a_text()
            seen = self._texts[text] = TextSeen(now)
        seen.messages += 1
        seen.distinct.add(hash(digits) & _MASK)
        if strange:
            seen.strange += 1
        return seen

    def _forget_a_text(self) -> None:
        """The one that came least often, the first of several."""
        rarest = 0
        least = -1
        for one, about in self._texts.items():
            if least < 0 or about.messages < least:
                rarest, least = one, about.messages
        del self._texts[rarest]

    # -- receipts ------------------------------------------------------------------------------------------------------

    def ended(
        self, digits: bytes, country: str, delivered: bool, seconds: float, now: float, wall: float, limits: Limits
    ) -> None:
        """A message to a number ended, by its carrier's receipt; ``seconds`` after it was accepted."""
        if limits.receipts == OFF:
            return
        self._endings.add(delivered, seconds, now)
        seen = self._countries.get(country)
        if seen is None:
            return
        usual = seen.usual_endings if seen.usual_endings.all >= _KNOWN else self._endings
        seen.endings.add(delivered, seconds, now)
        why = self._bad(seen.endings, usual, limits)
        if why:
            self._decide("receipts", "", COUNTRY, country, country, now, wall, limits, why)
        seen.usual_endings.add(delivered, seconds, now)
        prefix = prefix_of(digits)
        watched = self._watched.get(prefix) if prefix else None
        if watched is not None:
            watched.endings.add(delivered, seconds, now)
            why = self._bad(watched.endings, usual, limits)
            if why:
                self._decide("receipts", "", PREFIX, prefix.decode("latin-1"), country, now, wall, limits, why)

    @staticmethod
    def _bad(endings: Fading, usual: Fading, limits: Limits) -> str:
        """What is wrong with the receipts of a minute beside the usual ones; empty where nothing is."""
        if endings.all < limits.receipts_least or usual.all < _KNOWN:
            return ""
        if endings.ratio < limits.ratio * usual.ratio:
            return f"{endings.ratio:.0%} of {endings.all:.0f} messages were delivered where {usual.ratio:.0%} are usual"
        if (
            endings.delivered >= limits.receipts_least
            and usual.mean >= _SLOW_ENOUGH
            and endings.mean * _SOON < usual.mean
        ):
            return f"delivery is reported after {endings.mean:.1f} s where {usual.mean:.0f} s are usual"
        return ""

    # -- time ----------------------------------------------------------------------------------------------------------

    def _look_at_clock(self, now: float, wall: float, limits: Limits) -> None:
        """Ends minutes by the steady clock, hours and days by that of the wall, which may jump."""
        hour = int((wall + self._shift) // HOUR)
        if self._looked < 0:
            self._minute_began = now
            self._hour = self._hour or hour
        self._looked = now
        if not self._since or self._since > wall:
            self._since = wall
        self._learning = wall - self._since < limits.learn
        if self.caps.begin_day(wall):
            for key, decision in list(self._decisions.items()):
                if decision.signal == "cap":
                    self._end(key, decision)
        minutes = int((now - self._minute_began) / MINUTE)
        counts = self._counts
        if minutes >= 1:
            self._minute_began += minutes * MINUTE
            self._end_minute(minutes, now)
        if hour > self._hour:
            self._end_hour(hour - self._hour)
        self._hour = hour  # put back: this hour is counted once more
        self._left = max(0.0, 1.0 - (now - self._minute_began) / MINUTE)
        if counts is not None:
            within = 1.0 - (wall + self._shift) % HOUR / HOUR
            counts.set_left(self._left, within, hour % HOURS)

    def _end_minute(self, minutes: int, now: float) -> None:
        counts = self._counts
        if counts is None:
            return
        total = counts.minute if minutes == 1 else 0.0
        if total >= 1.0 and not any(one.signal in ("runs", "velocity") for one in self._decisions.values()):
            self._usual_run += (self._run / total - self._usual_run) / 500.0
            self._usual_burst += (self._burst / total - self._usual_burst) / 500.0
        self._last_run, self._last_burst = (self._run, self._burst) if minutes == 1 else (0, 0)
        self._run = self._burst = 0
        counts.end_minute(minutes)
        fades = math.exp(-minutes * MINUTE / (7.0 * DAY))
        for seen in self._countries.values():
            seen.last_minute = seen.minute if minutes == 1 else 0
            seen.hour += seen.minute
            seen.week = (seen.week + seen.minute) * fades
            seen.minute = 0
        for prefix in [one for one, watched in self._watched.items() if now - watched.seen > _IDLE]:
            del self._watched[prefix]
        for key, decision in list(self._decisions.items()):
            if decision.until <= now:
                self._end(key, decision)

    def _end_hour(self, hours: int) -> None:
        counts = self._counts
        if counts is not None:
            counts.end_hour(hours)
        for seen in self._countries.values():
            self._learn(seen, self._hour % HOURS, float(seen.hour))
            for missed in range(1, min(hours, HOURS)):
                self._learn(seen, (self._hour + missed) % HOURS, 0.0)
            seen.last_hour = seen.hour if hours == 1 else 0
            seen.hour = 0
        self._frequent.clear()

    @staticmethod
    def _learn(seen: Country, hour: int, count: float) -> None:
        seen.usual[hour] += (count - seen.usual[hour]) * (1.0 if seen.usual[hour] == 0.0 else _FORGETS)

    # -- operators -----------------------------------------------------------------------------------------------------

    def standing(self, now: float) -> list[Shown]:
        """The decisions that stand, the oldest first."""
        found = [one for one in self._decisions.values() if one.until > now]
        return [
            Shown(one.number, one.signal, one.action, one.target, one.why, one.since, one.until - now, one.met)
            for one in sorted(found, key=lambda one: one.number)
        ]

    def release(self, number: int) -> Shown | None:
        """Ends a decision; what it was, None where there is none of this number. What was released counts as usual: a
        country is new no more, a cap is lifted for the day."""
        for key, decision in list(self._decisions.items()):
            if decision.number == number:
                self._end(key, decision)
                if decision.signal == "new_countries":
                    seen = self._countries.get(decision.what)
                    if seen is not None:
                        seen.known = True
                if decision.signal == "cap":
                    self.caps.lifted.add(decision.what)
                    self.caps.due = True
                return Shown(
                    number,
                    decision.signal,
                    decision.action,
                    decision.target,
                    decision.why,
                    decision.since,
                    0.0,
                    decision.met,
                )
        return None

    def take_fresh(self) -> list[Notice]:
        """The decisions that were made since last asked, for the log."""
        fresh, self._fresh = self._fresh, []
        return [self._notice(one, fresh=True) for one in fresh]

    def take_met(self) -> list[Notice]:
        """The decisions that stand and met messages since last asked, for the log's line a minute."""
        return [self._notice(one) for one in self._decisions.values() if one.met > one.told]

    @staticmethod
    def _notice(decision: Decision, fresh: bool = False) -> Notice:
        number = decision.met - decision.told
        decision.told = decision.met
        return Notice(decision.number, decision.signal, decision.action, decision.target, number, decision.why, fresh)

    def take_hits(self) -> dict[tuple[str, str], int]:
        """How many messages were met since last asked, by signal and action, for the metrics."""
        hits, self._hits = self._hits, {}
        return hits

    def explain(self, question: Question, limits: Limits) -> str:
        """What it would say of a message; changes nothing."""
        country = question.country
        cap = limits.caps.get(country, limits.default_cap)
        used = 0 if self.caps.is_over(question.wall) else self.caps.used(country)
        if cap and used >= cap and country not in self.caps.lifted:
            return f"refused: {used} of {cap} messages to {country or 'no known country'} are used today"
        prefix = prefix_of(question.destination).decode("latin-1")
        text = text_key(question.sm)
        found = [self._decisions.get(key) for key in (f"p{prefix}", f"c{country}", f"t{text}")]
        stands = [one for one in found if one is not None and one.until > question.now]
        said = f"; {used} of {cap} to {country or 'no known country'} today" if cap else ""
        if not stands:
            learns = ", which is still being learned" if self._learning else ""
            return f"nothing unusual{learns}{said}"
        one = max(stands, key=lambda one: RANK[one.action])
        does = {
            BLOCK: "refused",
            LIMIT: "passes" if one.would_pass(question.now) else "refused for now (rate)",
            ALERT: "passes, and an alert stands",
            SHADOW: "passes, and is counted",
        }[one.action]
        left = max(0.0, one.until - question.now) / 60.0
        return f"{does}: {one.signal} of {one.target}, {one.why}; for {left:.0f} min more{said}"

    # -- over a restart ------------------------------------------------------------------------------------------------

    def snapshot(self, now: float, wall: float) -> dict[str, Any]:
        """What outlives the process, without minutes, numbers and texts: JSON but for `counts`, which are octets. What
        a decision is about is in it, so it is for sealing."""
        self.changed = False
        return {
            "since": self._since,
            "hour": self._hour,
            "saved": wall,
            "numbers": self._numbers,
            "runs": self._usual_run,
            "bursts": self._usual_burst,
            "receipts": [self._endings.all, self._endings.delivered, self._endings.seconds],
            "countries": {
                name: [
                    seen.known,
                    seen.hour,
                    seen.last_hour,
                    seen.week,
                    [round(one, 2) for one in seen.usual],
                    [seen.usual_endings.all, seen.usual_endings.delivered, seen.usual_endings.seconds],
                ]
                for name, seen in self._countries.items()
            },
            "decisions": [
                [one.number, one.signal, one.action, one.kind, one.what, one.country, one.since, one.until - now + wall]
                + [one.rate, one.why, one.met]
                for one in self._decisions.values()
                if one.kind != TEXT and one.signal != "cap"  # a text's hash is another one in the next process
            ],
            "counts": self._counts.dump() if self._counts is not None else b"",
        }

    def load(self, said: Any, now: float, wall: float) -> None:
        """Takes what `snapshot` gave; before the first message. ValueError where it is none of ours: then it knows nothing."""
        fresh = AccountTraffic(self.name, self._cells, self._shift)
        try:
            fresh._take(said, now, wall)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError("no snapshot of an account's traffic") from None
        self._since, self._hour, self._numbers = fresh._since, fresh._hour, fresh._numbers
        self._usual_run, self._usual_burst, self._endings = fresh._usual_run, fresh._usual_burst, fresh._endings
        self._countries, self._decisions, self._counts = fresh._countries, fresh._decisions, fresh._counts

    def _take(self, said: Any, now: float, wall: float) -> None:
        self._since, self._hour, self._numbers = float(said["since"]), int(said["hour"]), int(said["numbers"])
        self._usual_run, self._usual_burst = float(said["runs"]), float(said["bursts"])
        self._endings = _fading(said["receipts"], now)
        for name, (known, hour, last, week, usual, endings) in list(said["countries"].items())[:_COUNTRIES]:
            seen = self._countries[str(name)] = Country(now)
            seen.known, seen.hour, seen.last_hour = bool(known), int(hour), int(last)
            seen.week = float(week)
            seen.usual = [float(one) for one in usual]
            if len(seen.usual) != HOURS:
                raise ValueError
            seen.usual_endings = _fading(endings, now)
        for number, signal, action, kind, what, country, since, until, rate, why, met in said["decisions"][:DECISIONS]:
            if until <= wall or action not in RANK or signal not in _TOLD:
                continue
            one = Decision(
                int(number),
                str(signal),
                str(action),
                str(kind),
                str(what),
                str(country),
                float(since),
                now + float(until) - wall,
                float(rate),
                now,
                str(why),
            )
            one.met = one.told = int(met)
            self._decisions[key_of(one.kind, one.what)] = one
        if said["counts"]:
            self._counts = PrefixCounts()
            self._counts.load(said["counts"])
            idle = int((wall - float(said["saved"])) / MINUTE)
            if idle > 1:
                self._counts.end_minute(idle)


def _fading(said: Any, now: float) -> Fading:
    found = Fading(float(DAY), now)
    found.all, found.delivered, found.seconds = (float(one) for one in said)
    return found


def _least(usual: float, factor: float) -> float:
    """What is too much: so many times the usual, and more than chance gives."""
    return max(factor * usual, usual + 6.0 * math.sqrt(usual))


def prefix_of(digits: bytes) -> bytes:
    """All but the last four digits, nine at most: where numbering plans give out blocks of ten thousand. Empty for short codes
    and what is no number."""
    size = len(digits)
    if size < 8 or size > 20 or not digits.isdigit():
        return b""
    return digits[:9] if size > 13 else digits[: size - 4]


def text_key(sm: Sm) -> int:
    """The keyed hash of a text without its digits, spaces and stops, capitals or not: codes and amounts do not make
    another text. UCS-2 loses the upper halves that are zero, the same for every message. 0 for none."""
    body = sm.body
    if sm.esm_class & UDHI and body:
        body = body[body[0] + 1 :]
    folded = body.translate(_LOWER, _DROPPED)
    return hash(folded) & _MASK if folded else 0


def _is_later_part(sm: Sm) -> bool:
    """Whether it is a part of a long message, but not the first (3GPP TS 23.040, 9.2.3.24): the first one stands for all."""
    body = sm.body
    if len(body) >= 6 and body[1] == 0 and body[2] == 3:
        return body[5] != 1
    return len(body) >= 7 and body[1] == 8 and body[2] == 4 and body[6] != 1
