"""Syslog: messages to the letter of RFC 5424, frames of RFC 5425, and links that break in every way."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smppd.audit.shipping import Line, Mark, ShippingError, audit_line, seal_line
from smppd.audit.syslog import Sender, SyslogTarget, body, frame, message
from smppd.audit.trail import TrailRow
from smppd.events import AuditEvent
from smppd.net.tls import client_context
from tests.audit.receiver import Receiver, parsed
from tests.net.pipes import load_make
from tests.ports import free_port

SENDER = Sender("authpriv", "gateway.example.net", "smppd", 4711)


def line(number: int = 1, event: str = AuditEvent.SHOW, what: str = "{}", who: str = "alice") -> Line:
    row = TrailRow(number, 1_795_953_600_123, event, who, "here", what, "done", bytes(32), bytes(32))
    return audit_line(row, Mark(), "f" * 64)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    load_make().make(directory, datetime.now(UTC))
    return directory


def target(receiver: Receiver | int, certificates: Path | None = None, server_name: str = "localhost") -> SyslogTarget:
    context = None if certificates is None else client_context(certificates / "ca.pem")
    port = receiver if isinstance(receiver, int) else receiver.port
    return SyslogTarget(("127.0.0.1", port), SENDER, context, server_name)


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_message_is_of_rfc_5424() -> None:
    said = message(SENDER, line(7, AuditEvent.REVEAL), line(7).text("syslog"))
    assert said.startswith(
        b"<85>1 2026-11-29T12:00:00.123Z gateway.example.net smppd 4711 audit"
        b' [smppd@32473 kind="audit" id="7" event="reveal"] {"kind":"audit","id":7,'
    )
    assert json.loads(parsed(said)["text"])["target"] == "syslog"


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        (AuditEvent.INTEGRITY, 1),
        (AuditEvent.ENTRIES_DROPPED, 1),
        (AuditEvent.LOGIN_REFUSED, 4),
        (AuditEvent.REVEAL, 5),
        (AuditEvent.BIND_ACCEPTED, 6),
        ("of a later version", 5),
    ],
)
def test_the_severity_is_by_event(event: str, severity: int) -> None:
    assert int(parsed(message(SENDER, line(event=event), "{}"))["priority"]) == 10 * 8 + severity


def test_a_seal_is_a_message_too() -> None:
    said = parsed(message(SENDER._replace(facility="local7"), seal_line(3, b"signed", 0, Mark(), "f"), "{}"))
    assert (said["priority"], said["kind"], said["sd"]) == (b"190", b"seal", b' kind="seal" id="3" event="seal"')


def test_what_a_field_cannot_hold_is_replaced() -> None:
    said = parsed(message(Sender("kern", "h\xf6st name", "", 1), line(event='a"b\\c]d\n'), "{}"))
    assert (said["host"], said["app"]) == (b"h_st_name", b"-")
    assert b'event="a\\"b\\\\c\\]d_"' in said["sd"]


def test_what_is_not_ascii_has_a_byte_order_mark() -> None:
    assert body("plain") == b"plain"
    assert body("\xe9") == b"\xef\xbb\xbf\xc3\xa9"


def test_a_line_is_ascii_whatever_is_in_it() -> None:
    text = line(who="J\xf6rg \U0001f600", what='{"note":"\u00e9"}').text("syslog")
    assert text.isascii()
    assert json.loads(text)["who"] == "J\xf6rg \U0001f600"
    assert json.loads(text)["what"] == {"note": "\xe9"}


def test_a_frame_counts_octets() -> None:
    assert frame(b"<1>1 - - - - - - x") == b"18 <1>1 - - - - - - x"


# -- links -------------------------------------------------------------------------------------------------------------


def test_over_tls_with_long_entries_uncut(certificates: Path) -> None:
    with Receiver(certificates) as receiver:
        there = target(receiver, certificates)
        long = json.dumps({f"fact{n}": "y" * 4000 for n in range(64)})
        there.send([line(1), line(2, what=long), line(3)])
        assert there.finish()
        messages = receiver.wait(3)
    assert [json.loads(parsed(one)["text"])["id"] for one in messages] == [1, 2, 3]
    assert len(messages[1]) > 256_000
    assert not receiver.faults and not receiver.broken


def test_over_plain_tcp(certificates: Path) -> None:
    with Receiver() as receiver:
        there = target(receiver)
        there.send([line(1)])
        there.send([line(2)])
        receiver.wait(2)
        assert not there.finish(), "plain TCP does not say what was read"
        assert receiver.connections == 1


def test_a_client_certificate(certificates: Path) -> None:
    with Receiver(certificates, client_ca=True) as receiver:
        context = client_context(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
        there = SyslogTarget(("127.0.0.1", receiver.port), SENDER, context, "localhost")
        there.send([line()])
        receiver.wait(1)
        there.close()


def test_a_certificate_of_another_name_is_refused(certificates: Path) -> None:
    with Receiver(certificates) as receiver:
        there = target(receiver, certificates, "logs.example.net")
        with pytest.raises(ShippingError, match="its certificate is refused: Hostname mismatch") as refused:
            there.send([line()])
        assert not refused.value.begun
        assert receiver.messages == []


def test_a_certificate_of_a_stranger_is_refused(certificates: Path, tmp_path: Path) -> None:
    load_make().make(tmp_path, datetime.now(UTC))
    with Receiver(tmp_path) as receiver, pytest.raises(ShippingError, match="its certificate is refused"):
        target(receiver, certificates).send([line()])


def test_nobody_there() -> None:
    with pytest.raises(ShippingError, match=r"syslog at 127\.0\.0\.1:[0-9]+: Connection refused") as refused:
        target(free_port()).send([line()])
    assert not refused.value.begun


@pytest.mark.parametrize("tls", [True, False])
def test_a_link_cut_within_a_frame(certificates: Path, tls: bool) -> None:
    some = certificates if tls else None
    with Receiver(some) as receiver:
        there = target(receiver, some)
        receiver.cut_after = 3000
        with pytest.raises(ShippingError) as refused:
            for number in range(1, 200):
                there.send([line(number)])
        assert refused.value.begun
        assert receiver.broken
        there.send([line(500)])  # a new link
        until = time.monotonic() + 5
        while not any(b'"id":500' in one for one in receiver.messages):
            assert time.monotonic() < until
            time.sleep(0.01)
        there.close()
    assert not receiver.faults


def test_a_slow_reader_gets_everything(certificates: Path) -> None:
    with Receiver(certificates) as receiver:
        there = target(receiver, certificates)
        receiver.pause = 0.001
        there.send([line(number, what=json.dumps({"x": "y" * 3000})) for number in range(1, 100)])
        assert there.finish()
        receiver.wait(99)
        assert not receiver.faults


def test_a_reader_that_takes_nothing_is_given_up_at_the_deadline(certificates: Path) -> None:
    with Receiver(certificates) as receiver:
        receiver.pause = 30.0
        began = time.monotonic()
        there = SyslogTarget(
            ("127.0.0.1", receiver.port),
            SENDER,
            client_context(certificates / "ca.pem"),
            "localhost",
            lambda: began + 1.0,
        )
        with pytest.raises(ShippingError, match="the server takes nothing"):
            for number in range(1, 2000):
                there.send([line(number, what=json.dumps({"x": "y" * 30000}))])
        assert time.monotonic() - began < 2.0
        receiver._threads.clear()


@pytest.mark.parametrize("tls", [True, False])
def test_a_server_that_is_started_again_is_noticed(certificates: Path, tls: bool) -> None:
    some = certificates if tls else None
    receiver = Receiver(some)
    there = target(receiver, some)
    there.send([line(1)])
    receiver.wait(1)
    there.watch()
    receiver.close()
    with pytest.raises(ShippingError):
        there.watch()
    there.watch()  # told once
    with Receiver(some, port=receiver.port) as again:
        there.send([line(2)])
        again.wait(1)
        there.close()


def test_a_server_without_a_farewell(certificates: Path) -> None:
    with Receiver(certificates) as receiver:
        receiver.answers = False
        there = target(receiver, certificates)
        there.send([line(1)])
        receiver.wait(1)
        assert not there.finish()


def test_a_server_that_talks_is_no_syslog() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        there = target(listener.getsockname()[1])
        there.send([line(1)])
        link, _ = listener.accept()
        with link:
            link.sendall(b"x" * 2_000_000)
            with pytest.raises(ShippingError, match="the server talks"):
                for _ in range(50):
                    there.watch()
                    time.sleep(0.02)
