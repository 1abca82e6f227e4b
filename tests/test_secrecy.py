"""No process that holds keys, texts or secrets leaves a core file: neither lock alone is enough."""

from __future__ import annotations

import subprocess
import sys

import pytest

PR_GET_DUMPABLE = 3
SAYS = f"""
import ctypes, os, resource
import {{module}} as child
def nice(_by):
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0), flush=True)
    os._exit(0)
os.nice = nice
child.main()
"""


@pytest.mark.parametrize("module", ["smppd.feed.child", "smppd.lists.child", "smppd.spans.child"])
def test_a_child_of_the_daemon_forbids_both_before_it_reads_its_job(module: str) -> None:
    # What the daemon forbade itself does not count behind exec, for one of the two.
    done = subprocess.run(
        [sys.executable, "-c", SAYS.format(module=module)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.stdout == "(0, 0) 0\n", done.stderr
