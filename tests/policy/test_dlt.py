"""Messages to India against a registry: every finding as a table, the matcher held to RE2, what is set."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import AccountDlt, Senders
from smppd.config.dlt import VARIABLES, Content, Template, plain, read_registry, read_template
from smppd.policy.dlt import MOST_STEPS, MOST_TRIED, Catalogue, Compiled, Registered, Steps
from smppd.policy.pipeline import Pipeline, Program
from smppd.policy.senders import SenderBook
from smppd.protocol import wire
from smppd.protocol.wire import Sm
from tests.policy.helpers import TO, FakeList, frame, parts, policy, run, text

# No Indian number begins with 0 behind the country code: nobody has this one.
DELHI = b"910000000123"
REGISTRY = """\
kind,id,entity,header,class,status,text
entity,1101,,,,,
entity,1102,,,,inactive,
entity,1103,,,,blacklisted,
entity,1104,,,,,
header,,1101,ACMEBK-S,,,
header,,1101,ACMEBK-T,,,
header,,1101,ACMENW,,,
header,,1101,OLDBNK,,suspended,
header,,1101,BADBNK,,blacklisted,
header,,1101,600123,promotional,,
header,,1104,OTHERS,,,
template,2001,1101,ACMEBK,service,,"Dear {#alphanumeric#}, order {#numeric#} is on its way. -Acme"
template,2002,1101,ACMEBK,one_time_code,,{#numeric#} is your code. -Acme
template,2003,1101,,promotional,,"Sale at {#url#} till {#alphanumeric#}! -Acme"
template,2004,1101,ACMEBK,service,inactive,Old words {#numeric#} -Acme
template,2005,1101,ACMEBK,service,blacklisted,Bad words {#numeric#} -Acme
template,2006,1104,,service,,Other {#alpha#} -Others
template,2007,1101,,service,,आपका कोड {#numeric#} है -Acme
template,2008,1101,,service,,"Track at https://acme.example/t/{#alphanumeric#} -Acme"
"""
ORDER = "Dear Asha, order 17 is on its way. -Acme"
HASH = hashlib.sha256(b"1101,3001,3002").hexdigest().encode()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    file = tmp_path_factory.mktemp("dlt") / "registry.csv"
    file.write_text(REGISTRY, encoding="utf-8")
    content, bad = read_registry((file,), 30, False)
    assert bad == []
    return Catalogue(content)


def account(catalogue: Catalogue, **given: object) -> Registered:
    given = {"registry": "india", "entity": "1101", "telemarketers": ["3001", "3002"], **given}
    return Registered(AccountDlt.model_validate(given), catalogue)


def pe(value: bytes) -> bytes:
    return wire.tlv(0x1400, value)


def template(value: bytes) -> bytes:
    return wire.tlv(0x1401, value)


def tm(value: bytes) -> bytes:
    return wire.tlv(0x1402, value)


@pytest.mark.parametrize(
    ("words", "sender", "tlvs", "finding"),
    [
        (ORDER, b"ACMEBK", b"", "ok"),
        (ORDER, b"AX-acmebk-S", b"", "ok"),
        (ORDER, b"ACMEBK", pe(b"1101\0") + template(b"2001") + tm(HASH.upper()), "ok"),
        ("Dear  Asha,\norder 17 is on its way.  -Acme ", b"ACMEBK", b"", "ok"),
        ("123456 is your code. -Acme", b"ACMEBK-T", b"", "ok"),
        ("आपका कोड 7 है -Acme", b"ACMENW", b"", "ok"),
        ("Sale at https://acme.example/x till 12/05/2026! -Acme", b"600123", b"", "ok"),
        ("Track at https://acme.example/t/A1 -Acme", b"ACMENW", b"", "ok"),
        (ORDER, b"ACMEBK", pe(b"1104"), "entity_mismatch"),
        (ORDER, b"ACMEBK", tm(b"3002"), "chain_mismatch"),
        (ORDER, b"ACMEBX", b"", "no_header"),
        (ORDER, b"ACME BK", b"", "no_header"),
        (ORDER, b"OTHERS", b"", "header_mismatch"),
        (ORDER, b"OLDBNK", b"", "header_inactive"),
        (ORDER, b"BADBNK", b"", "header_blacklisted"),
        (ORDER + ".", b"ACMEBK", b"", "no_template"),
        ("dear Asha, order 17 is on its way. -Acme", b"ACMEBK", b"", "no_template"),
        ("Dear Asha, order seventeen is on its way. -Acme", b"ACMEBK", b"", "no_template"),
        ("Dear , order 17 is on its way. -Acme", b"ACMEBK", b"", "no_template"),
        (f"Dear {'A' * 30}, order 17 is on its way. -Acme", b"ACMEBK", b"", "ok"),
        (f"Dear {'A' * 31}, order 17 is on its way. -Acme", b"ACMEBK", b"", "no_template"),
        ("Dear $Asha, order 17 is on its way. -Acme", b"ACMEBK", b"", "no_template"),
        (ORDER, b"ACMEBK", template(b"9999"), "no_template"),
        ("Other kind -Others", b"ACMEBK", template(b"2006"), "no_template"),
        ("Other kind -Others", b"ACMEBK", b"", "no_template"),
        (ORDER, b"ACMEBK", template(b"2002"), "template_mismatch"),
        ("Old words 1 -Acme", b"ACMEBK", b"", "template_inactive"),
        ("Bad words 1 -Acme", b"ACMEBK", b"", "template_blacklisted"),
        (ORDER, b"ACMENW", b"", "template_header"),
        ("Dear evil.com, order 17 is on its way. -Acme", b"ACMEBK", b"", "link_in_variable"),
        (ORDER, b"ACMEBK-T", b"", "class_mismatch"),
        ("Sale at https://acme.example/x till May! -Acme", b"ACMEBK", b"", "class_mismatch"),
        ("", b"ACMEBK", b"", "no_template"),
    ],
)
def test_findings(catalogue: Catalogue, words: str, sender: bytes, tlvs: bytes, finding: str) -> None:
    sm = text(words, sender=sender, to=DELHI, tlvs=tlvs)
    assert account(catalogue).look(sm, (words,)).finding == finding
    pipe = Pipeline(Program([policy("p", [{"when": {"dlt": finding}}])]), registered=account(catalogue))
    assert run(pipe, sm) == ["refused r0"]
    pipe = Pipeline(Program([policy("p", [{"unless": {"dlt": finding}}])]), registered=account(catalogue))
    assert not run(pipe, sm)[0].startswith("refused")


@pytest.mark.parametrize(
    ("entity", "tlvs", "finding"),
    [
        (None, b"", "no_entity"),
        (None, pe(b"1101"), "ok"),
        (None, pe(b"1109"), "no_entity"),
        ("1102", b"", "entity_inactive"),
        ("1103", b"", "entity_blacklisted"),
        ("1109", b"", "no_entity"),
    ],
)
def test_entities(catalogue: Catalogue, entity: str | None, tlvs: bytes, finding: str) -> None:
    sm = text(ORDER, sender=b"ACMEBK", to=DELHI, tlvs=tlvs)
    assert account(catalogue, entity=entity).look(sm, (ORDER,)).finding == finding


def test_other_countries_and_other_accounts(catalogue: Catalogue) -> None:
    rules = [{"unless": {"dlt": "ok"}}]
    mine = Pipeline(Program([policy("p", rules)]), registered=account(catalogue, set=True))
    assert run(mine, text("anything", to=TO), text("anything", to=DELHI)) == ["-", "refused r0"]
    assert mine.decide(text("anything", to=TO), 0.0) is None
    nobody = Pipeline(Program([policy("p", rules)]), registered=Registered(None))
    assert run(nobody, text("anything", to=b"+" + DELHI), text("anything", to=TO)) == ["refused r0", "-"]


def test_binary_and_two_texts_fit_no_template(catalogue: Catalogue) -> None:
    pipe = Pipeline(Program([policy("p", [{"when": {"dlt": "no_template"}}])]), registered=account(catalogue))
    assert run(pipe, frame(ORDER.encode(), sender=b"ACMEBK", to=DELHI, coding=4)) == ["refused r0"]
    beside = wire.tlv(0x0424, b"other")
    assert run(pipe, frame(ORDER.encode(), sender=b"ACMEBK", to=DELHI, tlvs=beside)) == ["refused r0"]


# -- what is set ---------------------------------------------------------------------------------------------------


def put(pipe: Pipeline, sm: Sm) -> list[tuple[int, bytes]]:
    verdict = pipe.decide(sm, 0.0)
    return list(verdict.set_tlvs) if verdict is not None else []


def test_set(catalogue: Catalogue) -> None:
    pipe = Pipeline(None, registered=account(catalogue, set=True))
    sm = text(ORDER, sender=b"ACMEBK", to=DELHI)
    assert put(pipe, sm) == [(0x1400, b"1101"), (0x1401, b"2001"), (0x1402, HASH)]
    # What the customer sent stays as it is.
    given = text(ORDER, sender=b"ACMEBK", to=DELHI, tlvs=pe(b"1101") + tm(HASH))
    assert put(pipe, given) == [(0x1401, b"2001")]
    # Without a template there is none to name.
    assert put(pipe, text("x", sender=b"ACMEBK", to=DELHI)) == [(0x1400, b"1101"), (0x1402, HASH)]
    other = account(catalogue, set=True, separator=":", telemarketers=["3001"])
    assert put(Pipeline(None, registered=other), sm)[2] == (0x1402, hashlib.sha256(b"1101:3001").hexdigest().encode())
    assert put(Pipeline(None, registered=account(catalogue)), sm) == []


def test_rules_go_before_it(catalogue: Catalogue) -> None:
    rules: list[dict[str, Any]] = [{"do": {"set_tlv": {0x1401: "9"}}}, {"do": {"drop_tlv": 0x1402}}]
    pipe = Pipeline(Program([policy("p", rules)]), registered=account(catalogue, set=True))
    assert put(pipe, text(ORDER, sender=b"ACMEBK", to=DELHI)) == [(0x1401, b"9"), (0x1400, b"1101")]


@pytest.mark.parametrize(
    ("words", "sender", "kind"),
    [
        (ORDER, b"ACMEBK", "service"),
        ("1 is your code. -Acme", b"ACMEBK", "one_time_code"),
        ("nothing that is registered", b"600123", "promotional"),
        ("nothing that is registered", b"ACMENW-T", "transactional"),
        ("nothing that is registered", b"ACMENW", ""),
    ],
)
def test_the_template_or_the_header_says_the_class(catalogue: Catalogue, words: str, sender: bytes, kind: str) -> None:
    verdict = Pipeline(None, registered=account(catalogue)).decide(text(words, sender=sender, to=DELHI), 0.0)
    assert (verdict.message_class if verdict is not None else "") == kind
    rules = Program([policy("p", [{"do": {"class": "government"}}])])
    verdict = Pipeline(rules, registered=account(catalogue)).decide(text(words, sender=sender, to=DELHI), 0.0)
    assert verdict is not None and verdict.message_class == "government"


# -- parts ---------------------------------------------------------------------------------------------------------

LONG = "Sale at https://acme.example/" + "x" * 200 + " till May! -Acme"


@pytest.mark.parametrize(("words", "last"), [(LONG, "-"), (LONG + "?", "refused r0")])
def test_parts_are_judged_as_one_text(catalogue: Catalogue, words: str, last: str) -> None:
    rules = [{"unless": {"dlt": "ok"}}]
    for hold in (True, False):
        pipe = Pipeline(Program([policy("p", rules, hold=hold)]), registered=account(catalogue))
        said = run(pipe, *parts(words, sender=b"600123", to=DELHI))
        assert said[:-1] == ["hold" if hold else "-"] * (len(said) - 1)
        assert said[-1] in (last, ""), "a class and nothing else is no rule that matched"
    pipe = Pipeline(None, registered=account(catalogue, set=True))
    told = [put(pipe, sm) for sm in parts(words, sender=b"600123", to=DELHI)]
    assert [(0x1401, b"2003") in one for one in told] == [False] * (len(told) - 1) + [last == "-"]
    assert all((0x1400, b"1101") in one for one in told)


# -- the matcher ---------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "a",
        "b",
        " ",
        "ab",
        "1",
        "é",
        ".",
        "{#var#}",
        "{#numeric#}",
        "{#alpha#}",
        "{#alphanumeric#}",
        "{#url#}",
        "{#cbn#}",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=9), st.integers(1, 4), st.data())
def test_the_matcher_says_what_re2_says(pieces: list[str], longest: int, data: st.DataObject) -> None:
    try:
        literals, variables = read_template("".join(pieces), longest, True)
    except ValueError:
        return
    if any(variable.most > 1000 for variable in variables):
        return  # more than RE2 repeats
    one = Compiled(Template("1", "1", frozenset(), "service", "active", literals, variables))
    pattern = re2.escape(literals[0])
    for variable, literal in zip(variables, literals[1:], strict=True):
        characters = VARIABLES[variable.kind].replace(r"\S", r"[^\pZ\s]")
        pattern += f"(?s:{characters}{{{variable.least},{variable.most}}})" + re2.escape(literal)
    made = "".join(
        data.draw(st.sampled_from(["a", "b1", "1", "1 1", "ab.", "é", "$", "aa", "11", "a b"])) if p[0] == "{" else p
        for p in pieces
    )
    for words in (made, data.draw(st.text(st.sampled_from("ab1 é.$"), max_size=12))):
        words = plain(words)
        assert one.fits(words, Steps()) == (re2.fullmatch(pattern, words) is not None), (literals, variables, words)


def test_a_hundred_thousand_templates_cost_as_much_as_one() -> None:
    def made(number: int) -> Template:
        words = f"Dear {{#alphanumeric#}}, your order of kind{number} costs Rs.{{#numeric#}}. -Acme Bank"
        literals, variables = read_template(words, 30, False)
        return Template(str(number), "1", frozenset(), "service", "active", literals, variables)

    many = Catalogue(Content({"1": "active"}, {}, tuple(map(made, range(30_000)))))
    words = "Dear Asha, your order of kind7 costs Rs.12. -Acme Bank"
    assert [one.template.id for one in many.candidates("1", words)] == ["7"]
    assert many.candidates("2", words) == []


def test_templates_that_hardly_differ_are_bounded() -> None:
    same = [Template(str(i), "1", frozenset(), "service", "active", ("Hi ", ""), ()) for i in range(MOST_TRIED + 10)]
    assert len(Catalogue(Content({"1": "active"}, {}, tuple(same))).candidates("1", "Hi you")) == MOST_TRIED


def test_hostile_texts_cost_no_more_than_their_length() -> None:
    literals, variables = read_template("{#var#}a" * 49 + " end", 30, True)
    one = Compiled(Template("1", "1", frozenset(), "service", "active", literals, variables))

    def cost(length: int) -> float:
        words = "a" * length + "b end"
        best = 1.0
        for _ in range(3):
            before = time.process_time()
            assert not one.fits(words, Steps())
            best = min(best, time.process_time() - before)
        return best

    assert cost(1600) < 10 * cost(400) + 0.01


def test_many_templates_that_are_dear_to_compare_cost_no_more_than_one() -> None:
    """1,000 of these took 20 s for one text."""
    literals, variables = read_template("x " + "{#alpha#}a" * 40 + " b", 30, False)
    steps = Steps()
    for number in range(20):
        one = Compiled(Template(str(number), "1", frozenset(), "service", "active", literals, variables))
        assert not one.fits("x " + "a" * 600 + "9" + "a" * 600 + " b", steps)
    assert -50 < steps.left < 0 < MOST_STEPS
    assert not Compiled(Template("1", "1", frozenset(), "service", "active", literals, variables)).fits(
        "x " + "a" * 80 + " b", steps
    )


def test_a_list_that_is_absent_refuses_a_registered_message_too(catalogue: Catalogue) -> None:
    """And a part of it may come again, as any other."""
    lists = {"phishing": FakeList("phishing", b"evil.example", absent=True)}
    program = Program([policy("p", [{"when": {"domain_in": "phishing"}}])], lists)
    pipe = Pipeline(program, registered=account(catalogue))
    bad = parts("see http://evil.example/" + "x" * 160, to=DELHI)
    assert run(pipe, bad[0]) == ["refused list-absent"]
    lists["phishing"].absent = False
    assert run(pipe, *bad)[0] == "refused r0"


def test_senders_are_those_of_the_registered_account(catalogue: Catalogue) -> None:
    book = SenderBook(
        Senders.model_validate({"authorised": [{"account": "acme", "country": "IN", "sender": "ACMEBK"}]})
    )
    program = Program([policy("p", [{"when": {"sender_is": "unauthorised"}}])], book=book)
    for name, expected in (("acme", ""), ("other", "refused r0")):
        pipe = Pipeline(program, account=name, book=book, registered=account(catalogue))
        assert run(pipe, text(ORDER, sender=b"ACMEBK", to=DELHI)) == [expected]
