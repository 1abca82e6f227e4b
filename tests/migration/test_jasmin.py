"""Jasmin's configuration: its console, its store, jasmin.cfg; and a sentence for each thing that was left."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.migration import Draft, MigrationError, Place, Source, read_jasmin
from smppd.migration.jasmin import _Found, _stored, _table
from smppd.migration.pickled import Thing
from tests.migration.helpers import HASH, Named, hashed, left_of, stored

CONSOLE = """\
Welcome to Jasmin 0.11 console
jcli : smppccm -a
> cid carrier_A
> host smsc.example.net
> port 2775
> username gateway
> password never-1
> submit_throughput 110
> bind_ton 1
> bind_npi 1
> dlr_msgid 1
> src_addr 447700900001
> ok
Successfully added connector [carrier_A]
jcli : smppccm -1 carrier_A
jcli : smppccm -a
> cid carrier_B
> host 192.0.2.9
> ssl yes
> ok
jcli : smppccm -0 carrier_B
jcli : smppccm -a
> cid thrown
> ko
jcli : group -a
> gid gold
> ok
jcli : user -a
> username acme
> password never-2
> gid gold
> uid acme_uid
> mt_messaging_cred quota smpps_throughput 20
> mt_messaging_cred quota balance 44.2
> mt_messaging_cred valuefilter dst_addr ^44\\d+
> smpps_cred quota max_bindings 2
> ok
jcli : user -a
> username off
> password never-3
> gid gold
> uid off_uid
> ok
jcli : user -d off_uid
jcli : filter -a
> type DestinationAddrFilter
> fid uk
> destination_addr ^(44|353)
> ok
jcli : filter -a
> type UserFilter
> fid of_acme
> uid acme_uid
> ok
jcli : filter -a
> type ShortMessageFilter
> fid words
> short_message ^hello
> ok
jcli : mtrouter -a
> type FailoverMTRoute
> order 20
> filters uk;of_acme
> connectors smppc(carrier_A);smppc(carrier_B)
> rate 0.0
> ok
jcli : mtrouter -a
> type StaticMTRoute
> order 30
> filters words
> connector smppc(carrier_B)
> rate 0.0
> ok
jcli : mtrouter -a
> type DefaultRoute
> connector smppc(carrier_A)
> rate 0.0
> ok
jcli : filter -a
> type DestinationAddrFilter
> fid short
> destination_addr ^60606$
> ok
jcli : morouter -a
> type StaticMORoute
> order 10
> filters short
> connector smpps(acme)
> ok
jcli : httpccm -a
> cid web
> url http://192.0.2.5/mo
> method GET
> ok
jcli : user -a
> username begun
jcli : persist
"""


def read(*texts: str | bytes) -> Draft:
    sources = [Source(f"file{n}", text if isinstance(text, bytes) else text.encode()) for n, text in enumerate(texts)]
    return read_jasmin(sources, hashed)


def test_the_console() -> None:
    draft = read(CONSOLE)
    first, second = draft.upstreams
    assert first == {
        "name": "carrier_a",
        "address": "smsc.example.net:2775",
        "plaintext": "allowed",
        "system_id": "gateway",
        "password": {"file": "secrets/carrier_a"},
        "throughput": "110/s",
        "enquire_link": "30s",
        "response": "120s",
        "addr_ton": 1,
        "addr_npi": 1,
        "message_id_form": "hex_to_decimal",
        "reconnect": {"first": "10s", "most": "10s"},
    }
    assert second["enabled"] is False and second["tls"] == {"ca": "system"} and second["throughput"] == "1/s"
    acme, off = draft.accounts
    assert acme == {
        "system_id": "acme",
        "networks": "any",
        "password_hash": HASH,
        "throughput": "20/s",
        "max_binds": 2,
        "numbers": ["+60606"],
    }
    assert off["suspended"] is True and off["throughput"] is None
    assert draft.routes == [
        {"name": "order-20-1", "destination": ["+44", "+353"], "accounts": ["acme"], "upstreams": ["carrier_a"]},
        {"name": "order-20-2", "destination": ["+44", "+353"], "accounts": ["acme"], "upstreams": ["carrier_b"]},
        {"name": "order-0", "upstreams": ["carrier_a"]},
    ]
    left = " ".join(what for _, what in left_of(draft))
    for word in ("ShortMessageFilter", "balance", "dst_addr", "src_addr", "httpccm web", "not saved"):
        assert word in left, word
    assert "never" not in left + repr(draft.settings())
    assert draft.secrets["secrets/carrier_a"] == "never-1"


def test_a_script_without_prompts_says_the_same() -> None:
    script = re.sub(r"(?m)^(jcli : |> )", "", CONSOLE)
    assert read(script).settings() == read(CONSOLE).settings()


def test_an_update_and_a_removal() -> None:
    script = "smppccm -a\ncid one\nhost 192.0.2.1\nok\nsmppccm -u one\nport 9999\nok\nsmppccm -a\ncid two\nok\nsmppccm -r two\n"
    assert [upstream["address"] for upstream in read(script).upstreams] == ["192.0.2.1:9999"]


def test_what_is_shown_counts() -> None:
    shown = "jcli : smppccm -s one\nhost 192.0.2.1\nport 2775\nusername u\npassword never\nsystype \njcli : quit\n"
    [upstream] = read(shown).upstreams
    assert (upstream["address"], upstream["system_id"]) == ("192.0.2.1:2775", "u")


def store() -> dict[str, Any]:
    """The store's files, as Jasmin writes them."""
    api = "jasmin.routing.jasminApi"
    connector = Named(
        "jasmin.protocols.cli.smppccm.JCliSMPPClientConfig",
        id="carrier",
        host="192.0.2.1",
        port=2775,
        username="gateway",
        password="never-1",
        systemType="",
        bindOperation="transceiver",
        useSSL=False,
        submit_sm_throughput=200,
        reconnectOnConnectionLoss=True,
    )
    group = Named(f"{api}.Group", gid="gold", enabled=True)
    credential = Named(
        f"{api}.MtMessagingCredential",
        quotas={"smpps_throughput": 5.0, "balance": None},
        authorizations={"smpps_send": True},
    )
    user = Named(
        f"{api}.User",
        uid="u1",
        group=group,
        username="acme",
        password=b"\x01" * 16,
        enabled=True,
        mt_credential=credential,
    )
    where = Named("jasmin.routing.Filters.DestinationAddrFilter", destination_addr=Named("re._compile", ("^44.*", 32)))
    smppc = Named(f"{api}.SmppClientConnector", cid="carrier")
    route = Named("jasmin.routing.Routes.StaticMTRoute", filters=[where], connector=smppc)
    last = Named("jasmin.routing.Routes.DefaultRoute", connector=smppc)
    return {
        "smppccs": [{"id": "carrier", "config": connector, "service_status": 1}],
        "users": [user],
        "groups": [group],
        "mtroutes": Named("jasmin.routing.RoutingTables.MTRoutingTable", table=[{0: last}, {10: route}]),
        "moroutes": Named("jasmin.routing.RoutingTables.MORoutingTable", table=[]),
        "filters": {},
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_store(protocol: int) -> None:
    draft = read(*(stored(data, protocol) for data in store().values()))
    [upstream] = draft.upstreams
    assert upstream["address"] == "192.0.2.1:2775" and upstream["throughput"] == "200/s" and "enabled" not in upstream
    [account] = draft.accounts
    assert account["system_id"] == "acme" and account["throughput"] == "5/s"
    assert draft.routes == [
        {"name": "order-10", "destination": ["+44"], "upstreams": ["carrier"]},
        {"name": "order-0", "upstreams": ["carrier"]},
    ]
    assert any("smppd passwd" in what for _, what in left_of(draft))
    assert draft.secrets == {"secrets/carrier": "never-1"}


def test_a_pickle_that_would_run_is_read_and_does_not(tmp_path: Path) -> None:
    """What a pickle can do to whoever unpickles it."""
    trap = Named("builtins.exec", (f"open({str(tmp_path / 'run')!r}, 'w')",))
    draft = read(stored([trap, {"id": "x", "config": trap}]))
    assert draft.accounts == [] and not (tmp_path / "run").exists()
    assert any("neither connector" in what for _, what in left_of(draft))


def test_jasmin_cfg() -> None:
    text = "[smpp-server]\nbind = 192.0.2.3\n#port = 1\nport = 2776\nlog_level = INFO\n"
    text += "[jcli]\nadmin_password = never\n[odd]\nx = 1\n"
    draft = read(text)
    assert draft.listeners == [{"address": "192.0.2.3:2776", "plaintext": "allowed"}]
    assert [place for place, _ in left_of(draft)] == ["file0:5", "file0:7", "file0:9", "file0:1"]
    assert "never" not in str(left_of(draft))


def test_jasmin_cfg_as_it_is_shipped_listens_everywhere() -> None:
    assert read("[smpp-server]\n#bind = 0.0.0.0\n[jcli]\n").listeners == [
        {"address": "0.0.0.0:2775", "plaintext": "allowed"}
    ]


@pytest.mark.parametrize("text", ["", "group = smsc\nsmsc = smpp\n", "Dear Sir or Madam,\nuser -l\n"])
def test_a_file_of_something_else_makes_no_configuration(text: str) -> None:
    with pytest.raises(MigrationError, match="nothing in it is of Jasmin's"):
        read(text)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"\x80\x02]", b"\x80\x02\x85.", b"\x80\x02(((((.", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f"],
)
def test_a_store_that_is_none(content: bytes) -> None:
    with pytest.raises(MigrationError, match="file0: not a file of Jasmin's store"):
        read(b"Persisted on x\n" + content)


