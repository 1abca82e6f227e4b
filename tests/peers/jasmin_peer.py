"""Jasmin's SMPP client and server as a child process, in an environment of its own: configuration and orders as JSON lines.

It runs where Jasmin is installed and nothing of smppd is. `customer`: orders enquire (id), submit (count), unbind; events
bound, enquired (what, status), answer (status, id), deliver (text), lost. `carrier`: order mo (to); events listening, mo and
receipt (status), lost. The protocol classes are Jasmin's; its router, which needs RabbitMQ and Redis, is not: the carrier
accepts everything itself.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import os
import sys
import tempfile
from itertools import count

# Jasmin prints and logs; events go out by a file descriptor of their own.
EVENTS = os.dup(1)
os.dup2(2, 1)
os.environ.setdefault("ROOT_PATH", tempfile.mkdtemp())

from jasmin.protocols.smpp.configs import SMPPClientConfig, SMPPServerConfig  # noqa: E402
from jasmin.protocols.smpp.factory import SMPPClientFactory, SMPPServerFactory  # noqa: E402
from jasmin.routing.jasminApi import Group, User  # noqa: E402
from jasmin.tools.cred.checkers import RouterAuthChecker  # noqa: E402
from jasmin.tools.cred.portal import SmppsRealm  # noqa: E402
from smpp.pdu.operations import CancelSM, DeliverSM, QuerySM, SubmitSM  # noqa: E402
from smpp.pdu.pdu_types import (  # noqa: E402
    AddrNpi,
    AddrTon,
    CommandStatus,
    DataCoding,
    EsmClass,
    EsmClassMode,
    EsmClassType,
    PriorityFlag,
    RegisteredDelivery,
    RegisteredDeliveryReceipt,
    ReplaceIfPresentFlag,
)
from smpp.twisted.protocol import DataHandlerResponse  # noqa: E402
from twisted.cred.portal import Portal  # noqa: E402
from twisted.internet import reactor, stdio  # noqa: E402
from twisted.protocols.basic import LineOnlyReceiver  # noqa: E402

SOURCE, DESTINATION = "447700900001", "447700900123"


def say(event, **values):
    """Writes one event."""
    os.write(EVENTS, json.dumps({"ev": event, **values}).encode() + b"\n")


def status_of(failure):
    """The status of a refusal, the error's name where it is none."""
    response = getattr(failure.value, "response", None)
    return response.status.name if response is not None else type(failure.value).__name__


def text_of(value):
    """Octets or text as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value or "")


def message(kind, source, destination, text, esm=EsmClassType.DEFAULT, registered=False):
    """A submit_sm or deliver_sm."""
    receipt = RegisteredDeliveryReceipt
    asked = receipt.SMSC_DELIVERY_RECEIPT_REQUESTED if registered else receipt.NO_SMSC_DELIVERY_RECEIPT_REQUESTED
    return kind(
        service_type="",
        source_addr_ton=AddrTon.INTERNATIONAL,
        source_addr_npi=AddrNpi.ISDN,
        source_addr=source,
        dest_addr_ton=AddrTon.INTERNATIONAL,
        dest_addr_npi=AddrNpi.ISDN,
        destination_addr=destination,
        esm_class=EsmClass(EsmClassMode.DEFAULT, esm),
        protocol_id=0,
        priority_flag=PriorityFlag.LEVEL_0,
        schedule_delivery_time=None,
        validity_period=None,
        registered_delivery=RegisteredDelivery(asked),
        replace_if_present_flag=ReplaceIfPresentFlag.DO_NOT_REPLACE,
        data_coding=DataCoding(),
        sm_default_msg_id=0,
        short_message=text,
    )


class Customer:
    """Jasmin as the ESME."""

    def __init__(self, config):
        settings = SMPPClientConfig(
            id="smppd",
            port=config["port"],
            username=config["system_id"],
            password=config["password"],
            log_file=os.path.join(os.environ["ROOT_PATH"], "jasmin.log"),
            reconnectOnConnectionLoss=False,
            reconnectOnConnectionFailure=False,
        )
        self.factory = SMPPClientFactory(
            settings, lambda _smpp, pdu: say("deliver", text=text_of(pdu.params["short_message"]))
        )
        self.factory.connectAndBind().addCallbacks(
            lambda _: say("bound"), lambda failure: say("failed", error=status_of(failure))
        )
        self.factory.exitDeferred.addCallback(lambda _: say("lost"))

    def delivered(self, _smpp, pdu):
        """A deliver_sm; the library answers it."""
        say("deliver", text=text_of(pdu.params["short_message"]))

    def order(self, order):
        """One order."""
        smpp = self.factory.smpp
        if order["op"] == "unbind":
            self.factory.disconnectAndDontRetryToConnect()
        elif order["op"] == "submit":
            for _ in range(order["count"]):
                sent = smpp.sendDataRequest(message(SubmitSM, SOURCE, DESTINATION, b"hello", registered=True))
                sent.addCallbacks(
                    lambda result: say(
                        "answer",
                        status=result.response.status.name,
                        id=text_of(result.response.params.get("message_id")),
                    ),
                    lambda failure: say("answer", status=status_of(failure), id=""),
                )
        else:
            source = {
                "message_id": order["id"],
                "source_addr_ton": AddrTon.INTERNATIONAL,
                "source_addr_npi": AddrNpi.ISDN,
                "source_addr": SOURCE,
            }
            to = {
                "dest_addr_ton": AddrTon.INTERNATIONAL,
                "dest_addr_npi": AddrNpi.ISDN,
                "destination_addr": DESTINATION,
            }
            for what, pdu in (
                ("query_sm", QuerySM(**source)),
                ("cancel_sm", CancelSM(service_type="", **source, **to)),
            ):
                smpp.sendDataRequest(pdu).addCallbacks(
                    lambda _result, what: say("enquired", what=what, status="ESME_ROK"),
                    lambda failure, what: say("enquired", what=what, status=status_of(failure)),
                    (what,),
                    None,
                    (what,),
                    None,
                )


class Users:
    """What Jasmin's checker and realm ask of its router."""

    def __init__(self, user):
        self.users = [user]

    def authenticateUser(self, username, password):
        """The one user."""
        return self.users[0] if text_of(username) == self.users[0].username else None


