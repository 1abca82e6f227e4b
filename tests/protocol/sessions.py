"""Sessions for tests: brought into a state, fed with small PDUs, and what they say read back."""

from __future__ import annotations

from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.session import Role, Session, SessionState, Timers
from smppd.protocol.wire import Command, address_field, build_sm, pdu

SOURCE = address_field(1, 1, b"447700900123")
DESTINATION = address_field(1, 1, b"447700900456")
TIMERS = Timers()
S = SessionState


def sm(sequence: int = 1, command: int = Command.SUBMIT_SM, text: bytes = b"hello") -> bytes:
    return build_sm(command, sequence, SOURCE, DESTINATION, text)


def bind(sequence: int = 1, command: int = Command.BIND_TRANSCEIVER) -> bytes:
    return write_bind(Bind(command, sequence, b"acme", b"secret", b"", 0x34, 0, 0, b""))


def enquire(sequence: int = 1) -> bytes:
    return pdu(Command.ENQUIRE_LINK, 0, sequence)


def standing(role: Role = Role.SMSC, state: S = S.BOUND_TRX, *, window: int = 10, timers: Timers = TIMERS) -> Session:
    """A session brought into ``state`` at time 0 by the way a real one takes."""
    session = Session(role, timers, 0.0, window=window, outstanding_limit=10)
    if state is S.OPEN:
        return session
    if state is S.CLOSED:
        session.close("closed")
        return session
    command = {S.BOUND_TX: Command.BIND_TRANSMITTER, S.BOUND_RX: Command.BIND_RECEIVER}.get(
        state, Command.BIND_TRANSCEIVER
    )
    if role is Role.SMSC:
        session.receive(bind(1, command), 0.0)
        if state is not S.BINDING:
            session.accept_bind(command, window=window, outstanding_limit=10)
    else:
        session.bind(bind(0, command), "bind", 0.0)
        if state is not S.BINDING:
            session.receive(pdu(command | 0x80000000, 0, 1, b"smsc\0"), 0.0)
            session.bound_as(command)
    if state is S.UNBINDING:
        session.unbind(0.0)
    assert session.state is state
    session.take()
    return session


def said(session: Session) -> list[tuple[str, int, int]]:
    """What the session sends: (command, status, sequence number)."""
    data = session.take()
    found = []
    while data:
        length = int.from_bytes(data[:4])
        words = [int.from_bytes(data[at : at + 4]) for at in (4, 8, 12)]
        found.append((Command(words[0]).name.lower(), words[1], words[2]))
        data = data[length:]
    return found


def numbers(frames: list[bytes]) -> list[int]:
    return [int.from_bytes(frame[12:16]) for frame in frames]
