"""smpplib as a child process: configuration and orders as JSON lines on stdin, events on stdout.

Orders: submit (messages), enquire (id: query_sm of it; the library knows no cancel_sm and replace_sm), unbind. Events: bound,
sent (frame), answer (n, status, id), enquired (what, status), deliver (frame), unbound, failed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import socket
import ssl
import sys
from typing import Any

from smpplib import client as library
from smpplib import consts, exceptions, smpp
from smpplib.command import DeliverSM, Param, SubmitSM
from smpplib.ptypes import ostr

VENDOR = (0x1400, 0x1401, 0x1402)


def teach_vendor_tlvs() -> None:
    """smpplib sends and takes only TLVs it has a name for."""
    for tag in VENDOR:
        name = f"vendor_{tag:04x}"
        consts.OPTIONAL_PARAMS[name] = tag
        for kind in (SubmitSM, DeliverSM):
            kind.params[name] = Param(type=ostr)
            kind.params_order += (name,)


class Context(ssl.SSLContext):
    """smpplib names no server when it starts TLS, so the name to check is put in here."""

    server_name = "localhost"

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, *args, **{"server_hostname": self.server_name, **options})


def say(event: str, **values: Any) -> None:
    """Writes one event."""
    sys.stdout.write(json.dumps({"ev": event, **values}) + "\n")
    sys.stdout.flush()


class Peer(library.Client):  # type: ignore[misc]
    """The library's client, telling frames as they pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.frame = b""
        self.numbers: dict[int, int] = {}
        self.submitted = 0

    def _recv_exact(self, exact_size: int) -> bytes:
        data = bytes(super()._recv_exact(exact_size))
        self.frame = data if exact_size == 4 else self.frame + data
        return data

    def send_pdu(self, p: Any) -> Any:
        if p.command == "submit_sm":
            say("sent", frame=p.generate().hex())
        return super().send_pdu(p)

    def message_received_handler(self, pdu: Any, **_options: Any) -> None:
        say("deliver", frame=self.frame.hex(), parsed=(pdu.short_message or b"").hex())

    def message_sent_handler(self, pdu: Any, **_options: Any) -> None:
        message_id = pdu.message_id.decode("latin-1") if pdu.message_id else ""
        say("answer", n=self.numbers.pop(pdu.sequence), status="ESME_ROK", id=message_id)

    def query_resp_handler(self, pdu: Any, **_options: Any) -> None:
        if not pdu.is_error():
            say("enquired", what="query_sm", status="ESME_ROK")

    def error_pdu_handler(self, pdu: Any) -> None:
        if pdu.command == "query_sm_resp":
            say("enquired", what="query_sm", status=f"0x{pdu.status:08X}")
            return
        say("answer", n=self.numbers.pop(pdu.sequence, -1), status=f"0x{pdu.status:08X}", id="")

    def submit(self, message: dict[str, Any]) -> None:
        fields: dict[str, Any] = {
            "source_addr_ton": message["from"][0],
            "source_addr_npi": message["from"][1],
            "source_addr": message["from"][2],
            "dest_addr_ton": message["to"][0],
            "dest_addr_npi": message["to"][1],
            "destination_addr": message["to"][2],
            "esm_class": message.get("esm_class", 0),
            "data_coding": message.get("data_coding", 0),
            "registered_delivery": message.get("registered", 1),
            "short_message": bytes.fromhex(message.get("body", "")),
        }
        if message.get("payload"):
            fields["message_payload"] = bytes.fromhex(message["payload"])
        if message.get("sar"):
            names = ("sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum")
            fields |= dict(zip(names, message["sar"], strict=True))
        for tag, value in message.get("vendor", ()):
            fields[f"vendor_{tag:04x}"] = bytes.fromhex(value)
        pdu = smpp.make_pdu("submit_sm", client=self, **fields)
        self.numbers[pdu.sequence] = self.submitted
        self.submitted += 1
        self.send_pdu(pdu)

    def serve(self) -> None:
        """Orders from stdin and PDUs from the socket, until unbind or the end of stdin."""
        rest = b""
        while True:
            if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                self.read_once()
                continue
            ready, _, _ = select.select([self._socket, 0], [], [], 60)
            if self._socket in ready:
                self.read_once()
            if 0 in ready:
                data = os.read(0, 1 << 20)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    if order["op"] == "unbind":
                        self.unbind()
                        self.disconnect()
                        say("unbound")
                        return
                    if order["op"] == "enquire":
                        self.query_message(
                            message_id=order["id"], source_addr_ton=1, source_addr_npi=1, source_addr="447700900001"
                        )
                        continue
                    for message in order["messages"]:
                        self.submit(message)


def main() -> int:
    """Runs one client; 1 when it could not bind or lost the connection."""
    logging.getLogger().addHandler(logging.NullHandler())
    logging.disable(logging.CRITICAL)
    teach_vendor_tlvs()
    config = json.loads(io.FileIO(0, closefd=False).readline())
    context: Context | None = None
    if config.get("ca"):
        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(config["ca"])
    peer = Peer(
        config.get("host", "127.0.0.1"), config["port"], timeout=30, ssl_context=context, allow_unknown_opt_params=True
    )
    try:
        peer.connect()
        bind = getattr(peer, f"bind_{config.get('mode', 'transceiver')}")
        bind(system_id=config["system_id"], password=config["password"])
        say("bound", binds=1)
        peer.serve()
    except exceptions.PDUError as error:
        say(
            "failed",
            what="bind",
            error=type(error).__name__,
            status=f"0x{int(error.args[1]):08X}" if error.args[1:] else "",
        )
        return 1
    except (OSError, exceptions.ConnectionError) as error:
        say("failed", what="connection", error=type(error).__name__, status="")
        return 1
    finally:
        if peer._socket is not None:
            peer._socket.close()
            peer._socket = None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
