"""A list's file changes while messages flow: what came into force refuses, a broken file keeps what was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc

NUMBERS = [b"447700900123", b"447700900124"]
REFUSED = 0x45


def _put(path: Path, *lines: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(b"\n".join(lines) + b"\n")
    os.replace(fresh, path)


def test_a_list_changes_while_messages_flow(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    dnd, words = tmp_path / "dnd.txt", tmp_path / "words.txt"
    _put(dnd, NUMBERS[0])
    _put(words, b"free prize")
    sections = {
        "lists": {"dnd": {"file": str(dnd), "kind": "numbers"}},
        "policies": {
            "house": [
                {"name": "do-not-disturb", "when": {"destination_in": "dnd"}, "do": "refuse"},
                {"name": "prizes", "when": {"keywords": {"file": str(words)}}, "do": "refuse"},
            ]
        },
        "watch_files": "200ms",
    }
    with RawSmsc() as smsc:
        gateway = make_gateway([Upstream(smsc.port)], [account("acme", policies=["house"])], **sections)
        with gateway, Probe(gateway.plain_port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            answers: list[tuple[int, ...]] = []

            def ask(text: bytes = b"hello") -> tuple[int, ...]:
                """What messages to both numbers are answered. Some flow in each wait."""
                answers.append(tuple(status(probe.ask(0x04, submit_body(text, number))) for number in NUMBERS))
                return answers[-1]

            assert ask() == (REFUSED, 0), "the list was compiled before the daemon was ready"
            _put(dnd, NUMBERS[1])
            wait_for("the new list", lambda: ask() == (0, REFUSED))
            # The exchange may fall between the two messages of one question: the first is put to the old list, the second to
            # the new one. No message is put to none.
            either = [one for one in answers if one != (REFUSED, REFUSED)]
            assert len(answers) - len(either) <= 1 and set(either) == {(REFUSED, 0), (0, REFUSED)}
            assert either == sorted(either, reverse=True), "and never to the old one again"
            _put(dnd, NUMBERS[0], b"no number")
            refused = ("smppd_list_compilations_total", {"outcome": "refused"})
            wait_for(
                "the refusal of the broken file",
                lambda: ask() == (0, REFUSED) and gateway.metric(refused[0], **refused[1]) == 1,
            )
            assert ask() == (0, REFUSED) and gateway.metric("smppd_list_stale", list="dnd") == 1
            shown = gateway.command("lists", "show")
            assert "dnd: 1 numbers, its file changed\n" in shown.stdout, shown.stderr
            _put(words, b"hello")
            wait_for("the reload for the keywords", lambda: ask() == (REFUSED, REFUSED))
            assert ask(b"bye") == (0, REFUSED), "the list outlived the reload"
            assert "no number" not in gateway.log_text() and "447700900" not in gateway.log_text()
            stored = b"".join(path.read_bytes() for path in (gateway.directory / "store" / "lists").iterdir())
            assert not any(number in stored for number in NUMBERS)
