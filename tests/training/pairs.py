"""Each stage of each method trained by one process, or by two on the same batches; run as a program for two.

python -m tests.training.pairs FOLDER 1 5    # one step on 5 images, the weights of process r into FOLDER/r.pt
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from art_ext.classifiers import SmallDRRDN
from art_ext.nn.modes import seeded
from art_ext.objectives import stages
from art_ext.purifiers import PURIFIERS
from art_ext.training import Batches, Objective, fit, launched, make_fabric

N, C, SIDE, K = 10, 3, 12, 4
SMALL: dict[str, dict[str, Any]] = {name: {**kind.small} for name, kind in PURIFIERS.items()}
SMALL["cdvae"] |= {"size": [SIDE, SIDE], "classes": K}
SMALL["drrdn"] = {"channels": C, "classes": K, "width": 2, "hidden": 6, "critic_width": 4, "dropout": 0.3}
OPTIONS: dict[str, dict[str, Any]] = {
    "rdp": {"steps": 2, "clean_share": 0.5}, "dir": {"steps": 2, "radius_steps": 2}, "atop": {"attack": "pgd"},
    "cdvae": {"game": True, "train_classifier": True, "steps": 2, "mixup": 2.0, "margin": -0.04},
    "drrdn": {"steps": 2, "step_size": None},
}  # fmt: skip


def objectives() -> dict[str, Objective]:
    """Every stage of every method, new, with networks that arrive as from a folder: without gradients."""
    found: dict[str, Objective] = {}
    for name in SMALL:
        with seeded(1):
            model: Any = SmallDRRDN(**SMALL[name]) if name == "drrdn" else PURIFIERS[name](**SMALL[name])
            model.eval().requires_grad_(False)
            target = nn.Sequential(nn.Conv2d(C, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, K))
            target.eval().requires_grad_(False)
            model, target = model.double(), target.double()  # a rounding may turn the sign of a gradient
            made = stages(model, None if name == "drrdn" else target, **OPTIONS[name])
        found |= {f"{name} {number}": stage.double() for number, stage in enumerate(made, start=1)}
    return found


def owners() -> dict[str, dict[str, list[str]]]:
    """Of each stage by its name the parameters' names of each player."""
    found = {}
    for stage, objective in objectives().items():
        names = {id(p): name for name, p in objective.named_parameters()}
        found[stage] = {player: [names[id(p)] for p in own] for player, own in objective.players().items()}
    return found


def trained(steps: int, batch: int, fabric: Fabric | None = None) -> dict[str, dict[str, Tensor]]:
    """What has changed of the state of each stage by its name, after so many steps at rate 1 or, of many, 0.01."""
    x = torch.rand(N, C, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double()
    found = {}
    for name, stage in objectives().items():
        before = {k: v.clone() for k, v in stage.trained_state().items()}
        rate = 1.0 if steps == 1 else 0.01
        optimizers = {k: torch.optim.SGD(p, rate) for k, p in stage.players().items()}
        data = Batches(x, torch.arange(N) % K, batch_size=batch, seed=3)
        for step in fit(stage, data, epochs=steps, seed=4, optimizers=optimizers, fabric=fabric):
            if step.number == steps:
                break
        found[name] = {k: v - before[k] if v.is_floating_point() else v for k, v in stage.trained_state().items()}
    return found


def run_module(module: str, *words: str, timeout: float) -> None:
    """Runs a module of the tests as a program, which starts a second process itself."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=timeout, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    of_two = launched(make_fabric(torch.device("cpu"), devices=2))
    torch.save(trained(int(sys.argv[2]), int(sys.argv[3]), of_two), Path(sys.argv[1]) / f"{of_two.global_rank}.pt")
