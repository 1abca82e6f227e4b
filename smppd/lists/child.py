"""The child process that compiles a list, so that nothing of it is done in the daemon: `python -m smppd.lists.child`.

Its job comes as one line of JSON on standard input, with the key, which so stands in no command line and no environment. It
works until that input ends, which is when its parent does. It says on standard output, one JSON object a line, how far it is
(where asked to) and at the end what came of it. Nothing that it says holds anything of the list.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from smppd.lists.compiler import Failed, ListSpec, Refused, compile_list
from smppd.secrecy import forbid_cores

NICER: Final = 10
"""How much it gives way to the daemon, see nice(2)."""


def main() -> int:
    """Does the job on standard input. Exit status 0, whatever came of it: the last line says so."""
    forbid_cores()  # it holds a key and numbers
    os.nice(NICER)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is its parent's, which then closes our input
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))

    def stopped() -> bool:
        return bool(ended) or bool(select.select([sys.stdin], [], [], 0)[0])

    with open(0, "rb", buffering=0, closefd=False) as unbuffered:  # nothing is taken that `stopped` would wait for
        job: dict[str, Any] = json.loads(unbuffered.readline())
    told = [0.0]

    def progress(done: float) -> None:
        if job["progress"] and done - told[0] >= 0.005:
            told[0] = done
            _say({"progress": round(done, 3)})

    column = job["column"]
    spec = ListSpec(job["name"], job["kind"], Path(job["file"]), job["region"], column, job["skip"])
    try:
        made = compile_list(
            spec,
            Path(job["directory"]),
            bytes.fromhex(job["key"]),
            int(time.time()),
            job["reserve"],
            progress,
            stopped,
            lenient=job["lenient"],
        )
        _say({"outcome": "compiled", "entries": made.entries, "skipped": made.skipped, "told": made.told})
    except Refused as refused:
        _say({"outcome": "refused", "reason": str(refused)})
    except Failed as failed:
        _say({"outcome": "failed", "reason": str(failed)})
    except MemoryError:
        _say({"outcome": "failed", "reason": "not enough memory"})
    except Exception as bug:  # noqa: BLE001  the process's edge: a traceback might show an entry
        _say({"outcome": "failed", "reason": f"an error of ours: {type(bug).__name__}"})
    return 0


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
