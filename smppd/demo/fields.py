"""Octets of a message turned into the values smpp.twisted wants, by its own decoders, and messages as JSON carries them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from smpp.pdu.operations import SubmitSM
from smpp.pdu.pdu_encoding import (
    AddrNpiEncoder,
    AddrTonEncoder,
    DataCodingEncoder,
    EsmClassEncoder,
    PDUEncoder,
    RegisteredDeliveryEncoder,
)
from smpp.pdu.pdu_types import PriorityFlag, ReplaceIfPresentFlag


class Encoder(PDUEncoder):  # type: ignore[misc]
    """The library's encoder without its memory: it holds message_payload to the length of the TLV it decoded last."""

    def encode(self, pdu: Any, name: str = "") -> bytes:
        """The bytes of a PDU."""
        self.optionEncoder.length = None
        return bytes(super().encode(pdu, name))


def _octet(value: int) -> BytesIO:
    return BytesIO(bytes((value,)))


def coding(value: int) -> Any:
    """A data_coding octet."""
    return DataCodingEncoder().decode(_octet(value))


def esm(value: int) -> Any:
    """An esm_class octet."""
    return EsmClassEncoder().decode(_octet(value))


def registered(value: int) -> Any:
    """A registered_delivery octet."""
    return RegisteredDeliveryEncoder().decode(_octet(value))


@dataclass(frozen=True, slots=True, repr=False)
class Outgoing:
    """A message to submit. Addresses are (TON, NPI, digits); ``payload`` goes into message_payload, ``sar`` is (reference,
    total, number), ``vendor`` holds TLVs by tag. Prints without its content."""

    source: tuple[int, int, str]
    destination: tuple[int, int, str]
    body: bytes = b""
    data_coding: int = 0
    esm_class: int = 0
    registered: int = 1
    payload: bytes | None = None
    sar: tuple[int, int, int] | None = None
    vendor: tuple[tuple[int, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"<Outgoing of {len(self.body)} octets>"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outgoing:
        """From the form that ``to_json`` gives. Raises KeyError, ValueError or TypeError."""
        payload, sar = value.get("payload"), value.get("sar")
        return cls(
            source=(int(value["from"][0]), int(value["from"][1]), str(value["from"][2])),
            destination=(int(value["to"][0]), int(value["to"][1]), str(value["to"][2])),
            body=bytes.fromhex(value.get("body", "")),
            data_coding=int(value.get("data_coding", 0)),
            esm_class=int(value.get("esm_class", 0)),
            registered=int(value.get("registered", 1)),
            payload=None if payload is None else bytes.fromhex(payload),
            sar=None if sar is None else (int(sar[0]), int(sar[1]), int(sar[2])),
            vendor=tuple((int(tag), bytes.fromhex(data)) for tag, data in value.get("vendor", ())),
        )

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can carry; octets as hex."""
        return {
            "from": list(self.source),
            "to": list(self.destination),
            "body": self.body.hex(),
            "data_coding": self.data_coding,
            "esm_class": self.esm_class,
            "registered": self.registered,
            "payload": None if self.payload is None else self.payload.hex(),
            "sar": None if self.sar is None else list(self.sar),
            "vendor": [[tag, data.hex()] for tag, data in self.vendor],
        }

    def submit(self) -> Any:
        """The library's submit_sm."""
        optional: dict[str, Any] = {}
        if self.payload is not None:
            optional["message_payload"] = self.payload
        if self.sar is not None:
            names = ("sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum")
            optional |= dict(zip(names, self.sar, strict=True))
        ton, npi = AddrTonEncoder(), AddrNpiEncoder()
        return SubmitSM(
            service_type="",
            source_addr_ton=ton.decode(_octet(self.source[0])),
            source_addr_npi=npi.decode(_octet(self.source[1])),
            source_addr=self.source[2],
            dest_addr_ton=ton.decode(_octet(self.destination[0])),
            dest_addr_npi=npi.decode(_octet(self.destination[1])),
            destination_addr=self.destination[2],
            esm_class=esm(self.esm_class),
            protocol_id=0,
            priority_flag=PriorityFlag.LEVEL_0,
            schedule_delivery_time=None,
            validity_period=None,
            registered_delivery=registered(self.registered),
            replace_if_present_flag=ReplaceIfPresentFlag.DO_NOT_REPLACE,
            data_coding=coding(self.data_coding),
            sm_default_msg_id=0,
            short_message=self.body,
            custom_tlvs=[(tag, None, "OctetString", data) for tag, data in self.vendor],
            **optional,
        )
