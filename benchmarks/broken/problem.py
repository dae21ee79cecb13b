"""Tiny 8-bit images of four classes, and a convolutional network that solves them and breaks in the ball."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.nn.modes import evaluating, seeded

EPS = 0.1
"""Radius of the threat, Linf."""
CLASSES = 4
SIDE = 8
TRAINED_ON = 1024


class Problem(NamedTuple):
    """Images (N, 1, 8, 8) in [0, 1], labels (N,), and the plain classifier."""

    x: Tensor
    y: Tensor
    classifier: nn.Module


class Net(nn.Module):
    """One convolution, one hidden layer."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), activation or nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(8 * (SIDE // 2) ** 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(4 * x - 2))
        return logits


def images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images and labels: a class is a brighter quarter, which survives the ball, and a weak pattern, which does not."""
    g = torch.Generator().manual_seed(seed)
    pattern = 0.08 * torch.randn(CLASSES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(99)).sign()
    y = torch.arange(n) % CLASSES
    x = 0.25 + 0.3 * torch.rand(n, 1, SIDE, SIDE, generator=g) + pattern[y]
    half = SIDE // 2
    for i, label in enumerate(y.tolist()):
        row, column = divmod(label, 2)
        x[i, :, row * half : (row + 1) * half, column * half : (column + 1) * half] += 0.2
    return (x.clamp(0, 1) * 255).round() / 255, y


def trained(network: nn.Module, *, eps: float = 0.0, steps: int = 150, seed: int = 0) -> nn.Module:
    """The network, trained on other images than those of the evaluation, in eval mode and without gradients.

    Args:
        network: images to logits.
        eps: radius of adversaries that it is trained on; 0 for clean images.
        steps: of Adam.
        seed: of the batches.
    """
    x, y = images(TRAINED_ON, 1)
    network.requires_grad_(True).train()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    with seeded(seed):
        for _ in range(steps):
            rows = torch.randint(len(x), (128,))
            batch, labels = x[rows], y[rows]
            if eps:
                with evaluating(network):
                    loss = ascent(cross_entropy(network, labels))
                    batch = pgd(loss, batch, norm=Linf(), eps=eps, steps=5)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def fresh(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """What `make` gives, its weights drawn from a seed."""
    with seeded(seed):
        return make()


def make_problem(n: int) -> Problem:
    """The problem with n images to evaluate on, the same ones each time."""
    x, y = images(n, 2)
    return Problem(x, y, trained(fresh(Net)))
