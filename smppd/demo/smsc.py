"""A simulated SMSC on smpp.twisted's server: delays, errors, receipts early or late, message ids in several forms, MO.

It keeps the frames it received, as bytes and up to a limit, for whoever started it; nothing of them is ever logged.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from smpp.pdu.operations import DeliverSM
from smpp.pdu.pdu_types import (
    AddrNpi,
    AddrTon,
    CommandStatus,
    EsmClass,
    EsmClassMode,
    EsmClassType,
    MessageState,
    PriorityFlag,
    RegisteredDelivery,
    RegisteredDeliveryReceipt,
    ReplaceIfPresentFlag,
)
from smpp.twisted.config import SMPPServerConfig
from smpp.twisted.protocol import DataHandlerResponse, SMPPServerProtocol
from smpp.twisted.server import SMPPServerFactory
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer
from twisted.python.failure import Failure

from smppd.demo.fields import Encoder, coding, esm

MAX_PDU: Final = 65_536
MAX_WAITING: Final = 200_000
_WORDS: Final = {
    "DELIVRD": MessageState.DELIVERED,
    "UNDELIV": MessageState.UNDELIVERABLE,
    "EXPIRED": MessageState.EXPIRED,
    "REJECTD": MessageState.REJECTED,
    "DELETED": MessageState.DELETED,
    "ACCEPTD": MessageState.ACCEPTED,
    "UNKNOWN": MessageState.UNKNOWN,
    "ENROUTE": MessageState.ENROUTE,
}


@dataclass(slots=True)
class Behaviour:
    """How the SMSC behaves. Times in seconds, shares from 0 to 1."""

    response_delay: float = 0.0
    throttled: float = 0.0
    """Share of submits answered ESME_RTHROTTLED."""
    refused: float = 0.0
    """Share of submits answered ESME_RSUBMITFAIL."""
    receipt_delay: float = 0.0
    early: float = 0.0
    """Share of receipts sent before the submit response."""
    state: str = "DELIVRD"
    undelivered: float = 0.0
    """Share of receipts that say UNDELIV whatever ``state`` is."""
    ids: str = "decimal"
    """``decimal``; ``hexdec``: hexadecimal in the response, decimal in the receipt; ``uuid``; ``zeros``: ten digits with
    leading zeros in the response, without them in the receipt."""
    window: int = 100
    """deliver_sm in flight towards one session."""
    keep: int = 100_000
    """Frames kept at the most."""

    def change(self, **values: Any) -> None:
        """Sets fields by name. Raises ValueError on an unknown name, id form or state."""
        known = {f.name for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"the simulated SMSC has no setting {name}")
            setattr(self, name, value)
        if self.ids not in ("decimal", "hexdec", "uuid", "zeros"):
            raise ValueError("ids must be decimal, hexdec, uuid or zeros")
        if self.state not in _WORDS:
            raise ValueError("state must be a word of a delivery receipt, such as DELIVRD")


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    submits: int = 0
    accepted: int = 0
    throttled: int = 0
    refused: int = 0
    receipts: int = 0
    receipts_acked: int = 0
    receipts_refused: int = 0
    mo: int = 0
    mo_acked: int = 0
    binds: int = 0
    overflow: int = 0


@dataclass(slots=True)
class _Delivery:
    pdu: Any
    counted: str
    tries: int = 0


class Session(SMPPServerProtocol):  # type: ignore[misc]
    """One connection of a client; keeps every frame before the library parses it."""

    factory: Smsc

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.in_flight = 0

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def getMessageLength(self) -> int | None:
        """The library has no limit of its own."""
        length = super().getMessageLength()
        if length is not None and not 16 <= length <= MAX_PDU:
            self.connectionCorrupted = True
            self.recvBuffer = b""
            self.transport.abortConnection()
            return None
        return int(length) if length is not None else None

    def rawMessageReceived(self, message: bytes) -> None:
        self.factory.keep(message)
        super().rawMessageReceived(message)

    def sendPDU(self, pdu: Any) -> None:
        encoded = self.encoder.encode(pdu)
        if encoded[4:8] == b"\0\0\0\5":
            self.factory.keep(encoded, sent=True)
        self.transport.write(encoded)
        self.onSMPPOperation()

    def PDURequestReceived(self, reqPDU: Any) -> None:
        super().PDURequestReceived(reqPDU)
        if reqPDU.id.name.startswith("bind_") and self.isBound():
            self.factory.counts.binds += 1
            self.factory.pump()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        for transaction in list(self.outTxns.values()):
            self.closeOutboundTransaction(transaction.request.seqNum).ackDeferred.errback(reason)


class Smsc(SMPPServerFactory):  # type: ignore[misc]
    """The server factory: one account, any number of sessions, the behaviour of ``Behaviour``."""

    protocol = Session
    noisy = False

    def __init__(
        self,
        system_id: str,
        password: str,
        behaviour: Behaviour,
        clock: Any,
        *,
        wall: Callable[[], float] = time.time,
        seed: int = 1,
    ) -> None:
        config = SMPPServerConfig(
            msgHandler=self._submitted,
            systems={system_id: {"max_bindings": 64}},
            enquireLinkTimerSecs=30,
            inactivityTimerSecs=120,
            responseTimerSecs=30,
        )
        super().__init__(config, auth_portal=None)
        self.behaviour = behaviour
        self.counts = Counts()
        self.frames: deque[bytes] = deque()
        self.first_frame = 0
        self.sent: deque[bytes] = deque()
        self.ids_given: list[tuple[str, str]] = []
        self._login = (system_id, password)
        self._clock = clock
        self._wall = wall
        self._random = random.Random(seed)
        # Letters in its hexadecimal form, and eight digits in the decimal one, from the first id on.
        self._next_id = 0x1F00_A0B0
        self._waiting: deque[_Delivery] = deque()
        self._calls: set[Any] = set()
        self._turn = 0

    # -- what smpp.twisted asks of the factory ---------------------------------------------------------------------------

    def login(self, system_id: str, password: str, client_ip_address: str) -> tuple[None, None, Callable[[], None]]:
        """Accepts the one account."""
        if (system_id, password) != self._login:
            raise UnauthorizedLogin
        return None, None, lambda: None

    def keep(self, frame: bytes, sent: bool = False) -> None:
        """Remembers a received frame, or a deliver_sm that was sent; the oldest goes at the limit."""
        if sent:
            self.sent.append(frame)
            if len(self.sent) > self.behaviour.keep:
                self.sent.popleft()
            return
        self.frames.append(frame)
        while len(self.frames) > self.behaviour.keep:
            self.frames.popleft()
            self.first_frame += 1

    # -- submit_sm ---------------------------------------------------------------------------------------------------------

    def _submitted(self, system_id: str, session: Session, pdu: Any) -> Any:
        if pdu.id.name == "data_sm":
            return CommandStatus.ESME_RINVCMDID
        behaviour = self.behaviour
        self.counts.submits += 1
        chance = self._random.random()
        if chance < behaviour.throttled:
            self.counts.throttled += 1
            return self._later(CommandStatus.ESME_RTHROTTLED)
        if chance < behaviour.throttled + behaviour.refused:
            self.counts.refused += 1
            return self._later(CommandStatus.ESME_RSUBMITFAIL)
        self.counts.accepted += 1
        given, reported = self._new_id()
        if len(self.ids_given) < behaviour.keep:
            self.ids_given.append((given, reported))
        answer = DataHandlerResponse(CommandStatus.ESME_ROK, message_id=given)
        wanted = pdu.params["registered_delivery"].receipt
        if wanted is RegisteredDeliveryReceipt.NO_SMSC_DELIVERY_RECEIPT_REQUESTED:
            return self._later(answer)
        early = self._random.random() < behaviour.early
        word = "UNDELIV" if self._random.random() < behaviour.undelivered else behaviour.state
        receipt = self._receipt(pdu, reported, word)
        if early:
            self._deliver(_Delivery(receipt, "receipts"))
            return self._later(answer, max(behaviour.response_delay, 0.02))
        # A moment more, so that the response is always first.
        delay = behaviour.response_delay + behaviour.receipt_delay + 0.001
        self._call(delay, self._deliver, _Delivery(receipt, "receipts"))
        return self._later(answer)

    def _new_id(self) -> tuple[str, str]:
        number = self._next_id
        self._next_id += 1
        match self.behaviour.ids:
            case "hexdec":
                return f"{number:x}", str(number)
            case "zeros":
                number &= 0x00FF_FFFF
                return f"{number:010d}", str(number)
            case "uuid":
                text = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
                return text, text
            case _:
                return str(number), str(number)

    def _receipt(self, pdu: Any, message_id: str, word: str) -> Any:
        """A delivery receipt in the form of SMPP 3.4 Appendix B, with the TLVs of section 5.3.2."""
        wall = self._wall()
        date = time.strftime("%y%m%d%H%M", time.gmtime(wall))
        delivered = word == "DELIVRD"
        text = (
            f"id:{message_id} sub:001 dlvrd:{'001' if delivered else '000'} submit date:{date} done date:{date} "
            f"stat:{word} err:{'000' if delivered else '011'} text:"
        ).encode()
        # The first 20 characters of the message, as Appendix B has it; binary and 16-bit texts are left out.
        if not pdu.params["esm_class"].gsmFeatures and _plain(pdu.params["short_message"] or b""):
            text += (pdu.params["short_message"] or b"")[:20]
        request = pdu.params
        return deliver(
            source=(request["dest_addr_ton"], request["dest_addr_npi"], request["destination_addr"]),
            destination=(request["source_addr_ton"], request["source_addr_npi"], request["source_addr"]),
            text=text,
            esm_class=EsmClass(EsmClassMode.DEFAULT, EsmClassType.SMSC_DELIVERY_RECEIPT),
            data_coding=0,
            tlvs={"message_state": _WORDS[word], "receipted_message_id": message_id},
        )

    # -- deliver_sm --------------------------------------------------------------------------------------------------------

    def mo(
        self,
        source: str,
        destination: str,
        body: bytes,
        data_coding: int,
        esm_class: int,
        tlvs: list[tuple[int, bytes]],
    ) -> None:
        """Sends a message from a phone: a deliver_sm that is no receipt."""
        self.counts.mo += 1
        pdu = deliver(
            source=(AddrTon.INTERNATIONAL, AddrNpi.ISDN, source.encode()),
            destination=(AddrTon.INTERNATIONAL, AddrNpi.ISDN, destination.encode()),
            text=body,
            esm_class=esm(esm_class),
            data_coding=data_coding,
            tlvs={},
        )
        pdu.custom_tlvs = [(tag, None, "OctetString", value) for tag, value in tlvs]
        self._deliver(_Delivery(pdu, "mo"))

    def _deliver(self, delivery: _Delivery) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.counts.overflow += 1
            return
        self._waiting.append(delivery)
        self.pump()

    def pump(self) -> None:
        """Sends what waits while a receive-capable session has room, one session after the other."""
        while self._waiting:
            session = self._next_session()
            if session is None:
                return
            delivery = self._waiting.popleft()
            session.in_flight += 1
            if delivery.counted == "receipts" and not delivery.tries:
                self.counts.receipts += 1
            delivery.tries += 1
            sent = session.sendDataRequest(delivery.pdu)
            sent.addCallbacks(self._acked, self._not_acked, (session, delivery), None, (session, delivery), None)

    def _next_session(self) -> Session | None:
        sessions = [
            session
            for manager in self.bound_connections.values()
            for session in manager
            if session.isBound()
            and session.bind_type.name != "bind_transmitter"
            and session.in_flight < self.behaviour.window
        ]
        if not sessions:
            return None
        self._turn += 1
        chosen: Session = sessions[self._turn % len(sessions)]
        return chosen

    def _acked(self, _result: object, session: Session, delivery: _Delivery) -> None:
        session.in_flight -= 1
        name = f"{delivery.counted}_acked"
        setattr(self.counts, name, getattr(self.counts, name) + 1)
        self.pump()

    def _not_acked(self, _failure: Failure, session: Session, delivery: _Delivery) -> None:
        """Refused, not answered, or the session went: it goes again, three times, a second later."""
        session.in_flight -= 1
        if delivery.tries < 4:
            self._call(1.0, self._deliver, delivery)
        else:
            self.counts.receipts_refused += 1
        self.pump()

    # -- time --------------------------------------------------------------------------------------------------------------

    def _later(self, result: Any, delay: float | None = None) -> Any:
        seconds = self.behaviour.response_delay if delay is None else delay
        if seconds <= 0:
            return result
        waiting: defer.Deferred[Any] = defer.Deferred()
        self._call(seconds, waiting.callback, result)
        return waiting

    def _call(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        if seconds <= 0:
            function(*arguments)
            return

        def fire() -> None:
            self._calls.discard(call)
            function(*arguments)

        call = self._clock.callLater(seconds, fire)
        self._calls.add(call)

    def cut(self) -> int:
        """Drops every connection without a word; how many there were."""
        sessions = [session for manager in self.bound_connections.values() for session in manager]
        for session in sessions:
            session.transport.abortConnection()
        return len(sessions)

    def stop(self) -> None:
        """Forgets what waits and drops the connections."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        self._waiting.clear()
        self.cut()


