"""What attackers want of a model, as one value per image.

Labels are bound for N images; a batch of k * N is read as k copies of those N in the same order (`x.repeat(k, ...)`),
which is how `eot` runs its samples in one pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.nn.losses import kl, per_sample_mse

Model = Callable[[Tensor], Tensor]
"""Images to logits (N, K), or images to images."""
Loss = Callable[[Tensor], Tensor]
"""Images (k * N, C, H, W) to one value each, (k * N,): the attacker wants it large."""


class LogitLoss:
    """A loss of a model's logits and of labels: images (k * N, C, H, W) to one value each, (k * N,).

    What has the logits of a pass already gets the value from `of` without another one.

    Args:
        model: images to logits (N, K).
        rule: logits (k * N, K) and labels (k * N,), as many as there are, to values (k * N,).
        labels: (N,) each.
    """

    def __init__(self, model: Model, rule: Callable[..., Tensor], *labels: Tensor) -> None:
        self.model, self.rule, self.labels = model, rule, labels

    def __call__(self, x: Tensor) -> Tensor:
        return self.with_logits(x)[0]

    def with_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values (k * N,) and the logits (k * N, K) that they are of, of one pass."""
        labels = [_tiled(y, x) for y in self.labels]
        logits = self.model(x)
        return self.rule(logits, *labels), logits

    def of(self, logits: Tensor) -> Tensor:
        """The values (k * N,) that belong to logits (k * N, K)."""
        return self.rule(logits, *(_tiled(y, logits) for y in self.labels))

    def belongs_to(self, x: Tensor) -> bool:
        """Whether x (N, C, H, W) has as many images as there are labels: no copies of them."""
        return all(len(y) == len(x) for y in self.labels)

    def rows(self, chosen: Tensor | slice) -> LogitLoss:
        """The loss of some of the N images, given as indices, a mask (N,) or a slice."""
        return LogitLoss(self.model, self.rule, *(y[chosen] for y in self.labels))


def cross_entropy(model: Model, y: Tensor, *, targeted: bool = False) -> LogitLoss:
    """Cross-entropy of logits (at least float32) against y (N,), negated when y is the class that is wanted."""
    sign = -1.0 if targeted else 1.0

    def rule(logits: Tensor, y: Tensor) -> Tensor:
        return sign * F.cross_entropy(_widened(logits), y, reduction="none")

    return LogitLoss(model, rule, y)


def margin(model: Model, y: Tensor, *, targeted: bool = False) -> LogitLoss:
    """Largest other logit minus the logit of y, see `logit_margin`: positive exactly when the image is misclassified.

    This is what the purification papers call C&W: the margin objective of Carlini & Wagner 2017 inside PGD, not their
    minimum-norm attack. Targeted, it is negated: positive when y wins, and -inf where the logits are not finite.
    """
    sign = -1.0 if targeted else 1.0

    return LogitLoss(model, lambda logits, y: sign * logit_margin(logits, y), y)


def dlr(model: Model, y: Tensor, *, targeted: bool = False) -> LogitLoss:
    """Difference of logits ratio: the margin over z1 - z3, the largest logit minus the third largest.

    It does not change when the logits are scaled or shifted, and is positive exactly when the image is misclassified
    [Croce & Hein 2020, arXiv:2003.01690, eq. 6]. Targeted, it is negated: positive when y wins; that is not the
    paper's targeted form, which is `dlr_targeted`. The ratio is at most 1 unless the three largest logits are those
    of other classes.

    A z1 - z3 below 1e-12 counts as 1e-12, without a gradient of its own: the value stays finite at a tie of three
    logits, and is 0 there when y is one of them. The loss raises a ValueError where the model has fewer than 3
    classes.
    """
    sign = -1.0 if targeted else 1.0

    def rule(logits: Tensor, y: Tensor) -> Tensor:
        logits = _widened(logits)
        first, _, third = _largest(logits, 3, "dlr").unbind(1)
        return sign * logit_margin(logits, y) / _spread(first - third)

    return LogitLoss(model, rule, y)


