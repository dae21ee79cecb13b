"""Training of CD-VAE on clean images: reconstruction and classification compete [Yang et al. 2021, Eqs. 1 to 3]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.nn.shares import gathered, own
from art_ext.purifiers.cdvae import CDVAE, Coded
from art_ext.training import ByEpoch, Objective


class Disentangling(Objective):
    """What clean training and the game share: G, a classifier D of residuals, and the VAE's loss (Eqs. 2 and 9).

    -log p(x|z) is the squared error, mean over standardised pixels. The KL divergence is divided by twice the values of
    an image, C * H * W: that is the released code's 3 * 2048 for CIFAR-10, and does not depend on Z. The paper leaves
    both open; beta and gamma are the released code's in these units.

    Args:
        purifier: G, the CDVAE to train.
        residual_classifier: D, residuals in the units of x to logits; the purifier's own unless given.
        gamma: weight of the classification (Eqs. 1 and 8).
        beta: weight of the KL divergence (Eqs. 2 and 9); of a VQ-VAE, which has none, of the commitment.

    Attributes:
        learning_rate: of all players; set another before training.

    Raises:
        ValueError: a negative weight, or no classifier of residuals.
    """

    labelled: ClassVar[bool] = True
    learning_rate: float = 1e-3

    def __init__(
        self, purifier: CDVAE, residual_classifier: nn.Module | None = None, *, gamma: float, beta: float
    ) -> None:
        super().__init__()
        if not (0 <= gamma < float("inf") and 0 <= beta < float("inf")):
            raise ValueError(f"expected gamma and beta >= 0, got {gamma=} and {beta=}")
        if residual_classifier is None and purifier.residual_classifier is None:
            raise ValueError("expected a classifier of residuals, got a purifier without one (classes=0) and None")
        self.purifier = purifier
        self.given = residual_classifier
        self.gamma, self.beta = gamma, beta
        self._reconstruction = 1.0  # not a setting, but what a curriculum has come to

    @property
    def reconstruction(self) -> float:
        """Weight of the squared error, 1 unless a `Curriculum` sets it."""
        return self._reconstruction

    @reconstruction.setter
    def reconstruction(self, weight: float) -> None:
        self._reconstruction = weight

    @property
    def residual_classifier(self) -> nn.Module:
        """D."""
        found = self.purifier.residual_classifier if self.given is None else self.given
        assert found is not None
        return found

    def trained(self) -> list[nn.Module]:
        """The networks that minimise, together."""
        return [self.purifier.network, self.residual_classifier]

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"cdvae": [p for network in self.trained() for p in network.parameters()]}

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The paper's AdamW, weight decay 1e-6; the rate is the released code's."""
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=1e-6)

    def coded(self, x: Tensor) -> Coded:
        """G(x), z drawn from q(z|x), and penalties, in the mode that the network is in."""
        coded: Coded = self.purifier.network(x, self.purifier.kind == "vae")
        return coded

    def reconstruction_terms(self, coded: Coded, target: Tensor, chosen: Tensor) -> dict[str, Tensor]:
        """L_G of Eq. 2, weighted, over the chosen samples (N,): what G made of the images against what it should."""
        error = self.purifier.network.squared_error(coded.image, target)
        terms = {"reconstruction": self.reconstruction * mean_over(error, chosen)}
        for name, penalty in coded.penalties.items():
            terms[name] = (1.0 if name == "codebook" else self.beta) * mean_over(penalty, chosen)
        return terms

    def clean_terms(self, x: Tensor, targets: Sequence[tuple[float, Tensor]]) -> dict[str, Tensor]:
        """Eq. 1 on images (N, C, H, W): each label (N,) has its share of the classification."""
        coded = self.coded(x)
        logits = self.residual_classifier(x - coded.image)
        classification = torch.stack([share * F.cross_entropy(logits, y) for share, y in targets if share]).sum()
        everyone = x.new_ones(len(x), dtype=torch.bool)
        return self.reconstruction_terms(coded, x, everyone) | {"classification": self.gamma * classification}


