"""Kannel's configuration: carriers, customers, its routing as routes of ours, and a sentence for each thing that was left."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.migration import Draft, MigrationError, Source, read_kannel
from smppd.migration.draft import MAX_LINE, MAX_OCTETS, a_second, networks_of, seconds
from tests.migration.helpers import HASH, hashed, left_of

KANNEL = """\
# a gateway with two carriers
group = core
admin-port = 13000
admin-password = never-shown-1
store-file = "/var/spool/kannel/store"
unified-prefix = "+44,0044,0;+,00"

group = smsc
smsc = smpp
smsc-id = Carrier_A
host = smsc.example.net
port = 2775
transceiver-mode = true
smsc-username = "gateway"
smsc-password = "never\\"shown 2"
system-type = "VMA"
interface-version = 34
throughput = 25
max-pending-submits = 40
enquire-link-interval = 15
reconnect-delay = 5
wait-ack = 45
msg-id-type = 0x01
source-addr-ton = 5
preferred-prefix = "+44;0044"

group = smsc
smsc = smpp
smsc-id = carrier-b
host = 192.0.2.7
port = 2776
smsc-username = two
smsc-password = never-shown-3
use-ssl = yes
denied-prefix = "44"

group = smsc
smsc = smpp
smsc-id = carrier-b
host = 192.0.2.7
receive-port = 2776
smsc-username = two
smsc-password = never-shown-3
use-ssl = yes

group = smsc
smsc = at
modemtype = auto
device = /dev/ttyS0

group = smsbox
sendsms-port = 13013

group = sendsms-user
username = shop
password = never-shown-but-4-Hashed
user-allow-ip = "192.0.2.10;198.51.100.*"
max-messages = 3

group = sms-service
keyword = default
text = "No service"

group = opensmppbox
opensmppbox-port = 2346
smpp-logins = "/etc/kannel/smpplogins.txt"
route-to-smsc = carrier-b
max-pending-submits = 25
"""
LOGINS = """\
# system_id password system_type addresses
acme never-shown-But-5-hashed VMA 192.0.2.20;192.0.2.21
open never-shown-But-6-hashed VMA *.*.*.*
bro:ken never-shown-7 VMA
lonely
"""


def read(text: str, logins: str | None = None) -> Draft:
    others = [] if logins is None else [Source("smpplogins.txt", logins.encode())]
    return read_kannel([Source("kannel.conf", text.encode())], others, hashed)


def test_carriers() -> None:
    first, second = read(KANNEL).upstreams
    assert first == {
        "name": "carrier_a",
        "address": "smsc.example.net:2775",
        "plaintext": "allowed",
        "system_id": "gateway",
        "password": {"file": "secrets/carrier_a"},
        "system_type": "VMA",
        "interface_version": "3.4",
        "throughput": "25/s",
        "window": 40,
        "enquire_link": "15s",
        "response": "45s",
        "message_id_form": "hex_to_decimal",
        "reconnect": {"first": "5s", "most": "5s"},
    }
    assert second["bind"] == "transmitter+receiver" and second["tls"] == {"ca": "system"}
    assert "plaintext" not in second and "sessions" not in second


def test_secrets_stay_apart() -> None:
    draft = read(KANNEL, LOGINS)
    assert draft.secrets == {"secrets/carrier_a": 'never"shown 2', "secrets/carrier-b": "never-shown-3"}
    said = repr(draft) + repr(draft.settings()) + "".join(map(str, draft.left))
    assert "never" not in said


def test_customers() -> None:
    draft = read(KANNEL, LOGINS)
    shop, acme, everybody = draft.accounts
    assert shop == {
        "system_id": "shop",
        "networks": ["192.0.2.10/32", "198.51.100.0/24"],
        "password_hash": HASH,
        "throughput": None,
    }
    assert acme["networks"] == ["192.0.2.20/32", "192.0.2.21/32"] and acme["window"] == 25
    assert everybody["networks"] == "any"
    assert draft.listeners == [{"address": "0.0.0.0:2346", "plaintext": "allowed"}]
    left = left_of(draft)
    assert any("bro:ken" in what for _, what in left)
    assert ("smpplogins.txt:5", "this line is no system_id and password") in left


def test_addresses_that_cannot_be_read_open_an_account_to_nobody() -> None:
    text = "group = sendsms-user\nusername = shop\npassword = never-shown-but-4-Hashed\nuser-allow-ip = {}\n"
    for allowed, networks in (("gateway;10.0.0.1-9", ["127.0.0.1/32"]), ("192.0.2.7;gateway", ["192.0.2.7/32"])):
        draft = read(text.format(allowed))
        assert draft.accounts[0]["networks"] == networks
        assert any(
            "addresses could not be read" in what
            for what_place, what in left_of(draft)
            if what_place == "kannel.conf:4"
        )
    draft = read(KANNEL, "acme never-shown-But-5-hashed VMA gateway.example.net\n")
    assert draft.accounts[1]["networks"] == ["127.0.0.1/32"]
    assert (
        "smpplogins.txt:1",
        "account acme may connect from anywhere, as before: name its `networks`",
    ) not in left_of(draft)


def test_everything_that_was_left_has_its_line() -> None:
    left = left_of(read(KANNEL))
    lines = {place for place, _ in left}
    for line in (3, 4, 5, 6, 24, 46, 51, 58, 60, 66):
        assert f"kannel.conf:{line}" in lines, line
    assert any("--logins" in what for place, what in left if place == "kannel.conf:66")
    assert any("SMPP only" in what for place, what in left if place == "kannel.conf:46")


def test_prefixes_become_routes() -> None:
    assert read(KANNEL).routes == [
        {"destination": ["+44"], "upstreams": ["carrier_a"]},
        {"upstreams": ["carrier_a", "carrier-b"]},
    ]


def test_ids_of_smscs_are_routes_of_accounts() -> None:
    text = """\
