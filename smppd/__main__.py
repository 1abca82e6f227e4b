"""`python -m smppd` and the `smppd` script."""

from __future__ import annotations

import sys

from smppd.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
