"""smpp.twisted as a child process: the simulated customer, which can also enquire.

A further order: enquire (id): query_sm and cancel_sm of that id. Event: enquired (what, status). The library cannot write a
replace_sm: it has no encoder for sm_length.
"""

from __future__ import annotations

import sys
from typing import Any

from smpp.pdu.error import SMPPTransactionError
from smpp.pdu.operations import CancelSM, QuerySM
from smpp.pdu.pdu_types import AddrNpi, AddrTon
from twisted.python.failure import Failure

from smppd.demo import __main__ as simulator

SOURCE = {"source_addr_ton": AddrTon.INTERNATIONAL, "source_addr_npi": AddrNpi.ISDN, "source_addr": b"447700900001"}
DESTINATION = {
    "dest_addr_ton": AddrTon.INTERNATIONAL,
    "dest_addr_npi": AddrNpi.ISDN,
    "destination_addr": b"447700900123",
}


class Enquiring(simulator._CustomerChild):
    """See the module."""

    def handle(self, order: dict[str, Any]) -> None:
        if self.customer is None or order["op"] != "enquire":
            super().handle(order)
            return
        session, name = self.customer.sessions[0], order["id"].encode()
        for what, pdu in (
            ("query_sm", QuerySM(message_id=name, **SOURCE)),
            ("cancel_sm", CancelSM(service_type=b"", message_id=name, **SOURCE, **DESTINATION)),
        ):
            session.sendDataRequest(pdu).addCallbacks(self._accepted, self._refused, (what,), None, (what,), None)

    def _accepted(self, _result: object, what: str) -> None:
        self.control.say("enquired", what=what, status="ESME_ROK")

    def _refused(self, failure: Failure, what: str) -> None:
        error = failure.value
        status = error.response.status.name if isinstance(error, SMPPTransactionError) else type(error).__name__
        self.control.say("enquired", what=what, status=status)


if __name__ == "__main__":
    sys.stdout = sys.stderr  # the library prints when it reads a time, and events go out by the file descriptor
    simulator._CustomerChild = Enquiring  # type: ignore[misc]
    raise SystemExit(simulator.main(["customer"]))
