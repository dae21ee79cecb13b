"""What workers gain here, how the scheduler would do with many, and what an ImageNet evaluation costs.

    python -m benchmarks.scaling     # writes results/scaling.json and docs/scaling.md; --render: the page from the file

Units are timed by the workers themselves, with one thread each. The simulation hands out the units of the suite `full`
by the scheduler's own queue; how long a unit takes is what was expected of it, times a ratio drawn from those measured.
Leave the machine alone meanwhile: the file holds its load.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from art_ext import presets
from art_ext.data import fashion_mnist
from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended, Knowledge, ModelInfo, Threat, evaluate, suite
from art_ext.evaluation.executors import Processes, Unit
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.unit import Done
from art_ext.evaluation.executors.units import Queue, waves
from art_ext.evaluation.inspect.info import Found
from art_ext.evaluation.schedule import schedule
from art_ext.evaluation.settings import Settings
from art_ext.purifiers import AToP
from benchmarks.resnet50 import resnet50

ROOT = Path(__file__).parents[1]
OUT, PAGE, MARKS = ROOT / "results" / "scaling.json", ROOT / "docs" / "scaling.md", ("<!-- figures -->", "<!-- end -->")
THREAT, IMAGENET = Threat("Linf", 8 / 255), (3, 224, 224)
STEPS, FAILING, SLOW_WORKERS, SLOWER = 20, 0.02, 16, 2.0
"""Of diffusion; share of handed-out units that die at a random point; every so many-th worker is so much slower."""


class Watched(Processes):
    """Keeps the progress of its run."""

    def run(self, task: Any, waves: Any, progress: Progress, jobs: Any, runner: Any) -> None:
        self.progress, self.began = progress, time.monotonic()
        super().run(task, waves, progress, jobs, runner)
        self.ended = time.monotonic()


def measured(images: int, steps: int, rounds: int) -> dict[str, Any]:
    """An evaluation by one and by two workers in turn: throughput, what is lost between units, and unit times.

    Each figure is the median of the rounds; the machine may be faster in one run than in another.
    """
    torch.set_num_threads(1)
    found: dict[str, Any] = {"load_before": os.getloadavg()[0], "images": images, "steps": steps}
    runs = [{workers: by(workers, images, steps) for workers in (1, 2)} for _ in range(rounds)]
    for workers in (1, 2):
        found[f"{workers} workers"] = {
            k: runs[0][workers][k] if k == "units" else statistics.median(run[workers][k] for run in runs)
            for k in runs[0][workers] if k != "ratios"
        }  # fmt: skip
    found["1 workers"]["ratios"] = sorted(ratio for run in runs for ratio in run[1]["ratios"])
    speedups = [run[2]["units_a_second"] / run[1]["units_a_second"] for run in runs]
    return found | {"speedup": statistics.median(speedups), "speedups": speedups, "load_after": os.getloadavg()[0]}


def by(workers: int, images: int, steps: int) -> dict[str, Any]:
    """One evaluation by so many workers with one thread each."""
    data = fashion_mnist("test")
    models = [Defended(name, presets.load(f"fashion_mnist_{name}")) for name in ("cnn", "robust")]
    attacks = [Attack("native", "PGD", {"steps": steps}), Attack("native", "APGD", {"steps": steps})]
    who, start, x, y = Watched(workers, threads=1), time.monotonic(), data.x[:images], data.y[:images]
    options: dict[str, Any] = {"probe": None, "progress": False, "all_steps": True, "executor": who}
    evaluate(models, attacks, x, y, threat=THREAT, knowledge=[Knowledge.FULL], **options)
    whole, times = time.monotonic() - start, who.progress.times
    first = min(end - took for end, took, _ in times)
    span, busy = max(end for end, _, _ in times) - first, sum(took for _, took, _ in times)
    middle = statistics.median(took / cost for _, took, cost in times)
    return {
        "units": len(times), "units_a_second": len(times) / span, "busy_s": busy, "span_s": span,
        "between_units": between(times, workers) / busy, "idle": 1 - busy / (workers * span),
        "start_s": first - who.began, "whole_s": whole,
        "driver_s_a_unit": (whole - (who.ended - who.began)) / len(times),
        "ratios": [round(took / cost / middle, 3) for _, took, cost in times],
    }  # fmt: skip


def between(times: Sequence[tuple[float, float, float]], workers: int) -> float:
    """Seconds that workers waited between two units of theirs, given when each unit ended and how long it took.

    Which worker had a unit is not recorded: of those that were free, the one that became so last.
    """
    ends: list[float] = []
    waited = 0.0
    for start, end in sorted((end - took, end) for end, took, _ in times):
        free = [e for e in ends if e <= start]
        if free and (len(ends) == workers or start - max(free) < min(end - start, 1.0)):
            waited += start - max(free)
            ends.remove(max(free))
        ends.append(end)
    return waited


def full_units(seconds: dict[str, float], n: int) -> tuple[list[Unit], dict[str, float]]:
    """The units of `full` on "bare", "AToP" and "diffusion", given seconds of a pass of each; and passes of each."""
    models = [Defended(k, nn.Identity(), None if k == "bare" else as_purifier(nn.Identity())) for k in seconds]
    chosen = suite("full", THREAT, classes=1000, channels=3)
    options = {k: v for k, v in chosen.options.items() if k in ("eot_samples", "repeats", "probe")}
    settings = Settings(
        (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL), average="logits", seed=0, batch_size=32,
        survivors_only=False, cross=False, **options,
    )  # fmt: skip
    random = {k: Found.NOWHERE if k == "bare" else Found.CLEAN for k in seconds}
    info = {k: ModelInfo(k, 1000, seconds_a_pass=seconds[k], randomised=random[k]) for k in seconds}
    planned = schedule(models, chosen.attacks, THREAT, IMAGENET, n, settings, info)
    jobs = (*planned.jobs, *planned.probes)
    runner: Any = SimpleNamespace(
        shard=(0, 1), found=info, lacks_gradient=lambda job: False, in_turn=lambda job: False,
        is_there=lambda job, block: False, source=lambda job: f"{job.model.name} {job.knowledge.value}",
    )  # fmt: skip
    passes: dict[str, float] = {}
    for job in jobs:
        who = f"{job.model.name}{', blind' * (job.knowledge is Knowledge.BLIND)}"
        passes[who] = passes.get(who, 0.0) + job.passes()
    return [unit for wave in waves(jobs, runner) for unit in wave], passes


def simulated(units: Sequence[Unit], workers: int, ratios: Sequence[float], restart: float) -> dict[str, Any]:
    """Makespan of the scheduler's queue on so many workers, with stragglers and failing units, against the ideal."""
    draw = random.Random(0)
    took = {unit: unit.cost * draw.choice(ratios) for unit in units}
    speeds = [1 / SLOWER if w % SLOW_WORKERS == SLOW_WORKERS - 1 else 1.0 for w in range(workers)]
    with tempfile.TemporaryDirectory() as folder:
        progress = Progress(units, Path(folder), bar=False)
        queue, busy, now = Queue(units, progress), [], 0.0
        free = [(0.0, w) for w in range(workers)]
        heapq.heapify(free)
        while queue:
            while free and (unit := queue.take()) is not None:
                since, w = heapq.heappop(free)
                fails = draw.random() < FAILING
                end = max(since, now) + took[unit] / speeds[w] * (draw.random() if fails else 1.0)
                heapq.heappush(busy, (end, w, unit, fails))
            now, w, unit, fails = heapq.heappop(busy)
            if fails:
                queue.lost(unit, "simulated")
                progress.deaths += 1
            else:
                queue.done(Done(unit))
            heapq.heappush(free, (now + restart * fails, w))
        progress.close()
    work = sum(took.values())
    return {
        "workers": workers, "units": len(units), "makespan_s": now, "ideal_s": work / workers,
        "of_linear": work / workers / now, "of_speeds": work / sum(speeds) / now,
        "failed": progress.deaths, "given_up": len(progress.lost),
    }  # fmt: skip


