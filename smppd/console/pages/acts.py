"""Acts on the running daemon: those in force, and the page that says what an act does and asks for the reason.

Nothing is done by a link: a link leads here, and the form of this page does it. The daemon decides and says what it did; its
sentence is shown as it is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from smppd.config.units import parse_duration
from smppd.console.page import Answer, Asked, Page, Refusal, go, show
from smppd.operators.roles import Act

REASON_MAX: Final = 200
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_LONGEST: Final = 30 * 86400.0
_KINDS: Final = frozenset({"account", "upstream"})
"""Kinds that are said before a name, since a partner may be both."""


class Field(NamedTuple):
    """Something else that an act asks. kind: `duration`, or `upstream` to choose one. given: what stands there first."""

    name: str
    label: str
    kind: str
    given: str = ""
    optional: bool = False


class Form(NamedTuple):
    """An act as its page shows it. verb: on the button. what: what it does, in a sentence or two. of: what its target is.
    destroys: whether it cannot be undone. back: where to go afterwards."""

    verb: str
    of: str
    what: str
    back: str
    destroys: bool = False
    fields: tuple[Field, ...] = ()


FORMS: Final[dict[str, Form]] = {
    "kick": Form(
        "Cut",
        "session",
        "It is unbound: what it has asked for is answered first. Nothing that was acknowledged is lost. A customer may bind"
        " again at once; a link to a carrier binds again by itself.",
        "/sessions",
        destroys=True,
    ),
    "suspend": Form(
        "Suspend",
        "account",
        "Its submits are refused from now on, through a restart too. Its sessions stay bound and get their receipts.",
        "/accounts",
    ),
    "resume": Form("Resume", "account", "It may submit again.", "/accounts"),
    "pause": Form(
        "Pause",
        "upstream",
        "No message is sent to it, through a restart too; routes take their next upstream. Receipts still come in.",
        "/upstreams",
    ),
    "unpause": Form("Unpause", "upstream", "Messages are sent to it again. This ends a drain too.", "/upstreams"),
    "drain": Form(
        "Drain",
        "upstream",
        "No message is sent to it; what it has is answered, receipts are waited for, then its links are unbound.",
        "/upstreams",
        fields=(Field("for", "Wait for receipts", "duration", "30s"),),
    ),
    "unban": Form("Lift", "address", "All bans and delays of this address end.", "/bans"),
    "expire": Form(
        "End as EXPIRED",
        "message",
        "What waits ends now, with an EXPIRED receipt to the customer. What a carrier has already is left alone. This cannot be"
        " taken back.",
        "/messages",
        destroys=True,
        fields=(Field("older_than", "Only what is older than", "duration", optional=True),),
    ),
    "requeue": Form("Route anew", "message", "What waits takes the route that it has now.", "/messages"),
    "move": Form(
        "Move",
        "upstream",
        "What waits for this upstream first waits for another one; the order is kept.",
        "/upstreams",
        fields=(Field("to", "To", "upstream"),),
    ),
    "log-level": Form(
        "Set",
        "level",
        "The daemon's log has this level for a while, then the configured one again.",
        "/acts",
        fields=(Field("for", "For", "duration", "15m"),),
    ),
    "reload": Form(
        "Reload",
        "",
        "The configuration is read again, all or nothing. `smppd check --plan` says beforehand what it would change.",
        "/config",
    ),
}


def _acts(asked: Asked) -> Answer:
    return show(
        "acts", acts=asked.daemon.show("acts"), suspensions=asked.daemon.show("suspensions"), levels=_LOG_LEVELS
    )


def _act(asked: Asked) -> Answer:
    name = asked.args["act"]
    form = FORMS.get(name)
    if form is None:
        raise Refusal(404, "There is no such act.")
    given = asked.form if asked.method == "POST" else asked.query
    target = given.get("target", "").strip()
    if form.of and not target:
        raise Refusal(400, "This act needs a target: choose it on the page where it is listed.")
    sentence, status = "", 200
    if asked.method == "POST":
        reason = given.get("reason", "").strip()
        try:
            fields = _fields(form, given)
            if not 1 <= len(reason) <= REASON_MAX:
                raise Refusal(400, f"A reason has 1 to {REASON_MAX} characters.")
            return go(form.back, asked.daemon.act(name, target, reason, **fields))
        except Refusal as refusal:
            # What was typed stays; the sentence says what to mend.
            sentence, status = refusal.sentence, refusal.status
    choices = (
        [one["name"] for one in asked.daemon.show("upstreams")]
        if any(field.kind == "upstream" for field in form.fields)
        else []
    )
    return show(
        "act",
        status,
        title=f"{form.verb} {target}".strip(),
        name=name,
        form=form,
        target=target,
        given=given,
        about=_about(asked, form, name, target),
        choices=[one for one in choices if one != target],
        reason_max=REASON_MAX,
        sentence=sentence,
    )


def _fields(form: Form, given: Any) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for field in form.fields:
        typed = str(given.get(field.name, "")).strip()
        if not typed and field.optional:
            continue
        if field.kind != "duration":
            if not typed:
                raise Refusal(400, f"{field.label}: choose one.")
            found[field.name] = typed
            continue
        try:
            seconds = parse_duration(typed)
        except ValueError:
            raise Refusal(400, f"{field.label}: write a time such as 30s, 15m or 2h.") from None
        if not 0 <= seconds <= _LONGEST:
            raise Refusal(400, f"{field.label}: 30d at most.")
        found[field.name] = int(seconds)
    return found


def _about(asked: Asked, form: Form, name: str, target: str) -> list[tuple[str, str]]:
    """What the target is now, so that nobody acts on another one than he means."""
    kind, named = _meant(form, target)
    if name == "kick":
        sides = {"account": ("customer",), "upstream": ("carrier",)}.get(kind, ("customer", "carrier"))
        found = [
            one
            for one in asked.daemon.show("sessions")
            if one["side"] in sides and named in (one["id"], one["name"], one["address"])
        ]
        if not found:
            return [("Sessions", "none: it has ended already, or there is none of this name")]
        if len(found) > 1:
            return [("Sessions", f"all {len(found)} of {named}")]
        one = found[0]
        return [("Of", one["name"] or "nobody yet"), ("Address", one["address"]), ("State", one["state"])]
    if kind == "upstream":
        up = next((one for one in asked.daemon.show("upstreams") if one["name"] == named), None)
        if up is not None:
            return [("State", up["state"]), ("Links", str(up["links"])), ("Waiting for it", f"{up['waiting']:,}")]
    if kind == "account":
        one = next((one for one in asked.daemon.show("accounts") if one["name"] == named), None)
        if one is not None:
            suspended = "suspended" if one["suspended"] or one["configured_suspended"] else "not suspended"
            return [("State", suspended), ("Sessions", str(one["sessions"])), ("Waiting", f"{one['queued']:,}")]
    return []


def _meant(form: Form, target: str) -> tuple[str, str]:
    """The kind and the name of a target: `account:acme`, as one is told from an upstream of the same name."""
    kind, mark, name = target.partition(":")
    return (kind, name) if mark and kind in _KINDS else (form.of, target)


PAGES: Final = (
    Page("/acts", "Acts in force", Act.SEARCH, _acts, "Traffic", live=True, also=frozenset({Act.RUNTIME})),
    Page("/act/{act}", "Act", Act.RUNTIME, _act, posts=True),
)
