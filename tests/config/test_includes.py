"""`include`: files joined in their order, faults in the file where they stand, and everything that a file can be instead."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smppd.config import ConfigError, Settings, fault_at, load, stamp_of
from smppd.config import includes as module
from smppd.config.includes import changed
from tests.config.helpers import BASE, HASH, write

MAIN = BASE + "include: [accounts.d/*.yaml, more.yaml]\n"


def put(directory: Path, name: str, text: str) -> Path:
    """A file below the directory."""
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def account(name: str, more: str = "") -> str:
    return f"accounts:\n  - system_id: {name}\n    password_hash: {HASH}\n    networks: any\n{more}"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A directory with two files of accounts and one of carriers and rules."""
    put(tmp_path, "accounts.d/20-b.yaml", account("bolt", "    policies: house\n"))
    put(tmp_path, "accounts.d/10-a.yaml", account("able"))
    put(tmp_path, "accounts.d/ignored.txt", "no: yaml: at: all")
    put(
        tmp_path,
        "more.yaml",
        'upstreams:\n  - {name: carrier-b, address: "127.0.0.1:2777", system_id: gw, password: {env: PW}}\n'
        "routes:\n  - {accounts: bolt, upstreams: [carrier-b, carrier-a]}\n"
        "policies:\n  house: [{name: r, do: refuse}]\nlists:\n",
    )
    return tmp_path


def refused(directory: Path, text: str = MAIN) -> list[str]:
    """The faults, each as it is printed but for the directory."""
    with pytest.raises(ConfigError) as caught:
        load(write(directory, text))
    return [str(fault).replace(f"{directory}/", "") for fault in caught.value.faults]


def taken(directory: Path, text: str = MAIN) -> Settings:
    return load(write(directory, text))


def test_lists_are_joined_in_the_order_of_files_and_mappings_are_merged(house: Path) -> None:
    got = taken(house)
    assert [one.system_id for one in got.accounts] == ["acme", "able", "bolt"]
    assert [one.name for one in got.upstreams] == ["carrier-a", "carrier-b"]
    assert len(got.routes) == 2 and list(got.policies) == ["house"] and not got.lists
    names = ["smppd.yaml", "accounts.d/10-a.yaml", "accounts.d/20-b.yaml", "more.yaml"]
    assert [(one.path, one.stamp) for one in got.files] == [(house / name, stamp_of(house / name)) for name in names]


def test_the_defaults_of_the_main_file_are_those_of_every_account(house: Path) -> None:
    got = taken(house, MAIN + "account_defaults: {window: 33}\n")
    assert {one.window for one in got.accounts} == {33}


def test_the_hash_is_that_of_the_file_or_of_what_sha256sum_says_of_all(house: Path) -> None:
    alone = write(house, BASE)
    assert load(alone).digest == sha256(alone.read_bytes()).hexdigest()
    got = taken(house)
    said = "".join(f"{sha256(one.path.read_bytes()).hexdigest()}  {one.path.relative_to(house)}\n" for one in got.files)
    assert got.digest == sha256(said.encode()).hexdigest()
    put(house, "accounts.d/20-b.yaml", account("bolt", "    window: 7\n"))
    assert taken(house).digest != got.digest


def test_a_fault_stands_in_its_own_file_with_its_own_place(house: Path) -> None:
    put(house, "accounts.d/20-b.yaml", account("bolt", "    windw: 3\n    policies: huose\n") + "  - nonsense\n")
    assert refused(house) == [
        "accounts.d/20-b.yaml:5:5: accounts[0].windw: unknown key (did you mean window?)",
        "accounts.d/20-b.yaml:6:15: accounts[0].policies: no policy is named huose (did you mean house?)",
        "accounts.d/20-b.yaml:7:5: accounts[1]: must be a mapping",
    ]


def test_a_fault_that_shows_later_is_told_in_its_file_too(house: Path) -> None:
    got = taken(house)
    found = fault_at(got.path, "accounts[2].policies", "is a pity")
    assert str(found) == f"{house}/accounts.d/20-b.yaml:5:15: accounts[0].policies: is a pity"


def test_the_same_name_twice_names_both_places(house: Path) -> None:
    put(house, "accounts.d/30-c.yaml", account("able") + "policies:\n  house: [{name: s, do: pass}]\n")
    assert refused(house) == [
        "accounts.d/30-c.yaml:2:16: accounts[0].system_id: account able is given twice"
        " (first as accounts[0] in accounts.d/10-a.yaml:2)",
        "more.yaml:6:3: policies.house: house is given twice (first in accounts.d/30-c.yaml:6)",
    ]
    put(house, "accounts.d/30-c.yaml", account("acme"))
    (place,) = refused(house)
    assert place.endswith("account acme is given twice (first as accounts[0] in smppd.yaml:3)")


def test_faults_of_all_files_come_in_their_order(house: Path) -> None:
    put(house, "more.yaml", "routes: nothing\npolicies: []\n")
    put(house, "accounts.d/10-a.yaml", account("able", "    window: 0\n"))
    assert [line.split(": ", 1)[0] for line in refused(house, MAIN + "drain: 7\n")] == [
        "smppd.yaml:10:8",
        "accounts.d/10-a.yaml:5:13",
        "accounts.d/20-b.yaml:5:15",
        "more.yaml:1:9",
        "more.yaml:2:11",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: other.yaml\n", "1:1: include: an included file includes no other"),
        ("listeners: []\n", "1:1: listeners: cannot stand in an included file, which may have accounts, upstreams"),
        ("account_defaults: {}\n", "1:1: account_defaults: cannot stand in an included file"),
        ("acounts: []\n", "1:1: acounts: cannot stand in an included file"),
        ("- one\n", "1:1: must be a mapping of sections"),
        ("", "1:1: is empty"),
        ("# nothing\n", "1:1: is empty"),
        ("a: [\n", "2:1: not YAML:"),
        ("a: 1\na: 2\n", "2:1: a: key given twice"),
        ("routes:\n  x: 1\n", "2:3: routes: must be a list in an included file"),
    ],
)
def test_what_an_included_file_cannot_be(house: Path, text: str, message: str) -> None:
    put(house, "more.yaml", text)
    assert any(line.startswith(f"more.yaml:{message}") for line in refused(house)), refused(house)