def pass_seconds(network: nn.Module) -> float:
    """Processor seconds of a forward pass of one image of ImageNet's size, on one thread: the median of three."""
    x, found = torch.rand(1, *IMAGENET), []
    for _ in range(4):
        start = time.process_time()
        with torch.no_grad():
            network.eval()(x)
        found.append(time.process_time() - start)
    return statistics.median(found[1:])


def modelled(here: dict[str, Any], classifier: float, purifier: float, n: int) -> dict[str, Any]:
    """The whole file: what was measured, the simulation, and core-hours on this machine of passes that were timed.

    In the simulation a step of the diffusion purifier takes as long as AToP's network.
    """
    seconds = {"bare": classifier, "AToP": classifier + purifier, "diffusion": classifier + STEPS * purifier}
    units, passes = full_units(seconds, n)
    restart, ratios = here["1 workers"]["start_s"], here["1 workers"]["ratios"]
    hours = {"bare and blind": (passes["bare"] + passes["AToP, blind"]) * classifier / 3600}
    hours["AToP"] = passes["AToP"] * seconds["AToP"] / 3600
    return {
        "machine": {"cores": os.cpu_count(), "torch": torch.__version__}, "measured": here, "n": n,
        "simulated": [simulated(units, w, ratios, restart) for w in (8, 64)],
        "imagenet": {
            "passes": passes, "resnet50_s_a_pass": classifier, "atop_s_a_pass": purifier, "core_hours": hours,
            "diffusion": {"steps": STEPS, "network_evaluations": STEPS * passes["diffusion"]},
        },
    }  # fmt: skip


