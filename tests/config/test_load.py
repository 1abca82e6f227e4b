"""Loading: every fault at once, each where it stands; names that refer to each other; secrets never repeated."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import ConfigError, ConfigFileError, load, parse
from tests.config.helpers import BASE, HASH, faults, lines, loaded, write


def test_the_smallest_configuration_has_the_documented_defaults(tmp_path: Path) -> None:
    got = loaded(tmp_path, BASE)
    account, upstream = got.accounts[0], got.upstreams[0]
    assert (account.window, account.max_binds, account.throughput, account.burst) == (10, 4, 50, 100)
    assert (account.acknowledge, account.content, account.retain.body) == ("stored", "encrypt", 30 * 86400)
    assert (upstream.window, upstream.sessions, upstream.bind) == (100, 1, "transceiver")
    assert (got.limits.max_pdu, got.limits.max_pdu_unbound, got.limits.bind) == (69632, 512, 10)
    assert got.http is not None and got.http.address == "127.0.0.1:9180"
    assert got.store.directory == tmp_path / "var" and got.keys.file == tmp_path / "kek"
    assert got.path == tmp_path / "smppd.yaml"
    assert (got.listeners[0].host, got.listeners[0].port) == ("127.0.0.1", 0)


FIVE = f"""\
listeners:
  - address: 0.0.0.0:2775
accounts:
  - system_id: acme
    password_hash: {HASH}
    networks: [192.0.2.0/24]
    windw: 10
    retain: 30
upstreams:
  - name: carrier-a
    address: 127.0.0.1:2776
    system_id: gw
    password: {{env: PW}}
routes:
  - upstreams: [carrier-b]
policies:
  house:
    - name: bad
      when: {{text: "(foo"}}
      do: refuse
