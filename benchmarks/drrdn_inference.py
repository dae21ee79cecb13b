"""What DRRDN costs at inference: its time over that of the bare backbone with its head, measured turn about.

    python benchmarks/drrdn_inference.py                       # the four-layer CNN at MNIST's size, WRN-10-2 at CIFAR's
    python benchmarks/drrdn_inference.py --model wide --depth 28 --widen 10 --device cuda

Each repetition times both networks once, in changing order, so that a busy machine slows both. Expected: the median of
the ratios is at most 1.05. Besides, in `predict` of an ART classifier.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.classifiers import SmallCNN, SmallDRRDN, WideDRRDN, WideResNet
from art_ext.estimators import DRRDNClassifier

LIMIT = 1.05


def seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratios(ours: Callable[[], object], theirs: Callable[[], object], repetitions: int, device: str) -> list[float]:
    """Our time over theirs, one a repetition, sorted."""
    found = []
    for i in range(repetitions + 2):
        order = (ours, theirs) if i % 2 else (theirs, ours)
        first, second = (seconds(call, device) for call in order)
        found.append(first / second if i % 2 else second / first)
    return sorted(found[2:])  # the first two warm up


def pairs(args: argparse.Namespace) -> dict[str, tuple[nn.Module, nn.Module, tuple[int, int, int]]]:
    """DRRDN, bare backbone and image shape by name."""
    small = SmallDRRDN(1, 10, args.width), SmallCNN(1, 10, args.width), (1, 28, 28)
    sizes = (3, 10, args.depth, args.widen)
    wide = WideDRRDN(*sizes), WideResNet(*sizes), (3, 32, 32)
    return {"small": small, "wide": wide}


def stated(name: str, found: list[float]) -> str:
    quarter = len(found) // 4
    median, low, high = found[len(found) // 2], found[quarter], found[-1 - quarter]
    verdict = "at most" if median <= LIMIT else "MORE THAN"
    return f"{name}: {median:.3f} times the backbone, quartiles {low:.3f} to {high:.3f}; {verdict} {LIMIT}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["small", "wide"], choices=["small", "wide"])
    parser.add_argument("--width", type=int, default=16, help="of the small one")
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--widen", type=int, default=2)
    parser.add_argument("--images", type=int, default=128, help="a batch")
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    torch.manual_seed(0)
    for name in args.model:
        ours, theirs, shape = pairs(args)[name]
        x = torch.rand(args.images, *shape, device=args.device)
        networks = [network.to(args.device).eval() for network in (ours, theirs)]
        with torch.no_grad():
            calls = [partial(network, x) for network in networks]
            print(stated(f"{name}, module", ratios(*calls, args.repetitions, args.device)))
        kinds = (DRRDNClassifier, PyTorchClassifier)
        device = "gpu" if args.device == "cuda" else "cpu"
        wrapped = [
            kind(network, nn.CrossEntropyLoss(), shape, 10, clip_values=(0, 1), device_type=device)
            for kind, network in zip(kinds, networks, strict=True)
        ]
        calls = [partial(c.predict, x.cpu().numpy(), batch_size=args.images) for c in wrapped]
        print(stated(f"{name}, predict", ratios(*calls, args.repetitions, args.device)))


if __name__ == "__main__":
    main()
