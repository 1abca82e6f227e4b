"""`python -m smppd.demo smsc|customer`: a simulator as a child process that speaks JSON lines.

The first line on stdin is the configuration, each further one an order ({"op": ...}); events ({"ev": ...}) come out on
stdout. It ends when stdin closes or on SIGTERM. Message content passes only through these two pipes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import defer, reactor, ssl, stdio, task
from twisted.logger import LogEvent, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from smppd.demo import quiet
from smppd.demo.customer import Customer, Login, Watch
from smppd.demo.fields import Outgoing
from smppd.demo.smsc import Behaviour, Smsc
from smppd.demo.texts import mixed

# No types there.
_reactor: Any = reactor
_untyped_ssl: Any = ssl
_stdio: Any = stdio


class Control(LineOnlyReceiver):  # type: ignore[misc, unused-ignore]
    """The pipe to the parent: orders in, events out."""

    delimiter = b"\n"
    MAX_LENGTH = 16 << 20
    transport: Any

    def __init__(self, handler: Callable[[dict[str, Any]], None]) -> None:
        self._handler = handler
        self.errors = 0

    def lineReceived(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            self._handler(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            self.say("error", what=f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error))

    def say(self, event: str, **values: Any) -> None:
        """Writes one event."""
        self.transport.write(json.dumps({"ev": event, **values}).encode() + b"\n")

    def connectionLost(self, reason: object = None) -> None:
        if _reactor.running:
            _reactor.stop()


class _SmscChild:
    """Orders: stats, frames (since), sent, ids, set (behaviour), mo, cut."""

    def __init__(self) -> None:
        self.control = Control(self.handle)
        self.smsc: Smsc | None = None

    def handle(self, order: dict[str, Any]) -> None:
        if self.smsc is None:
            self.start(order)
            return
        smsc, say = self.smsc, self.control.say
        match order["op"]:
            case "stats":
                sessions = sum(smsc.getBoundConnectionCount(name) for name in smsc.bound_connections)
                say("stats", sessions=sessions, **asdict(smsc.counts))
            case "frames":
                since = max(0, int(order.get("since", 0)) - smsc.first_frame)
                frames = list(smsc.frames)[since:]
                say("frames", frames=[frame.hex() for frame in frames], next=smsc.first_frame + len(smsc.frames))
            case "sent":
                say("sent", frames=[frame.hex() for frame in smsc.sent])
            case "ids":
                say("ids", ids=smsc.ids_given)
            case "set":
                smsc.behaviour.change(**order["behaviour"])
                say("set")
            case "mo":
                tlvs = [(int(tag), bytes.fromhex(value)) for tag, value in order.get("vendor", ())]
                coding, esm = int(order.get("data_coding", 0)), int(order.get("esm_class", 0))
                smsc.mo(order["from"], order["to"], bytes.fromhex(order["body"]), coding, esm, tlvs)
                say("mo")
            case "cut":
                say("cut", sessions=smsc.cut())
            case unknown:
                raise ValueError(f"no order {unknown}")

    def start(self, config: dict[str, Any]) -> None:
        behaviour = Behaviour()
        behaviour.change(**config.get("behaviour", {}))
        smsc = Smsc(config["system_id"], config["password"], behaviour, _reactor, seed=int(config.get("seed", 1)))
        port = int(config.get("port", 0))
        if "certificate" in config:
            context = _untyped_ssl.DefaultOpenSSLContextFactory(
                config["key"], config["certificate"], SSL.TLS_SERVER_METHOD
            )
            listening = _reactor.listenSSL(port, smsc, context, interface="127.0.0.1")
        else:
            listening = _reactor.listenTCP(port, smsc, interface="127.0.0.1")
        self.smsc = smsc
        _reactor.addSystemEventTrigger("before", "shutdown", smsc.stop)
        self.control.say("listening", port=listening.getHost().port)


class _FrameEvents(Watch):
    def __init__(self, control: Control) -> None:
        self._control = control

    def frame_sent(self, frame: bytes) -> None:
        self._control.say("sent", frame=frame.hex())

    def frame_received(self, frame: bytes) -> None:
        self._control.say("deliver", frame=frame.hex())


class _CustomerChild:
    """Orders: submit (messages), run (count: mixed messages, with progress events), stats, unbind."""

    def __init__(self) -> None:
        self.control = Control(self.handle)
        self.customer: Customer | None = None
        self.numbered = 0

    def handle(self, order: dict[str, Any]) -> None:
        if self.customer is None:
            self.watch(self.start(order), "bind")
            return
        customer, say = self.customer, self.control.say
        match order["op"]:
            case "submit":
                for value in order["messages"]:
                    customer.submit(self.numbered, Outgoing.from_json(value))
                    self.numbered += 1
            case "run":
                self.watch(
                    self.run(int(order["count"]), float(order.get("wait", 60)), float(order.get("rate", 0))), "run"
                )
            case "stats":
                say("stats", binds=len(customer.sessions), lost=customer.lost, **customer.tally.summary())
            case "unbind":
                self.watch(self.unbind(), "unbind")
            case unknown:
                raise ValueError(f"no order {unknown}")

    def watch(self, work: Any, what: str) -> None:
        def failed(failure: Failure) -> None:
            status = getattr(getattr(getattr(failure.value, "response", None), "status", None), "name", "")
            self.control.say("failed", what=what, error=type(failure.value).__name__, status=status)

        defer.ensureDeferred(work).addErrback(failed)

    async def start(self, config: dict[str, Any]) -> None:
        ports = [int(port) for port in config.get("ports") or [config["port"]]]
        login = Login(
            host=config.get("host", "127.0.0.1"),
            port=ports[0],
            system_id=config["system_id"],
            password=config["password"],
            ca=Path(config["ca"]) if config.get("ca") else None,
            server_name=config.get("server_name", "localhost"),
            mode=config.get("mode", "transceiver"),
            pinned=Path(config["pinned"]) if config.get("pinned") else None,
        )
        watch = _FrameEvents(self.control) if config.get("frames") else None
        self.customer = Customer(_reactor, window=int(config.get("window", 10)), watch=watch)
        self.customer.retry = bool(config.get("retry", True))
        self.customer.submits_again = bool(config.get("submits_again"))
        if config.get("answers"):
            self.customer.on_answer = lambda number, status, message_id: self.control.say(
                "answer", n=number, status=status, id=message_id
            )
        for port in ports:
            await self.customer.bind(replace(login, port=port), int(config.get("binds", 1)))
        self.control.say("bound", binds=len(self.customer.sessions))

    async def run(self, count: int, wait: float, rate: float) -> None:
        """Submits ``count`` mixed messages, ``rate`` a second (0: as fast as the window lets), then waits for the
        receipts, ``wait`` seconds without news at the most."""
        assert self.customer is not None
        customer, say = self.customer, self.control.say
        messages = mixed(count)
        started = news = told = time.monotonic()
        last, queued = -1, 0
        while not (customer.settled and customer.answered == count) and time.monotonic() - news < wait:
            now = time.monotonic()
            due = count if not rate else min(count, int((now - started) * rate) + 1)
            while queued < due:
                customer.submit(queued, messages[queued])
                queued += 1
            if now - told >= 0.2:
                told = now
                say("progress", **customer.tally.summary())
            seen = customer.answered + customer.tally.receipts
            if seen != last:
                news, last = now, seen
            await task.deferLater(_reactor, 0.01 if queued < count else 0.05, lambda: None)
        took = time.monotonic() - started
        # A duplicate would follow at once.
        await task.deferLater(_reactor, 0.5, lambda: None)
        customer.count_strangers()
        complete = customer.settled and customer.answered == count
        say("done", complete=complete, seconds=round(took, 3), lost=customer.lost, **customer.tally.summary())

    async def unbind(self) -> None:
        assert self.customer is not None
        await self.customer.unbind()
        self.control.say("unbound")


def main(arguments: list[str]) -> int:
    """Runs until stdin closes."""
    if arguments not in (["smsc"], ["customer"]):
        print("usage: python -m smppd.demo smsc|customer", file=sys.stderr)
        return 2
    quiet()
    errors = 0

    def observe(event: LogEvent) -> None:
        nonlocal errors
        if "log_failure" in event:
            errors += 1
            # The kind only: an error of the library may quote a PDU.
            os.write(2, f"simulator: {event['log_failure'].type.__name__}\n".encode())

    observers: Any = [observe]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
    # The parent handles Ctrl-C and then closes our stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child: Any = _SmscChild() if arguments == ["smsc"] else _CustomerChild()
    _stdio.StandardIO(child.control)
    signal.signal(signal.SIGTERM, lambda *_: _reactor.callFromThread(_reactor.stop))
    _reactor.run(installSignalHandlers=False)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
