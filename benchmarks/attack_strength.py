"""Are this package's attacks strong enough to be believed?

    python -m benchmarks.attack_strength agreement              # minutes on one core
    python -m benchmarks.attack_strength planted --images 8

`agreement`: does this package's Auto-PGD find what that of AutoAttack's authors finds? For each loss, 100 steps with 1
and with 5 restarts, against pyautoattack's apgd-ce and apgd-dlr, which have 5 restarts. The radius is chosen so that
the undefended classifier keeps part of its accuracy: at 0 or 100 % any two attacks agree.

`planted`: every image gets a binary problem on the classifier's features that has a solution inside the threat; an
attack should solve at least 95 % of them, random search few [Zimmermann et al. 2022, arXiv:2206.13991]. Two rows are
attacks that are broken on purpose, and must not pass.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

import art_ext
from art_ext import presets
from art_ext.attacks import NORMS, Loss, apgd, cross_entropy, dlr, margin
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Threat, mean_interval, paired_difference
from art_ext.evaluation.binarisation import LEAST, binarisation_test
from art_ext.nn.features import FeatureExtractor

PRESET = "fashion_mnist_cnn"
LOSSES: dict[str, Callable[[nn.Module, Tensor], Loss]] = {"ce": cross_entropy, "dlr": dlr}
AT_ONCE, RESTARTS, SAMPLES = 250, 5, 200
USUAL = {"agreement": {"images": 1000, "eps": 0.02}, "planted": {"images": 128, "eps": 0.1}}
ATTACKS = {
    "PGD-40": Attack("native", "PGD", {"steps": 40}),
    "APGD-100": Attack("native", "APGD", {"steps": 100}),
    "APGD-100 DLR": Attack("native", "APGD", {"steps": 100, "loss": "dlr"}),
    "FGSM": Attack("native", "FGSM"),
    "broken: steps of size 0": Attack("native", "PGD", {"steps": 40, "step_size": 0.0}),
    "broken: one step of eps / 10": Attack("native", "PGD", {"steps": 1, "step_size": 0.01, "random_start": False}),
}


def ours(model: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace, loss: str) -> Iterator[Tensor]:
    """The examples after each restart; a restart attacks the images that are still right, as AutoAttack does."""
    torch.manual_seed(args.seed)
    x_adv = x.clone()
    for _ in range(RESTARTS):
        standing = torch.tensor(survivors(model, x_adv, y)).nonzero().squeeze(1)
        for some in standing.split(AT_ONCE):
            options = {"norm": NORMS[args.norm], "eps": args.eps, "steps": 100}
            bound = LOSSES[loss](model, y[some])
            x_adv[some] = apgd(bound, x[some], **options, score=margin(model, y[some]))
        yield x_adv.clone()


def theirs(model: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace, loss: str) -> Tensor:
    attack = AutoAttack(
        model, norm=args.norm, eps=args.eps, version="custom", attacks=[f"apgd-{loss}"], device="cpu", seed=args.seed
    )
    x_adv: Tensor = attack.run_standard_evaluation(x, y, batch_size=AT_ONCE)[0]
    return x_adv


def survivors(model: nn.Module, x: Tensor, y: Tensor) -> list[bool]:
    with torch.no_grad():
        return [bool(right) for part, labels in zip(x.split(AT_ONCE), y.split(AT_ONCE), strict=True)
                for right in model(part).argmax(1) == labels]  # fmt: skip


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    model, data = presets.load(PRESET), fashion_mnist("test", args.images)
    clean = survivors(model, data.x, data.y)
    rows: list[dict[str, Any]] = []

    def record(name: str, x_adv: Tensor, seconds: float, reference: list[bool] | None) -> list[bool]:
        assert float(NORMS[args.norm].size(x_adv - data.x).max()) <= args.eps * (1 + 1e-4)
        right = [a and b for a, b in zip(survivors(model, x_adv, data.y), clean, strict=True)]
        accuracy, difference = mean_interval(right), paired_difference(right, reference or right)
        rows.append({
            "attack": name,
            "robust_accuracy": accuracy._asdict(),
            "minus_pyautoattack": difference._asdict(),
            "disagree": sum(a != b for a, b in zip(right, reference or right, strict=True)),
            "seconds": round(seconds, 1),
            "correct": right,
        })  # fmt: skip
        print(f"{name}: {accuracy}, minus pyautoattack {100 * difference.mean:+.1f} points", flush=True)
        return right

    for loss in LOSSES:
        start = time.perf_counter()
        found = theirs(model, data.x, data.y, args, loss)
        name = f"pyautoattack apgd-{loss}, {RESTARTS} restarts"
        reference = record(name, found, time.perf_counter() - start, None)
        start = time.perf_counter()
        for restart, found in enumerate(ours(model, data.x, data.y, args, loss), start=1):
            if restart in (1, RESTARTS):
                record(f"apgd {loss}, {restart} restart(s)", found, time.perf_counter() - start, reference)
    more = {"norm": args.norm, "steps": 100, "restarts": RESTARTS}
    return {"clean": mean_interval(clean)._asdict(), "rows": rows} | stated(args, more, "pyautoattack")


def planted(args: argparse.Namespace) -> dict[str, Any]:
    features = FeatureExtractor(presets.load(PRESET), "features")
    x, threat = fashion_mnist("test", args.images).x, Threat(args.norm, args.eps)
    rows = []
    for name, attack in ATTACKS.items():
        start = time.perf_counter()
        done = binarisation_test(features, attack, x, threat, samples=SAMPLES, seed=args.seed)
        rows.append({
            "attack": name,
            "found": done.interval._asdict(),
            "random": done.random_interval._asdict(),
            "passes": done.share >= LEAST,
            "usable": list(done.usable),
            "solved": list(done.found),
            "solved_at_random": list(done.random),
            "seconds": round(time.perf_counter() - start, 1),
        })  # fmt: skip
        print(f"{name}: found {done.interval}, random {done.random_interval}", flush=True)
    return {"rows": rows} | stated(args, {"layer": "features", "samples": SAMPLES, "least": LEAST})


def stated(args: argparse.Namespace, more: dict[str, Any], *libraries: str) -> dict[str, Any]:
    versions = {"art-ext": art_ext.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    versions |= {name: version(name) for name in libraries}
    options = {"images": args.images, "eps": args.eps, "seed": args.seed, **more}
    return {"preset": PRESET, "options": options, "versions": versions}


MADE = {"agreement": (agreement, "apgd_agreement"), "planted": (planted, "binarisation")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MADE])
    parser.add_argument("--images", type=int, help="1000 for the agreement, 128 for what is planted, unless given")
    parser.add_argument("--norm", choices=["Linf", "L2"], default="Linf")
    parser.add_argument("--eps", type=float, help="0.02 and 0.1 unless given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    args = parser.parse_args()
    for name, value in USUAL[args.what].items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    make, file = MADE[args.what]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{file}.json").write_text(json.dumps(make(args)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
