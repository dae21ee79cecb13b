"""Does this package's Auto-PGD find what that of AutoAttack's authors finds? Robust accuracy on Fashion-MNIST.

    python examples/paper_tables/apgd_agreement.py               # minutes on one core
    python examples/paper_tables/apgd_agreement.py --images 64

For each loss, 100 steps with 1 and with 5 restarts, against pyautoattack's apgd-ce and apgd-dlr, which have 5 restarts.
The radius is chosen so that the undefended classifier keeps part of its accuracy: at 0 or 100 % any two attacks agree.
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
from art_ext.evaluation import mean_interval, paired_difference

LOSSES: dict[str, Callable[[nn.Module, Tensor], Loss]] = {"ce": cross_entropy, "dlr": dlr}
PRESET = "fashion_mnist_cnn"
AT_ONCE, RESTARTS = 250, 5


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--norm", choices=["Linf", "L2"], default="Linf")
    parser.add_argument("--eps", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/apgd_agreement.json"))
    args = parser.parse_args()
    model = presets.load(PRESET)
    data = fashion_mnist("test", args.images)
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
        print(
            f"{name}: {accuracy}, minus pyautoattack {100 * difference.mean:+.1f} points, {seconds:.0f} s", flush=True
        )
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
    written = {
        "preset": PRESET,
        "clean": mean_interval(clean)._asdict(),
        "rows": rows,
        "options": {**vars(args), "out": str(args.out), "steps": 100, "restarts": RESTARTS},
        "versions": {"art-ext": art_ext.__version__, "torch": torch.__version__, "threads": torch.get_num_threads(),
                     "pyautoattack": version("pyautoattack")},
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(written) + "\n", "utf-8")


if __name__ == "__main__":
    main()
