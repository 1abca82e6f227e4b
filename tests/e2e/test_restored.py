"""What waited when the backup was taken may have been sent since: after a restore it is flagged, or reported unknown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import repeat

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step


@pytest.mark.parametrize(("on_unknown", "hot"), [("resend", 1000), ("resend", 5), ("hold", 1000), ("hold", 5)])
def test_waiting_messages_are_doubtful_after_a_restore(
    on_unknown: str, hot: int, make_gateway: Callable[..., Gateway]
) -> None:
    with RawSmsc(repeat(Step())) as smsc:
        gateway = make_gateway(
            [Upstream(smsc.port)],
            [account(on_unknown=on_unknown)],
            store={"path": "store", "reserve": "16MiB", "hot": hot},
        )
        with gateway:
            where = gateway.directory
            smsc.stop()
            gateway.wait_links("sim", 0)
            with Probe(gateway.plain_port) as probe:
                assert probe.bind("acme", PASSWORD) == 0
                ids = [probe.ask(0x04, submit_body(b"message %d" % n)) for n in range(20)]
                assert all(status(one) == 0 for one in ids)
            taken = gateway.command("backup", str(where / "b"), "--keys-to", str(where / "k"), "--json")
            assert taken.returncode == 0, taken.stderr
            gateway.kill()
            shutil.rmtree(where / "store")
            restored = gateway.command("restore", "--from", str(where / "b"), "--keys-from", str(where / "k"), "--json")
            assert json.loads(restored.stdout)["on_the_way"]["messages"] == 20, restored.stderr
            with RawSmsc(repeat(Step())) as again:
                gateway.config["upstreams"][0]["address"] = f"127.0.0.1:{again.port}"
                gateway.write_config()
                gateway.start()
                if on_unknown == "resend":
                    wait_for("all sent", lambda: len(again.submits()) == 20)
                    texts = [one[one.index(b"message ") :] for one in again.submits()]
                    assert texts == [b"message %d" % n for n in range(20)]
                shown = str(ids[0][16:-1], "ascii")

                def events() -> list[dict[str, object]]:
                    found = gateway.command("log", "show", shown, "--reason", "support", "--json")
                    return list(json.loads(found.stdout)["events"])

                state = "SUBMITTED" if on_unknown == "resend" else "UNKNOWN"
                wait_for(state, lambda: [one["state"] for one in events()][-1:] == [state])
                assert events()[-1]["possible_duplicate"] is True
                if on_unknown == "hold":
                    assert again.submits() == []