def rendered(found: dict[str, Any]) -> str:
    """The figures of the page, from the file alone."""
    here, cost = found["measured"], found["imagenet"]
    one, two = here["1 workers"], here["2 workers"]
    busy = [f"{100 * w['between_units']:.1f} %" for w in (one, two)]
    idle = f"{100 * two['idle']:.1f} %"
    days = {w["workers"]: [f"{w[k] / 86400:.1f} d" for k in ("ideal_s", "makespan_s")] for w in found["simulated"]}
    cores = found["machine"]["cores"]
    lines = [
        MARKS[0], "",
        f"Measured on {cores} cores ({here['images']} images, {one['units']} units, one thread each; "
        f"load of the machine {here['load_before']:.1f} before, {here['load_after']:.1f} after): two workers have "
        f"{here['speedup']:.2f} times the throughput of one (of {len(here['speedups'])} rounds, "
        f"{min(here['speedups']):.2f} to {max(here['speedups']):.2f}). Between two units of its own one worker waits "
        f"{busy[0]} of its time, each of two {busy[1]}; with the beginning and the end, when one of them has no unit, "
        f"two are idle for {idle}. A worker starts in {one['start_s']:.0f} s.", "",
        f"Simulated: suite `full`, {found['n']} images of ImageNet, three models, {100 * FAILING:.0f} % of what is "
        f"handed out fails at a random point, every {SLOW_WORKERS}th worker is {SLOWER:g} times slower; "
        "a step of diffusion is taken to cost what AToP's network does.", "",
        "| workers | units | ideal | makespan | of linear | of the workers' speeds | failed | given up |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {s['workers']} | {s['units']} | {' | '.join(days[s['workers']])} | {s['of_linear']:.3f} | "
          f"{s['of_speeds']:.3f} | {s['failed']} | {s['given_up']} |" for s in found["simulated"]),
        "", "Passes of images that the schedule counts; a backward pass is two, and no image leaves early:", "",
        "| model | passes | one core of this machine |", "| --- | --- | --- |",
        f"| ResNet-50, and blind attacks | {cost['passes']['bare'] + cost['passes']['AToP, blind']:.3g} | "
        f"{cost['core_hours']['bare and blind']:.3g} h at {cost['resnet50_s_a_pass']:.3g} s a pass |",
        f"| AToP before it, EOT | {cost['passes']['AToP']:.3g} | {cost['core_hours']['AToP']:.3g} h, "
        f"{cost['atop_s_a_pass']:.3g} s more a pass |",
        f"| {cost['diffusion']['steps']}-step diffusion before it, EOT | {cost['passes']['diffusion']:.3g} | "
        f"{cost['diffusion']['network_evaluations']:.3g} evaluations of its network, not timed here |", "", MARKS[1],
    ]  # fmt: skip
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--render", action="store_true")
    for name, usual in (("--images", 512), ("--steps", 20), ("--n", 5000), ("--rounds", 3)):
        parser.add_argument(name, type=int, default=usual)
    options = parser.parse_args(given)
    if not options.render:
        here = measured(options.images, options.steps, options.rounds)
        torch.manual_seed(0)
        OUT.write_text(
            json.dumps(modelled(here, pass_seconds(resnet50()), pass_seconds(AToP()), options.n), indent=1) + "\n"
        )
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    PAGE.write_text(before + rendered(json.loads(OUT.read_text("utf-8"))) + rest.partition(MARKS[1])[2], "utf-8")


if __name__ == "__main__":
    main()
