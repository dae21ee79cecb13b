"""Square: random search over square changes of the perturbation, without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from art_ext.attacks.active import CONFIRMED_BY, due, split
from art_ext.attacks.losses import Model, logit_margin
from art_ext.attacks.norms import Norm, per_sample
from art_ext.attacks.search import check_arguments
from art_ext.images import asking_once
from art_ext.nn.copies import copies_of

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10000, after which the area of the square is halved [arXiv:1912.00049, the authors' program]."""


@asking_once()
@torch.no_grad()
def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    queries: int = 5000,
    share: float = 0.8,
    restarts: int = 1,
    eot_samples: int = 1,
    at_once: int | None = None,
) -> Tensor:
    """Images (N, C, H, W) within eps of x and within [0, 1] [Andriushchenko et al. 2020, arXiv:1912.00049].

    A query changes the perturbation in a square at a random place, each image's its own, and is kept where the margin
    (the largest other logit minus that of the label) grows. An image is done when its margin is positive; one whose
    margin is positive from the beginning stays as it is. An image that is never broken comes back with the largest
    margin that was seen, which may be the clean one. No gradient is taken.

    Args:
        model: images (N, C, H, W) to logits (N, K).
        x: clean images in [0, 1].
        y: labels (N,).
        norm: `Linf()`, which begins with vertical stripes, or `L2()`, which begins with a grid of pyramids.
        eps: radius of the ball, in the units of x.
        queries: images that one run tries for each image, its start included. One more pass looks at the clean images.
        share: part of the image's area that the first squares cover, in (0, 1]. It is halved on the paper's schedule,
            stretched to `queries`.
        restarts: runs, each from a start of its own, from the ambient generator.
        eot_samples: passes of a randomised model, whose mean logits give the margin. With more than 1, the image that
            is kept is measured anew beside every query, and an image is done only when as many fresh passes, at least
            20, misclassify it one by one.
        at_once: the most images of one call with more than 1 sample, never fewer than twice the images that are left;
            all copies unless given.

    Raises:
        ValueError: another norm; eps not finite or negative; queries negative; share outside (0, 1]; restarts,
            eot_samples or at_once below 1; x not of rank 4 or y not of shape (N,).
    """
    _check(norm, eps, queries, share, restarts, eot_samples, at_once)
    check_arguments(x, y, steps=0, positive={})
    x = x.detach()
    found = x.clone()
    if not len(x):
        return found
    margins = _Margins(model, eot_samples, at_once)
    change: _Change = _Signs(eps) if norm.name == "Linf" else _Pyramids(eps)
    value = margins(x, y)
    done = margins.broken(x, y, value)
    for _ in range(restarts if queries else 0):
        left, _ = split(done)
        if not len(left):
            break
        reached, rating, broken = _search(margins, change, x[left], y[left], queries, share)
        better = broken | (rating > value[left])
        (_, better), (_, broken) = split(better), split(broken)
        found[left[better]], value[left[better]], done[left[broken]] = reached[better], rating[better], True
    return found


def side(query: int, queries: int, share: float, height: int, width: int) -> int:
    """The square's side in pixels at query number `query` of `queries`, that of the start being 0."""
    area = share * 0.5 ** sum(query * 10000 > after * queries for after in HALVINGS) * height * width
    return min(max(round(math.sqrt(area)), 1), height, width)


@lru_cache(maxsize=64)
def pyramids(size: int) -> Tensor:
    """Two pyramids side by side, the upper positive and the lower negative, (size, size), of length 1."""
    upper = size // 2
    both = torch.cat((_pyramid(size, upper).T, -_pyramid(size, size - upper).T))
    return both / both.norm()


