"""One normal form of numbers: whatever the notation, routes, owners, rules and the log's index take it for the same one."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.cli.numbers import typed_of
from smppd.config.references import references
from smppd.numbering import normalise, normalise_prefix, regions_of
from smppd.office.numbers import forms_of_search, regions_of_search
from smppd.policy.pipeline import compile_policies, pipeline_for
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm
from smppd.relay.accept.routing import Router
from smppd.relay.receipts.mo_owners import MoOwners
from smppd.vault.numbers import SearchForms, search_forms
from tests.relay.fakes import World
from tests.relay.fakes import settings as configuration

# How a number of the United Kingdom is written: digits, TON. The last three need to be told the country.
NOTATIONS = [
    ("44{}", 1),
    ("44{}", 0),
    ("+44{}", 1),
    ("+44{}", 0),
    ("0044{}", 1),
    ("0044{}", 0),
    ("0044{}", 2),
    ("+0044{}", 0),
]
NATIONAL = [("0{}", 2), ("0{}", 0), ("{}", 2)]
AMERICAN = [("1{}", 1), ("+1{}", 0), ("001{}", 0), ("{}", 2), ("{}", 0), ("1{}", 0), ("0111{}", 0), ("0111{}", 2)]
SUBSCRIBER = "7700900123"


def sm(to: bytes, ton: int, source: bytes = b"447700900001", source_ton: int = 1, text: bytes = b"hello") -> Sm:
    fields = Fields(registered=1)
    return Sm(
        build_sm(Command.SUBMIT_SM, 1, address_field(source_ton, 1, source), address_field(ton, 1, to), text, fields)
    )


RULES = [
    {"name": "uk", "when": {"destination": ["+4477"]}, "do": {"tag": "uk"}},
    {"name": "one", "when": {"sender": ["+447700900001"]}, "do": {"tag": "one"}},
    {"name": "many", "when": {"sender": ["+4477009*"]}, "do": {"tag": "many"}},
    {"name": "country", "when": {"country": ["GB"]}, "do": {"tag": "gb"}},
]


def house(region: str | None, **more: Any) -> Any:
    return configuration(
        region=region,
        acme={"policies": ["p"], "numbers": ["+447700900123", "+44770090055*"]},
        policies={"p": RULES},
        routes=[
            {"destination": ["+44"], "sender": ["+447700900001"], "upstreams": ["a"]},
            {"destination": ["0044"], "upstreams": ["b"]},
        ],
        **more,
    )


WITHOUT, WITH = house(None), house("GB")


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 999), st.sampled_from(NOTATIONS + NATIONAL), st.sampled_from(NOTATIONS + NATIONAL))
def test_every_notation_is_the_same_number_to_all_who_compare(
    last: int, to: tuple[str, int], source: tuple[str, int]
) -> None:
    subscriber = f"7700900{last:03}"
    told = to in NATIONAL or source in NATIONAL
    config = WITH if told else WITHOUT
    message = sm(to[0].format(subscriber).encode(), to[1], source[0].format("7700900001").encode(), source[1])
    assert Router(config).route_of("acme", message) == "a,b"
    verdict = pipeline_for(config, "acme", compile_policies(config)).decide(message, 0.0)
    assert verdict is not None and verdict.tags == {"uk", "one", "many", "gb"}
    region = config.region
    form = normalise(message.destination_digits, message.destination_ton, 1, region)
    assert form == f"44{subscriber}".encode()
    for typed in (f"+44 {subscriber}", f"0044{subscriber}", f"44{subscriber}", f"0{subscriber}", subscriber):
        forms = search_forms(typed, "GB")
        assert forms.exact == (form,)
        # What was indexed before there was a region is found by its digits.
        old = normalise(message.destination_digits, message.destination_ton)
        assert old in forms.exact + forms.ambiguous


@pytest.mark.parametrize(("form", "ton"), NOTATIONS + NATIONAL)
def test_mo_in_every_notation_finds_its_owner(form: str, ton: int) -> None:
    for config, region in ((WITHOUT, None), (WITH, "GB")):
        if region is None and (form, ton) in NATIONAL:
            continue
        book = MoOwners(config)
        for subscriber in ("7700900123", "7700900557"):
            message = sm(form.format(subscriber).encode(), ton)
            assert book.owner_of(message.destination_digits, message, region) == "acme"
        message = sm(form.format("7700900124").encode(), ton)
        assert book.owner_of(message.destination_digits, message, region) is None


@pytest.mark.parametrize(("form", "ton"), AMERICAN)
def test_the_notations_of_north_america(form: str, ton: int) -> None:
    assert normalise(form.format("2125550100").encode(), ton, 1, "US") == b"12125550100"


@pytest.mark.parametrize("region", [None, "GB", "US", "IT"])
@pytest.mark.parametrize(
    ("address", "ton"), [(b"60777", 3), (b"60777", 0), (b"60777", 2), (b"007", 0), (b"00123", 3), (b"060777", 0)]
)
def test_short_codes_are_never_touched(address: bytes, ton: int, region: str | None) -> None:
    assert normalise(address, ton, 1, region) == address


@pytest.mark.parametrize("name", ["Acme", "0800 HELP", "+Acme", "00ACME44", "1-800-ACME"])
def test_names_are_names(name: str) -> None:
    assert normalise(name.encode(), 5, 0, "GB") == name.lower().encode()


@pytest.mark.parametrize(
    ("prefix", "region", "form"),
    [
        ("+44", None, "44"),
        ("0044", None, "44"),
        ("00", None, "00"),
        ("44", "GB", "44"),
        ("07", "GB", "447"),
        ("07", None, "07"),
        ("06", "IT", "3906"),
        ("01144", "US", "44"),
        ("212", "US", "212"),
    ],
)
def test_prefixes_of_a_configuration(prefix: str, region: str | None, form: str) -> None:
    assert normalise_prefix(prefix.encode(), region) == form.encode()


def test_the_country_of_a_prefix() -> None:
    assert regions_of("4477")[0] == "GB" and regions_of("1")[0] == "US" and regions_of("353") == ("IE",)
    assert regions_of("") == regions_of("0") == regions_of("999") == ()


def test_an_accounts_own_region_counts_before_that_of_all() -> None:
    other = {"system_id": "other", "password_hash": configuration().accounts[0].password_hash, "networks": "any"}
    config = house("US", more=[{**other, "region": "gb"}])
    router = Router(config)
    message = sm(b"07700900123", 2)
    assert router.route_of("other", message) == "a,b" and router.route_of("acme", message) == ""


def test_what_is_sent_is_what_came() -> None:
    world = World(house("GB"))
    acme = world.customer()
    a = world.carrier()
    frames = [sm(form.format(SUBSCRIBER).encode(), ton).raw for form, ton in NOTATIONS + NATIONAL]
    acme.sends(*frames)
    world.commits()
    assert [one.raw[16:] for one in a.waiting] == [frame[16:] for frame in frames]


def test_two_owners_of_one_number_in_two_notations_are_a_fault() -> None:
    plain = {
        "accounts": [
            {"system_id": "one", "numbers": ["+447700900123"]},
            {"system_id": "two", "numbers": ["00447700900123"]},
        ]
    }
    (found,) = references(plain)
    assert (found.loc, found.other) == (("accounts", 1, "numbers", 0), ("accounts", 0))
    assert found.message + found.end == "this number is also that of , and neither has keywords"


def test_no_route_and_an_owner_in_the_form_behind_two_zeros() -> None:
    world = World(house(None))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"hello", to=b"00447700900123")
    acme.submits(b"hello", to=b"0033123456789")
    world.commits()
    assert sorted(acme.statuses()) == [0, Status.RINVDSTADR]
    to = address_field(1, 1, b"00447700900123")
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, b"447700900002"), to, b"hi", Fields()))
    world.commits()
    assert a.acknowledged() == [0] and len(acme.takes()) == 1


@pytest.mark.parametrize(
    ("region", "typed", "exact"),
    [
        (None, "07700 900123", b"447700900123"),  # its routes lead to +44
        ("GB", "07700 900123", b"447700900123"),
        ("US", "212 555 0100", b"12125550100"),
        ("US", "+44 7700 900123", b"447700900123"),
    ],
)
def test_the_log_is_searched_by_the_regions_of_the_configuration(region: str | None, typed: str, exact: bytes) -> None:
    forms = looked_for(house(region), Namespace(number=typed, region=None, account=None))
    assert exact in forms.exact + forms.ambiguous
    assert forms.exact == (exact,)
    assert looked_for(house(None), Namespace(number="0612345678", region="IT", account=None)).exact == (
        b"390612345678",
    )


def looked_for(configured: Any, args: Namespace) -> SearchForms:
    asked = typed_of(args)
    return forms_of_search(regions_of_search(configured, asked), asked)


@settings(deadline=None, max_examples=300)
@given(
    st.text("0123456789", min_size=1, max_size=15), st.integers(0, 6), st.sampled_from(["GB", "US", "IT", "AR", "DK"])
)
def test_any_digits_have_a_form_that_a_search_finds(digits: str, ton: int, region: str) -> None:
    form = normalise(digits.encode(), ton, 1, region)
    assert form.isdigit() and normalise(form, 1) == normalise(form, 1, 0, region)
    forms = search_forms(digits, region)
    if ton == 2:
        assert form in forms.exact + forms.ambiguous