store: {{path: var}}
keys: {{file: kek}}
"""


def test_five_mistakes_are_five_faults_with_their_places(tmp_path: Path) -> None:
    assert lines(tmp_path, FIVE) == [
        "2:5: listeners[0]: 0.0.0.0 is not loopback: give it tls, or say `plaintext: allowed`",
        "7:5: accounts[0].windw: unknown key (did you mean window?)",
        "8:13: accounts[0].retain: a duration needs its unit: write 30s, for example",
        "15:17: routes[0].upstreams[0]: no upstream is named carrier-b (did you mean carrier-a?)",
        "19:20: policies.house[0].when.text: not an RE2 pattern: missing ): (foo",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("networks: any", "networks: []", "accounts[0].networks: must name at least one network, or be the word any"),
        ("networks: any", "networks: 192.0.2.1/24", "(did you mean 192.0.2.0/24?)"),
        ("networks: any", "networks: any, window: 1001", "accounts[0].window: must be less than or equal to 1000"),
        ("networks: any", "networks: any, window: true", "accounts[0].window: must be a whole number"),
        ("networks: any", "networks: any, content: seal", "must be 'encrypt', 'hash' or 'hide'"),
        ("networks: any", "networks: any, policies: hous", "no policy is named hous"),
        ("networks: any", "networks: any, retain: {body: 0s}", "accounts[0].retain.body: must be greater than 0"),
        ("networks: any", "networks: any, retain: {bdy: 1d}", "unknown key (did you mean body?)"),
        ("networks: any", "networks: any, client_certificate: {}", "must be exactly one of {fingerprint"),
        ("system_id: acme", "system_id: 'a:b'", "accounts[0].system_id: must be 1 to 64 printable"),
        ("system_id: acme", "system_id: aaaaaaaaaaaaaaaa, strict_fields: true", "at most 15 characters"),
        ("routes: [{upstreams: carrier-a}]", "routes: [{}]", "routes[0].upstreams: required key is missing"),
        ("routes: [{upstreams: carrier-a}]", "routes: [{upstreams: []}]", "must have at least 1 entry"),
        ("routes: [{upstreams: carrier-a}]", "routes: [{upstreams: x}]", "no upstream is named x"),
        ("routes: [{upstreams: carrier-a}]", "routes: [{upstreams: carrier-a, accounts: acm}]", "did you mean acme?"),
        ("routes: [{upstreams: carrier-a}]", "routes: 7", "routes: must be a list"),
        ("password: {env: PW}", "password: {file: nope}", "nope does not exist"),
        (
            "password: {env: PW}",
            "password: {file: a, env: b}",
            "exactly one of {file: path}, {credential: NAME} and {env",
        ),
        ("127.0.0.1:2776", "192.0.2.1:2776", "upstreams[0]: 192.0.2.1 is not loopback"),
        ("127.0.0.1:2776", "127.0.0.1", "must be host:port"),
        ("127.0.0.1:2776", "127.0.0.1:99999", "has a port above 65535"),
        ('"127.0.0.1:2776"', "[]", "upstreams[0].address: must have at least 1 entry"),
        ('"127.0.0.1:2776"', '["127.0.0.1:1", x]', "upstreams[0].address[1]: must be host:port"),
        ('"127.0.0.1:2776"', '["127.0.0.1:1", "127.0.0.1:1"]', "upstreams[0].address: names an address twice"),
        ('"127.0.0.1:2776"', '["127.0.0.1:1", "192.0.2.1:1"]', "upstreams[0]: 192.0.2.1 is not loopback"),
        (
            '"127.0.0.1:2776"',
            str([f"127.0.0.{n}:1" for n in range(1, 10)]),
            "upstreams[0].address: must have at most 8 entries",
        ),
        ("system_id: gw", "system_id: gw, source_address: '::1'", "source_address: is IPv6, and 127.0.0.1 is not"),
        ("system_id: gw", "system_id: gw, source_address: 0.0.0.0", "must be one address of this host"),
        ("system_id: gw", "system_id: gw, source_address: '127.0.0.1:0'", "must be an IP address of this host"),
        ("store: {path: var}", "store: {url: 'postgresql:///x'}", "needs `path`"),
        ("store: {path: var}", "store: {}", "needs `path`"),
        ("store: {path: var}", "store: {path: smppd.yaml}", "is not a directory"),
        ("store: {path: var}", "path: x\nstore: {path: var}", "path: unknown key"),
        ("keys: {file: kek}", "keys: {file: a, credential: b}", "must be exactly one of {file: path}, {command"),
        ("keys: {file: kek}", "keys: {file: kek}\nnode: 64", "node: must be less than or equal to 63"),
        ("keys: {file: kek}", "keys: {file: kek}\nhttp: {address: '0.0.0.0:1'}", "there is no login"),
        ("keys: {file: kek}", "keys: {file: kek}\npolicies: {Bad: []}", "policies.Bad: must be 1 to 63 lower-case"),
        ("keys: {file: kek}", "keys: {file: kek}\npolicies: {a: {rules: [], name: b}}", "a.name: unknown key"),
    ],
)
def test_one_mistake_is_one_fault(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in BASE
    (got,) = lines(tmp_path, BASE.replace(old, new))
    assert expected in got


RULE = "keys: {file: kek}\npolicies:\n  house:\n    - {name: r, %s}\n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("do: drop", "policies.house[0].do: must be pass, refuse, or a mapping"),
        ("do: {tag: a, route: carrier-a}", "must be exactly one of pass, refuse"),
        ("do: {route: carrier-x}", "policies.house[0].do.route: no upstream is named carrier-x"),
        ("do: {refuse: {status: ESME_ROK}}", "must be a number or one of the ESME_ names"),
        ("do: {expire_after: 0s}", "policies.house[0].do.expire_after: must be greater than 0"),
        ("do: {expire_after: 5}", "policies.house[0].do.expire_after: a duration needs its unit"),
        ("do: {on_unknown: drop}", "policies.house[0].do.on_unknown: must be"),
        ("do: {expire_after: 5m, on_unknown: hold}", "must be exactly one of pass, refuse"),
        ("do: pass, when: {}", "must have at least one key"),
        ("do: pass, when: {keywords: {file: none.txt}}", "none.txt does not exist"),
        ("do: pass, when: {keywords: {file: empty.txt}}", "empty.txt has no entries"),
        ("do: pass, when: {keywords: {file: latin.txt}}", "latin.txt is not UTF-8"),
        ("do: pass, when: {country: XX}", "must be a country by its two letters"),
        ("do: pass, when: {domains: 'http://x'}", "must be a domain name"),
        ("do: pass, when: {text: '(?=x)'}", "not an RE2 pattern: invalid perl operator: (?="),
        ("do: pass, when: {has_tlv: 70000}", "must be less than or equal to 65535"),
        ("do: pass, wehn: {links: true}", "policies.house[0].wehn: unknown key (did you mean when?)"),
        ("do: pass, when: {link: true}", "policies.house[0].when.link: unknown key (did you mean links?)"),
    ],
)
def test_rules_with_a_mistake(tmp_path: Path, rule: str, expected: str) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (got,) = lines(tmp_path, BASE.replace("keys: {file: kek}\n", RULE % rule))
    assert expected in got


def test_names_are_unique(tmp_path: Path) -> None:
    text = BASE + "  \npolicies: {p: [{name: a, do: pass}, {name: a, do: pass}]}\nlog: {}\n"
    text = text.replace(
        "upstreams:\n", f"  - {{system_id: acme, password_hash: '{HASH}', networks: any}}\nupstreams:\n"
    )
    got = [fault.message for fault in faults(tmp_path, text)]
    assert got == [
        "account acme is given twice (first as accounts[0])",
        "rule a is given twice (first as policies.p[0])",
    ]


def test_an_mo_number_has_one_owner(tmp_path: Path) -> None:
    other = f"  - {{system_id: b, password_hash: '{HASH}', networks: any, numbers: '+447700900000'%s}}\nupstreams:\n"
    base = BASE.replace("networks: any}", "networks: any, numbers: 447700900000%s}")
    for words in (("", ""), (", keywords: [a, B]", ", keywords: b")):
        text = (base % words[0]).replace("upstreams:\n", other % words[1], 1)
        (fault,) = faults(tmp_path, text)
        assert "also that of accounts[0]" in fault.message and "7700" not in fault.message
    loaded(tmp_path, (base % ", keywords: a").replace("upstreams:\n", other % ", keywords: b", 1))


def test_lists_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# bait\nfree  money\n\nBITCOIN # one\n", encoding="utf-8")
    rule = RULE % "when: {keywords: {file: words.txt}, sender: {kind: short}}, do: {refuse: {status: ESME_RSUBMITFAIL}}"
    got = loaded(tmp_path, BASE.replace("keys: {file: kek}\n", rule))
    (rule_,) = got.policies["house"].rules
    assert rule_.when is not None and rule_.when.keywords == ("free money", "BITCOIN")
    assert rule_.when.sender_kind == ("short",)
    assert rule_.do.kind == "refuse" and rule_.do.refuse is not None and rule_.do.refuse.status == 0x45


def test_numbers_without_quotes_keep_their_digits(tmp_path: Path) -> None:
    route = "routes: [{upstreams: carrier-a, destination: [+44, 0044, 44 7700, 1]}]"
    got = loaded(tmp_path, BASE.replace("routes: [{upstreams: carrier-a}]", route))
    assert got.routes[0].destination == ("44", "0044", "447700", "1")


def test_a_section_with_everything_commented_out_is_none(tmp_path: Path) -> None:
    got = loaded(tmp_path, BASE.replace("routes: [{upstreams: carrier-a}]", "routes:\n  # none\nlimits:\nlog:"))
    assert got.routes == () and got.limits.connections == 10_000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("password: {env: PW}", "password: hunter2secret"),
        ("password: {env: PW}", "password: {hunter2secret: x}"),
        ("password: {env: PW}", "password: {env: 'hunter2secret!'}"),
        (HASH, "hunter2secret"),
        (HASH, "$argon2id$v=19$m=8,t=1,p=1$aHVudGVyMnNlY3JldA$aHVudGVyMnNlY3JldGh1bnRlcjJzZWNyZXQ"),
        ("{file: kek}", "hunter2secret"),
        ("password: {env: PW}", "password: *hunter2secret"),
    ],
)
def test_a_secret_is_never_repeated(tmp_path: Path, old: str, new: str) -> None:
    (got,) = faults(tmp_path, BASE.replace(old, new, 1))
    assert "hunter2" not in str(got) and "aHVudGVy" not in str(got) and "hunter2" not in repr(got)


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    got = loaded(tmp_path, BASE)
    shown = f"{got!r} {got.accounts[0].password_hash} {got.accounts[0].password_hash[0]}"
    assert "7Gq1HCbT" not in shown and "$argon2id$***" in shown
    assert got.accounts[0].password_hash[0] == HASH


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"none\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")


def test_a_hash_cut_off_by_its_own_comma(tmp_path: Path) -> None:
    got = lines(tmp_path, BASE.replace(f"'{HASH}'", HASH))
    assert "3:38: accounts[0].password_hash: is cut off at its first comma: within {...} the hash needs quotes" in got


def test_a_fault_is_one_short_line(tmp_path: Path) -> None:
    name = "x\\n\\e[31m" + "y" * 1000
    (fault,) = faults(tmp_path, BASE.replace("{upstreams: ", f'{{accounts: "{name}", upstreams: '))
    assert fault.message.startswith("no account is named x\\n\\x1b[31myyy")
    assert len(str(fault).splitlines()) == 1 and len(fault.message) < 510


def test_what_is_no_mapping(tmp_path: Path) -> None:
    assert lines(tmp_path, "- a\n") == ["1:1: must be a mapping of sections"]


# Parts of real configurations, put together at random, reach further than random text does.
PARTS = st.sampled_from(
    ["listeners", "accounts", "upstreams", "routes", "policies", "store", "keys", "http", "limits", "log", "path"]
    + [
        "system_id",
        "password_hash",
        "networks",
        "retain",
        "policies",
        "upstreams",
        "name",
        "rules",
        "when",
        "do",
        "tls",
    ]
    + ["refuse", "tag", "route", "keywords", "file", "env", "address", "any", "1s", "127.0.0.1:1", "*", "<<", "numbers"]
)
SCALARS = st.one_of(PARTS, st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.floats())
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PARTS, inner, max_size=4), max_leaves=25
)


def _load_or_faults(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        try:
            parse(content, Path(directory) / "smppd.yaml")
        except ConfigError as error:
            assert error.faults
            assert all(fault.line >= 1 and fault.column >= 1 for fault in error.faults)


@settings(deadline=None, max_examples=200)
@given(TREES)
def test_any_tree_loads_or_has_faults(tree: Any) -> None:
    _load_or_faults(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | st.text(alphabet="-:[]{}&*!|>'\"%@`?,#\n\t ab1~<", max_size=80).map(str.encode))
def test_any_bytes_load_or_have_faults(content: bytes) -> None:
    _load_or_faults(content)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(FIVE)), st.integers(0, 12), st.text(alphabet="-:[]{}&*! \n0a", max_size=4))
def test_a_damaged_configuration_never_crashes(start: int, length: int, put: str) -> None:
    _load_or_faults((FIVE[:start] + put + FIVE[start + length :]).encode())


# -- defaults of accounts, and the writer's own sections -------------------------------------------------------------


MANY_ACCOUNTS = BASE.replace(
    "accounts:",
    """x-night: &night {window: 7}
