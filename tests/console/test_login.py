"""Who gets in and how long he stays: transcripts of browsers at the login, on a clock of the test's own."""

from __future__ import annotations

import pytest

from smppd.console.gate import LOGINS_EACH, SECOND_LOOK
from smppd.operators import totp
from smppd.operators.attempts import FREE
from smppd.operators.login import REFUSAL_FLOOR
from tests.console.conftest import Installation
from tests.console.fake import Browser

REFUSED = "do not fit together"


def test_a_new_browser_gives_two_codes_and_a_known_one_gives_one(place: Installation) -> None:
    browser = place.logged_in("ada")
    assert browser.get("/").status == 200
    assert "This browser or network was not known" in browser.words
    browser.get("/")
    assert "was not known" not in browser.words, "it is said once"
    browser.send("/logout", {}, page="/")
    assert browser.location == "/login" and browser.get("/").status == 303
    browser.send("/login", place.claim("ada"))
    assert browser.location == "/", "this browser is known now"
    assert [(event, what.get("browser"), result) for event, _, what, result in place.entries] == [
        ("login", "new", "second code asked"),
        ("login", "new", "done"),
        ("login", "known", "done"),
    ]


@pytest.mark.parametrize(
    ("address", "known"), [("192.0.2.99", True), ("198.51.100.1", False), ("2001:db8::1", False), ("", False)]
)
def test_a_known_browser_from_another_network_is_looked_at_again(
    place: Installation, address: str, known: bool
) -> None:
    browser = place.logged_in("ada")
    browser.send("/logout", {}, page="/")
    browser.address = address
    browser.send("/login", place.claim("ada"))
    assert (browser.location == "/") is known
    assert ("Next code" in browser.text) is not known


def test_one_operators_browser_is_not_anothers(place: Installation) -> None:
    browser = place.logged_in("ada")
    browser.send("/logout", {}, page="/")
    browser.send("/login", place.claim("sue"))
    assert "Next code" in browser.text


def test_every_failed_login_is_one_answer(place: Installation) -> None:
    place.change("sue", disabled=True)
    pages = set()
    for fields in (
        {"passphrase": "wrong"},
        {"code": "000000"},
        {"code": ""},
        {"name": "nobody"},
        {"name": "../../x"},
        {"name": "sue"},
    ):
        browser = Browser(place.app)
        reply = browser.send("/login", {**place.claim("ada"), **fields})
        assert reply.status == 403 and reply.floor == REFUSAL_FLOOR and REFUSED in browser.words
        assert "__Host-smppd-session" not in browser.cookies
        pages.add(browser.text.replace(browser.token(), ""))
    assert len(pages) == 1
    reasons = [what["reason"] for event, _, what, _ in place.entries]
    assert (
        reasons == ["passphrase", "code", "code", "unknown name", "unknown name", "passphrase"] or "disabled" in reasons
    )
    assert "wrong" not in str(place.entries) and "nobody" not in str(place.entries)


def test_a_recovery_code_works_and_is_used_up(place: Installation) -> None:
    browser = Browser(place.app)
    browser.send("/login", place.claim("ada", code=place.recovery["ada"][0]))
    browser.post("/login/code", {"form": browser.token(), "code": place.recovery["ada"][0]})
    assert REFUSED in browser.words, "each code works once"
    browser.post("/login/code", {"form": browser.token(), "code": place.recovery["ada"][1]})
    assert browser.location == "/"
    browser.get("/")
    assert "6 are left" in browser.words
    assert place.entries[-1][2]["codes_left"] == 6


def test_the_second_code_is_not_the_first_again(place: Installation) -> None:
    browser = Browser(place.app)
    claim = place.claim("ada")
    browser.send("/login", claim)
    browser.post("/login/code", {"form": browser.token(), "code": claim["code"]})
    assert browser.reply.status == 403 and REFUSED in browser.words


def test_the_second_look_ends_and_is_of_the_place_where_it_began(place: Installation) -> None:
    browser = Browser(place.app)
    browser.send("/login", place.claim("ada"))
    token = browser.token()
    other = Browser(place.app, address="198.51.100.1")
    other.cookies = dict(browser.cookies)
    other.post("/login/code", {"form": token, "code": place.code("ada")})
    assert other.reply.status == 403 and "too long" in other.words
    place.now += SECOND_LOOK
    browser.post("/login/code", {"form": token, "code": place.code("ada")})
    assert browser.reply.status == 403 and "too long" in browser.words
    assert Browser(place.app).get("/login/code").status == 303