def _pyramid(long: int, short: int) -> Tensor:
    """Rectangles about the centre piled up, (long, short): the sum of 1 / j^2 from the ring of a pixel outwards."""
    layers = long // 2 + 1
    height = (1 / torch.arange(1.0, layers + 1) ** 2).flip(0).cumsum(0).flip(0)
    rows, columns = ((torch.arange(side) - side // 2).abs() for side in (long, short))
    return height[torch.maximum(rows[:, None], columns)]


def _search(
    margins: _Margins, change: _Change, x: Tensor, y: Tensor, queries: int, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One run: the images (n, C, H, W) of largest margin, these margins and whether they are misclassified, (n,)."""
    height, width = x.shape[2:]
    left, best = torch.arange(len(x), device=x.device), change.start(x)
    value = margins(best, y)
    broken = margins.broken(best, y, value)
    found, rating, done = best.clone(), value.clone(), broken.clone()
    for query in range(1, queries):
        if due(query - 1, x.device):
            rest, over = split(broken)
            if len(over):
                found[left], rating[left], done[left] = best, value, broken
                left, x, y, best, value = (v[rest] for v in (left, x, y, best, value))
                broken = broken[rest]
            if not len(left):
                return found, rating, done
        tried = change.propose(x, best, side(query, queries, share, height, width))
        value, rival = margins.both(best, tried, y, value)
        better = (rival > value) & ~broken
        best, value = torch.where(per_sample(better, x), tried, best), torch.where(better, rival, value)
        broken = broken | margins.broken(best, y, value)
    found[left], rating[left], done[left] = best, value, broken
    return found, rating, done


@dataclass(frozen=True)
class _Margins:
    """Margins of the mean logits over samples of the model; the fields are the arguments of `square`."""

    model: Model
    eot_samples: int
    at_once: int | None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Margins of images (n, C, H, W), (n,), from one pass of all samples."""
        if self.eot_samples == 1:
            return logit_margin(self.model(x), y)
        samples = [self.model(v).view(k, len(x), -1) for k, v in copies_of(x, self.eot_samples, self.at_once)]
        return logit_margin(torch.cat(samples).mean(0), y)

    def both(self, best: Tensor, tried: Tensor, y: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Margins of the images kept and of those tried; the former is `value` again where one sample is taken."""
        if self.eot_samples == 1:
            return value, self(tried, y)
        kept, rival = self(torch.cat((best, tried)), y.repeat(2)).chunk(2)
        return kept, rival

    def broken(self, x: Tensor, y: Tensor, value: Tensor) -> Tensor:
        """Whether images of these margins are misclassified, (n,): with more than one sample, in each fresh pass."""
        broken = value > 0
        for _ in range(max(CONFIRMED_BY, self.eot_samples) if self.eot_samples > 1 else 0):
            again = broken.nonzero()[:, 0]
            if not len(again):
                break
            broken[again] = logit_margin(self.model(x[again]), y[again]) > 0
        return broken


@dataclass(frozen=True)
class _Change:
    """How one norm begins and what it tries."""

    eps: float

    def start(self, x: Tensor) -> Tensor:
        """Perturbed images (n, C, H, W) to begin with."""
        raise NotImplementedError

    def propose(self, x: Tensor, best: Tensor, size: int) -> Tensor:
        """The images `best` (n, C, H, W) with another perturbation in a square of this side."""
        raise NotImplementedError


class _Signs(_Change):
    """Linf: every pixel at one end of its interval [Algorithm 2]."""

    def start(self, x: Tensor) -> Tensor:
        """Vertical stripes of width 1."""
        return self._shifted(x, _signs(x, len(x), x.shape[1], 1, x.shape[3]))

    def propose(self, x: Tensor, best: Tensor, size: int) -> Tensor:
        """One sign for each channel of a square; all are turned where they would leave the image as it is."""
        inside = _windows(x, size)
        signs = _signs(x, len(x), x.shape[1], 1, 1)
        tried = torch.where(inside, self._shifted(x, signs), best)
        same = (tried == best).flatten(1).all(1)
        return torch.where(inside & per_sample(same, x), self._shifted(x, -signs), tried)

    def _shifted(self, x: Tensor, signs: Tensor) -> Tensor:
        return (x + self.eps * signs).clamp(0, 1)


class _Pyramids(_Change):
    """L2: perturbation moves from one square to another, and what the box cut off is spent [Algorithm 3]."""

    def start(self, x: Tensor) -> Tensor:
        """A grid of tiles, five along the shorter side, each with pyramids of random sign and orientation."""
        count, channels, height, width = x.shape
        size = max(1, min(height, width) // 5)
        down, across = height // size, width // size
        tiles = _turned(x, size, count, 1, down, across) * _signs(x, count, channels, down, across, 1, 1)
        grid = tiles.transpose(3, 4).reshape(count, channels, down * size, across * size)
        top, left = (height - down * size) // 2, (width - across * size) // 2
        delta = torch.zeros_like(x)
        delta[:, :, top : top + down * size, left : left + across * size] = grid
        return self._placed(x, delta)

    def propose(self, x: Tensor, best: Tensor, size: int) -> Tensor:
        count, channels, height, width = x.shape
        size = min(max(size, 3) | 1, height, width)
        delta = (best - x).flatten(2)
        unused = (self.eps**2 - delta.square().sum((1, 2))).clamp_min(0)[:, None, None]
        filled, emptied = (_indices(x, size).expand(-1, channels, -1) for _ in range(2))
        old = delta.gather(2, filled)
        freed = old.square().sum(2, keepdim=True)
        delta = delta.scatter(2, filled, 0)  # so that what lies in both squares counts once
        available = freed + delta.gather(2, emptied).square().sum(2, keepdim=True) + unused / channels
        signed = _turned(x, size, count, 1).flatten(2) * _signs(x, count, channels, 1)
        new = signed + old / freed.sqrt().clamp_min(1e-12)
        new = new / new.norm(dim=2, keepdim=True).clamp_min(1e-12) * available.sqrt()
        return self._placed(x, delta.scatter(2, emptied, 0).scatter(2, filled, new).view_as(x))

    def _placed(self, x: Tensor, delta: Tensor) -> Tensor:
        """The images with the perturbation brought to length eps, in the box."""
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
        return (x + delta * per_sample(self.eps / length, x)).clamp(0, 1)


def _signs(like: Tensor, *shape: int) -> Tensor:
    """-1 or 1, each as likely."""
    return torch.randint(2, shape, device=like.device).to(like) * 2 - 1


def _turned(like: Tensor, size: int, *places: int) -> Tensor:
    """`pyramids` in each of the places, upright or lying, (*places, size, size)."""
    tile = pyramids(size).to(like, non_blocking=True)
    upright = torch.rand(places, device=like.device) < 0.5
    return torch.where(upright[..., None, None], tile, tile.T)


def _corners(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First row and first column of a square for each image, (n, 1), every place as likely."""
    height, width = x.shape[2:]
    top, first = (torch.randint(end - size + 1, (len(x), 1), device=x.device) for end in (height, width))
    return top, first


def _windows(x: Tensor, size: int) -> Tensor:
    """A square for each image, (n, 1, H, W), True inside."""
    inside = []
    for corner, end in zip(_corners(x, size), x.shape[2:], strict=True):
        offset = torch.arange(end, device=x.device) - corner
        inside.append((offset >= 0) & (offset < size))
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def _indices(x: Tensor, size: int) -> Tensor:
    """A square for each image as places in its flattened rows and columns, (n, 1, size * size)."""
    span = torch.arange(size, device=x.device)
    top, first = _corners(x, size)
    return ((top + span)[:, :, None] * x.shape[3] + (first + span)[:, None, :]).flatten(1)[:, None]


def _check(
    norm: Norm, eps: float, queries: int, share: float, restarts: int, eot_samples: int, at_once: int | None
) -> None:  # fmt: skip
    if norm.name not in ("Linf", "L2"):
        raise ValueError(f"expected norm Linf or L2, got {norm.name}")
    if not (0 <= eps < math.inf and queries >= 0 and restarts >= 1):
        raise ValueError(
            f"expected eps >= 0, queries >= 0 and restarts >= 1, "
            f"got eps={eps}, queries={queries} and restarts={restarts}"
        )
    if not 0 < share <= 1:
        raise ValueError(f"expected share in (0, 1], got {share}")
    if eot_samples < 1 or (at_once is not None and at_once < 1):
        raise ValueError(
            f"expected eot_samples >= 1 and at_once >= 1, got eot_samples={eot_samples} and at_once={at_once}"
        )
