"""Are this package's attacks strong enough to be believed? The binarisation test on the shipped classifier.

    python examples/paper_tables/binarisation.py              # minutes on one core
    python examples/paper_tables/binarisation.py --images 8

Every image gets a binary problem on the classifier's features that has a solution inside the threat; an attack should
solve at least 95 % of them, random search few [Zimmermann et al. 2022, arXiv:2206.13991]. Two rows are attacks that are
broken on purpose, and must not pass.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import art_ext
from art_ext import presets
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Threat
from art_ext.evaluation.binarisation import LEAST, binarisation_test
from art_ext.nn.features import FeatureExtractor

PRESET = "fashion_mnist_cnn"
ATTACKS = {
    "PGD-40": Attack("native", "PGD", {"steps": 40}),
    "APGD-100": Attack("native", "APGD", {"steps": 100}),
    "APGD-100 DLR": Attack("native", "APGD", {"steps": 100, "loss": "dlr"}),
    "FGSM": Attack("native", "FGSM"),
    "broken: steps of size 0": Attack("native", "PGD", {"steps": 40, "step_size": 0.0}),
    "broken: one step of eps / 10": Attack("native", "PGD", {"steps": 1, "step_size": 0.01, "random_start": False}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--layer", default="features", help="of the classifier, whose output the readout sees")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/binarisation.json"))
    args = parser.parse_args()
    features = FeatureExtractor(presets.load(PRESET), args.layer)
    x, threat = fashion_mnist("test", args.images).x, Threat("Linf", args.eps)
    rows = []
    for name, attack in ATTACKS.items():
        start = time.perf_counter()
        done = binarisation_test(features, attack, x, threat, samples=args.samples, seed=args.seed)
        seconds = round(time.perf_counter() - start, 1)
        rows.append({
            "attack": name,
            "found": done.interval._asdict(),
            "random": done.random_interval._asdict(),
            "passes": done.share >= LEAST,
            "usable": list(done.usable),
            "solved": list(done.found),
            "solved_at_random": list(done.random),
            "seconds": seconds,
        })  # fmt: skip
        print(f"{name}: found {done.interval}, random {done.random_interval}, {seconds} s", flush=True)
    written = {
        "preset": PRESET,
        "rows": rows,
        "options": {**vars(args), "out": str(args.out), "least": LEAST},
        "versions": {"art-ext": art_ext.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(written) + "\n", "utf-8")


if __name__ == "__main__":
    main()