def test_sections_of_the_writer_s_own_may_stand_in_it(house: Path) -> None:
    put(house, "more.yaml", f"x-own: &n [10.0.0.0/8]\n{account('cool').replace('any', '*n')}policies: {{house: []}}\n")
    assert [str(one) for one in taken(house).accounts[-1].networks] == ["10.0.0.0/8"]


def test_what_a_name_can_stand_for_instead_of_a_file(house: Path) -> None:
    def of(include: str) -> list[str]:
        return refused(house, BASE + f"include: {include}\n")

    assert of("none.yaml") == ["smppd.yaml:9:10: include: none.yaml cannot be read: No such file or directory"]
    assert of("accounts.d") == ["smppd.yaml:9:10: include: accounts.d is a directory: write accounts.d/*.yaml"]
    assert of("[nowhere/*.yaml]") == [
        "smppd.yaml:9:11: include[0]: nowhere cannot be looked into: No such file or directory"
    ]
    assert "only the last part" in of("'*/a.yaml'")[0] and "only the last part" in of("'accounts.d/**'")[0]
    long = "x" * 300 + ".yaml"
    assert of(long) == [f"smppd.yaml:9:10: include: {long} cannot be read: File name too long"]
    assert of("accounts.d/10-a.yaml/b.yaml")[0].endswith("cannot be read: Not a directory")
    assert of("7") == ["smppd.yaml:9:10: include: 7 cannot be read: No such file or directory"]
    assert "must be" in of("[{a: 1}]")[0] and "must be paths or patterns" in of("''")[0]
    os.mkfifo(house / "pipe.yaml")
    assert of("pipe.yaml") == ["smppd.yaml:9:10: include: pipe.yaml is not a file"]
    (house / "places" / "a.yaml").mkdir(parents=True)
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert of("places/*.yaml") == ["smppd.yaml:9:10: include: places/a.yaml is not a file"]
    assert len(os.listdir("/proc/self/fd")) == opened
    (house / "dangling.yaml").symlink_to(house / "gone.yaml")
    assert of("dangling.yaml") == ["smppd.yaml:9:10: include: dangling.yaml is a link to a file that does not exist"]
    (house / "self.yaml").symlink_to(house / "smppd.yaml")
    assert "self.yaml is the same file as smppd.yaml" in of("self.yaml")[0]
    (house / "again.yaml").symlink_to(house / "more.yaml")
    assert "again.yaml is the same file as more.yaml" in of("[more.yaml, again.yaml]")[0]
    itself = ["smppd.yaml:9:10: include: smppd.yaml is the configuration itself"]
    assert of("smppd.yaml") == of("./smppd.yaml") == of("'smppd*.yaml'") == itself
    put(house, "one.yaml", account("once"))
    assert len(taken(house, BASE + "include: [one.yaml, ./one.yaml, one*.yaml]\n").accounts) == 2


def test_a_link_is_followed_and_one_file_is_taken_once(house: Path) -> None:
    (house / "linked.yaml").symlink_to(house / "accounts.d" / "10-a.yaml")
    got = taken(house, BASE + "include: linked.yaml\n")
    assert [one.system_id for one in got.accounts] == ["acme", "able"]
    assert len(taken(house, MAIN.replace("more.yaml]", "more.yaml, accounts.d/20*]")).accounts) == 3


def test_an_empty_directory_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "accounts.d").mkdir()
    assert len(taken(tmp_path, BASE + "include: accounts.d/*.yaml\n").accounts) == 1


def test_a_file_that_may_not_be_read_is_a_fault(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuses(path: Path, flags: int) -> int:
        if str(path).endswith("more.yaml"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuses)
    assert refused(house) == ["smppd.yaml:9:30: include[1]: more.yaml cannot be read: Permission denied"]


def test_what_is_too_much_is_a_fault(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(house, "accounts.d/10-a.yaml", "#" * ((4 << 20) + 1))
    assert "accounts.d/10-a.yaml:1:1: is longer than 4 MiB" in refused(house)
    put(house, "accounts.d/10-a.yaml", account("able"))
    monkeypatch.setattr(module, "MAX_TOTAL", 10)
    assert "the included files are longer than 0 MiB in all" in refused(house)[0]
    monkeypatch.setattr(module, "MAX_FILES", 1)
    assert "matches more than 1 files" in refused(house)[0]


def test_another_file_or_content_or_none_is_seen(house: Path) -> None:
    got = taken(house)
    assert not changed(got.path, got.include, got.files)
    new = put(house, "accounts.d/30-c.yaml", account("cool"))
    assert changed(got.path, got.include, got.files)
    new.unlink()
    assert not changed(got.path, got.include, got.files)
    put(house, "more.yaml", "routes: []\n")
    assert changed(got.path, got.include, got.files)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_whatever_stands_in_a_file_gives_faults_or_settings(house: Path, content: bytes) -> None:
    (house / "more.yaml").write_bytes(content)
    try:
        taken(house)
    except ConfigError as error:
        assert error.faults and all("\n" not in str(fault) for fault in error.faults)
