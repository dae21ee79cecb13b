"""Three models under five attacks, by an executor: `python -m tests.evaluation.executed FOLDER NAME ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.evaluation import Attack, Defended, Knowledge, Threat, evaluate
from art_ext.evaluation.executors import Executor
from art_ext.evaluation.executors.given import given_executor

from .conftest import Blur, Halves, Noise

ATTACKS = [
    Attack("native", "FGSM"),
    Attack("native", "PGD", {"steps": 5}),
    Attack("native", "APGD", {"steps": 5}),
    Attack("native", "Square", {"queries": 20}),
    Attack("art", "PGD", {"steps": 3, "step_size": 0.1}),
]


class Slow(nn.Module):
    """Halves behind so many layers that a block takes a while."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.halves = Halves()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.halves(x) + 0.01 * self.layers(x).mean((1, 2, 3))[:, None]
        return logits


def images(n: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 6, 8) of which one half is a little brighter, and which."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    x = torch.rand(n, 1, 6, 8, generator=generator) * 0.5 + 0.2
    side = torch.arange(8) >= 4
    x += 0.25 * (side == y[:, None].bool())[:, None, None, :]
    return x.clamp(0, 1), y


def models(layers: int) -> list[Defended]:
    network = Slow(layers)
    return [Defended("bare", network), Defended("blur", network, Blur()), Defended("noise", network, Noise())]


def executor(name: str, workers: int) -> Executor:
    """By the name that a test gives: none, processes, torchrun, ray or slurm."""
    if name == "ray":
        from art_ext.evaluation.executors.ray import Ray

        return Ray(workers=workers)
    if name == "slurm":
        from art_ext.evaluation.executors.slurm import Slurm

        return Slurm(workers, cluster="local", parameters={"timeout_min": 10})
    return given_executor({"none": None, "processes": workers, "torchrun": "torchrun"}[name])


def main(
    folder: str, name: str, n: str = "200", batch_size: str = "256", layers: str = "1", workers: str = "2"
) -> None:
    torch.set_num_threads(1)
    x, y = images(int(n))
    options: dict[str, Any] = {"knowledge": [Knowledge.BLIND, Knowledge.FULL], "eot_samples": 2, "repeats": 2}
    evaluate(
        models(int(layers)), ATTACKS, x, y, threat=Threat("Linf", 0.2), probe=None, progress=False, folder=Path(folder),
        batch_size=int(batch_size), executor=executor(name, int(workers)), **options,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
