"""Answers to customers. Some are given at once, some at a later time, some for all messages of a submit_multi together, and
some when a carrier has answered."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Final

from smppd.message import Refusal
from smppd.protocol.operations import multi_response
from smppd.protocol.wire import Command, Sm, id_response, refusal, request_command, sequence_number
from smppd.relay.accept.duplicates import Duplicates
from smppd.relay.context import Context
from smppd.relay.guard import TIMER
from smppd.relay.state.model import CustomerPeer, Fanout, Message

_IDLE: Final = float("inf")
# So many answers may wait for their time (`limits.throttle_wait`); further ones are given at once. Windows bound them
# earlier in most cases.
DELAYED: Final = 100_000
# Answers that are given in one turn of the reactor.
TURN: Final = 500


class Answers:
    """See the module. ``duplicates``: what is remembered for accounts with ``deduplicate``. A message that its carrier
    refused is forgotten there, so that it can be sent again."""

    def __init__(self, context: Context, duplicates: Duplicates) -> None:
        self._context = context
        self._duplicates = duplicates
        self.delayed = Delayed(context)

    def refuse_pdu(self, customer: CustomerPeer, raw: bytes, no: Refusal, due: float) -> None:
        """Refuses a PDU of which no message is made. ``due``: the answer is not given before (monotonic seconds); 0: at
        once."""
        command = request_command(raw)
        sequence = sequence_number(raw)
        response = refusal(command, no.status, sequence, no.reason if _has_reasons(customer, command) else "")
        if due:
            self.delayed.add(due, customer, response)
        else:
            self._context.answer(customer, response)

    def answer_message(self, message: Message, status: int, now: float, why: Refusal | None = None) -> None:
        """Answers a message, once. Nothing is sent to a customer who has his answer or is gone. ``why``: the reason of a
        refusal."""
        customer = message.customer
        if customer is None:
            return
        message.customer = None
        if message.fanout is not None:
            self.answer_one_of_multi(
                customer, message.fanout, message.sequence, Sm(message.frame).destination_field, status
            )
            return
        command = request_command(message.frame)
        if status:
            told = why is not None and _has_reasons(customer, command)
            response = refusal(command, status, message.sequence, why.reason if told and why is not None else "")
        else:
            response = id_response(command, message.sequence, message.shown)
        if message.answer_at > now:
            self.delayed.add(message.answer_at, customer, response)
        else:
            self._context.answer(customer, response)

    def answer_upstream(self, message: Message, status: int, now: float) -> None:
        """Answers what the carrier answered, for an account with ``acknowledge: upstream``."""
        if status:
            self._duplicates.forget(message)
        self.answer_message(message, status, now)

    def answer_one_of_multi(
        self, customer: CustomerPeer, fanout: Fanout, sequence: int, destination: bytes, status: int
    ) -> None:
        """One message of a submit_multi has its result. With the last one the customer gets the answer."""
        if status:
            fanout.failed.append((destination, status))
        fanout.left -= 1
        if fanout.left:
            return
        whole = len(fanout.failed) == fanout.total
        # Nothing of it was taken: then there is no message id, and the status is not ESME_ROK.
        response = (
            multi_response(sequence, b"", fanout.failed, fanout.failed[0][1])
            if whole
            else multi_response(sequence, fanout.shown, fanout.failed)
        )
        if fanout.answer_at > self._context.now():
            self.delayed.add(fanout.answer_at, customer, response, fanout.total)
        else:
            self._context.answer(customer, response, fanout.total)


def _has_reasons(customer: CustomerPeer, command: int) -> bool:
    """Whether a reason may stand in a refusal: in data_sm_resp from 3.4 on, in submit_sm_resp from 5.0 on."""
    return customer.version >= 0x50 or (command == Command.DATA_SM and customer.version >= 0x34)


class Delayed:
    """Answers that wait for their time. Each holds its places in the window of its session meanwhile."""

    def __init__(self, context: Context) -> None:
        self.most = DELAYED
        self._context = context
        self._heap: list[tuple[float, int, CustomerPeer, bytes, int]] = []
        self._tie = count()
        self._timer = _IDLE

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, customer: CustomerPeer, response: bytes, places: int = 1) -> None:
        """Gives an answer at ``due`` (monotonic seconds); it holds ``places`` of the session's window."""
        if len(self._heap) >= self.most:
            self._context.answer(customer, response, places)
            return
        heapq.heappush(self._heap, (due, next(self._tie), customer, response, places))
        self._release_at(due)

    def _release_at(self, due: float) -> None:
        if due < self._timer:  # nothing wakes us before
            self._timer = due
            self._context.later(max(0.001, due - self._context.now()), self._release)

    def _release(self) -> None:
        self._timer = _IDLE
        now = self._context.now()
        heap = self._heap
        left = TURN
        while heap and heap[0][0] <= now + 0.002 and left > 0:
            left -= 1
            _, _, customer, response, places = heapq.heappop(heap)
            try:
                self._context.answer(customer, response, places)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(TIMER, error)
        if heap:
            self._release_at(heap[0][0])
        self._context.flush()