class Server(SMPPServerFactory):
    """Jasmin's server; accepts all and reports it delivered."""

    def __init__(self, config, portal):
        super().__init__(config, portal)
        self.numbers = count(1)
        self.msgHandler = self.accept

    def accept(self, _system_id, smpp, pdu):
        """Answers a submit_sm; its receipt follows."""
        name = f"jasmin-{next(self.numbers):06d}"
        text = f"id:{name} sub:001 dlvrd:001 submit date:2611290000 done date:2611290001 stat:DELIVRD err:000 text:"
        source, destination = pdu.params["destination_addr"], pdu.params["source_addr"]
        receipt = message(DeliverSM, source, destination, text.encode(), EsmClassType.SMSC_DELIVERY_RECEIPT)
        reactor.callLater(0.1, self.deliver, smpp, receipt, "receipt")
        return DataHandlerResponse(status=CommandStatus.ESME_ROK, message_id=name)

    def deliver(self, smpp, pdu, what):
        """Sends a deliver_sm and tells how it was answered."""
        smpp.sendDataRequest(pdu).addCallbacks(
            lambda _: say(what, status="ESME_ROK"), lambda failure: say(what, status=status_of(failure))
        )

    def removeConnection(self, connection):
        """A session has ended."""
        say("lost")
        super().removeConnection(connection)


class Carrier:
    """Jasmin as the SMSC."""

    def __init__(self, config):
        settings = SMPPServerConfig(None)
        settings.log_file = os.path.join(os.environ["ROOT_PATH"], "jasmin.log")
        users = Users(User(1, Group(1), config["system_id"], config["password"]))
        portal = Portal(SmppsRealm(settings.id, users))
        portal.registerChecker(RouterAuthChecker(users))
        self.factory = Server(settings, portal)
        say("listening", port=reactor.listenTCP(0, self.factory, interface="127.0.0.1").getHost().port)

    def order(self, order):
        """A message from a handset."""
        (manager,) = self.factory.bound_connections.values()
        smpp = manager.getNextBindingForDelivery()
        self.factory.deliver(smpp, message(DeliverSM, "447700900777", order["to"], b"from a phone"), "mo")


class Control(LineOnlyReceiver):
    """Orders."""

    delimiter = b"\n"

    def __init__(self, kind):
        self.kind, self.peer = kind, None

    def lineReceived(self, line):
        """The configuration, then orders."""
        if self.peer is None:
            self.peer = self.kind(json.loads(line))
        else:
            self.peer.order(json.loads(line))

    def connectionLost(self, reason=None):
        """The parent has gone."""
        if reactor.running:
            reactor.stop()


if __name__ == "__main__":
    stdio.StandardIO(
        Control({"customer": Customer, "carrier": Carrier}[sys.argv[1]]), stdout=os.open(os.devnull, os.O_WRONLY)
    )
    reactor.run(installSignalHandlers=False)
