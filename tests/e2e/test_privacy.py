"""The canary: a body, numbers, a sender and passwords that must be found nowhere in the clear: no file, log line or metric."""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from smppd.operators import totp
from tests import forked
from tests.audit.receiver import Receiver
from tests.cli.staff import Person
from tests.e2e.feeding import Consumer
from tests.e2e.harness import PASSWORD, UPSTREAM_PASSWORD, Gateway, Upstream, account, descendants, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step, receipt_body
from tests.e2e.test_console import Browser, Console
from tests.spans.collecting import Collector

COUNT: Final = 300
WRONG: Final = "wr0ng-Zq7secret"
BODY: Final = "canary-7f3a9d secret body"
NUMBER: Final = "447700900987"
SENDER: Final = "CanarySendr"
PHONE: Final = "447700900654"
REPLY: Final = "canary-reply-55c1"
REJECTED: Final = "canary-refused-body"
PASSPHRASE: Final = "canary Osprey harbour 9f31"
TOTP: Final = "KRSXG5CTMVRXEZLUKN2XAZLS"
"""A secret as an authenticator takes it, base32."""
SECRETS: Final = {
    "body": BODY,
    "number": NUMBER,
    "sender": SENDER,
    "MO sender": PHONE,
    "MO body": REPLY,
    "refused body": REJECTED,
    "password": PASSWORD,
    "wrong password": WRONG,
    "upstream password": UPSTREAM_PASSWORD,
    "passphrase": PASSPHRASE,
    "TOTP secret": TOTP,
}


