"""A unit test for attacks: problems on the defence's own features whose adversarial examples are known to exist.

An attack that fails here is too weak for the defence, whatever robustness it reports [Zimmermann et al. 2022,
"Increasing Confidence in Adversarial Robustness Evaluations", arXiv:2206.13991].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Norm
from art_ext.evaluation.statistics import Interval, mean_interval
from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import seeded

Attack = Callable[[nn.Module, Tensor, Tensor, Threat], Tensor]
"""(module, x, y, threat) to x_adv, as every `art_ext.evaluation.Attack` is."""
LEAST = 0.95
"""The share of images on which the paper wants an attack to succeed."""
RANGE = 10.0
"""How much the difference of the two logits grows from the clean image to the planted adversarial one."""
PASS = 256
"""The most images of one pass where features are only read."""


@dataclass(frozen=True)
class Binarisation:
    """What an attack did on problems that have a solution, one entry per image.

    Attributes:
        usable: the readout tells the planted adversarial point from every inner point. The others are not attacked,
            and count nowhere.
        found: the attack turned the clean image into the adversarial class.
        random: one of `samples` points, drawn like the planted one, did. Where that is common, success shows nothing.
    """

    usable: tuple[bool, ...]
    found: tuple[bool, ...]
    random: tuple[bool, ...]

    @property
    def interval(self) -> Interval:
        """Share of the usable images that the attack solved; a ValueError where none is usable."""
        return self._among_usable(self.found)

    @property
    def share(self) -> float:
        """The mean of `interval`."""
        return self.interval.mean

    @property
    def random_interval(self) -> Interval:
        """Share of the usable images that random search solved."""
        return self._among_usable(self.random)

    @property
    def random_share(self) -> float:
        """The mean of `random_interval`."""
        return self.random_interval.mean

    def _among_usable(self, flags: Sequence[bool]) -> Interval:
        counted = [flag for flag, usable in zip(flags, self.usable, strict=True) if usable]
        if not counted:
            raise ValueError(f"expected at least one usable image, got none of {len(self.usable)}")
        return mean_interval([float(flag) for flag in counted])


def binarisation_test(
    features: nn.Module,
    attack: Attack,
    x: Tensor,
    threat: Threat,
    *,
    samples: int = 200,
    seed: int = 0,
    inner: float = 0.95,
    closeness: float = 0.999,
    at_once: int = 32,
) -> Binarisation:
    """The test of Zimmermann et al. 2022 [arXiv:2206.13991, section 4]: planted examples that the attack must find.

    For each image one point is drawn on the border of the threat and called adversarial; the image itself and
    `samples` points of a smaller ball are called clean. Logistic regression learns a readout of the frozen features
    that tells them apart, so a success inside the threat is certain to exist. The attack gets the image, the label 0
    and the module features -> readout. The labels of the data play no part.

    Choices where the paper leaves room, or where its code was not at hand:

    - The planted point goes in a random direction, one sign per pixel for Linf, clamped to [0, 1]. Half of the inner
      points are uniform in their ball, half lie on its border, drawn as the planted one is: without those the readout
      would learn what all far points share (where pixels are black, that is brightness), and any of them would do.
    - The readout's threshold lies just below the planted point: at `closeness` of the way to it from the largest inner
      value. So random search fails, and it draws as the planted point was drawn, not from the inside.
    - Values are scaled so that they grow by 10 from the clean image to the planted one: a separable readout could be
      scaled at will, until the softmax has no gradient in float32.
    - The module has four logits: two more, 1 and 2 below the lower one, never win, for losses that need them (DLR).

    Features of few dimensions have no readout, or one that random search solves: take a wide layer, and read
    `random_share` beside `share`.
    Randomised features make the planted point uncertain: give `Frozen` ones, or count the losses as the noise's.

    Args:
        features: images (N, C, H, W) in [0, 1] to any tensor of N rows, flattened; see `FeatureExtractor`. Modes stay
            as they are, parameters too.
        attack: the attack under test; untargeted.
        x: clean images (N, C, H, W) in [0, 1].
        threat: ball of the attack.
        samples: inner points of an image, and points of the random search.
        seed: of the points, and of the ambient generator during the attack; what was ambient goes on undisturbed.
        inner: radius of the inner points' ball, as a share of eps, in (0, 1).
        closeness: where the threshold lies, in [0, 1).
        at_once: images per call of the attack. In a call every input belongs to the image nearest to it in the
            threat's norm, so copies, subsets and reordering are no hindrance.

    Raises:
        ValueError: an argument out of range, or an attack that left the threat (`Cheated`).
    """
    if samples < 1 or at_once < 1 or not threat.eps > 0:
        raise ValueError(
            f"expected samples >= 1, at_once >= 1 and eps > 0, got {samples}, {at_once} and eps={threat.eps}"
        )
    if not (0 < inner < 1 and 0 <= closeness < 1):
        raise ValueError(f"expected inner in (0, 1) and closeness in [0, 1), got {inner} and {closeness}")
    usable: list[bool] = []
    found: list[bool] = []
    random: list[bool] = []
    with seeded(seed):
        for first in range(0, len(x), at_once):
            some = x[first : first + at_once].detach()
            problems = [_problem(features, image, threat, samples, inner, closeness) for image in some.split(1)]
            usable += [p.usable for p in problems]
            random += [p.random for p in problems]
            found += _attacked(features, attack, some, threat, problems)
    return Binarisation(tuple(usable), tuple(found), tuple(random))


class Binarised(nn.Module):
    """Features and a linear readout per clean image, as a classifier of four logits: clean, adversarial, never, never.

    Args:
        features: images (N, C, H, W) to N rows.
        x: clean images (G, C, H, W).
        weight: readouts (G, D).
        bias: (G,).
        ball: an input belongs to the clean image nearest to it in this norm.
    """

    def __init__(self, features: nn.Module, x: Tensor, weight: Tensor, bias: Tensor, ball: Norm) -> None:
        super().__init__()
        self.features, self.ball = features, ball
        self.clean, self.weight, self.bias = x, weight, bias

    def forward(self, x: Tensor) -> Tensor:
        owner = self.nearest(x)
        values = _values(self.features(x), self.weight[owner], self.bias[owner])
        low = -values.abs() / 2 - 1
        return torch.stack([-values / 2, values / 2, low, low - 1], 1)

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """The index of the clean image that each x (N, C, H, W) belongs to, (N,)."""
        if len(self.clean) == 1:
            return torch.zeros(len(x), dtype=torch.long, device=x.device)
        distances = [self.ball.size(x - image) for image in self.clean.split(1)]
        return torch.stack(distances, 1).argmin(1)


@dataclass(frozen=True)
class _Problem:
    weight: Tensor  # (D,)
    bias: Tensor  # ()
    usable: bool
    random: bool


def _problem(features: nn.Module, x: Tensor, threat: Threat, samples: int, inner: float, closeness: float) -> _Problem:
    """The binary problem of one image (1, C, H, W)."""
    many = x.expand(samples, *x.shape[1:])
    inside = threat.ball.sample(many[: samples // 2], inner * threat.eps)
    clean = torch.cat([x, (many[: samples // 2] + inside).clamp(0, 1), _border(many[samples // 2 :], threat, inner)])
    planted = _border(x, threat)
    rows = _read(features, torch.cat([clean, planted]))
    weight, bias = _readout(rows[:-1], rows[-1:], closeness)
    values = _values(rows, weight, bias)
    usable = bool((values[:-1] < 0).all() and values[-1] > 0)
    tried = _values(_read(features, _border(many, threat)), weight, bias)
    return _Problem(weight, bias, usable, usable and bool((tried > 0).any()))


def _attacked(
    features: nn.Module, attack: Attack, x: Tensor, threat: Threat, problems: Sequence[_Problem]
) -> list[bool]:
    """Which of the images the attack solves, False where the problem is not usable."""
    chosen = [i for i, p in enumerate(problems) if p.usable]
    found = [False] * len(problems)
    if not chosen:
        return found
    weight, bias = torch.stack([problems[i].weight for i in chosen]), torch.stack([problems[i].bias for i in chosen])
    clean = x[chosen]
    labels = torch.zeros(len(clean), dtype=torch.long, device=x.device)
    x_adv = attack(Binarised(features, clean, weight, bias, threat.ball), clean.clone(), labels, threat).detach()
    threat.refuse_cheats(clean, x_adv, "the attack")
    for i, value in zip(chosen, _values(_read(features, x_adv), weight, bias).tolist(), strict=True):
        found[i] = value > 0
    return found


def _border(x: Tensor, threat: Threat, share: float = 1.0) -> Tensor:
    """A random point for each x (N, C, H, W) at the share of the threat's radius, clamped to [0, 1]."""
    return (x + share * threat.eps * threat.ball.direction(torch.randn_like(x))).clamp(0, 1)


