"""Whether the intervals of an evaluation hold what they promise, and how often its checks are wrong.

    python -m benchmarks.statistics coverage errors                     # twenty minutes on one core
    python -m benchmarks.statistics coverage --quick --out runs         # a few seconds, coarse
    python -m benchmarks.statistics coverage --docs docs/evaluation.md  # and the tables into a page
    python -m benchmarks.statistics errors --render --docs docs/evaluation.md  # from the file, nothing is computed

The figures go to `statistics.json` in the folder of --out; what else is in that file stays.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from art_ext.files import replacing
from benchmarks.statistics import coverage, error_rates, table

REPORTS, FEW_REPORTS = 200, 4
NAMES = {"coverage": "coverage", "errors": "error rates"}
"""Of the tables, in the file and between the markers of a page."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.statistics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=tuple(NAMES), nargs="+")
    parser.add_argument("--quick", action="store_true", help="fewer images, points, reports and draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of statistics.json")
    parser.add_argument("--docs", type=Path, help="page that takes the tables between <!-- NAME --> and <!-- /NAME -->")
    parser.add_argument("--render", action="store_true", help="take the figures from the file and compute nothing")
    return parser.parse_args(given)


def run(args: argparse.Namespace) -> None:
    """Computes what is asked for, prints it and writes it."""
    file = args.out / "statistics.json"
    for what in args.what:
        if not args.render:
            made = _measured(what, args)
            held = json.loads(file.read_text("utf-8")) if file.exists() else {}
            write(file, json.dumps({**held, what: made}, indent=1) + "\n")
        found = json.loads(file.read_text("utf-8"))[what]
        text = table.tables(found) if what == "coverage" else error_rates.tables(found)
        print(text)
        if args.docs:
            write(args.docs, table.placed(args.docs.read_text("utf-8"), text, NAMES[what]))


def _measured(what: str, args: argparse.Namespace) -> object:
    if what == "coverage":
        return coverage.measured(coverage.QUICK if args.quick else coverage.FULL, args.seed)
    images = error_rates.IMAGES[:2] if args.quick else error_rates.IMAGES
    return error_rates.measured(FEW_REPORTS if args.quick else REPORTS, args.seed, images)


def write(file: Path, text: str) -> None:
    """Puts a text in the place of a file at once."""
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8")


if __name__ == "__main__":
    run(arguments())