group = smsc
smsc = smpp
smsc-id = a
host = 192.0.2.1
port = 1
smsc-username = u
smsc-password = p
allowed-smsc-id = "gold"

group = smsc
smsc = smpp
smsc-id = b
host = 192.0.2.2
port = 1
smsc-username = u
smsc-password = p
denied-smsc-id = "gold"

group = sendsms-user
username = rich
password = x
forced-smsc = Gold

group = sendsms-user
username = poor
password = x
"""
    assert read(text).routes == [
        {"accounts": ["rich"], "upstreams": ["a"]},
        {"accounts": ["poor"], "upstreams": ["b"]},
    ]


def kannel_takes(smsc: dict[str, str], number: str) -> int:
    """The User Guide's own words on allowed, denied and preferred prefixes."""
    allowed, denied = (tuple(filter(None, smsc.get(f"{one}-prefix", "").split(";"))) for one in ("allowed", "denied"))
    if allowed and not denied and not number.startswith(allowed):
        return 0
    if denied and not allowed and number.startswith(denied):
        return 0
    if allowed and denied and not number.startswith(allowed) and number.startswith(denied):
        return 0
    return 2 if number.startswith(tuple(filter(None, smsc.get("preferred-prefix", "").split(";")))) else 1


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_routes_say_what_kannel_does(seed: int) -> None:
    """For every number, the upstreams of the routes that match it are those that Kannel would take, preferred ones first.
    Numbers that nobody takes are told, and not compared."""
    dice = random.Random(seed)
    prefixes = ["4", "44", "447", "4479", "1", "12", "49"]
    smscs = []
    for number in range(dice.randint(1, 4)):
        smsc = {"smsc-id": f"s{number}"}
        for kind in ("allowed", "denied", "preferred"):
            if dice.random() < 0.5:
                smsc[f"{kind}-prefix"] = ";".join(dice.sample(prefixes, dice.randint(1, 3)))
        smscs.append(smsc)
    text = "\n\n".join(
        "group = smsc\nsmsc = smpp\nhost = 192.0.2.1\nport = 1\nsmsc-username = u\nsmsc-password = p\n"
        + "\n".join(f"{key} = {value}" for key, value in smsc.items())
        for smsc in smscs
    )
    routes = read(text).routes
    for phone in ("4479001", "4478001", "445", "41", "12345", "15", "490", "999"):
        stands = [(kannel_takes(smsc, phone), smsc["smsc-id"]) for smsc in smscs]
        wanted = [[name for stand, name in stands if stand == level] for level in (2, 1)]
        if not any(wanted):
            continue
        matching = [
            route["upstreams"]
            for route in routes
            if "destination" not in route or phone.startswith(route["destination"][0][1:])
        ]
        assert [names for names in wanted if names] == matching[: sum(map(bool, wanted))]