def disguises(secret: str) -> dict[str, bytes]:
    """A secret in every form that a dump might take."""
    plain = secret.encode()
    forms = {"ASCII": plain, "UTF-16-LE": secret.encode("utf-16-le"), "UTF-16-BE": secret.encode("utf-16-be")}
    forms |= {"hex": plain.hex().encode(), "HEX": plain.hex().upper().encode()}
    forms["reversed digits"] = _swapped(secret)
    # base64 of a longer text that holds it: three alignments, without the characters its neighbours change.
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + plain)
        first = -(-8 * shift // 6)
        forms[f"base64+{shift}"] = text[first : (len(plain) + shift) * 8 // 6]
    return forms


CODED: Final = ("passphrase", "TOTP secret", "password", "wrong password", "upstream password")
"""Secrets that are looked for as whole base32 and hexadecimal values too, as QR codes, URIs and dumps have them."""


def _coded(secret: str) -> dict[str, bytes]:
    """What a key of an authenticator, or somebody who packs a secret for transport, makes of it."""
    plain = secret.encode()
    forms = {"base32": base64.b32encode(plain).rstrip(b"="), "base85": base64.b85encode(plain)}
    forms["URL"] = urllib.parse.quote(secret, safe="").encode()
    try:
        raw = base64.b32decode(secret)  # a TOTP secret is shown in base32: its octets, in every form
    except binascii.Error:
        return forms
    return forms | {"raw": raw, "raw hex": raw.hex().encode(), "raw base64": base64.b64encode(raw).rstrip(b"=")}


def _swapped(secret: str) -> bytes:
    """Semi-octets as SIM cards hold numbers; for other secrets just their bytes again."""
    if not secret.isdigit():
        return secret.encode()
    digits = secret + "f" * (len(secret) % 2)
    return bytes.fromhex("".join(digits[at + 1] + digits[at] for at in range(0, len(digits), 2)))


def found(content: bytes) -> set[tuple[str, str]]:
    """Which secrets are in it, and in which form."""
    folded = content.lower()
    return {
        (name, form)
        for name, secret in SECRETS.items()
        for form, pattern in (disguises(secret) | (_coded(secret) if name in CODED else {})).items()
        if pattern in content or (form in ("ASCII", "hex") and pattern.lower() in folded)
    }


class Line(NamedTuple):
    """A command line that is run on the daemon's store, and what may appear in what it prints and writes. may: names of
    SECRETS, for those that are asked to show them. stdin: what is typed; `{out}` in words: a directory of its own, whose
    files are searched like what is printed. status: how it may end."""

    words: tuple[str, ...]
    may: tuple[str, ...] = ()
    stdin: str = ""
    status: tuple[int, ...] = (0,)


_WHY: Final = ("--reason", "law", "--note", "the canary")
_ALL: Final = ("body", "number", "sender", "MO sender", "MO body", "refused body")
"""What stands in messages."""
_ORDER: Final = ("--authority", "District Court", "--reference", "Order 12/26", "--expires", "2030-01-01")
_CONSENT: Final = "number,form,time,sender,evidence"
REGISTRY: Final[list[Line]] = [
    Line(("status",)),
    Line(("status", "--json")),
    Line(("check",)),
    Line(("check", "--json")),
    Line(("keys", "list")),
    Line(("keys", "list", "--json")),
    Line(("keys", "rotate")),
    Line(("keys", "rotate", "--retire"), status=(0, 1)),
    Line(("keys", "shred", "--out", "{out}", "--yes"), status=(1,)),  # the daemon runs
    Line(("audit", "show")),
    Line(("audit", "show", "--json")),
    Line(("audit", "show", "--heads")),
    Line(("audit", "verify")),
    Line(("audit", "verify", "--plain")),
    Line(("log", "verify")),
    Line(("log", "verify", "--json")),
    Line(("log", "search", "+" + NUMBER, "--reason", "support")),
    Line(("log", "search", "+" + NUMBER, "--reason", "support", "--json")),
    Line(("log", "search", PHONE, "--reason", "support"), status=(0, 1)),
    Line(("log", "search", BODY, "--reason", "support"), may=("body",), status=(0, 1, 2)),  # said back to who typed it
    Line(("log", "show", NUMBER, "--reason", "support"), may=("number",), status=(1, 2)),
    Line(
        ("log", "search", "+" + NUMBER, "--reason", "law", "--reveal", "--note", "the canary"),
        may=("body", "number", "sender", "refused body"),
    ),
    Line(("log", "export")),
    Line(("log", "export", "--format", "jsonl", "--out", "{out}/log.jsonl", "--state", "delivered")),
    Line(("log", "export", "--out", "{out}/log.csv", "--reveal", *_WHY), may=_ALL),
    Line(("log", "export", "--after", BODY), status=(2,)),
    *(
        Line(("show", what, *form))
        for what in (
            "sessions",
            "accounts",
            "upstreams",
            "queues",
            "messages",
            "bans",
            "suspensions",
            "acts",
            "config",
            "limits",
            "rules",
            "lists",
            "health",
            "flow",
        )
        for form in ((), ("--json",))
    ),
    Line(("show", "message", NUMBER), status=(1, 2), may=("number",)),
    Line(("act", "trace", "acme", "--reason", "again " + NUMBER)),
    Line(("act", "trace", BODY, "--reason", "nobody"), status=(1,)),
    Line(("act", "log-level", "debug", "--for", "5m", "--reason", "of " + NUMBER)),
    Line(("check", "--plan")),
    Line(("trace", "list")),
    Line(("trace", "list", "--json")),
    Line(("trace", "show", "1")),
    Line(("trace", "export", "1", "--out", "{out}/customer.pcapng", *_WHY), may=_ALL),
    Line(("trace", "export", "2", "--out", "{out}/carrier.pcapng", *_WHY), may=_ALL),
    Line(("trace", "export", "1", "--out", "/dev/full", *_WHY), status=(1, 2)),
    Line(("act", "trace", "acme", "--stop", "--reason", "the canary")),
    Line(("trace", "delete", "1", "--reason", "of " + NUMBER)),
    Line(("damaged", "list")),
    Line(("bans", "list")),
    Line(("purge", "--dry-run")),
    Line(("purge",), status=(0, 1)),  # 1: somebody reads the store
    Line(("purge", "--json"), status=(0, 1)),
    Line(("backup", "{out}/data", "--keys-to", "{out}/keys")),
    Line(("backup", "{out}/nowhere"), status=(2,)),
    Line(("restore", "--from", "{out}"), status=(1, 2)),
    Line(
        ("explain", "--account", "acme", "--from", "Acme", "--to", "+" + NUMBER, "--text", BODY),
        may=("body", "number"),
        status=(0, 1, 2),
    ),
    Line(("passwd", "--stdin"), stdin=f"{PASSPHRASE}\n"),
    Line(("operators", "add", "anna", "--role", "privacy-officer", "--stdin"), stdin=f"{PASSPHRASE}\n"),
    Line(("operators", "add", "ben", "--role", "operator", "--stdin"), stdin=f"{PASSPHRASE}\n"),
    Line(("operators", "list")),
    Line(("operators", "list", "--json")),
    Line(("operators", "role", "anna", "--role", "support")),
    Line(("operators", "reset", "anna", "--stdin"), stdin=f"{PASSPHRASE}\n"),
    Line(("login", "--operator", "anna", "--credentials", "-"), stdin=f"{PASSPHRASE}\n000000\n", status=(1,)),
    Line(("login", "--operator", PASSPHRASE, "--credentials", "-"), stdin=f"{TOTP}\n{PASSPHRASE}\n", status=(1,)),
    Line(("login", "--operator", "anna", "--credentials", "-"), stdin=PASSPHRASE, status=(2,)),
    Line(("logout",), status=(0, 1)),
    Line(("operators", "disable", "anna")),
    Line(("approvals", "list")),
    Line(("approvals", "list", "--json")),
    Line(("approvals", "grant", "1"), status=(1,)),
    Line(("subject", "export", "+" + NUMBER, *_WHY, "--json"), may=("body", "number", "sender", "refused body")),
    Line(
        ("subject", "export", "+" + NUMBER, *_WHY, "--out", "{out}/all.html"),
        may=("body", "number", "sender", "refused body"),
    ),
    # Whom somebody else wrote to: that one's number is a third person's.
    Line(("subject", "export", "+447700900321", *_WHY, "--json"), may=("MO body",)),
    Line(("subject", "export", "+447700900321", *_WHY, "--out", "{out}/all.html"), may=("MO body",)),
    Line(("subject", "export", "+" + NUMBER, "--reason", "support"), status=(2,)),
    Line(("subject", "looks", "+" + NUMBER)),
    Line(("subject", "looks", "+" + NUMBER, "--json")),
    Line(("optout", "add", "+" + NUMBER, "--account", "acme", "--sender", SENDER, "--note", "+" + NUMBER)),
    Line(("optout", "check", "+" + NUMBER, "--account", "acme", "--sender", SENDER)),
    Line(("optout", "check", NUMBER, "--account", "acme", "--json"), status=(1,)),
    Line(("optout", "export")),
    Line(("optout", "export", "--output", "{out}/list.csv")),
    Line(
        ("optout", "import", "-"),
        stdin=f"number,account\n+{NUMBER},acme\n{BODY},acme\n+{PHONE},{SENDER}\n",
        status=(1,),
    ),
    Line(("optout", "review", "--json")),
    Line(("optout", "remove", "+" + NUMBER, "--account", "acme", "--sender", SENDER)),
    Line(
        ("consent", "import", "-", "--account", "acme"),
        stdin=f"{_CONSENT}\n+{NUMBER},written,2026-01-02T03:04:05Z,{SENDER},{PHONE}\n",
    ),
    Line(
        ("consent", "import", "-", "--account", "acme", "--json"),
        stdin=f"{_CONSENT}\n{BODY},written,2026-01-02T03:04:05Z,{SENDER},x\n+{NUMBER},{BODY},{PHONE},{SENDER},x\n",
        status=(1,),
    ),
    Line(("consent", "check", "+" + NUMBER, "--account", "acme", "--sender", SENDER), status=(0, 1)),
    Line(("consent", "check", "+" + PHONE, "--account", "acme", "--json"), status=(1,)),
    Line(("consent", "show", "+" + NUMBER, "--account", "acme", *_WHY), may=("number", "sender", "MO sender")),
    Line(
        ("consent", "export", "+" + NUMBER, "--account", "acme", *_WHY, "--out", "{out}/proof"),
        may=("number", "sender", "MO sender"),
    ),
    Line(("consent", "withdraw", "+" + NUMBER, "--account", "acme", "--note", "asked")),
    Line(("lists",)),
    Line(("lists", "show", "--json")),
    Line(("lists", "check", "dnd", "+" + NUMBER)),
    Line(("lists", "check", "dnd", "+" + PHONE, "--json"), status=(1,)),
    Line(("lists", "check", "dnd", BODY), status=(1, 2)),
    Line(("lists", "compile", "dnd")),
    Line(("traffic", "list")),
    Line(("traffic", "list", "--json")),
    Line(("traffic", "release", "acme", "1", "--reason", "seen"), status=(1, 2)),
    Line(("suspensions", "add", "acme", "--reason", "the canary")),
    Line(("suspensions", "show", "acme", "--json")),
    Line(("suspensions", "list")),
    Line(("suspensions", "lift", "acme", "--reason", "the canary")),
    Line(("hold", "add", "--number", "+" + PHONE, *_ORDER)),
    Line(("hold", "list")),
    Line(("hold", "show", "1", "--json")),
    Line(("hold", "bundle", "1", "--to", "{all}/authority.pub", "--out", "{all}/bundle")),
    Line(
        ("hold", "open", "{all}/bundle", "--key", "{all}/authority.key", "--out", "{out}/opened"),
        may=("MO body", "MO sender"),
    ),
    Line(("report", "processing")),
    Line(("report", "processors", "--json")),
    Line(("report", "retention")),
    Line(("report", "breach", "--since", "2026-01-01", "--until", "2030-01-01", "--ids", "{out}/ids")),
    Line(("report", "breach", "--since", "2026-01-01", "--until", "2030-01-01", "--json")),
    Line(("report", "controls")),
    Line(("damaged", "show", "1", *_WHY, "--reveal"), status=(1, 2)),
    Line(("audit", "verify", "--shipped", "{store}/shipped.jsonl", "--json")),
    Line(("log", "verify", "--shipped", "{store}/shipped.jsonl", "--json")),
    Line(("subject", "erase", "+" + NUMBER, *_WHY, "--yes"), status=(0, 1)),
    Line(("subject", "erase", "+" + PHONE, *_WHY, "--yes", "--json"), status=(0, 1)),  # held
    Line(("subject", "erase", "--resume"), status=(0, 1)),
    Line(("hold", "release", "1")),
    Line(("audit", "show", "--json")),
    Line(("nonsense",), status=(2,)),
    # And what is typed wrongly: a usage line that repeats an argument may repeat no secret of somebody else's.
    Line(("log", "search", "--reason", "curiosity", "+" + NUMBER), status=(2,)),
    Line(("keys", "rotate", "--operator", SENDER), status=(0, 1, 2), may=("sender",)),
]
"""Every command line that is searched for secrets. Whoever adds a command adds a line."""


@pytest.mark.parametrize("secret", list(SECRETS.values()))
def test_the_search_sees_every_disguise(secret: str) -> None:
    for form, pattern in disguises(secret).items():
        assert found(b"\0\1" + pattern + b"\xff"), form
    for shift in range(5):
        dump = base64.b64encode(b"y" * shift + secret.encode() + b"tail")
        assert found(dump)
    for name, coded in SECRETS.items():
        for form, pattern in (_coded(coded) if name in CODED else {}).items():
            assert found(b"\0" + pattern + b"\xff"), (name, form)
    assert not found(b"nothing of the sort")


@pytest.fixture(scope="module")
def collector(certificates: Path) -> Iterator[Receiver]:
    """A syslog server to which the trail is shipped."""
    with Receiver(certificates) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def spans() -> Iterator[Collector]:
    """Where spans are sent."""
    with Collector() as there:
        yield there


@pytest.fixture(scope="module", params=["encrypt", "hash", "hide"])
def used(
    request: pytest.FixtureRequest,
    make_gateway: Callable[..., Gateway],
    collector: Receiver,
    spans: Collector,
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """A daemon through which the secrets have gone: messages, receipts, MO, wrong binds, refusals, bad PDUs."""
    # The list's own file has numbers in the clear, of course, and is no file of the installation.
    dnd = tmp_path_factory.mktemp("lists") / "dnd.txt"
    dnd.write_text(f"+{NUMBER}\n")
    customer = account(
        content=request.param,
        numbers=["447700900321"],
        policies=["house"],
        consent="shadow",
        consent_classes=["transactional"],
        traffic={},
    )
    policies = {"house": [{"name": "refused", "when": {"text": ["canary-refused"]}, "do": "refuse"}]}

    def receipt(message_id: bytes) -> bytes:
        return receipt_body(b"\1\1" + NUMBER.encode() + b"\0", b"\5\0" + SENDER.encode() + b"\0", message_id)

    def script() -> Iterator[Step]:
        for turn in range(1_000_000):
            yield Step(then=() if turn % 10 == 9 else (receipt,))

    tls = {"ca": str(certificates / "ca.pem"), "server_name": "localhost"}
    syslog = {"address": f"127.0.0.1:{collector.port}", "tls": tls}
    lists = {"dnd": {"file": str(dnd), "kind": "numbers"}}
    shipping = {"file": {"path": "shipped.jsonl"}, "syslog": syslog}
    sections = {"policies": policies, "shipping": shipping, "lists": lists}
    sections["feed"] = {"file": {"path": "feed.jsonl"}, "socket": {"path": "feed.sock"}, "numbers": "masked"}
    sections["tracing"] = {"otlp": spans.url, "sample": 1.0}
    with RawSmsc(script()) as smsc, make_gateway([Upstream(smsc.port)], [customer], **sections) as gateway:
        _use(gateway, smsc)
        yield gateway


def _use(gateway: Gateway, smsc: RawSmsc) -> None:
    for act in (("log-level", "debug"), ("trace", "account:acme"), ("trace", "upstream:sim")):
        done = gateway.command("act", *act, "--reason", "of " + NUMBER)
        assert done.returncode == 0 and not found((done.stdout + done.stderr).encode()), done.stderr
    ca = gateway.certificates / "ca.pem"
    with Probe(gateway.tls_port, ca) as wrong:
        assert wrong.bind("acme", WRONG) == 0x0D
    with Probe(gateway.plain_port) as wrong:
        assert wrong.bind("acme" + WRONG[:8], PASSWORD) == 0x0D
    count = COUNT if gateway.config["accounts"][0]["content"] == "encrypt" else 60
    with Probe(gateway.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        answers = receipts = 0
        for number in range(count):
            text = f"{BODY} {number}".encode()
            if number % 3 == 1:
                body = submit_body(text, NUMBER.encode(), SENDER.encode(), 1)
            else:
                tlvs = b"\x14\x00" + (len(BODY)).to_bytes(2) + BODY.encode()
                body = submit_body(text, NUMBER.encode(), SENDER.encode(), 1, tlvs)
            probe.send(frame(0x04, 0, 1000 + number, body))
            while answers <= number:
                got = probe.read()
                answers += got[4:8] == b"\x80\0\0\4"
                receipts += _deliver(probe, got)
        refused = submit_body(REJECTED.encode(), NUMBER.encode(), SENDER.encode(), 1)
        probe.send(frame(0x04, 0, 5000, refused))
        while (got := probe.read())[4:8] != b"\x80\0\0\4":
            receipts += _deliver(probe, got)
        assert status(got) == 0x45
        smsc.deliver(
            b"\0\1\1"
            + PHONE.encode()
            + b"\0\1\x01447700900321\0\0\0\0\0\0\0\0\0\0"
            + bytes((len(REPLY),))
            + REPLY.encode()
        )
        expected = count - count // 10 + 1
        while receipts < expected:
            receipts += _deliver(probe, probe.read())
        # A body that breaks off inside the secret, and one with the secret where a number belongs.
        probe.send(frame(0x04, 0, 6000, submit_body(BODY.encode(), NUMBER.encode(), SENDER.encode())[:-5]))
        probe.send(frame(0x04, 0, 6001, submit_body(b"x", BODY.encode() * 2, SENDER.encode())))
        for _ in range(2):
            while (got := probe.read())[4:8] != b"\x80\0\0\4":
                _deliver(probe, got)
            assert status(got) != 0
    # Some receipts stay behind on purpose; what is stored has to be sealed there too.
    with Probe(gateway.tls_port, ca) as probe:
        assert probe.bind("acme", PASSWORD, 0x02) == 0
        for number in range(20):
            assert (
                status(probe.ask(0x04, submit_body(f"{BODY} {number}".encode(), NUMBER.encode(), SENDER.encode(), 1)))
                == 0
            )
    wait_for("the last submits", lambda: len(smsc.submits()) >= count + 20)


def _deliver(probe: Probe, got: bytes) -> int:
    if got[4:8] != b"\0\0\0\5":
        return 0
    probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
    return 1


def content_of(path: Path) -> bytes:
    """Of a file that the daemon may just be renaming, or has removed."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _files(gateway: Gateway) -> Iterator[Path]:
    """Every file of the run but those in which a secret is meant to stand."""
    for path in gateway.directory.rglob("*"):
        if path.is_file() and path != gateway.directory / "secrets" / "upstream":
            yield path


def test_nothing_is_in_the_clear_while_it_runs(used: Gateway) -> None:
    files = list(_files(used))
    assert any(path.suffix in (".db", ".sqlite") or "-wal" in path.name for path in files), "no store was found"
    hits = {path.name: what for path in files if (what := found(content_of(path)))}
    assert not hits
    assert not found(used.http("/metrics")[1].encode())


def test_nothing_is_in_what_the_feed_and_spans_say(used: Gateway, spans: Collector) -> None:
    consumer = Consumer(used.directory / "feed.sock")
    consumer.start()
    events = {"accepted", "submitted", "receipt", "received", "refused"}
    wait_for("all kinds of events", lambda: events <= {one.get("event") for one in list(consumer.lines)})
    consumer.end()
    told = json.dumps(consumer.lines).encode()
    assert b"***" in told and not found(told)
    file = used.directory / "feed.jsonl"
    wait_for("the feed's file", lambda: file.exists() and b'"receipt"' in file.read_bytes())
    assert not found(file.read_bytes())
    wait_for("spans", lambda: len(spans.spans()) > 100)
    assert not found(b"".join(spans.octets))


def test_nothing_is_on_its_command_line_or_in_what_commands_print(used: Gateway) -> None:
    for pid in (used.pid, *descendants(used.pid)):
        assert not found(Path(f"/proc/{pid}/cmdline").read_bytes())
    search = used.command("log", "search", "+" + NUMBER, "--reason", "support")
    assert not found((search.stdout + search.stderr).encode())
    assert search.returncode == 0 and "***" in search.stdout


def _told(used: Gateway, line: Line, out: Path) -> subprocess.CompletedProcess[str]:
    places = {"{out}": out, "{all}": out.parent / "all", "{store}": used.directory}
    words = list(line.words)
    for mark, place in places.items():
        words = [word.replace(mark, str(place)) for word in words]
    if words[0] != "passwd":
        return used.command(*words, stdin=line.stdin)
    # Needs no configuration.
    return forked.run(words, line.stdin)


def test_no_command_tells_more_than_it_was_asked_for(used: Gateway, collector: Receiver, tmp_path: Path) -> None:
    revealed: set[str] = set()
    drawn: set[bytes] = set()
    _authority(tmp_path / "all")
    for number, line in enumerate(REGISTRY):
        out = tmp_path / str(number)
        out.mkdir()
        done = _told(used, line, out)
        assert done.returncode in line.status, (line.words, done.stderr)
        assert "Traceback" not in done.stderr, line.words
        told = (done.stdout + done.stderr).encode() + b"".join(
            path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
        )
        names = {name for name, _form in found(told)}
        assert not [one for one in drawn if one in told], (line.words, "what an operator was shown once")
        drawn |= _drawn(done.stdout)
        assert names <= set(line.may), (line.words, names)
        revealed |= names if "--reveal" in line.words else set()
        traced = line.words[:2] == ("trace", "export") and "/dev/full" not in line.words
        assert not traced or {"body", "number"} <= names, "a trace shows what was sent"
    assert "number" in revealed and ("body" in revealed or used.config["accounts"][0]["content"] != "encrypt"), (
        "what is revealed to whoever asks for it is found: the search works on what commands print"
    )
    assert not {path.name: what for path in _files(used) if (what := found(path.read_bytes()))}
    assert not found((tmp_path / "all/bundle").read_bytes()), "a bundle is sealed"
    assert len(drawn) == 3 * (2 + 8), "of two operators, and of a reset"
    for path in _files(used):
        content = path.read_bytes()
        assert not [one for one in drawn if one in content], path
    assert (used.directory / "shipped.jsonl").stat().st_size, "it was shipped"
    shipped = b"".join(collector.messages)
    assert shipped and not found(shipped) and not [one for one in drawn if one in shipped]


def test_what_fails_tells_no_more(used: Gateway, tmp_path: Path) -> None:
    """Commands that find no space, no file, no right to read one, or no sense in it."""
    nowhere = ("--reason", "law", "--note", "the canary", "--json", "--out", "/dev/full")
    rubbish = tmp_path / "rubbish"
    rubbish.write_text(f"{PASSPHRASE}\n{TOTP}\n{BODY}\n")
    closed = used.config_file.read_text()
    hidden = used.directory / "secrets" / "upstream"
    for words in (
        ("subject", "export", "+" + NUMBER, *nowhere),
        ("log", "search", "+" + NUMBER, "--reason", "support", "--credentials", str(rubbish), "--operator", "anna"),
        (
            "subject",
            "erase",
            "+" + NUMBER,
            *_WHY,
            "--yes",
            "--operator",
            "anna",
            "--credentials",
            str(tmp_path / "none"),
        ),
        ("hold", "open", str(rubbish), "--key", str(rubbish), "--out", str(tmp_path / "opened")),
        ("hold", "bundle", "1", "--to", str(rubbish), "--out", str(tmp_path / "bundle")),
        ("restore", "--from", str(rubbish)),
        ("audit", "verify", "--shipped", str(rubbish)),
    ):
        done = used.command(*words)
        assert done.returncode in (1, 2), (words, done.stderr)
        assert not found((done.stdout + done.stderr).encode()) and "Traceback" not in done.stderr, words
    for broken in (closed + f"\nrubbish: {BODY}\n", closed.replace("acme", BODY), closed + "\n- : ["):
        used.write_config(broken)
        done = used.command("check")
        names = {name for name, _form in found((done.stdout + done.stderr).encode())}
        assert done.returncode == 1 and names <= {"body"}, (
            "what an operator typed is said back to him, and nothing else"
        )
    used.write_config(closed)
    secret = hidden.read_text()
    hidden.write_text(secret * 3)
    assert not found((said := used.command("check")).stdout.encode() + said.stderr.encode())
    hidden.write_text(secret)


def test_the_consoles_log_and_what_it_leaves_say_nothing(used: Gateway, certificates: Path) -> None:
    made = used.command("operators", "add", "cara", "--role", "privacy-officer", "--stdin", stdin=f"{PASSPHRASE}\n")
    assert made.returncode == 0, made.stderr
    cara = Person("cara", PASSPHRASE, made.stdout)
    console = Console(used, certificates)
    why = {"reason": "support", "note": "of " + NUMBER}
    with Browser(console.port, console.ca) as browser:
        browser.ask("/login")
        assert browser.ask("/login", {"name": PASSPHRASE, "passphrase": TOTP, "code": WRONG}) == 403
        step = int(time.time()) // totp.STEP
        claim = {"name": "cara", "passphrase": PASSPHRASE, "code": cara.code(step * totp.STEP)}
        assert browser.ask("/login", claim) == 200 and "Next code" in browser.text
        assert browser.ask("/login/code", {"code": cara.code((step + 1) * totp.STEP)}) == 200
        assert browser.ask(f"/log/{NUMBER}?{NUMBER}={BODY.replace(' ', '+')}") == 404
        assert browser.ask("/log") == 200
        browser.ask("/log", {"number": "+" + NUMBER, **why})
        assert BODY not in browser.text
        assert browser.ask("/log", {"since": "1d", **why}) == 200 and "***" in browser.text
        assert not {name for name, _form in found(browser.text.encode())} - {"number"}, "the note is there again"
        browser.ask("/log", {"number": BODY, "region": SENDER, **why})
        browser.ask("/log/message", {"id": NUMBER, **why})
        browser.ask("/opt-outs", {"number": "+" + NUMBER, "account": "acme", "sender": SENDER})
        browser.ask(
            "/opt-outs/add", {"number": "+" + PHONE, "account": "acme", "sender": SENDER, "note": "of " + NUMBER}
        )
        browser.ask("/consents", {"number": BODY, "account": "acme", "sender": SENDER})
        browser.ask("/consents/show", {"number": "+" + NUMBER, "account": "acme", **why})
        browser.ask("/erasures", {"number": "+" + PHONE, "account": "acme", **why})
        browser.ask(
            "/holds", {"number": "+" + PHONE, "authority": "court", "reference": "12/26", "expires": "2030-01-01"}
        )
        browser.ask("/explain", {"account": "acme", "from": SENDER, "to": "+" + NUMBER, "text": BODY})
    said = console.log_text()
    console.process.terminate()
    assert console.process.wait(20) == 0
    assert not found(said.encode()) and "Traceback" not in said
    assert not {path.name: what for path in _files(used) if (what := found(path.read_bytes()))}
    shown = used.command("audit", "show", "--json").stdout
    assert "cara" in shown and not found(shown.encode())


def _drawn(shown: str) -> set[bytes]:
    """What a new operator is shown once: the secret of the codes, as it is typed and as it is, and the recovery codes."""
    secrets = re.findall(r"^otpauth://\S*[?&]secret=([A-Z2-7]+)", shown, re.M)
    codes = re.findall(r"^  ((?:[a-z2-9]{4}-){3}[a-z2-9]{4})$", shown, re.M)
    return {form for one in secrets for form in (one.encode(), base64.b32decode(one))} | {one.encode() for one in codes}


def _authority(directory: Path) -> None:
    """The keys of an authority, in files."""
    directory.mkdir()
    key = X25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / "authority.key").write_bytes(private)
    (directory / "authority.pub").write_bytes(public)


def test_nothing_is_in_the_clear_after_a_crash_or_an_orderly_end(used: Gateway) -> None:
    used.kill()
    assert not {path.name: what for path in _files(used) if (what := found(path.read_bytes()))}
    used.start()
    used.finish()
    assert not {path.name: what for path in _files(used) if (what := found(path.read_bytes()))}
