"""Figures of presets for `make_presets.py`: clean accuracy and accuracy under PGD, on n test images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import preset_cifar10
import torch
from torch import nn

from art_ext import presets
from art_ext.attacks import Averaged, Linf, ascent, cross_entropy, pgd
from art_ext.classifiers.drrdn import DRRDN, diagnose
from art_ext.data import fashion_mnist
from art_ext.nn import seeded
from art_ext.purifiers import CDVAE, DIR, RDP, AToP

EPS = 0.1


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        right = torch.cat([model(a).argmax(1) == b for a, b in zip(x.split(200), y.split(200), strict=True)])
    return float(right.float().mean())


def attacked(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, eps: float = EPS, step_size: float = 0.01
) -> torch.Tensor:
    """PGD examples in pieces of 200 images."""
    pieces = zip(x.split(200), y.split(200), strict=True)
    attack = partial(pgd, norm=Linf(), eps=eps, steps=steps, step_size=step_size)
    with seeded(0):
        return torch.cat([attack(ascent(cross_entropy(model, b)), a) for a, b in pieces])


def measure(
    module: nn.Module, n: int, folder: Path | str = presets.FOLDER, data: Path | str | None = None
) -> dict[str, Any]:
    """Clean accuracy and accuracy under PGD-40 at Linf 0.1 on the first n test images of the file that is shipped.

    The file is shuffled, and the random starts of PGD go by its order.

    A preset for CIFAR-10 is measured on the test images in the folder `data`, under PGD-20 at 8/255.
    """
    if data is not None:
        return measure_cifar10(module, n, folder, data)
    test = fashion_mnist("test")
    assert test.order is not None
    stored = test.order.argsort()[:n]
    x, y = test.x[stored], test.y[stored]
    if isinstance(module, DIR):
        return measure_dir(module, x, y)
    if isinstance(module, AToP):
        return measure_atop(module, x, y)
    if isinstance(module, CDVAE):
        return measure_cdvae(module, presets.load("fashion_mnist_cdvae_classifier", folder), x, y)
    if isinstance(module, RDP):
        networks = [presets.load(f"fashion_mnist_{name}", folder) for name in ("cnn", "surrogate")]
        return measure_rdp(module, networks, x, y, "pgd40", partial(attacked, steps=40))
    found = {"n": n, "clean": accuracy(module, x, y)}
    x_adv = attacked(module, x, y, 40)
    found["pgd40"] = accuracy(module, x_adv, y)
    if isinstance(module, DRRDN):
        told = diagnose(module, x, x_adv, y)
        found |= {k: v for k, v in told.items() if k != "mutual_information"}  # which is no share of images
    return found


def measure_rdp(
    module: RDP, networks: list[nn.Module], x: torch.Tensor, y: torch.Tensor, name: str, attack: Any
) -> dict[str, Any]:
    """The classifier (the first of the networks) alone and behind RDP, under blind, transfer and full knowledge.

    A transferred attack is crafted on the second network.
    """
    classifier, surrogate = networks
    defended = nn.Sequential(module, classifier)
    found: dict[str, Any] = {"n": len(x), "bare_clean": accuracy(classifier, x, y), "clean": accuracy(defended, x, y)}
    for knowledge, model in {"blind": classifier, "transfer": surrogate, "full": defended}.items():
        x_adv = attack(model, x, y)
        found[f"bare_{name}_{knowledge}"] = accuracy(classifier, x_adv, y)
        found[f"{name}_{knowledge}"] = accuracy(defended, x_adv, y)
    return found


def measure_dir(module: DIR, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """The target alone and behind DIR; the paper's PGD-20 (a draw a step), and PGD-20 over 10 draws a step."""
    target = presets.load("fashion_mnist_robust")
    defended = nn.Sequential(module, target)
    with seeded(1):
        found = {"n": len(x), "target_clean": accuracy(target, x, y), "clean": accuracy(defended, x, y)}
        found["target_pgd20"] = accuracy(target, attacked(target, x, y, 20), y)
        found["pgd20"] = accuracy(defended, attacked(defended, x, y, 20), y)
        found["pgd20_eot10"] = accuracy(defended, attacked(Averaged(defended, 10), x, y, 20), y)
    return found


def measure_atop(module: AToP, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """PGD-20 on the classifier alone (the poster's), and through the purifier over 10 draws a step."""
    classifier = presets.load("fashion_mnist_cnn")
    defended = nn.Sequential(module, classifier)
    blind = attacked(classifier, x, y, 20)
    with seeded(1):
        found = {"n": len(x), "bare_clean": accuracy(classifier, x, y), "clean": accuracy(defended, x, y)}
        found |= {"bare_pgd20": accuracy(classifier, blind, y), "pgd20_blind": accuracy(defended, blind, y)}
        found["pgd20_eot10"] = accuracy(defended, attacked(Averaged(defended, 10), x, y, 20), y)
    return found


def measure_cdvae(module: CDVAE, classifier: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """D_G behind CD-VAE; PGD-40 on a classifier of x, the paper's grey-box attack, and through everything."""
    known, defended = presets.load("fashion_mnist_cnn"), nn.Sequential(module, classifier)
    found = {"n": len(x), "bare_clean": accuracy(known, x, y), "clean": accuracy(defended, x, y)}
    grey = attacked(known, x, y, 40)
    found |= {"bare_pgd40_grey": accuracy(known, grey, y), "pgd40_grey": accuracy(defended, grey, y)}
    return found | {"pgd40_full": accuracy(defended, attacked(defended, x, y, 40), y)}


def measure_cifar10(module: nn.Module, n: int, folder: Path | str, data: Path | str) -> dict[str, Any]:
    """Clean accuracy and accuracy under PGD-20, Linf 8/255 in steps of 2/255, on exact test images."""
    test, attack = (
        preset_cifar10.test_images(data, n),
        partial(attacked, steps=20, eps=preset_cifar10.EPS, step_size=2 / 255),
    )
    if isinstance(module, RDP):
        networks = [presets.load(f"cifar10_{name}", folder) for name in ("resnet", "surrogate")]
        return measure_rdp(module, networks, test.x, test.y, "pgd20", attack)
    x_adv = attack(module, test.x, test.y)
    return {"n": n, "clean": accuracy(module, test.x, test.y), "pgd20": accuracy(module, x_adv, test.y)}
