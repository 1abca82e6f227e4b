"""The child process that compiles a list, so that nothing of it is done in the daemon: `python -m smppd.lists.child`.

It works until its parent ends (see `child`). It says how far it is (where asked to) and at the end what came of it. Nothing
that it says holds anything of the list.
"""

from __future__ import annotations

import json
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from smppd import child
from smppd.lists.compiler import Failed, ListSpec, Refused, compile_list


def main() -> int:
    """Does the job on standard input. Exit status 0, whatever came of it: the last line says so."""
    job: dict[str, Any] = json.loads(child.begin())
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))

    def stopped() -> bool:
        return bool(ended) or bool(select.select([sys.stdin], [], [], 0)[0])

    told = [0.0]

    def progress(done: float) -> None:
        if job["progress"] and done - told[0] >= 0.005:
            told[0] = done
            child.say({"progress": round(done, 3)})

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
        child.say({"outcome": "compiled", "entries": made.entries, "skipped": made.skipped, "told": made.told})
    except Refused as refused:
        child.say({"outcome": "refused", "reason": str(refused)})
    except Failed as failed:
        child.say({"outcome": "failed", "reason": str(failed)})
    except MemoryError:
        child.say({"outcome": "failed", "reason": "not enough memory"})
    except Exception as bug:  # noqa: BLE001  the process's edge: a traceback might show an entry
        child.say({"outcome": "failed", "reason": child.error_of_ours(bug)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
