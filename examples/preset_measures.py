"""Figures of presets for `make_presets.py`: clean accuracy and accuracy under PGD, on n test images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
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
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier

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


def setting(
    n: int, folder: Path | str, data: Path | str | None
) -> tuple[torch.Tensor, torch.Tensor, Callable[[str], nn.Module]]:  # fmt: skip
    """Images, labels, and what loads a preset of the same data by its role; see `measure`."""
    if data is None:
        test = fashion_mnist("test")
        assert test.order is not None
        stored = test.order.argsort()[:n]
        x, y, family, classifier = test.x[stored], test.y[stored], "fashion_mnist", "cnn"
    else:
        exact = preset_cifar10.test_images(data, n)
        x, y, family, classifier = exact.x, exact.y, "cifar10", "resnet"

    @cache
    def load(name: str) -> nn.Module:
        return presets.load(f"{family}_{classifier if name == 'classifier' else name}", folder)

    return x, y, load


def answers(n: int, folder: Path | str, data: Path | str | None) -> Callable[[nn.Module], torch.Tensor]:
    """What gives the classes of the images that `measure` takes, of a purifier those before its classifier."""
    x, _, load = setting(n, folder, data)

    def classes(module: nn.Module) -> torch.Tensor:
        if isinstance(module, Purifier):
            role = {DIR: "robust", CDVAE: "cdvae_classifier"}.get(type(module), "classifier")
            module = nn.Sequential(module, load(role))
        with seeded(0):
            return torch.cat([module(piece).argmax(1) for piece in x.split(200)])

    return classes


def measure(
    module: nn.Module, n: int, folder: Path | str = presets.FOLDER, data: Path | str | None = None
) -> dict[str, Any]:
    """Clean accuracy and accuracy under PGD on the first n test images of the file that is shipped; Linf 0.1.

    The file is shuffled, and the random starts of PGD go by its order. A preset for CIFAR-10 is measured on the exact
    test images in the folder `data`, Linf 8/255 in steps of 2/255.

    Args:
        module: a classifier or a purifier.
        n: images.
        folder: of the presets that a purifier is measured with.
        data: folder of CIFAR-10, None for Fashion-MNIST.
    """
    x, y, load = setting(n, folder, data)
    attack = attacked if data is None else partial(attacked, eps=preset_cifar10.EPS, step_size=2 / 255)
    steps = 40 if data is None else 20
    usual = partial(attack, steps=steps)
    if isinstance(module, RDP):
        return measure_rdp(module, (load("classifier"), load("surrogate")), x, y, f"pgd{steps}", usual)
    if isinstance(module, DIR):
        return measure_dir(module, load("robust"), x, y, partial(attack, steps=20))
    if isinstance(module, AToP):
        return measure_atop(module, load("classifier"), x, y, partial(attack, steps=20))
    if isinstance(module, CDVAE):
        return measure_cdvae(module, (load("cdvae_classifier"), load("classifier")), x, y, f"pgd{steps}", usual)
    found = {"n": n, "clean": accuracy(module, x, y)}
    x_adv = usual(module, x, y)
    found[f"pgd{steps}"] = accuracy(module, x_adv, y)
    if isinstance(module, DRRDN):
        told = diagnose(module, x, x_adv, y)
        found |= {k: v for k, v in told.items() if k != "mutual_information"}  # which is no share of images
    return found


def measure_rdp(
    module: RDP, networks: tuple[nn.Module, nn.Module], x: torch.Tensor, y: torch.Tensor, name: str, attack: Any
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


def measure_dir(module: DIR, target: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Any) -> dict[str, Any]:
    """The target alone and behind DIR; the paper's PGD-20 (a draw a step), and PGD-20 over 10 draws a step."""
    defended = nn.Sequential(module, target)
    with seeded(1):
        found = {"n": len(x), "target_clean": accuracy(target, x, y), "clean": accuracy(defended, x, y)}
        found["target_pgd20"] = accuracy(target, attack(target, x, y), y)
        found["pgd20"] = accuracy(defended, attack(defended, x, y), y)
        found["pgd20_eot10"] = accuracy(defended, attack(Averaged(defended, 10), x, y), y)
    return found


def measure_atop(module: AToP, classifier: nn.Module, x: torch.Tensor, y: torch.Tensor, attack: Any) -> dict[str, Any]:
    """PGD-20 on the classifier alone (the poster's), and through the purifier over 10 draws a step."""
    defended = nn.Sequential(module, classifier)
    blind = attack(classifier, x, y)
    with seeded(1):
        found = {"n": len(x), "bare_clean": accuracy(classifier, x, y), "clean": accuracy(defended, x, y)}
        found |= {"bare_pgd20": accuracy(classifier, blind, y), "pgd20_blind": accuracy(defended, blind, y)}
        found["pgd20_eot10"] = accuracy(defended, attack(Averaged(defended, 10), x, y), y)
    return found


def measure_cdvae(
    module: CDVAE, networks: tuple[nn.Module, nn.Module], x: torch.Tensor, y: torch.Tensor, name: str, attack: Any
) -> dict[str, Any]:
    """D_G, the first of the networks, behind CD-VAE; PGD on the second, one of x (grey box), and through everything."""
    classifier, known = networks
    defended = nn.Sequential(module, classifier)
    found = {"n": len(x), "bare_clean": accuracy(known, x, y), "clean": accuracy(defended, x, y)}
    grey = attack(known, x, y)
    found |= {f"bare_{name}_grey": accuracy(known, grey, y), f"{name}_grey": accuracy(defended, grey, y)}
    return found | {f"{name}_full": accuracy(defended, attack(defended, x, y), y)}