TEXT = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20)


@pytest.mark.parametrize(
    "content",
    [
        # One text of 1 MiB that becomes octets a thousand times, a name of a class a thousand times; one state that is copied.
        TEXT + b"q\x00c_codecs\nencode\nq\x01(" + b"h\x01h\x00\x85q\x02R" + b"h\x01h\x02R" * 1000 + b"l.",
        TEXT + b"q\x00" + b"h\x00h\x00\x93" * 1000 + b".",
        b"cx\ny\n)R}(" + b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(50_000)) + b"uq\x00b"
        + b"h\x00b" * 1000 + b".",
    ],
    ids=["octets", "names", "states"],
)  # fmt: skip
def test_a_pickle_that_copies_without_end_is_refused(content: bytes) -> None:
    with pytest.raises(MigrationError, match="not a file of Jasmin's store"):
        read(b"Persisted on x\n\x80\x02" + content)


@pytest.mark.parametrize("key", [sys.hash_info.modulus, -(2**80)])
def test_a_pickle_whose_keys_have_one_hash_is_refused(key: int) -> None:
    number = key.to_bytes(11, "little", signed=True)
    with pytest.raises(MigrationError, match="a key that is too large"):
        read(b"Persisted on x\n\x80\x02}\x8a\x0b" + number + b"Ns.")


