"""The papers' experiments.

    python -m experiments list                                    # every table and figure, its command, its state
    python -m experiments rdp --data fashion_mnist --part white   # a part at the small scale
    python -m experiments drrdn --data cifar10 --folder FOLDER --scale paper --device cuda --precision bf16-mixed
    python -m experiments dir --dry-run --scale paper             # two batches, two attack steps, eight images
    python -m experiments table rdp                               # the tables of what results/ holds
    python -m experiments render                                  # the pages of results/

Networks are trained once and kept by what decides them; a killed run goes on where it was, `--minutes` ends a training
in time, and so does every evaluation. `--shard I N` takes the I-th of N shares of every report, on any machine that
sees the same folders: whoever ends last puts them together. With several devices each takes a share. `--workers 2`,
`--executor ray` and `--executor slurm` have workers train the networks, `--seed 0 1 2` each of them three times, and
make the blocks of every report.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from art_ext.evaluation import Report
from art_ext.evaluation.executors import given_executor
from art_ext.nn.precision import FLOAT32, PRECISIONS
from art_ext.training import launched, make_fabric
from experiments import render, runner
from experiments.core import SCALES, Experiment
from experiments.data import SETS
from experiments.lab import Lab, OutOfTime
from experiments.page import read, show, tables
from experiments.trainings import Trainings, planned, train

RESULTS, RUNS = Path("results"), Path("runs/experiments")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, each of which stands here alone."""
    parser = argparse.ArgumentParser(
        "python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["list", "table", "render", *render.PAPERS])
    parser.add_argument("papers", nargs="*", choices=[[], *render.PAPERS], help="of `table`; all unless given")
    parser.add_argument("--data", choices=[*SETS], help="the paper's first one unless given")
    parser.add_argument("--folder", type=Path, help="of mnist.npz or CIFAR-10's files, which do not ship")
    parser.add_argument("--scale", default="small", choices=SCALES)
    parser.add_argument("--part", nargs="+", help="all unless given")
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1), metavar=("I", "N"))
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of trainings; each has results of its own")
    parser.add_argument("--minutes", type=float, help="end a training in time, to go on another day")
    parser.add_argument("--dry-run", action="store_true", help="two batches, two attack steps, eight images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--devices", type=int, default=1)
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--workers", type=int, help="processes here that train and make the reports' blocks")
    workers.add_argument("--executor", help="ray, ray://HOST:PORT or slurm in their place")
    parser.add_argument("--precision", default="32-true", help="of trainings; what is measured is float32")
    parser.add_argument("--crafting", choices=PRECISIONS, default=FLOAT32, help="of the native attacks' gradients")
    parser.add_argument("--batch-size", type=int, default=256, help="most images of one pass of an evaluation")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=RUNS, help="networks and examples")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Does what the command line says."""
    args = arguments(given)
    if args.what == "list":
        print(
            show(("paper", "table or figure", "shows", "python -m experiments", "state"), render.listed(args.results))
        )
    elif args.what == "render":
        print(*render.render(args.results), sep="\n")
    elif args.what == "table":
        for paper, scale in product(args.papers or render.PAPERS, SCALES):
            for experiment, seed in product(render.experiments(paper, scale), args.seed):
                _tables(experiment, args.results, seed)
    else:
        run(args)


def run(args: argparse.Namespace) -> None:
    """Runs parts of a paper's experiment and shows what came out."""
    declared = render.module(args.what)
    experiment: Experiment = declared.declare(args.data or declared.DECLARED[0], args.scale)
    names = args.part or [*experiment.parts]
    unknown = [name for name in names if name not in experiment.parts]
    if unknown:
        raise SystemExit(f"expected --part out of {', '.join(experiment.parts)}; got {', '.join(unknown)}")
    executor = args.executor if args.workers is None else args.workers
    if executor is not None and (args.devices > 1 or tuple(args.shard) != (0, 1)):
        raise SystemExit("expected --workers or --executor without --shard and --devices: they share blocks already")
    workers = given_executor(executor)
    fabric = launched(make_fabric(torch.device(args.device), devices=args.devices, precision=args.precision))
    out = args.runs / "dry" / "results" if args.dry_run else args.results  # a trial must not stand for a measurement
    runs = args.runs / "dry" if args.dry_run else args.runs
    for folder in (out, runs):
        folder.mkdir(parents=True, exist_ok=True)
    deadline = None if args.minutes is None else time.time() + 60 * args.minutes
    first = Lab(experiment, args.folder, runs, out, fabric, args.seed[0], args.dry_run, deadline)
    if executor is not None:
        train(workers, Trainings.of(first, planned(first, names, args.seed), args.precision))
    for seed in args.seed:
        lab = replace(first, seed=seed, made={}, trainings={}, closed=False)
        try:
            made = [*runner.carry_out(lab, names, tuple(args.shard), args.batch_size, executor, args.crafting)]
        except OutOfTime as late:
            print(late)
            return
        if fabric.is_global_zero:
            shown(made, out, experiment, seed)


def shown(made: Sequence[Path], out: Path, experiment: Experiment, seed: int) -> None:
    """Prints what was made, and the tables that the folder of results now gives."""
    for path in made:
        found: Any = read(out, path.stem)
        if "cells" in found:
            print(f"{path}\n\n{show(*Report.load(path).table())}\n")
        else:
            print(f"{path}: {', '.join(k for k in found if k not in ('options', 'versions'))}\n")
    _tables(experiment, out, seed)


def _tables(experiment: Experiment, folder: Path, seed: int) -> None:
    for title, text in tables(experiment, folder, seed):
        print(f"{experiment.paper}, {experiment.data}, {experiment.scale}: {title}\n\n{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