def _read(features: nn.Module, x: Tensor) -> Tensor:
    """Features (N, D) without a graph."""
    with torch.no_grad():
        return torch.cat([features(part).flatten(1) for part in x.split(PASS)])


def _values(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Readout of features (N, ...): (N,), positive for the adversarial class."""
    return (rows.flatten(1) * weight).sum(1) + bias


def _readout(clean: Tensor, planted: Tensor, closeness: float) -> tuple[Tensor, Tensor]:
    """Weight (D,) and bias () of the logistic regression of clean (n, D) against planted (1, D) features.

    Both classes weigh the same. Features are standardised for the fit, a small L2 penalty keeps it finite.
    """
    centre, spread = clean.double().mean(0), clean.double().std(0)
    spread = spread.clamp_min(float(spread.mean()) * 1e-2 + 1e-12)
    low, high = (clean - centre) / spread, (planted - centre) / spread
    weight = (2 * high[0] / high.square().sum().clamp_min(1e-12)).requires_grad_()
    bias = weight.new_full((), -1.0).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            error = F.softplus(low @ weight + bias).mean() + F.softplus(-(high @ weight) - bias).mean()
            loss = error + 5e-4 * weight.square().sum()
        weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
        return loss.detach()

    optimizer.step(closure)
    found = weight.detach()
    peak, top = (low @ found).amax(), (high @ found).amin()
    threshold = top - (1 - closeness) * (top - peak)
    scale = RANGE / (top - low[0] @ found).clamp_min(1e-12)
    slope = scale * found / spread
    return slope.to(clean), (-scale * threshold - slope @ centre).to(clean)