def dlr_targeted(model: Model, y: Tensor, target: Tensor) -> LogitLoss:
    """Logit of the target minus that of y, over z1 - (z3 + z4) / 2 [arXiv:2003.01690, eq. 7].

    z1, z3 and z4 are the largest, third and fourth largest logits. Ties are treated as in `dlr`. The loss raises a
    ValueError where the model has fewer than 4 classes.

    Args:
        model: images to logits (N, K).
        y: labels (N,).
        target: the classes that the attacker wants, (N,), none of them the label.

    Raises:
        ValueError: if the shapes differ or a target is the label.
    """
    if target.shape != y.shape or bool((target == y).any()):
        raise ValueError(f"expected a target other than the label for each of {len(y)} labels, got {target.tolist()}")

    def rule(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        logits = _widened(logits)
        first, _, third, fourth = _largest(logits, 4, "dlr_targeted").unbind(1)
        wanted, own = (logits.gather(1, c[:, None]).squeeze(1) for c in (target, y))
        return (wanted - own) / _spread(first - (third + fourth) / 2)

    return LogitLoss(model, rule, y, target)


def _largest(logits: Tensor, count: int, who: str) -> Tensor:
    if logits.shape[1] < count:
        raise ValueError(f"expected at least {count} classes for {who}, got {logits.shape[1]}")
    return logits.topk(count, dim=1).values


def _spread(difference: Tensor) -> Tensor:
    """What `dlr` divides by: at least 1e-12, and 1 where the logits are not finite, so that inf stays inf."""
    return difference.clamp_min(1e-12).masked_fill(~torch.isfinite(difference), 1.0)


def logit_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Largest other logit minus the logit of y, (N,), from logits (N, K); of half precision, in float32.

    A row that is not finite is a wrong answer: its margin is inf. So is that of a targeted attack before it is negated:
    the class that it wants has not won.
    """
    logits = _widened(logits)
    own = F.one_hot(y, logits.shape[1]).bool()
    margins = logits.masked_fill(own, -torch.inf).amax(1) - logits.gather(1, y[:, None]).squeeze(1)
    return margins.masked_fill(~torch.isfinite(logits).all(1), torch.inf)


def _widened(logits: Tensor) -> Tensor:
    """Logits in float32 at least: those of half precision tie, and overflow when they are divided."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def feature(features: Model, x: Tensor, *, through: Model | None = None) -> Loss:
    """Mean squared distance between the features of an image and those of its original x (N, C, H, W).

    The self-supervised perturbation of NRP and RDP, without labels [Naseer et al. 2020, arXiv:2006.04924]. Its
    gradient at x itself is zero: start at random.

    Args:
        features: F_n.
        x: original images.
        through: a purifier that the image passes before F_n; the original does not.
    """
    with torch.no_grad():
        original = features(x)

    def loss(x_adv: Tensor) -> Tensor:
        seen = x_adv if through is None else through(x_adv)
        return per_sample_mse(features(seen), _tiled(original, x_adv))

    return loss


def divergence(model: Model, x: Tensor) -> Loss:
    """KL(p(x) || p(x_adv)) of the model's predictions, x (N, C, H, W) being the originals [Zhang et al. 2019, TRADES].

    Without labels. Its gradient at x itself is zero: start at random.
    """
    with torch.no_grad():
        original = model(x).log_softmax(1)

    def loss(x_adv: Tensor) -> Tensor:
        return kl(_tiled(original, x_adv), model(x_adv).log_softmax(1))

    return loss


def _tiled(values: Tensor, x: Tensor) -> Tensor:
    copies, rest = divmod(len(x), max(1, len(values)))
    if rest or not (copies or not len(x)):
        raise ValueError(f"expected a multiple of the {len(values)} images that the labels belong to, got {len(x)}")
    return values if copies == 1 else values.repeat(copies, *[1] * (values.ndim - 1))
