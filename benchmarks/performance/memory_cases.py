"""Peak memory of one case: `python -m benchmarks.performance.memory_cases CASE SIZE DEVICE` prints MiB as JSON.

What is held before the case (Python, torch, networks, images) does not count. Cases of images run on a piece of them
first, so that what one piece takes is held before, too: what is left grows with the images or does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Averaged, ascent, cross_entropy
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Defended, Threat, evaluate
from art_ext.evaluation.numerics import peak_memory, reset_peak_memory
from art_ext.purifiers import Purifier
from benchmarks.performance import rim
from benchmarks.performance.memory import IMAGES_OF, MIB
from benchmarks.performance.problems import WEAK, Options, Problem, dynamic_rdp

PIECE = 256
CHANNELS = 400
"""Activations of a step of `Steps`, in states."""
Case = Callable[[], object]


class Steps(Purifier):
    """A purifier of many steps, each a wide convolution and back."""

    name: ClassVar[str] = "steps"
    paper: ClassVar[str] = "none"

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.wide, self.back = nn.Conv2d(1, CHANNELS, 1), nn.Conv2d(CHANNELS, 1, 1)

    def steps(self, x: Tensor) -> Iterable[Callable[[Tensor], Tensor]]:
        return [self.step] * self.count

    def step(self, state: Tensor) -> Tensor:
        """The next state (N, 1, H, W)."""
        change: Tensor = self.back(torch.tanh(self.wide(state)))
        return state + 1e-3 * change


def images(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST test images (N, 1, 28, 28) with labels (N,), again and again where there are fewer."""
    data = fashion_mnist("test")
    rows = torch.arange(n) % len(data.x)
    return data.x[rows].to(device), data.y[rows].to(device)


def eot_samples(size: int, device: torch.device) -> tuple[Case, Case]:
    """The gradient of a loss at mean logits over `size` samples of dynamic RDP, one sample of all images a pass."""
    n = IMAGES_OF["EOT samples"]
    given = dynamic_rdp(n, Options(device=device))
    model = Averaged(given.module, size, "logits", at_once=n)
    return _nothing, lambda: ascent(cross_entropy(model, given.y))(given.x)


def purifier_steps(size: int, device: torch.device) -> tuple[Case, Case]:
    """The gradient through `size` steps."""
    x, y = images(IMAGES_OF["purifier steps"], device)
    model = nn.Sequential(Steps(size), presets.load(WEAK)).to(device).requires_grad_(False).eval()
    return _nothing, lambda: ascent(cross_entropy(model, y))(x)


def purify(size: int, device: torch.device) -> tuple[Case, Case]:
    """RDP under `no_grad`."""
    x, _ = images(size, device)
    purifier = presets.load("fashion_mnist_rdp").to(device)
    return _answering(purifier, x[:PIECE]), _answering(purifier, x)


def predict(size: int, device: torch.device) -> tuple[Case, Case]:
    """RDP and the network, in pieces, under `no_grad`."""
    x, y = images(size, device)
    first, whole = _problem(x[:PIECE], y[:PIECE]), _problem(x, y)
    return rim.bare_predict(first), rim.bare_predict(whole)


def predict_through_art(size: int, device: torch.device) -> tuple[Case, Case]:
    """`PyTorchClassifier.predict` with `RDPPreprocessor`."""
    x, y = images(size, device)
    first, whole = _problem(x[:PIECE], y[:PIECE]), _problem(x, y)
    return rim.art_predict(first), rim.art_predict(whole)


def evaluation(size: int, device: torch.device) -> tuple[Case, Case]:
    """`evaluate` of RDP, an attack of a few images and the answers to all of them."""
    x, y = images(size, device)
    models = [Defended("RDP", presets.load(WEAK).to(device), presets.load("fashion_mnist_rdp").to(device))]  # type: ignore[arg-type]
    attack = Attack("native", "FGSM", images=32)

    def run(n: int) -> Any:
        return evaluate(models, [attack], x[:n], y[:n], threat=Threat("Linf", 0.1), probe=None, progress=False)

    return lambda: run(PIECE), lambda: run(size)


CASES: dict[str, Callable[[int, torch.device], tuple[Case, Case]]] = {
    "EOT samples": eot_samples,
    "purifier steps": purifier_steps,
    "purify": purify,
    "predict": predict,
    "predict through ART": predict_through_art,
    "evaluate": evaluation,
}
"""Each gives what runs first and what is measured."""


def _nothing() -> None:
    """What runs first where all counts."""


def _answering(module: nn.Module, x: Tensor) -> Case:
    def run() -> Tensor:
        with torch.no_grad():
            answers: Tensor = module(x)
        return answers

    return run


def _problem(x: Tensor, y: Tensor) -> Problem:
    return Problem(presets.load(WEAK).to(x.device), x, y, Threat("Linf", 0.1))


def peak_of(first: Case, case: Case, device: torch.device) -> float:
    """MiB at the peak of the case beyond what was held before it."""
    first()
    reset_peak_memory(device)
    before = _begin() if device.type == "cpu" else torch.cuda.memory_allocated(device)
    kept = case()
    held = _peak() if device.type == "cpu" else peak_memory(device)
    del kept
    return (held - before) / MIB


def _begin() -> int:
    """Bytes held now; the process's peak begins anew at them where the system lets it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return peak_memory(torch.device("cpu"))
    return _status("VmRSS") or peak_memory(torch.device("cpu"))


def _peak() -> int:
    """Bytes at the peak; `getrusage` would count the process that started this one."""
    return _status("VmHWM") or peak_memory(torch.device("cpu"))


def _status(key: str) -> int:
    """A line of Linux's account of this process, in bytes; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def main(case: str, size: str, device: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    first, measured = CASES[case](int(size), torch.device(device))
    print(json.dumps({"mib": peak_of(first, measured, torch.device(device))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
