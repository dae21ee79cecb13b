"""Training a classifier: on clean images, on adversaries of its own, or on both (TRADES)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Gradient, Norm, ascent, cross_entropy, divergence, pgd
from art_ext.attacks.settings import training_attack
from art_ext.nn.losses import kl
from art_ext.nn.modes import evaluating
from art_ext.training import Objective


class ClassifierObjective(Objective):
    """Cross-entropy on clean images, or adversarial training when eps is positive [Madry et al. 2018].

    The training attack runs with the classifier in eval mode. N-FGSM differs there from its released code, which
    attacks in train mode, with the statistics of the batch.

    Args:
        classifier: images in [0, 1] to logits.
        eps: radius of the training adversaries, in the units of x; 0 trains on clean images.
        steps: of PGD.
        step_size: of the training attack; 2.5 * eps / steps for PGD and eps for N-FGSM unless given.
        norm: of the training attack.
        smoothing: of the labels, in [0, 1).
        purifier: images in [0, 1] to the same, frozen; the classifier learns on what it gives, with fresh randomness
            at every step, and the training attack differentiates through both. None trains on the images themselves.
        attack: "pgd" or the one-step "n-fgsm", see `n_fgsm`.
        noise: of N-FGSM, its largest start over eps.

    Attributes:
        learning_rate: of Adam; set another before training.

    Raises:
        ValueError: another attack, or noise that is negative or not finite.
    """

    frozen: ClassVar[tuple[str, ...]] = ("purifier",)
    labelled: ClassVar[bool] = True
    learning_rate: float = 1e-4

    def __init__(
        self,
        classifier: nn.Module,
        *,
        eps: float = 0.0,
        steps: int = 7,
        step_size: float | None = None,
        norm: Norm | None = None,
        smoothing: float = 0.0,
        purifier: nn.Module | None = None,
        attack: Literal["pgd", "n-fgsm"] = "pgd",
        noise: float = 2.0,
    ) -> None:
        super().__init__()
        if attack not in ("pgd", "n-fgsm"):
            raise ValueError(f"expected attack 'pgd' or 'n-fgsm', got {attack!r}")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"expected noise >= 0, got {noise}")
        self.classifier = classifier
        self.purifier = nn.Identity() if purifier is None else purifier
        self.eps, self.steps, self.step_size, self.norm = training_attack(eps, steps, step_size, norm, zero=True)
        self.smoothing = smoothing
        self.attack, self.noise = attack, noise

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"classifier": list(self.classifier.parameters())}

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.learning_rate)

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        if not self.eps:
            return x
        with evaluating(self.classifier, self.purifier):
            gradient = ascent(cross_entropy(lambda v: _widened(self.classifier(self.purifier(v))), _required(y)))
            if self.attack == "n-fgsm":
                return n_fgsm(gradient, x, eps=self.eps, norm=self.norm, noise=self.noise, step_size=self.step_size)
            return pgd(gradient, x, norm=self.norm, eps=self.eps, steps=self.steps, step_size=self.step_size)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            purified = self.purifier(x_adv)
        logits = _widened(self.classifier(purified))
        return {"cross_entropy": F.cross_entropy(logits, _required(y), label_smoothing=self.smoothing)}


def n_fgsm(
    gradient: Gradient, x: Tensor, *, eps: float, norm: Norm, noise: float = 2.0, step_size: float | None = None
) -> Tensor:
    """Images (N, C, H, W) in [0, 1], one step away from a noisy start [de Jorge et al. 2022, arXiv:2202.01181, alg. 1].

    The start is uniform within noise * eps of x; the step goes on from there and is not projected to the ball, so that
    an image may lie (noise + 1) * eps from x. Both are clamped to [0, 1].

    Args:
        gradient: ascent direction, see `art_ext.attacks.gradient`.
        x: clean images in [0, 1].
        eps: radius that is trained for, in the units of x.
        norm: of noise and step; the paper's is Linf.
        noise: k of the paper; its 2 keeps one-step training from overfitting to the step.
        step_size: alpha of the paper; eps unless given.
    """
    start = (x + norm.sample(x, noise * eps)).clamp(0, 1)
    step = norm.direction(gradient(start), start) * (eps if step_size is None else step_size)
    return (start + step).clamp(0, 1)


class TradesObjective(Objective):
    """CE(f(x), y) + beta KL(f(x) || f(x')), x' maximising that divergence [Zhang et al. 2019, arXiv:1901.08573, eq. 5].

    Differs from the released code: x and x' pass f as one batch, so that batch normalisation has the statistics of
    both; the attack starts anywhere in the ball, not at x plus Gaussian noise of 0.001.

    Args:
        classifier: images in [0, 1] to logits.
        eps: radius of x', in the units of x.
        beta: weight of the divergence, 1 / lambda in the paper, which takes 1 and 6.
        steps: of the training attack, which runs with the classifier in eval mode and needs no labels.
        step_size: of the training attack; 2.5 * eps / steps unless given.
        norm: of the training attack; Linf unless given.

    Raises:
        ValueError: a negative beta.
    """

    labelled: ClassVar[bool] = True

    def __init__(
        self,
        classifier: nn.Module,
        *,
        eps: float,
        beta: float = 6.0,
        steps: int = 10,
        step_size: float | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= beta < float("inf"):
            raise ValueError(f"expected beta >= 0, got {beta}")
        self.classifier, self.beta = classifier, beta
        self.eps, self.steps, self.step_size, self.norm = training_attack(eps, steps, step_size, norm)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"classifier": list(self.classifier.parameters())}

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        with evaluating(self.classifier):
            gradient = ascent(divergence(self.classifier, x))
            return pgd(gradient, x, norm=self.norm, eps=self.eps, steps=self.steps, step_size=self.step_size)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        clean, adversarial = self.classifier(torch.cat([x, x_adv])).chunk(2)
        apart = kl(clean.log_softmax(1), adversarial.log_softmax(1)).mean()
        return {"cross_entropy": F.cross_entropy(clean, _required(y)), "divergence": self.beta * apart}


def _widened(logits: Tensor) -> Tensor:
    """At least float32: under autocast the softmax of bfloat16 logits would keep two or three digits."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _required(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("expected labels (N,) to train a classifier, got None")
    return y
