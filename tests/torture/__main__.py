"""`python -m tests.torture [campaign ...]`: runs the campaigns and writes docs/torture.md. `report` alone only writes it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from tempfile import gettempdir

from tests.e2e.children import ROOT
from tests.torture.campaigns import CAMPAIGNS
from tests.torture.plan import Options
from tests.torture.report import write_report
from tests.torture.results import Results
from tests.torture.runner import run_campaign


def main() -> int:
    """0 when every promise held, 1 when one did not."""
    # Ended from outside, whatever it started still ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("campaigns", nargs="*", help=f"{', '.join(CAMPAIGNS)}, report; default: all of them")
    parser.add_argument(
        "--rounds", type=int, help="how many rounds (kills, cuts, flaps), or receipts, of each campaign"
    )
    parser.add_argument("--seed", type=int, default=1, help="fixes the moments of all kills and the fate of all writes")
    parser.add_argument("--seconds", type=float, help="how long the soak takes; default: 3600")
    parser.add_argument("--minutes", type=float, help="the same in minutes, and how long `privacy` takes; default: 10")
    parser.add_argument("--rate", type=float, help="messages a second of `privacy`; default: 500")
    parser.add_argument("--resume", action="store_true", help="leave out the units that are written down as finished")
    parser.add_argument("--only", default="", help="only units whose name has this in it, such as `mutation`")
    parser.add_argument("--short", action="store_true", help="the short form of each campaign, as in `make test`")
    parser.add_argument("--source", type=Path, default=ROOT, help="the tree whose smppd is put to torture")
    parser.add_argument("--scratch", type=Path, default=Path(gettempdir()), help="where stores are made")
    parser.add_argument("--results", type=Path, help="where results are kept; default: var/torture[-short]")
    parser.add_argument("--no-report", action="store_true", help="leave docs/torture.md as it is")
    args = parser.parse_args()
    names = [name for name in (args.campaigns or CAMPAIGNS) if name != "report"]
    if unknown := [name for name in names if name not in CAMPAIGNS]:
        parser.error(f"no campaign is called {', '.join(unknown)}")
    directory: Path = args.results or ROOT / "var" / ("torture-short" if args.short else "torture")
    options = Options(
        seed=args.seed,
        rounds=args.rounds,
        short=args.short,
        source=args.source.resolve(),
        scratch=args.scratch,
        seconds=args.seconds if args.minutes is None else args.minutes * 60,
        rate=args.rate,
    )
    wrong = 0
    for name in names:
        rows = run_campaign(
            CAMPAIGNS[name],
            options,
            Results(directory, name),
            resume=args.resume,
            only=args.only,
            say=lambda line: print(line, flush=True),
        )
        wrong += sum(bool(row["faults"]) for row in rows)
    if not args.no_report and not args.short:
        write_report(directory, ROOT / "docs")
    if wrong:
        print(f"{wrong} units found something; their stores are kept (`kept` in {directory})", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