account_defaults:
  networks: 192.0.2.0/24
  throughput: 20/s
  receipts: {window: 5}
accounts:""",
)


def test_an_account_takes_the_defaults_it_does_not_name(tmp_path: Path) -> None:
    text = MANY_ACCOUNTS.replace("networks: any", "<<: *night")
    account = load(write(tmp_path, text)).accounts[0]
    assert (account.window, account.throughput, account.receipts.window) == (7, 20.0, 5)
    assert [str(network) for network in account.networks] == ["192.0.2.0/24"]
    assert load(write(tmp_path, MANY_ACCOUNTS)).accounts[0].networks == "any"


@pytest.mark.parametrize(
    ("wrong", "place", "message"),
    [
        ("throughput: 20", "accounts[0].throughput", "a rate needs its unit"),
        ("troughput: 20/s", "account_defaults.troughput", "unknown key (did you mean throughput?)"),
        ("system_id: acme", "account_defaults.system_id", "is of one account, and no default"),
    ],
)
def test_a_wrong_default_is_told_once_where_it_stands(tmp_path: Path, wrong: str, place: str, message: str) -> None:
    text = MANY_ACCOUNTS.replace("throughput: 20/s", wrong)
    another = f"  - {{system_id: bravo, password_hash: '{HASH}', networks: any}}\nupstreams:"
    text = text.replace("upstreams:", another, 1)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    [fault] = caught.value.faults
    assert (fault.path, text.splitlines()[fault.line - 1].strip()) == (place, wrong)
    assert message in fault.message


def test_other_sections_that_begin_with_x_are_the_writer_s_own(tmp_path: Path) -> None:
    assert load(write(tmp_path, BASE + "x-anything: [1, {two: 3}]\n"))
    with pytest.raises(ConfigError, match="unknown key"):
        load(write(tmp_path, BASE + "y-anything: 1\n"))


@pytest.mark.parametrize(
    ("listeners", "http"),
    [
        ("[{address: '127.0.0.1:9180'}]", ""),
        ("[{address: '0.0.0.0:9180', plaintext: allowed}]", ""),
        ("[{address: '127.0.0.1:2775'}]", "http: {address: '127.0.0.1:2775'}"),
        ("[{address: '127.0.0.1:2775'}, {address: '0.0.0.0:2775', plaintext: allowed}]", ""),
        ("[{address: '127.0.0.1:2775'}, {address: 'localhost:2775'}]", ""),
        ("[{address: 'LocalHost:2775'}, {address: '127.0.0.1:02775'}]", ""),
        ("[{address: 'localhost:2775'}, {address: '0.0.0.0:2775', plaintext: allowed}]", ""),
        ("[{address: '[::1]:2775'}, {address: '[0:0::1]:2775'}]", ""),
        ("[{address: 'localhost:9180'}]", ""),
    ],
)
def test_addresses_that_cannot_be_listened_on_together(tmp_path: Path, listeners: str, http: str) -> None:
    text = BASE.replace('[{address: "127.0.0.1:0"}]', listeners) + http + "\n"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    [fault] = caught.value.faults
    assert "cannot be listened on together with" in fault.message


def test_addresses_that_do_not_meet(tmp_path: Path) -> None:
    listeners = (
        "[{address: '127.0.0.1:2775'}, {address: '127.0.0.2:2775'}, {address: '127.0.0.1:0'}, {address: '127.0.0.1:0'},"
        " {address: '[::1]:2775'}, {address: 'localhost:2776'}]"
    )
    assert load(write(tmp_path, BASE.replace('[{address: "127.0.0.1:0"}]', listeners)))
