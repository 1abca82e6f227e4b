"""Links and their domains in every disguise."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy.links import _FOUND, _FOUND_ASCII, _SIGNS, DomainIndex, canonical, find, suspicious


def links(text: str) -> list[str]:
    found = [host.name for host in find(text).hosts if host.link]
    assert not found or suspicious(text), "the cheap test must let every link through"
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go to http://evil.example/x now", ["evil.example"]),
        ("HTTPS://EVIL.EXAMPLE", ["evil.example"]),
        ("https://evil.example.", ["evil.example"]),
        ("see evil.com, or other.co.uk!", ["evil.com", "other.co.uk"]),
        ("evil.com.", ["evil.com"]),
        ("(evil.com)", ["evil.com"]),
        ("visit:bit.ly/x", ["bit.ly"]),
        ("evil.com:8080/x", ["evil.com"]),
        ("http://evil.example:8443", ["evil.example"]),
        ("http://bank.example@evil.example/", ["evil.example"]),
        ("http://user:pass@evil.example:80/?a=b", ["evil.example"]),
        ("www.evil", ["www.evil"]),
        ("ev\u200bil.\u2060com", ["evil.com"]),
        ("ｅｖｉｌ．ｃｏｍ", ["evil.com"]),
        ("evil。com/开奖", ["evil.com"]),
        ("evil․com", ["evil.com"]),
        ("пример.рф", ["xn--e1afmkfd.xn--p1ai"]),
        ("ПРИМЕР.РФ", ["xn--e1afmkfd.xn--p1ai"]),
        ("xn--e1afmkfd.xn--p1ai", ["xn--e1afmkfd.xn--p1ai"]),
        ("http://192.0.2.1/x", ["192.0.2.1"]),
        ("192.0.2.1/x", ["192.0.2.1"]),
        ("https://ok.com/,https://evil.com/a", ["ok.com", "evil.com"]),
        ("ok.com/http://evil.example", ["ok.com", "evil.example"]),
        ("https://ok.com/index.py", ["ok.com"]),
        ("hxxp://evil.example", ["evil.example"]),
        ("//evil.example", ["evil.example"]),
        ("Größe: bücher.de", ["xn--bcher-kva.de"]),
        ("hxxps://evil[.]example/x", ["evil.example"]),
        ("evil[.]com", ["evil.com"]),
        ("evil (dot) com", ["evil.com"]),
        ("evil{punkt}com", ["evil.com"]),
        ("EVIL DOT COM", ["evil.com"]),
        ("evil dot co dot uk/x", ["evil.co.uk"]),
        ("evil . com", ["evil.com"]),
        ("evil .com", ["evil.com"]),
        ("evil. com/login", ["evil.com"]),
        ("http[:]//evil.example", ["evil.example"]),
        ("пример точка рф", ["xn--e1afmkfd.xn--p1ai"]),
        # Not links.
        ("", []),
        ("Hello.There and done.Thanks", []),
        ("costs £3.50 or 10.30pm", []),
        ("e.g. this, i.e. that", []),
        ("mail jo.name@host.com", []),
        ("v1.2.3", []),
        ("192.0.2.1", []),
        ("and/or // http://", []),
        ("Dear customer. Your code: 123.", []),
        ("tel:+447700900123", []),
        ("a dot on the i, a polka dot me", []),
        ("le point de rendez-vous", []),
        ("(see below.) OK", []),
        ("Thanks. Me too. In a bit. It is late", []),
        ("costs 5 .50 more", []),
    ],
)
def test_links(text: str, expected: list[str]) -> None:
    assert links(text) == expected


def test_a_mailbox_names_its_domain_and_is_no_link() -> None:
    hosts = find("write to me@evil.com").hosts
    assert [(host.name, host.link) for host in hosts] == [("evil.com", False)]


@pytest.mark.parametrize(
    ("listed", "host", "expected"),
    [
        ("evil.com", "evil.com", True),
        ("evil.com", "www.evil.com", True),
        ("evil.com", "notevil.com", False),
        ("www.evil.com", "evil.com", False),
        ("Bücher.example", "xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", canonical("BÜCHER.example."), True),
        ("straße.example", "xn--strae-oqa.example", True),
    ],
)
def test_domains(listed: str, host: str, expected: bool) -> None:
    index = DomainIndex()
    assert index.add(listed, 1)
    assert bool(index.of(canonical(host))) is expected


def test_no_domain() -> None:
    assert not DomainIndex().add("com", 1)
    assert not DomainIndex().add("..", 1)


def test_every_sign_that_can_make_a_link_is_known() -> None:
    for code in range(128, 0x20000):
        plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", chr(code)).casefold())
        if "." in plain or "/" in plain or "\u3002" in plain:
            assert _SIGNS.search(chr(code) + "x"), hex(code)


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_any_text(text: str) -> None:
    links(text)


@settings(deadline=None, max_examples=200)
@given(st.text('ab.:/@-_é。\u200b \n<"?#1', max_size=60))
def test_any_text_of_signs(text: str) -> None:
    links(text)
    shown = f"x https://evil.example/ {text}"
    assert "evil.example" in links(shown)


@settings(deadline=None, max_examples=200)
@given(st.text('ab9.:/@-_ <"?#', max_size=60))
def test_both_engines_agree(text: str) -> None:
    fast = [(match.span(), match.groups()) for match in _FOUND_ASCII.finditer(text)]
    assert fast == [(match.span(), match.groups()) for match in _FOUND.finditer(text)]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30))
def test_canonical_is_stable(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)