class CDVAETraining(Disentangling):
    """Eqs. 1 to 3 on clean images with labels: L_G + gamma * -log D(x - G(x))[y].

    One player, "cdvae", minimises over G and D. z is sampled, as in any VAE. Residuals are those of G(x) not clamped.
    The released code reconstructs augmented images and mixes them; give the augmentation to the batches.

    Args:
        purifier: see `Disentangling`.
        residual_classifier: see there.
        gamma: see there; the paper: 2e-3 to defend CIFAR-10 with G(x), 2 in Table 3; for detection it states none.
        beta: see there; the paper's 0.2 unless given.
        mixup: a of the Beta(a, a) from which each batch draws the share of its own images and labels, the rest being
            those of others [Zhang et al. 2018]; 0 for none, as the paper says nothing, released: 2.

    Raises:
        ValueError: as there, or mixup is negative.
    """

    def __init__(
        self,
        purifier: CDVAE,
        residual_classifier: nn.Module | None = None,
        *,
        gamma: float = 2e-3,
        beta: float = 0.2,
        mixup: float = 0.0,
    ) -> None:
        super().__init__(purifier, residual_classifier, gamma=gamma, beta=beta)
        if not 0 <= mixup < float("inf"):
            raise ValueError(f"expected mixup >= 0, got {mixup}")
        self.mixup = mixup

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        y = labels(y)
        x, others, share = mixed(x, y, self.mixup) if self.mixup else (x, y, 1.0)
        return self.clean_terms(x, [(share, y), (1 - share, others)])


class Curriculum(ByEpoch):
    """A scheduler that lowers an objective's weight of the reconstruction; released: 10, 5, 1 by thirds of 300 epochs.

    It goes to `fit`, or to a trainer's, among the schedulers, and so into checkpoints; the paper does not have it.

    Args:
        objective: whose `reconstruction` it sets, at once and then after each epoch.
        falls: epochs after which the next weight holds, one fewer than the weights; rising.
        weights: in order.

    Raises:
        ValueError: falls that do not rise, or not one fewer than weights.
    """

    def __init__(
        self, objective: Disentangling, falls: Sequence[int] = (100, 200), weights: Sequence[float] = (10.0, 5.0, 1.0)
    ) -> None:
        if len(weights) != len(falls) + 1 or list(falls) != sorted(set(falls)) or min(weights) < 0:
            raise ValueError(f"expected rising falls, one fewer than the weights >= 0, got {falls} and {weights}")
        self.objective, self.falls, self.weights = objective, tuple(falls), tuple(weights)
        self.apply()

    def apply(self) -> None:
        """Sets the weight that belongs to the epoch."""
        self.objective.reconstruction = self.weights[sum(fall <= self.epoch for fall in self.falls)]


def mixed(x: Tensor, y: Tensor, a: float) -> tuple[Tensor, Tensor, float]:
    """Images (N, C, H, W) mixed with others of the batch, the others' labels (N,), and the share of the own ones.

    Args:
        x: images.
        y: labels (N,).
        a: of Beta(a, a), from the ambient generator.
    """
    share = float(torch.distributions.Beta(a, a).sample())
    others, classes = gathered(x), gathered(y)
    order = own(torch.randperm(len(others)).to(x.device))
    return share * x + (1 - share) * others[order], classes[order], share


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the values (N,) whose flag (N,) is set; 0, with gradients of 0, where none is."""
    values, chosen = gathered(values), gathered(chosen)
    return values.masked_fill(~chosen, 0).sum() / chosen.sum().clamp_min(1)


def labels(y: Tensor | None) -> Tensor:
    """Labels (N,) that have to be there.

    Raises:
        ValueError: they are not.
    """
    if y is None:
        raise ValueError("expected labels (N,) to train CD-VAE, got None")
    return y
