"""What the pages show and do: names that attack, roles, owners, empty states, and acts with their reasons."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import unquote

import pytest

from smppd.console.page import download, show
from smppd.office.explaining import Part
from smppd.operators.roles import Role
from smppd.policy.explain import Explanation
from tests.console.conftest import Installation
from tests.console.fake import Browser, account, message, queue, session, upstream

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egnp\x1b[31m"
PAGES = (
    "/",
    "/sessions",
    "/upstreams",
    "/accounts",
    "/queues",
    "/messages",
    "/limits",
    "/bans",
    "/acts",
    "/rules",
    "/config",
)


@pytest.mark.parametrize("path", [*PAGES, "/accounts/acme", "/logins"])
def test_every_page_is_a_page(place: Installation, path: str) -> None:
    browser = place.logged_in("ada")
    assert browser.get(path).status == 200, browser.words
    text = browser.text
    assert text.count("<h1>") == 1 and 'lang="en"' in text and 'href="#main"' in text
    assert text.count("<table") == text.count("<caption>")
    assert "style=" not in text and "<style" not in text and " on" + "click" not in text
    assert all("src=" in script for script in re.findall(r"<script[^>]*>", text))
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)), "an id stands once"
    assert 'aria-current="page"' in text or path == "/accounts/acme"


def test_the_first_page_says_what_is_wrong_and_what_flows(place: Installation) -> None:
    browser = place.logged_in("ada")
    browser.get("/")
    assert "upstreams degraded b is down" in browser.words and "store" not in browser.words.split("accepted")[0]
    assert browser.text.count("<svg") == 2 * 2 + 2 * 2
    assert "no link" in browser.words
    place.daemon.shows["health"] = {"ready": True, "state": "ready", "checks": {"store": "ok"}}
    place.now += 3
    browser.get("/")
    assert "every check of the daemon is well" in browser.words


def test_what_others_chose_is_never_markup(place: Installation) -> None:
    daemon = place.daemon
    hostile = HOSTILE
    tls = {"version": hostile, "cipher": hostile, "subject": hostile}
    daemon.shows |= {
        "sessions": [session(name=hostile, address=hostile, tls=tls, last_pdu=hostile, state=hostile, id=hostile)],
        "accounts": [account(hostile, suspended={"since": 0, "by": hostile, "reason": hostile}), account()],
        "upstreams": [upstream(hostile, address=hostile, last_error=hostile, act={"act": hostile, "reason": hostile})],
        "queues": [queue(account=hostile, upstreams=[hostile], why=hostile, oldest_id=hostile)],
        "messages": [message(**{"id": hostile, "from": hostile, "to": hostile, "phase": hostile, "upstream": hostile})],
        "bans": [{"address": hostile, "scope": hostile, "who": hostile, "left": 1}],
        "acts": [
            {
                "act": hostile,
                "target": hostile,
                "since": 0,
                "by": hostile,
                "reason": hostile,
                "until": None,
                "survives": True,
            }
        ],
        "suspensions": [{"account": hostile, "since": 0, "by": hostile, "reason": hostile, "hits": 1}],
        "limits": [{"name": hostile, "of": hostile, "limit": 8, "used": 1, "share": 0.1}],
        "rules": [{"policy": hostile, "rule": hostile, "mode": hostile, "hits": 0, "shadow": 1}],
        "health": {"ready": False, "state": hostile, "checks": {hostile: f"failed: {hostile}"}},
        "flow": {"step": 1, "from": 0, "accounts": {hostile: {"accepted": [1, 2]}}, "upstreams": {hostile: {}}},
    }
    daemon.shows["config"] |= {"path": hostile, "settings": {hostile: [{hostile: hostile}]}}
    daemon.shows["config"]["last_reload"] = {"at": 0, "result": hostile, "faults": [hostile]}
    browser = place.logged_in("ada")
    for path in (*PAGES, "/sessions?name=" + "%3Cscript%3E%22", "/act/kick?target=%3Cscript%3E%22%3E", "/logins"):
        browser.get(path)
        assert browser.reply.status == 200, browser.words
        text = browser.text
        assert "<script>" not in text and "<img" not in text and "onerror=alert(2)>" not in text
        assert "\u202e" not in text and "\x1b" not in text, path
        for tag in re.findall(r"<[a-z][^>]*>", text):
            assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"', '""', tag)), tag


def test_a_browser_that_calls_itself_hostile_is_shown_so(place: Installation) -> None:
    browser = Browser(place.app)
    browser.get("/login")
    browser.post("/login", {"form": browser.token(), **place.claim("ada")}, user_agent=HOSTILE)
    browser.post("/login/code", {"form": browser.token(), "code": place.code("ada")}, user_agent=HOSTILE)
    browser.get("/logins")
    assert "&lt;script&gt;" in browser.text and "<script>" not in browser.text


# -- acts ----------------------------------------------------------------------------------------------------------------


def test_an_act_asks_for_a_reason_and_says_back_what_the_daemon_said(place: Installation) -> None:
    browser = place.logged_in("ada")
    browser.get("/sessions")
    assert 'href="/act/kick?target=c17"' in browser.text
    browser.get("/act/kick?target=c17")
    assert "It is unbound" in browser.words and "192.0.2.7:40123" in browser.words
    assert not place.daemon.acts(), "a link does nothing"
    reply = browser.post("/act/kick", {"form": browser.token(), "target": "c17", "reason": "does not answer"})
    assert reply.status == 303 and browser.location == "/sessions"
    assert place.daemon.acts() == [
        {"v": 1, "do": "act", "act": "kick", "target": "c17", "reason": "does not answer", "operator": "ada"}
    ]
    browser.get("/sessions")
    assert "kick of c17 is done." in browser.words
    browser.get("/sessions")
    assert "is done" not in browser.words


def test_an_account_and_an_upstream_of_one_name_are_told_apart(place: Installation) -> None:
    place.daemon.shows["upstreams"] = [upstream("acme", waiting=77)]
    place.daemon.shows["sessions"].append(session(id="u5", side="carrier", name="acme", address="192.0.2.201:3550"))
    browser = place.logged_in("ada")
    for page, words in (
        ("/accounts/acme", {"kick": "192.0.2.7:40123", "requeue": "Waiting 40", "expire": "Waiting 40"}),
        ("/upstreams", {"kick": "192.0.2.201:3550", "requeue": "Waiting for it 77"}),
    ):
        browser.get(page)
        links = dict(re.findall(r'href="(/act/(?:kick|requeue|expire)\?target=\w+%3Aacme)"()', browser.text))
        assert len(links) == len(words)
        for link in links:
            browser.get(link)
            act = link.split("/")[2].partition("?")[0]
            assert words[act] in browser.words and "all 2" not in browser.words
            browser.post(
                f"/act/{act}", {"form": browser.token(), "target": unquote(link.partition("=")[2]), "reason": "r"}
            )
    assert [one["target"] for one in place.daemon.acts()].count("account:acme") == 3
    assert [one["target"] for one in place.daemon.acts()].count("upstream:acme") == 2


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201])
def test_an_act_without_a_reason_is_not_done(place: Installation, reason: str) -> None:
    browser = place.logged_in("ada")
    reply = browser.send("/act/suspend", {"target": "acme", "reason": reason}, page="/act/suspend?target=acme")
    assert reply.status == 400 and "1 to 200 characters" in browser.words and not place.daemon.acts()


@pytest.mark.parametrize(
    ("code", "status"), [("state", 409), ("unknown", 404), ("role", 403), ("request", 400), ("failed", 503), ("", 503)]
)
def test_what_the_daemon_refuses_is_said_and_the_form_keeps_what_was_typed(
    place: Installation, code: str, status: int
) -> None:
    place.daemon.refuses = (code, "carrier-a is being drained")
    browser = place.logged_in("ada")
    fields = {"target": "carrier-a", "reason": "they asked", "for": "45s"}
    reply = browser.send("/act/drain", fields, page="/act/drain?target=carrier-a")
    assert reply.status == status and "Carrier-a is being drained." in browser.words
    assert 'value="they asked"' in browser.text and 'value="45s"' in browser.text


def test_the_fields_of_acts(place: Installation) -> None:
    browser = place.logged_in("ada")
    for act, fields, sent in (
        ("drain", {"target": "carrier-a", "for": "2m"}, {"for": 120}),
        ("move", {"target": "carrier-a", "to": "carrier-b"}, {"to": "carrier-b"}),
        ("expire", {"target": "acme", "older_than": "1h"}, {"older_than": 3600}),
        ("expire", {"target": "acme", "older_than": ""}, {}),
        ("log-level", {"target": "debug", "for": "15m"}, {"for": 900}),
        ("reload", {"target": ""}, {}),
        ("unban", {"target": "198.51.100.9"}, {}),
    ):
        page = f"/act/{act}?target={fields['target']}"
        assert browser.send(f"/act/{act}", {**fields, "reason": "r"}, page=page).status == 303, browser.words
        found = place.daemon.acts()[-1]
        assert found == {
            "v": 1,
            "do": "act",
            "act": act,
            "target": fields["target"],
            "reason": "r",
            "operator": "ada",
            **sent,
        }
    for act, fields in (
        ("drain", {"for": "soon"}),
        ("drain", {"for": ""}),
        ("move", {"to": ""}),
        ("drain", {"for": "99d"}),
    ):
        before = len(place.daemon.acts())
        page = f"/act/{act}?target=carrier-a"
        assert browser.send(f"/act/{act}", {"target": "carrier-a", "reason": "r", **fields}, page=page).status == 400
        assert len(place.daemon.acts()) == before
    assert browser.get("/act/format?target=x").status == 404
    assert browser.get("/act/kick").status == 400


# -- roles ---------------------------------------------------------------------------------------------------------------


def test_a_wrong_role_is_refused(place: Installation) -> None:
    browser = place.logged_in("sue")
    assert browser.get("/sessions").status == 200 and "/act/" not in browser.text
    for path in ("/act/kick?target=c17", "/config", "/bans"):
        assert browser.get(path).status == 403 and "No role of yours" in browser.words
    browser.get("/logins")
    for path in ("/act/kick", "/act/suspend"):
        assert browser.post(path, {"form": "x", "target": "c17", "reason": "r"}).status == 403
    assert not place.daemon.acts()
    auditor = place.logged_in("aud")
    assert auditor.get("/").status == 200 and "acme" not in auditor.words
    assert auditor.get("/rules").status == 200 and auditor.get("/accounts").status == 403
    assert [(event, who, what["act"]) for event, who, what, _ in place.entries if what.get("reason") == "role"] == [
        ("login refused", "sue (console)", act) for act in ("runtime",) * 5
    ] + [("login refused", "aud (console)", "search")]


@pytest.mark.parametrize("role", list(Role))
def test_a_page_in_the_menu_asks_for_nothing_that_its_role_may_not_see(place: Installation, role: Role) -> None:
    place.add("max", role, accounts=("acme",) if role is Role.ACCOUNT_OWNER else ())
    browser = place.logged_in("max")
    browser.get("/")
    paths = re.findall(r'<li><a href="([^"]+)"', browser.text)
    assert len(paths) > 2
    for path in set(paths) & set(PAGES):
        assert browser.get(path).status == 200, (path, browser.words)


def test_an_owner_sees_his_account_alone(place: Installation) -> None:
    browser = place.logged_in("olga")
    for path in ("/", "/sessions", "/accounts", "/accounts/acme", "/queues", "/messages"):
        assert browser.get(path).status == 200, browser.words
        assert "other" not in browser.words and "carrier-b" not in browser.words.replace("carrier-a, carrier-b", "")
    for path in (
        "/accounts/other",
        "/upstreams",
        "/bans",
        "/config",
        "/rules",
        "/limits",
        "/acts",
        "/act/kick?target=c17",
    ):
        assert browser.get(path).status == 404, path
    assert {one.get("operator") for one in place.daemon.asked} == {"olga"}


def test_what_was_shown_to_one_is_not_shown_to_another_who_sees_less(place: Installation) -> None:
    ada, olga, sue = place.logged_in("ada"), place.logged_in("olga"), place.logged_in("sue")
    ada.get("/accounts")
    olga.get("/accounts")
    assert "other" in ada.words and "other" not in olga.words
    before = len(place.daemon.asked)
    sue.get("/accounts")
    assert len(place.daemon.asked) == before + 1, "other roles are another question"


def test_many_browsers_cost_the_daemon_no_more_than_one(place: Installation) -> None:
    browsers = [place.logged_in("ada") for _ in range(3)]
    place.now += 3
    for one in browsers * 5:
        one.get("/sessions")
    assert len([one for one in place.daemon.asked if one["do"] == "show sessions"]) == 1
    place.now += 2.1
    browsers[0].get("/sessions")
    assert len([one for one in place.daemon.asked if one["do"] == "show sessions"]) == 2


# -- bad days ------------------------------------------------------------------------------------------------------------


def test_a_daemon_that_does_not_answer_is_said(place: Installation) -> None:
    browser = place.logged_in("ada")
    place.daemon.down = True
    for path in PAGES:
        assert browser.get(path).status == 503 and "No smppd runs" in browser.words, path
    assert browser.get("/logins").status == 200, "what needs no daemon works"


def test_an_answer_that_is_none_fails_one_page_alone(place: Installation, caplog: pytest.LogCaptureFixture) -> None:
    browser = place.logged_in("ada")
    place.daemon.shows["sessions"] = [{"id": "c1"}]
    assert browser.get("/sessions").status == 500 and "console's log" in browser.words
    assert browser.get("/queues").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/accounts/../config", 404),
        ("/accounts/a%00b", 404),
        ("/accounts/nobody", 404),
        ("/sessions?" + "&".join(f"a{n}=1" for n in range(101)), 400),
        ("/sessions?name=" + "x" * 2001, 400),
        ("/sessions?page=999999999999", 200),
        ("/sessions?page=-1&side=%22&name=%00", 200),
    ],
)
def test_odd_requests(place: Installation, path: str, status: int) -> None:
    browser = place.logged_in("ada")
    assert browser.get(path).status == status


def test_methods(place: Installation) -> None:
    browser = place.logged_in("ada")
    assert browser._ask("DELETE", "/sessions", b"", {}).status == 405
    assert browser._ask("POST", "/sessions", b"{}", {"content-type": "application/json"}).status == 400
    browser.get("/sessions")
    assert browser.post("/sessions", {"form": browser.token()}).status == 405
    assert browser.get("/logout").status == 303 and browser.get("/").status == 200, "a link logs nobody out"


@pytest.mark.parametrize("name", ["acme+eu", "a@b.example", "100%25", "x(1)&y?z#", "<b>"])
def test_every_name_that_an_account_may_have_has_its_page(place: Installation, name: str) -> None:
    place.daemon.shows["accounts"] = [account(name)]
    browser = place.logged_in("ada")
    browser.get("/accounts")
    (path,) = re.findall(r'href="(/accounts/[^"]+)"', browser.text)
    assert browser.get(unescape(path)).status == 200 and name in browser.words.replace(" ", "")


def test_empty_lists_say_what_to_do(place: Installation) -> None:
    for what in ("sessions", "accounts", "upstreams", "queues", "messages", "bans", "acts", "limits", "rules"):
        place.daemon.shows[what] = []
    browser = place.logged_in("ada")
    for path in PAGES[:-1]:
        assert browser.get(path).status == 200
        assert 'class="empty"' in browser.text, path


def test_a_thousand_accounts_are_pages(place: Installation) -> None:
    place.daemon.shows["accounts"] = [account(f"account-{number:04}") for number in range(1000)]
    browser = place.logged_in("ada")
    browser.get("/accounts")
    assert (
        "1 to 100 of 1,000" in browser.words and "account-0099" in browser.words and "account-0100" not in browser.words
    )
    browser.get("/accounts?page=10")
    assert "901 to 1,000 of 1,000" in browser.words and 'rel="next"' not in browser.text
    browser.get("/accounts?name=ACCOUNT-07")
    assert "account-0777" in browser.words and "account-0800" not in browser.words
    browser.get("/")
    assert "the busiest 25 of 1,000" in browser.words


def test_what_is_shown_stands_in_no_repr() -> None:
    part = Part(Explanation([], None), ["447700900123"], None)
    for one in (show("search", rows=["447700900123"]), download(b"447700900123", "text/plain", "447700900123"), part):
        assert "***" in repr(one) and "447700900123" not in repr(one)