def test_several_binds_are_sessions() -> None:
    one = "group = smsc\nsmsc = smpp\nsmsc-id = a\nhost = 192.0.2.1\nport = 1\nsmsc-username = u\nsmsc-password = p\n"
    [upstream] = read((one + "transceiver-mode = 1\n\n") * 3).upstreams
    assert upstream["sessions"] == 3 and "bind" not in upstream


def test_two_of_one_name_get_two() -> None:
    one = (
        "group = smsc\nsmsc = smpp\nsmsc-id = a\nhost = 192.0.2.{}\nport = 1\nsmsc-username = u\nsmsc-password = p\n\n"
    )
    assert [upstream["name"] for upstream in read(one.format(1) + one.format(2)).upstreams] == ["a", "a-2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nothing here\n", "no `group"),
        (b"group = core\0\n", "not a text file"),
        (b"x" * (MAX_OCTETS + 1), "MiB"),
        (b"group = core\nkey = " + b"x" * MAX_LINE, "characters in one line"),
    ],
)
def test_what_is_no_configuration(content: bytes, said: str) -> None:
    with pytest.raises(MigrationError, match=said):
        read_kannel([Source("kannel.conf", content)], [], hashed)


def test_nothing_of_a_bad_line_is_shown() -> None:
    draft = read("group = core\nthe secret is xyzzy\npassword: xyzzy\n")
    assert [what for _, what in left_of(draft)] == ["this line is no `key = value`"] * 2


def test_latin_1_is_read() -> None:
    draft = read_kannel(
        [Source("k", "group = smsc\nsmsc = smpp\nsmsc-id = Zürich\nhost = x\nport = 1\n".encode("latin-1"))], [], hashed
    )
    assert any("z-rich" in what for _, what in left_of(draft))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_octets(content: bytes) -> None:
    try:
        draft = read_kannel([Source("k", b"group = smsc\n" + content)], [Source("l", content)], hashed)
    except MigrationError:
        return
    assert all("\n" not in str(one) for one in draft.left)


KEYS = st.sampled_from(
    "group smsc smsc-id host port receive-port use-ssl transceiver-mode smsc-username smsc-password throughput allowed-prefix"
    " denied-prefix preferred-prefix allowed-smsc-id alt-charset interface-version msg-id-type username password"
    " user-allow-ip forced-smsc opensmppbox-port".split()
)
VALUES = st.one_of(
    st.sampled_from(
        ["smsc", "smpp", "sendsms-user", "opensmppbox", "yes", "1", "127.0.0.1", "a", '"', '"\\', "44;1", ""]
    ),
    st.text(max_size=30),
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_keys(pairs: list[tuple[str, str]]) -> None:
    lines = "\n".join(f"{key} = {value}" for key, value in [("group", "smsc"), *pairs])
    try:
        draft = read(lines)
    except MigrationError:
        return
    names = [upstream["name"] for upstream in draft.upstreams]
    assert len(set(names)) == len(names)
    assert set(itertools.chain.from_iterable(route["upstreams"] for route in draft.routes)) <= set(names)


def test_units() -> None:
    assert [seconds(text) for text in ("30", "0", "1.5", "x", "-1", "")] == ["30s", None, "1500ms", None, None, None]
    assert [a_second(text) for text in ("10", "0.5", "0.001", "0", "1e9")] == ["10/s", "30/m", "4/h", None, None]
    assert networks_of(["10.0.0.*", "*.1.2.3", "192.0.2.1", "nobody", "2001:db8::1"]) == [
        "10.0.0.0/24",
        "192.0.2.1/32",
        "2001:db8::1/128",
    ]