def test_a_thing_with_keys_without_end_is_refused() -> None:
    letters = "abcdefghij"
    keys = [f"{a}{b}{c}_{d} x" for a in letters for b in letters for c in letters for d in letters]
    with pytest.raises(MigrationError, match="file0:1002: more than 1,000 keys of one thing"):
        read("\n".join(["user -a", *keys, "ok"]))


def test_what_is_saved_again_stands_last() -> None:
    script = "".join(f"smppccm -a\ncid {one}\nhost 192.0.2.1\nok\n" for one in ("one", "two", "one"))
    assert [upstream["name"] for upstream in read(script).upstreams] == ["two", "one"]
    assert read(script + "smppccm -f\n" + "user -a\nuid u\nok\n").upstreams == []


@pytest.mark.parametrize(
    "odd",
    [10**5000, float("inf"), float("nan"), 1e300, "\ud800", True, b"\xff", (), {}],
    ids=["huge", "inf", "nan", "large", "surrogate", "true", "octets", "tuple", "dict"],
)
def test_odd_values_in_a_store_are_no_error_of_ours(odd: Any) -> None:
    route = Thing("jasmin.routing.Routes.StaticMTRoute", (), {"filters": [], "connector": odd})
    table = Thing("jasmin.routing.RoutingTables.MTRoutingTable", (), {"table": [{odd: route}] if odd.__hash__ else odd})
    user = Thing("jasmin.routing.jasminApi.User", (), {"uid": odd, "username": odd, "group": odd, "enabled": odd})
    connector = Thing("C", (), {"host": odd, "port": odd, "password": odd, "submit_sm_throughput": odd})
    draft, found = Draft(hashed), _Found()
    _table(Place("f"), table, found, draft)
    _stored(Place("f"), user, found, draft)
    _stored(Place("f"), {"id": odd, "config": connector}, found, draft)
    assert found.users and found.connectors
    assert str([found.users, found.connectors, found.routes]).encode()


def test_nothing_of_a_store_moves_the_terminal() -> None:
    creds = Named(
        "C", authorizations={}, quotas={}, value_filters={"x\x1b[2J\nsmppd.yaml: 0 things": Named("re", ("^1",))}
    )
    user = Named("jasmin.routing.jasminApi.User", uid="u", username="acme", mt_credential=creds)
    said = [str(one) for one in read(stored([user])).left]
    assert any("x?[2J?smppd.yaml" in one for one in said) and all(one.isprintable() for one in said)


@given(st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_pickle(content: bytes) -> None:
    try:
        read(b"Persisted on x\n\x80\x02" + content)
    except MigrationError:
        pass


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_store_with_one_octet_changed(where: int, octet: int) -> None:
    content = bytearray(stored(store()["users"]))
    head = content.index(b"\n") + 1
    content[head + where % (len(content) - head)] = octet
    try:
        read(bytes(content))
    except MigrationError:
        pass


WORDS = st.sampled_from(
    "smppccm user group filter mtrouter morouter -a -u -r -s -l -1 -0 ok ko cid uid gid fid order type host port filters"
    " connector connectors smppc(a) DefaultRoute StaticMTRoute UserFilter DestinationAddrFilter destination_addr ^44 a b 1 20"
    " mt_messaging_cred quota smpps_throughput username password jcli : >".split()
)


@given(st.lists(st.lists(WORDS, max_size=5).map(" ".join), max_size=40).map("\n".join))
@settings(max_examples=400, deadline=None)
def test_any_session(text: str) -> None:
    try:
        draft = read(text)
    except MigrationError:
        return
    names = {upstream["name"] for upstream in draft.upstreams}
    assert all(set(route["upstreams"]) <= names for route in draft.routes)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    try:
        read(text)
    except MigrationError:
        pass
