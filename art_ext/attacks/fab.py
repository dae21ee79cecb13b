"""FAB: the fast adaptive boundary attack, which walks along the decision boundary towards the clean image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks.active import due, split
from art_ext.attacks.losses import Model
from art_ext.attacks.norms import Norm, finite, per_sample
from art_ext.attacks.search import check_arguments
from art_ext.images import asking_once
from art_ext.nn.answers import predicted


@asking_once()
def fab(  # noqa: PLR0913  the names of the paper
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> Tensor:
    """Images (N, C, H, W) within eps of x and within [0, 1] [Croce & Hein 2020, arXiv:1907.02044, Algorithm 1].

    This is FAB-T, the targeted version that AutoAttack uses [arXiv:2003.01690]: run after run, the boundary
    between the label and one other class is taken to be a hyperplane, beginning with the class of the largest logit.
    An image whose adversarial image lies within eps is done; one that has none is returned clean, and so is one that
    is misclassified from the beginning. Logits that are not finite are a wrong answer, and an entry of a gradient that
    is not finite counts as 0. One image's result does not depend on the others, given its starts.

    Differs from the paper: it looks for an image within eps, not for the nearest one. So an image is done at the first
    success, and the search along the line from the nearest adversarial image to x, which ends each run, is one pass at
    the point of it that lies within eps.

    Args:
        model: images (N, C, H, W) to logits (N, K), one image's logits independent of the others.
        x: clean images in [0, 1].
        y: labels (N,).
        norm: `Linf()` or `L2()`.
        eps: radius of the ball, in the units of x.
        steps: moves of one run. A move takes one gradient and one more forward pass.
        targets: classes that are tried, at most the K - 1 that are not the label.
        restarts: runs for each class. The first begins at x, the others at random points of the ball of radius eps / 2,
            from the ambient generator.
        alpha_max: the most that a move is drawn towards x, in [0, 1].
        eta: how far a move goes, 1 being onto the hyperplane.
        beta: share of the way from x at which the run goes on after an adversarial image, in [0, 1].

    Raises:
        ValueError: another norm; eps not finite or negative; steps negative; targets or restarts below 1; alpha_max or
            beta outside [0, 1]; eta below 1; x not of rank 4 or y not of shape (N,).
    """
    _check(norm, eps, targets, restarts, alpha_max, eta, beta)
    check_arguments(x, y, steps=steps, positive={})
    x = x.detach()
    found = x.clone()
    if not len(x):
        return found
    with torch.no_grad():
        logits = model(x)
    walk = _Walk(model, norm, eps, steps, alpha_max, eta, beta)
    left = (predicted(logits) == y).nonzero()[:, 0]
    for target in _ranked(logits, y, targets).unbind(1):
        for restart in range(restarts):
            if not len(left):
                return found
            clean = x[left]
            start = (clean + norm.sample(clean, eps / 2)).clamp(0, 1) if restart else clean
            reached, inside = walk.run(clean, start, y[left], target[left])
            rest, broken = split(inside)
            found[left[broken]] = reached[broken]
            left = left[rest]
    return found


def shortest(x: Tensor, slope: Tensor, value: Tensor, norm: Norm) -> Tensor:
    """The smallest d in the norm with value + <slope, d> = 0 and x + d in [0, 1].

    Where no d does both, the one that comes nearest to the hyperplane. The entries of d grow together, in Linf all as
    fast, in L2 in proportion to their slopes, and each stops at the box. How far they must grow is the root of a
    concave function of straight pieces; Newton's steps from the left reach it after finitely many, and without the
    sorting of the paper [arXiv:1907.02044].

    Args:
        x: images (N, C, H, W) in [0, 1].
        slope: normal vectors (N, C, H, W).
        value: of the linear function at x, (N,).
        norm: `Linf()` or `L2()`.
    """
    way = -per_sample(value.sign(), x) * slope.sign()
    room = torch.where(way > 0, 1 - x, x).flatten(1)
    weight = slope.abs().flatten(1)
    peak = weight.amax(1)  # brought to 1: the squares of a confident network's 1e-20 would vanish
    peak = torch.where(peak > 0, peak, 1)
    weight, need = weight / peak[:, None], value.abs() / peak
    speed = weight if norm.name == "L2" else (weight > 0).to(weight)
    gain = weight * speed
    level = torch.zeros_like(need)
    free = torch.ones_like(weight, dtype=torch.bool)
    for step in count(1):
        rest = torch.where(free, gain, 0).sum(1)
        wanted = (need - torch.where(free, 0, weight * room).sum(1)) / rest
        level = torch.maximum(level, torch.where(rest > 0, wanted, torch.inf))
        grown = torch.where(speed > 0, level[:, None] * speed, 0)
        still_free = grown < room
        if due(step, x.device) and torch.equal(still_free, free):  # a step from the root stays there
            break
        free = still_free
    return way * torch.minimum(grown, room).view_as(x)


@dataclass(frozen=True)
class _Walk:
    """One run towards one class; the fields are the arguments of `fab`."""

    model: Model
    norm: Norm
    eps: float
    steps: int
    alpha_max: float
    eta: float
    beta: float

    def run(self, x: Tensor, start: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Adversarial images (n, C, H, W), or x, and whether they lie within eps, (n,)."""
        found, done = x.clone(), torch.zeros_like(y, dtype=torch.bool)
        left, here, nearest = torch.arange(len(x), device=x.device), start, x
        distance = x.new_full((len(x),), torch.inf)
        for step in range(self.steps):
            here = self._move(x, here, y, target)
            wrong, size = self._wrong(here, y), self.norm.size(here - x)
            nearer = wrong & (size < distance)
            nearest = torch.where(per_sample(nearer, x), here, nearest)
            distance = torch.where(nearer, size, distance)
            here = torch.where(per_sample(wrong, x), x + self.beta * (here - x), here)
            inside = distance <= self.eps
            if due(step, x.device):
                rest, reached = split(inside)
                if len(reached):
                    found[left[reached]], done[left[reached]] = nearest[reached], True
                    kept = (left, x, y, target, here, nearest, distance)
                    left, x, y, target, here, nearest, distance = (v[rest] for v in kept)
                if not len(left):
                    return found, done
        _, crossed = split(distance.isfinite())
        left, x, y, nearest = (v[crossed] for v in (left, x, y, nearest))
        if len(left):
            cut = (x + self.norm.project(nearest - x, self.eps)).clamp(0, 1)
            _, wrong = split(self._wrong(cut, y))
            found[left[wrong]], done[left[wrong]] = cut[wrong], True
        return found, done

    def _move(self, x: Tensor, here: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Over the hyperplane from where the run stands, drawn towards the point of it nearest to x."""
        value, slope = self._boundary(here, y, target)
        at_x = value + ((x - here) * slope).flatten(1).sum(1)
        near, far = shortest(here, slope, value, self.norm), shortest(x, slope, at_x, self.norm)
        sizes = [self.norm.size(delta).clamp_min(1e-8) for delta in (near, far)]
        alpha = per_sample((sizes[0] / (sizes[0] + sizes[1])).clamp_max(self.alpha_max), x)
        return ((1 - alpha) * (here + self.eta * near) + alpha * (x + self.eta * far)).clamp(0, 1)

    def _boundary(self, here: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of the target minus that of the label, (n,), and its gradient (n, C, H, W)."""
        here = here.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(here)
            value = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
            slope = torch.autograd.grad(value.sum(), here)[0]
        return finite(value.detach().to(here)), finite(slope)

    def _wrong(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return predicted(self.model(x)) != y


def _ranked(logits: Tensor, y: Tensor, targets: int) -> Tensor:
    """The classes of the largest logits other than y, largest first, (N, min(targets, K - 1))."""
    others = logits.masked_fill(F.one_hot(y, logits.shape[1]).bool(), -torch.inf)
    return others.topk(min(targets, logits.shape[1] - 1), dim=1).indices


def _check(
    norm: Norm, eps: float, targets: int, restarts: int, alpha_max: float, eta: float, beta: float
) -> None:  # fmt: skip
    if norm.name not in ("Linf", "L2"):
        raise ValueError(f"expected norm Linf or L2, got {norm.name}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"expected a finite eps >= 0, got {eps}")
    if targets < 1 or restarts < 1:
        raise ValueError(f"expected targets >= 1 and restarts >= 1, got targets={targets} and restarts={restarts}")
    if not (0 <= alpha_max <= 1 and 0 <= beta <= 1 and 1 <= eta < math.inf):
        raise ValueError(
            f"expected alpha_max and beta in [0, 1] and eta >= 1, got alpha_max={alpha_max}, beta={beta} and eta={eta}"
        )
