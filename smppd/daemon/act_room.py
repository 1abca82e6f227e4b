"""Does what operators ask of the running daemon (docs/control.md, "What can be done"): each act is put on the audit trail,
written where it has to survive, and then takes effect. Those that stand are `daemon.standing`'s.

An act is about a target. Where two things of different kinds have the same name, the kind is said before it: `account:acme`,
`upstream:acme`. An act on many messages is begun here, stands until it is through, and goes on at the next start if the daemon
is killed meanwhile.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

from smppd.config import Settings
from smppd.control.wire import Code, ControlError
from smppd.daemon import logs
from smppd.daemon.acts import ActHandler, ActRequest, Done
from smppd.daemon.standing import NODE, SHARED, Standing, StandingActs, known, number_of
from smppd.daemon.traffic import TrafficMemory
from smppd.ids import parse_shown
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.upstreams import Upstreams
from smppd.operators.roles import Authority
from smppd.relay.acting import EXPIRE, MOVE, REQUEUE, Acted, Waiting
from smppd.relay.relay import Relay
from smppd.traffic import suspension
from smppd.traffic.suspension import Suspension
from smppd.vault.mask import mask_digits

log = logging.getLogger("smppd.acts")

WAITING_ACTS: Final = 32
"""Acts on messages that may stand at one time; they are done one after another."""
REPLY: Final = 3.0
"""Seconds after which an act on messages is answered, though it is not through."""
DRAIN: Final = 30.0
"""Seconds for which the links of a drained upstream stand, where nothing else is said."""
DRAIN_MOST: Final = 7 * 86400.0
LEVEL_FOR: Final = 900.0
LEVEL_MOST: Final = 86400.0
_LEVELS: Final = ("debug", "info", "warning", "error")
_SESSION: Final = re.compile(r"([cu])([0-9]{1,18})")
_LENGTH: Final = re.compile("[0-9]{1,3}")
_AGES: Final = 10 * 365 * 86400.0
_RETRY: Final = 5.0

T = TypeVar("T")
Target = tuple[str, str]
"""(kind, name): session, account, upstream, address or message."""


class ActRoom:
    """See the module. ``settings``: those in force; ``reload``: as SIGHUP; ``later(seconds, function)`` runs one on the reactor
    thread."""

    def __init__(
        self,
        standing: StandingActs,
        relay: Relay,
        customers: Customers,
        upstreams: Upstreams,
        door: Door,
        traffic: TrafficMemory,
        settings: Callable[[], Settings],
        reload: Callable[[], object],
        later: Callable[[float, Callable[[], None]], Any],
        wall: Callable[[], float],
    ) -> None:
        self._standing = standing
        self._relay = relay
        self._customers = customers
        self._upstreams = upstreams
        self._door = door
        self._traffic = traffic
        self._settings = settings
        self._reload = reload
        self._later = later
        self._wall = wall
        self._level_timer: Any = None
        self._written: set[str] = set()
        """Documents of drains that are being written or taken away: one of both at a time, or the first came back."""

    def handlers(self) -> dict[str, ActHandler]:
        """The acts by their names."""
        return {
            "kick": self._kick,
            "suspend": self._suspend,
            "resume": self._resume,
            "pause": self._pause,
            "unpause": self._unpause,
            "drain": self._pause,
            "unban": self._unban,
            "expire": self._on_waiting,
            "requeue": self._on_waiting,
            "move": self._on_waiting,
            "log-level": self._log_level,
            "reload": self._read_again,
        }

    def resume(self) -> None:
        """At the start, before a carrier is connected: what stood when the daemon ended stands again, and what was not finished
        goes on."""
        for one in self._standing.all():
            if one.act in SHARED:
                drained = bool(one.more.get("drained"))
                if drained and one.more.get(NODE, self._standing.node) != self._standing.node:
                    one, drained = _undrained(one), False  # another node's links are
                    self._standing.put(one)
                state = "drained" if drained else "draining" if one.act == "drain" else "paused"
                self._relay.set_upstream_act(one.target, state)
                if drained:
                    self._upstreams.close(one.target)
            elif (wanted := _waiting_of(one)) is not None:
                self._begin(one, wanted, lambda _acted: None)
            else:
                log.error("a stored act is not known to this version", extra={"fields": {"act": one.act}})
                continue
            log.warning("act stands", extra={"fields": {"act": one.act, "target": one.target}})

    def follow(self, stored: Sequence[Standing]) -> None:
        """What stands in the store: another node may have paused or drained an upstream, or let it go on. A drain is each
        node's own to end."""
        there = {one.name: one for one in stored if one.act in SHARED}
        for one in self._standing.all():
            if one.act in SHARED and one.name not in there and one.name not in self._written:
                self._standing.take(one.name)
                self._relay.set_upstream_act(one.target, "")
                self._upstreams.open(one.target)
                log.warning("upstream takes messages again, by act", extra={"fields": {"upstream": one.target}})
        for one in there.values():
            mine = self._standing.get(one.name)
            if one.name in self._written or (mine is not None and mine.act in ("drain", one.act)):
                continue
            drains = one.act == "drain"
            self._standing.put(_undrained(one) if drains else one)
            self._relay.set_upstream_act(one.target, "draining" if drains else "paused")
            log.warning("act stands", extra={"fields": {"act": one.act, "target": one.target}})

    def tick(self) -> None:
        """Call about once a second: ends drains whose time has come."""
        for one in self._standing.all():
            if one.act != "drain" or one.more.get("drained") or one.name in self._written:
                continue
            sent, receipts = self._relay.upstream_awaits(one.target)
            if sent or (receipts and self._wall() < one.since + one.more["for"]):
                continue
            self._drained(one._replace(more={**one.more, "drained": True, NODE: self._standing.node}))

    def _drained(self, one: Standing) -> None:
        self._standing.put(one)
        self._relay.set_upstream_act(one.target, "drained")
        self._upstreams.close(one.target)
        log.warning("upstream drained, its links are unbound", extra={"fields": {"upstream": one.target}})

        def write() -> None:
            if self._standing.get(one.name) is not one:
                return
            if one.name in self._written:  # an operator ends it at this moment
                again()
                return
            self._written.add(one.name)
            self._standing.keep(self._standing.save(one), again, lambda: self._written.discard(one.name))

        def again() -> None:
            self._later(_RETRY, write)

        write()

    # -- targets -------------------------------------------------------------------------------------------------------

    def _target(self, asked: ActRequest, who: Authority, *kinds: str) -> Target:
        """What is meant. ControlError where there is no such thing, or more than one."""
        kind, mark, name = asked.target.partition(":")
        looks: Mapping[str, Callable[[str, Authority], str | None]] = {
            "session": self._session,
            "account": self._account,
            "upstream": self._upstream,
            "address": _address,
            "message": _message,
        }
        if mark and kind in kinds:
            kinds = (kind,)
        else:
            name = asked.target
        if "address" in kinds and who.accounts is not None:
            kinds = tuple([one for one in kinds if one != "address"])
        found = [(one, named) for one in kinds if (named := looks[one](name, who)) is not None]
        if not found:
            raise ControlError(f"there is no {' or '.join(kinds)} {name[:64]!r}", Code.UNKNOWN)
        if len(found) > 1:
            both = " or ".join(f"{one}:{name}" for one, _ in found)
            raise ControlError(f"{name[:64]!r} may be several things: say {both}", Code.REQUEST)
        return found[0]

    def _session(self, name: str, who: Authority) -> str | None:
        parts = _SESSION.fullmatch(name)
        if parts is None:
            return None
        side, number = parts[1], int(parts[2])
        if side == "u":
            return name if who.accounts is None and self._upstreams.meant(number=number) else None
        found = self._customers.meant(number=number)
        return name if found and (who.accounts is None or found[0].name in who.accounts) else None

    def _account(self, name: str, who: Authority) -> str | None:
        return name if who.sees(name) and self._relay.account(name) is not None else None

    def _upstream(self, name: str, who: Authority) -> str | None:
        return name if who.accounts is None and self._relay.has_upstream(name) else None

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _kick(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        kind, name = self._target(asked, who, "session", "account", "upstream", "address")
        number = int(name[1:]) if kind == "session" else None
        carrier = kind == "upstream" or (kind == "session" and name[0] == "u")

        def meant() -> list[Any]:
            if carrier:
                return list(self._upstreams.meant(name=name if number is None else None, number=number))
            account, address = name if kind == "account" else None, name if kind == "address" else None
            return list(self._customers.meant(account=account, address=address, number=number))

        if not meant():
            return Done(f"{name} has no session.", False)

        def then() -> Done:
            found = meant()
            if carrier:
                self._upstreams.kick(found)
            else:
                self._customers.kick(found)
            self._relay.flush()
            again = "; it is bound again" if carrier else ""
            return Done(f"{_some(len(found), 'session')} unbound when its answers are through{again}.", bool(found))

        return self._standing.done(asked, who, then)

    # -- accounts ------------------------------------------------------------------------------------------------------

    def _suspend(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        _, account = self._target(asked, who, "account")
        suspensions = self._traffic.suspensions
        stands = suspensions.standing(account).suspension
        if stands is not None:
            return Done(f"{account} is suspended already, by {stands.by}.", False)
        reason = mask_digits(" ".join(asked.reason.split()))
        made = Suspension(account, self._wall(), who.operator or who.actor.who, reason)
        sealed = self._standing.sealer.seal(suspension.KIND, account, made.as_dict())

        def then() -> Done:
            suspensions.suspend(made)
            return Done(f"{account} is suspended: it stays bound, and each message it submits is refused.", True)

        return self._standing.done(
            asked, who, then, write=lambda documents: documents.put(suspension.KIND, {account: sealed})
        )

    def _resume(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        account = asked.target.removeprefix("account:")
        if not who.sees(account) or self._traffic.suspensions.standing(account).suspension is None:
            _, account = self._target(asked, who, "account")
            return Done(f"{account} is not suspended.", False)
        if self._traffic.is_unwritten(account):
            raise ControlError(f"the suspension of {account} is being written: try again")

        def then() -> Done:
            self._traffic.suspensions.lift(account)
            return Done(f"{account} may submit again.", True)

        return self._standing.done(asked, who, then, write=lambda documents: documents.remove(suspension.KIND, account))

    def _unban(self, asked: ActRequest, who: Authority) -> Deferred[Done]:
        _, address = self._target(asked, who, "address")

        def then() -> Done:
            lifted = self._door.lift(address)
            if not lifted:
                return Done(f"{address} is not banned.", False)
            return Done(f"{_some(lifted, 'ban')} of {address} lifted.", True)

        return self._standing.done(asked, who, then)

    # -- upstreams -----------------------------------------------------------------------------------------------------

    def _pause(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        """`pause` and `drain`."""
        _, name = self._target(asked, who, "upstream")
        drains = asked.act == "drain"
        stands = self._standing.get(_pause_of(name))
        if stands is not None and (stands.act == "drain" or not drains):
            state = "drained" if stands.more.get("drained") else "being drained" if stands.act == "drain" else "paused"
            return Done(f"{name} is {state} already, by {stands.by}.", False)
        more = {"for": number_of(asked, "for", DRAIN, DRAIN_MOST), "drained": False} if drains else {}
        one = self._standing.stand(_pause_of(name), asked._replace(target=name), who, more)

        def then() -> Done:
            self._standing.put(one)
            self._relay.set_upstream_act(name, "draining" if drains else "paused")
            if not drains:
                return Done(f"No message is released to {name} until it is unpaused.", True)
            seconds = f"{more['for']:.0f} s"
            return Done(
                f"No message is released to {name}; its links are unbound when what it has is answered and no receipt is waited"
                f" for, in {seconds} at the latest where all is answered, and not bound again until it is unpaused.",
                True,
            )

        facts: dict[str, str | int] = {"for": int(more["for"])} if drains else {}
        return self._standing.done(asked, who, then, facts=facts, write=self._standing.save(one))

    def _unpause(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        name = asked.target.removeprefix("upstream:")
        stands = self._standing.get(_pause_of(name)) if who.accounts is None else None
        if stands is None:
            _, name = self._target(asked, who, "upstream")
            return Done(f"{name} is not paused.", False)
        document = _pause_of(name)
        if document in self._written:
            raise ControlError(f"the drain of {name} is being written: try again")

        def then() -> Done:
            self._standing.take(document)
            self._relay.set_upstream_act(name, "")
            self._upstreams.open(name)
            log.warning("upstream takes messages again, by act", extra={"fields": {"upstream": name}})
            without = "" if self._relay.has_upstream(name) else ", once the configuration has it again"
            return Done(f"{name} takes messages again{without}.", True)

        def over(done: T) -> T:
            self._written.discard(document)
            return done

        self._written.add(document)
        return self._standing.done(asked, who, then, write=self._standing.forget(document)).addBoth(over)

    # -- messages that wait --------------------------------------------------------------------------------------------

    def _on_waiting(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        kinds = ("upstream",) if asked.act == MOVE else ("message", "account", "upstream")
        kind, name = self._target(asked, who, *kinds)
        if kind == "message" and who.accounts is not None:
            raise ControlError(f"there is no message {name}", Code.UNKNOWN)
        more: dict[str, Any] = {"kind": kind, NODE: self._standing.node}
        ago = 0.0
        if asked.act == MOVE:
            to = asked.fields.get("to")
            if not isinstance(to, str) or to == name:
                raise ControlError("`to` must name another upstream", Code.REQUEST)
            more["to"] = known([one.name for one in self._settings().upstreams if one.enabled], to, "enabled upstream")
        elif asked.act == EXPIRE:
            ago = number_of(asked, "older_than", 0.0, _AGES)
        whole = f"{kind}:{name}"
        if any((one.act, one.target) == (asked.act, whole) for one in self._standing.all()):
            return Done(f"{_DOING[asked.act]} of {whole} is under way already.", False)
        if sum(1 for one in self._standing.all() if one.act in _DOING) >= WAITING_ACTS:
            raise ControlError("too many acts on messages are under way: wait for one of them")
        more["upto"] = self._relay.last_id(ago)
        document = f"waiting {self._relay.last_id():016x}"
        one = self._standing.stand(document, asked._replace(target=whole), who, more)
        wanted = _waiting_of(one)
        assert wanted is not None
        facts: dict[str, str | int] = {"to": more["to"]} if "to" in more else {}
        if ago:
            facts["older_than"] = int(ago)
        answered: Deferred[Done] = Deferred()

        def begin() -> None:
            self._standing.put(one)
            timer = self._later(REPLY, lambda: answer(None))

            def answer(acted: Acted | None) -> None:
                if answered.called:
                    return
                if acted is None:
                    said = f"{_DOING[one.act]} of {one.target} goes on: `smppd show acts` has it until it is through."
                    answered.callback(Done(said, True))
                    return
                timer.cancel()
                _tell(answered, one, acted)

            self._begin(one, wanted, answer)

        started = self._standing.done(asked, who, begin, facts=facts, write=self._standing.save(one))
        started.addErrback(answered.errback)
        return answered

    def _begin(self, one: Standing, wanted: Waiting, then: Callable[[Acted], None]) -> None:
        """Does it, and takes its document away at the end. If that fails, the next start finds nothing left to do."""

        def over(acted: Acted) -> None:
            self._standing.take(one.name)
            fields = {"act": one.act, "target": one.target, "messages": acted.changed, "left": acted.left}
            log.log(logging.ERROR if acted.failed else logging.WARNING, "act is through", extra={"fields": fields})

            def forget() -> None:
                self._standing.keep(self._standing.forget(one.name), lambda: self._later(_RETRY, forget))

            forget()
            then(acted)

        self._relay.act_on_waiting(wanted, over)

    # -- the daemon ----------------------------------------------------------------------------------------------------

    def _log_level(self, asked: ActRequest, who: Authority) -> Done | Deferred[Done]:
        level = asked.target
        if who.accounts is not None:
            raise ControlError("this is about all accounts", Code.ROLE)
        if level not in _LEVELS:
            raise ControlError(f"a level is one of {', '.join(_LEVELS)}", Code.REQUEST)
        stands = self._standing.get(_LEVEL)
        if stands is not None and stands.target == level:
            return Done(f"The log has {level} already, by {stands.by}.", False)
        seconds = number_of(asked, "for", LEVEL_FOR, LEVEL_MOST)
        one = self._standing.stand(_LEVEL, asked, who, {})._replace(until=self._wall() + seconds, survives=False)

        def over() -> None:
            self._level_timer = None
            self._standing.take(_LEVEL)
            logs.override_level(None)
            log.warning("the log is as configured again")

        def then() -> Done:
            if self._level_timer is not None:
                self._level_timer.cancel()
            self._level_timer = self._later(seconds, over)
            self._standing.put(one)
            logs.override_level(level)
            return Done(f"The log has {level} for {seconds:.0f} s.", True)

        return self._standing.done(asked, who, then, facts={"for": int(seconds)})

    def _read_again(self, asked: ActRequest, who: Authority) -> Deferred[Done]:
        if asked.target:
            raise ControlError("`reload` has no target", Code.REQUEST)
        if who.accounts is not None:
            raise ControlError("this is about all accounts", Code.ROLE)

        def then() -> Done:
            self._reload()
            return Done("The configuration is read again; the log and `smppd show config` say what came of it.", True)

        return self._standing.done(asked, who, then)


_LEVEL: Final = "log-level"
_DOING: Final = {EXPIRE: "The end", REQUEUE: "The new routing", MOVE: "The move"}


def _undrained(one: Standing) -> Standing:
    """A drain as it is before this node's links are unbound."""
    return one._replace(more={**one.more, "drained": False})


def _pause_of(name: str) -> str:
    """The document of the pause, or the drain, of an upstream: it has one of them."""
    return f"upstream {name}"


def _waiting_of(one: Standing) -> Waiting | None:
    """The act on messages that a standing act is, None for another one."""
    kind, _, name = one.target.partition(":")
    upto, to = one.more.get("upto"), str(one.more.get("to", ""))
    if one.act not in _DOING or not isinstance(upto, int) or kind not in ("message", "account", "upstream"):
        return None
    message = int(name, 16) if kind == "message" else 0
    return Waiting(
        one.act,
        upto,
        name if kind == "account" else "",
        name if kind == "upstream" else "",
        message,
        to,
    )


def _tell(answered: Deferred[Done], one: Standing, acted: Acted) -> None:
    """Answers with what became of an act on messages."""
    what = {EXPIRE: "ended EXPIRED", REQUEUE: "took another route", MOVE: f"wait for {one.more.get('to')} first"}
    left = f"; {acted.left} have no other route and wait as before" if acted.left else ""
    if acted.failed:
        answered.errback(ControlError("an error interrupted it; it is in the daemon's log", Code.FAILED))
    elif acted.carrier:
        answered.errback(ControlError(f"{one.target} has been released to a carrier: it is left alone"))
    elif acted.changed:
        answered.callback(Done(f"{_some(acted.changed, 'message')} of {one.target} {what[one.act]}{left}.", True))
    elif one.target.startswith("message:") and not acted.left:
        answered.errback(ControlError(f"{one.target} does not wait here", Code.UNKNOWN))
    else:
        answered.callback(Done(f"Nothing of {one.target} waits for that{left}.", False))


def _address(name: str, _who: Authority) -> str | None:
    address, _, length = name.partition("/")
    if "%" in name or (length and not _LENGTH.fullmatch(length)):  # any text could stand there, and in the log
        return None
    try:
        return str(ip_address(address))
    except ValueError:
        return None


def _message(name: str, _who: Authority) -> str | None:
    identity = parse_shown(name.encode("ascii", "replace"))
    return f"{identity:016x}" if identity else None


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


__all__ = ["ActRoom"]
