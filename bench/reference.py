"""The reference relay, the bench's yardstick: the least a Python proxy does on a ready-made stack (smpp.twisted).

Plain TCP with TCP_NODELAY, one session upstream, a dict of ids, nothing kept, nothing decided. The library decodes and
encodes every PDU. Figures of the daemon are given as ratios to this one, since machines differ and drift.

    python -m bench.reference UPSTREAM_PORT

prints {"listening": PORT} when its upstream session is bound, and ends at SIGTERM or when its standard input closes.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from smpp.pdu.operations import DeliverSM, SubmitSM
from smpp.pdu.pdu_types import CommandStatus
from smpp.twisted.client import SMPPClientFactory, SMPPClientTransceiver
from smpp.twisted.config import SMPPClientConfig, SMPPServerConfig
from smpp.twisted.protocol import DataHandlerResponse, SMPPServerProtocol
from smpp.twisted.server import SMPPServerFactory
from twisted.internet import protocol, reactor, stdio

SYSTEM_ID = "bench"
LOOP: Any = reactor  # one type for all of the reactor's interfaces


class AnyPassword:
    """A login that accepts everybody."""

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> tuple[Any, Any, Any]:
        """(interface, avatar, logout), as twisted.cred has it."""
        return interfaces[0], credentials.username, lambda: None


class CustomerSession(SMPPServerProtocol):  # type: ignore[misc]
    """A customer's session without Nagle's delay."""

    def connectionMade(self) -> None:
        """The customer has connected."""
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        """The customer has gone."""
        if self.system_id is not None:  # the library stumbles over one that never bound
            super().connectionLost(reason)


class Relay:
    """Forwards submit_sm upstream and receipts back to the bind that sent the message."""

    def __init__(self, upstream_port: int) -> None:
        self.senders: dict[bytes, Any] = {}
        self.upstream: Any = None
        config = SMPPClientConfig(host="127.0.0.1", port=upstream_port, username=SYSTEM_ID, password="bench")
        self.client = SMPPClientTransceiver(config, self.receipt)

    def start(self) -> None:
        """Bind upstream, then listen."""
        self.client.connectAndBind().addCallbacks(self.bound, self.failed)

    def bound(self, session: Any) -> None:
        """The upstream session stands."""
        self.upstream = session
        session.transport.setTcpNoDelay(True)
        session.getDisconnectedDeferred().addCallback(lambda _: stop())
        config = SMPPServerConfig(systems={SYSTEM_ID: {"max_bindings": 10_000}}, msgHandler=self.submit)
        factory = SMPPServerFactory(config, AnyPassword())
        factory.protocol = CustomerSession
        port = LOOP.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
        print(json.dumps({"listening": port.getHost().port}), flush=True)

    def failed(self, failure: Any) -> None:
        """The upstream could not be bound."""
        print(f"reference relay: no upstream: {failure.type.__name__}", file=sys.stderr)
        stop()

    def submit(self, system_id: str, session: Any, pdu: Any) -> Any:
        """A customer's submit_sm: answered with the upstream's id when the upstream has answered."""

        def answered(result: Any) -> Any:
            message_id = result.response.params["message_id"]
            self.senders[message_id] = session
            return DataHandlerResponse(CommandStatus.ESME_ROK, message_id=message_id)

        # A PDU of its own: the library writes the upstream's sequence number into what it sends.
        return self.upstream.sendDataRequest(SubmitSM(**pdu.params)).addCallback(answered)

    def receipt(self, upstream: Any, pdu: Any) -> Any:
        """An upstream's deliver_sm: acknowledged when the customer has acknowledged it."""
        session = self.senders.pop(pdu.params["receipted_message_id"], None)
        if session is None or not session.isBound():
            return CommandStatus.ESME_RX_T_APPN
        return session.sendDataRequest(DeliverSM(**pdu.params)).addCallback(lambda _: CommandStatus.ESME_ROK)


class Parent(protocol.Protocol):
    """Standard input: its end is the end of the relay."""

    def connectionLost(self, reason: Any = None) -> None:
        """Whoever started us has gone or wants us to go."""
        stop()


def stop() -> None:
    """End the process, at once and only once."""
    if LOOP.running:
        LOOP.stop()


def main() -> None:
    """Run until told to stop."""
    # At its own level the library would log each PDU, which would not be fair to it.
    logging.getLogger("smpp").setLevel(logging.CRITICAL + 1)
    SMPPClientFactory.noisy = SMPPServerFactory.noisy = False
    relay = Relay(int(sys.argv[1]))
    LOOP.callWhenRunning(relay.start)
    watch: Any = stdio.StandardIO
    watch(Parent())
    LOOP.run()


if __name__ == "__main__":
    main()