def deliver(
    *,
    source: tuple[Any, Any, bytes],
    destination: tuple[Any, Any, bytes],
    text: bytes,
    esm_class: Any,
    data_coding: int,
    tlvs: dict[str, Any],
) -> Any:
    """A deliver_sm of the library, addresses as (TON, NPI, digits)."""
    return DeliverSM(
        service_type="",
        source_addr_ton=source[0],
        source_addr_npi=source[1],
        source_addr=source[2],
        dest_addr_ton=destination[0],
        dest_addr_npi=destination[1],
        destination_addr=destination[2],
        esm_class=esm_class,
        protocol_id=0,
        priority_flag=PriorityFlag.LEVEL_0,
        schedule_delivery_time=None,
        validity_period=None,
        registered_delivery=RegisteredDelivery(RegisteredDeliveryReceipt.NO_SMSC_DELIVERY_RECEIPT_REQUESTED),
        replace_if_present_flag=ReplaceIfPresentFlag.DO_NOT_REPLACE,
        data_coding=coding(data_coding),
        sm_default_msg_id=0,
        short_message=text,
        **tlvs,
    )


def _plain(text: bytes) -> bool:
    return all(32 <= octet < 127 for octet in text[:20])


__all__ = ["Behaviour", "Counts", "Session", "Smsc", "deliver"]
