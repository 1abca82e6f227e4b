"""A simulated SMSC and a simulated customer on smpp.twisted, for `smppd demo` and the tests: never part of the daemon.

They run as child processes (`python -m smppd.demo smsc|customer`) that talk JSON lines on stdin and stdout and
end when stdin closes, so none is left behind. smpp.twisted logs whole PDUs; `quiet` silences it.
"""

from __future__ import annotations

import logging


def quiet() -> None:
    """Silences smpp.twisted's loggers for this process: they would print texts, numbers and passwords."""
    logger = logging.getLogger("smpp")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
