"""How fast the attacks, ART's rim, the harness and the training are, beside the libraries, and what memory they take.

    python -m benchmarks                                  # all of it, on one thread and on two: some hours
    python -m benchmarks --only pgd rim --threads 1       # some rows; the others stay in the file as they are
    python -m benchmarks --device cuda --out results/performance_gpu.json
    python -m benchmarks --render                         # the page again, from the file

Every contender of a row runs once, then the next round begins, so that what the machine does besides falls on all of
them; a figure is the median of the rounds. The file is written after every row, with a page of tables beside it. Leave
the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.performance import attacks, record
from benchmarks.performance.harness import harness
from benchmarks.performance.machine import machine, versions
from benchmarks.performance.measure import Comparison, measured, threads
from benchmarks.performance.memory import memory
from benchmarks.performance.problems import Options
from benchmarks.performance.rim import rim
from benchmarks.performance.starting import starting
from benchmarks.performance.table import render
from benchmarks.performance.training import training

TOPICS: dict[str, Callable[[Options], list[Comparison]]] = {
    "pgd": attacks.pgd,
    "apgd": attacks.apgd,
    "eot": attacks.eot,
    "rim": rim,
    "harness": harness,
    "training": training,
    "import": starting,
    "memory": memory,
    "autoattack": attacks.autoattack,
}
"""What `--only` names, in the order in which they run."""


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=TOPICS, default=list(TOPICS), metavar="ROW",
                        help=f"out of {', '.join(TOPICS)}")  # fmt: skip
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME", help="contenders to leave out, such as ART")
    parser.add_argument("--threads", nargs="+", type=positive, default=[1, 2], help="of torch, one after the other")
    parser.add_argument("--rounds", type=positive, default=5, help="that count, after one that does not")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", type=positive, help="of every row, instead of its own number")
    parser.add_argument("--data", type=Path, help="folder with cifar10_exact.npz; random 32 x 32 images without one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/performance.json"), help="the page lies beside it")
    parser.add_argument("--render", action="store_true", help="write the page of --out again and measure nothing")
    return parser.parse_args(given)


def run(args: argparse.Namespace) -> None:
    """Measures what is asked for.

    Raises:
        ValueError: --out holds figures of another machine or of other versions, or there is no such device.
    """
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a CUDA device for --device cuda, got a torch that sees none")
    options = Options(args.images, device, args.data, args.seed)
    found = record.load(args.out, {"machine": machine(device), "versions": versions()})
    plan = [(count, _without(c, args.without)) for count in args.threads for topic in args.only
            for c in TOPICS[topic](options) if not c.once or count == args.threads[0]]  # fmt: skip
    with tqdm(total=sum(c.runs(args.rounds) for _, c in plan), file=sys.stderr, mininterval=1) as bar:
        for count, comparison in plan:
            bar.set_description(f"{comparison.name}, {count} thread(s)")

            def tick(name: str) -> None:
                bar.set_postfix_str(name, refresh=False)
                bar.update()

            with threads(count):
                values = measured(comparison, rounds=args.rounds, seed=args.seed, device=device, tick=tick)
            new = record.row(comparison, values, threads=count, device=args.device, seed=args.seed)
            found["rows"] = record.put(found["rows"], new)
            record.write(args.out, record.dumps(found))
            record.write(args.out.with_suffix(".md"), render(found))


def _without(comparison: Comparison, names: Sequence[str]) -> Comparison:
    return replace(comparison, contenders=[c for c in comparison.contenders if c.name not in names])


def main(given: Sequence[str] | None = None) -> None:
    args = arguments(given)
    try:
        if args.render:
            record.write(args.out.with_suffix(".md"), render(record.read(args.out)))
        else:
            run(args)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