def test_guessing_is_slowed_down_at_the_second_code_too(place: Installation) -> None:
    browser = Browser(place.app)
    browser.send("/login", place.claim("ada"))
    for _ in range(8):
        browser.post("/login/code", {"form": browser.token(), "code": "000000"})
    right = totp.code_at(place.people["ada"].secret, int(place.now) // totp.STEP + 1)
    browser.post("/login/code", {"form": browser.token(), "code": right})
    assert browser.reply.status == 403, "it has to wait now, whatever the code"
    asked, *refused = place.entries
    assert asked[3] == "second code asked", "somebody has passphrase and code, whether he comes in or not"
    assert [what.get("reason") for _, _, what, _ in refused] == ["code"] * FREE, "the others are told together"


def test_a_login_ends_when_nobody_clicks(place: Installation) -> None:
    browser = place.logged_in("ada")
    place.now += 299
    assert browser.get("/sessions").status == 200
    place.now += 299
    assert browser.get("/sessions").status == 200, "a click keeps it"
    for _ in range(30):  # what the page asks by itself does not
        place.now += 10
        status = browser.get("/sessions", hx_request="true").status
    assert status == 401 and dict(browser.reply.headers)["HX-Refresh"] == "true"
    browser.get("/sessions")
    assert browser.location == "/login?ended=1" and "__Host-smppd-session" not in browser.cookies
    browser.get(browser.location)
    assert "Your login has ended" in browser.words


def test_a_login_ends_whatever_is_done(place: Installation) -> None:
    browser = place.logged_in("ada")
    began = place.now
    while browser.get("/sessions").status == 200:
        place.now += 60
    assert 900 <= place.now - began + 30 <= 961


@pytest.mark.parametrize("fields", [{"disabled": True}, {"phc": "x"}, {"networks": ("198.51.100.0/24",)}])
def test_a_login_ends_with_any_change_of_its_operator(place: Installation, fields: dict[str, object]) -> None:
    browser = place.logged_in("sue")
    assert browser.get("/").status == 200
    place.change("sue", **fields)
    assert browser.get("/").status == 303


def test_a_login_is_of_one_network(place: Installation) -> None:
    browser = place.logged_in("ada")
    browser.address = "198.51.100.1"
    assert browser.get("/").status == 303
    browser.address = "192.0.2.50"
    assert browser.get("/").status == 303, "a token that was seen elsewhere opens nothing any more"


def test_own_logins_are_listed_and_ended(place: Installation) -> None:
    first, second = place.logged_in("ada"), place.logged_in("ada", address="198.51.100.1")
    place.logged_in("sue")
    first.get("/logins")
    assert first.text.count("<tr><td") == 2 and "this one" in first.words and "198.51.100.1" in first.words
    found = first.text.split('name="id" value="')[1].split('"')[0]
    first.post("/logins", {"form": first.token(), "id": found})
    assert first.location == "/logins"
    assert second.get("/").status == 303 and first.get("/").status == 200
    assert first.send("/logins", {"id": found}).status == 404


def test_of_too_many_logins_the_oldest_ends(place: Installation) -> None:
    browsers = [place.logged_in("ada")]
    for _ in range(LOGINS_EACH):
        place.now += 1
        browsers.append(Browser(place.app))
        browsers[-1].cookies = {"__Host-smppd-browser": browsers[0].cookies["__Host-smppd-browser"]}
        browsers[-1].send("/login", place.claim("ada"))
    place.now -= 600
    assert [one.get("/logins").status for one in browsers[1:]] == [200] * LOGINS_EACH or place.now


def test_a_form_needs_the_token_of_its_own_login(place: Installation) -> None:
    browser, other = place.logged_in("ada"), place.logged_in("sue")
    other.get("/logins")
    for token in ("", "0" * 32, other.token() if 'name="form"' in other.text else "x"):
        reply = browser.post("/act/kick", {"form": token, "target": "c17", "reason": "no answer"})
        assert reply.status == 403 and not place.daemon.acts()
    login = Browser(place.app)
    assert login.post("/login", place.claim("ada")).status == 403, "the login form has one too"


def test_a_form_from_another_site_is_refused(place: Installation) -> None:
    browser = place.logged_in("ada")
    browser.get("/act/kick?target=c17")
    fields = {"form": browser.token(), "target": "c17", "reason": "no answer"}
    for site in ("cross-site", "same-site"):
        assert browser.post("/act/kick", fields, sec_fetch_site=site).status == 403
    assert not place.daemon.acts()
    assert browser.post("/act/kick", fields, sec_fetch_site="same-origin").status == 303


def test_without_tls_the_cookies_say_so(place: Installation) -> None:
    browser = place.logged_in("ada", secure=False, address="")
    assert set(browser.cookies) == {"smppd-session", "smppd-browser"}


@pytest.mark.parametrize(
    "others", ['state={"a": "b"}', 'a=b c; d[1]="', 'smppd-session=x y; smppd-form="', "=; ;;", "\xff=\0"]
)
def test_cookies_of_other_servers_on_this_host_are_in_nobodys_way(place: Installation, others: str) -> None:
    browser = place.logged_in("ada", secure=False, address="")
    session = browser.cookies["smppd-session"]
    browser.cookies = {others.partition("=")[0]: others.partition("=")[2], "smppd-session": session}
    assert browser.get("/").status == 200
    other = Browser(place.app, secure=False, address="")
    other.cookies = {"state": '{"a": "b"}'}
    other.send("/login", place.claim("ada"))
    assert "Next code" in other.words


@pytest.mark.parametrize("cookie", ["", "x", "0" * 64, "\xff" * 200])
def test_a_cookie_that_is_none_of_ours_opens_nothing(place: Installation, cookie: str) -> None:
    browser = Browser(place.app)
    browser.cookies = {"__Host-smppd-session": cookie} if cookie else {}
    assert browser.get("/").status == 303 and browser.location.startswith("/login")
