"""What whole trainings by two processes are worth beside those of one: tiny networks of each method on Fashion-MNIST.

python -m tests.training.figures FILE [METHOD ...]    # by two processes: which held-out images are right, into FILE

Sums in another order round otherwise, and attacks and Adam make much of a rounding within some hundred steps: one
training differs from another by some points, which no interval over images contains. So each figure is a mean over
trainings from several seeds.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from art_ext import presets
from art_ext.classifiers import SmallDRRDN
from art_ext.data import fashion_mnist
from art_ext.files import replacing
from art_ext.nn.modes import seeded
from art_ext.objectives import stages
from art_ext.purifiers import PURIFIERS
from art_ext.training import Batches, launched, make_fabric, run

TRAINED_ON, HELD_OUT, BATCH = 400, 256, 25
SEEDS = (4, 5, 6)
SMALL: dict[str, dict[str, Any]] = {
    "rdp": {"channels": 1, "width": 8, "blocks": 2, "block": "residual", "fold": 2},
    "cdvae": {"channels": 1, "size": 28, "width": 8, "latent": 32, "classifier_width": 4},
    "dir": {"channels": 1, "patch": 4, "width": 24, "heads": 2, "depth": 1, "decoder_depth": 1},
    "atop": {"channels": 1, "width": 8, "dilations": [2]},
    "drrdn": {"channels": 1, "classes": 10, "width": 4, "hidden": 32, "critic_width": 16},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rdp": {"steps": 2, "learning_rate": 3e-3, "eps": 0.05},
    "cdvae": {"train_classifier": True},
    "dir": {
        "steps": 2,
        "radius_steps": 2,
        "pixel": 1000.0,
        "alpha": 1.0,
        "pretraining_rate": 5e-3,
        "learning_rate": 1e-3,
    },
    "atop": {"learning_rate": 5e-4, "adversarial": 0.1},
    "drrdn": {"steps": 3, "step_size": None, "eps": 0.05, "learning_rate": 3e-2},
}
EPOCHS: dict[str, int | list[int]] = {"rdp": 5, "cdvae": 8, "dir": [20, 4], "atop": 9, "drrdn": 12}


def defended(name: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """What is trained, what it is trained for, and what answers."""
    with seeded(1):
        if name == "drrdn":
            model = SmallDRRDN(**SMALL[name])
            return model, model, model
        purifier = PURIFIERS[name](**SMALL[name])
    classifier = presets.load("fashion_mnist_cnn")
    return purifier, classifier, nn.Sequential(purifier, classifier)


def right(model: nn.Module) -> Tensor:
    """Which of the held-out images it is right about, (N,)."""
    held_out = fashion_mnist("test", HELD_OUT)
    with seeded(2), torch.no_grad():
        return model.eval()(held_out.x).argmax(1) == held_out.y


def trained(name: str, fabric: Fabric | None = None) -> Tensor:
    """In which share of the trainings of a method, one a seed, each held-out image is right, (N,)."""
    data = fashion_mnist("train", TRAINED_ON)
    found = []
    for seed in SEEDS:
        method, classifier, model = defended(name)
        with seeded(seed):
            made = stages(method, None if name == "drrdn" else classifier, **OPTIONS[name])
        run(made, Batches(data.x, data.y, batch_size=BATCH, seed=seed), epochs=EPOCHS[name], seed=seed, fabric=fabric)
        found.append(right(model).double())
    return torch.stack(found).mean(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    of_two = launched(make_fabric(torch.device("cpu"), devices=2))
    found = {name: trained(name, of_two) for name in sys.argv[2:] or SMALL}
    if of_two.is_global_zero:
        with replacing(sys.argv[1]) as temporary:
            torch.save(found, temporary)
