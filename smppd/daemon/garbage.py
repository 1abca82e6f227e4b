"""Looks for cyclic garbage while nobody waits, and never at all objects at once.

The interpreter's collector runs whenever there are so many more objects than before, in the middle of other work, and
sometimes looks at all objects. A look takes 1 us for each object, with the interpreter's lock held: tens of milliseconds for
100,000 messages or 10,000 sessions. Next to nothing in this daemon is cyclic, so its objects go with their last reference.
The housekeeping looks for the rest, at a few thousand young objects at a time.
"""

from __future__ import annotations

import gc
from typing import Final

FEW: Final = 200
"""Fewer young objects than this are not looked at."""
MOST: Final = 2_000
"""More than this are too many for one look: they are taken for things that live, in a queue or in a configuration."""


def begin() -> None:
    """At the end of the start: what is there stays. From here on ``look`` alone looks."""
    gc.collect()
    gc.freeze()
    gc.disable()


def look() -> None:
    """Call about ten times a second: takes two milliseconds at most."""
    young = gc.get_count()[0]
    if young > MOST:
        gc.freeze()
    elif young >= FEW:
        gc.collect(0)
