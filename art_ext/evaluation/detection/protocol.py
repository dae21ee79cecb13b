"""What the tables of detectors share: attacks, who is measured on which images, and intervals on the same images.

A cell is one detector on one attack. Two protocols: `paper` keeps the images that the attacked classifier gets right
clean and noisy and wrong attacked, and has clean and noisy ones as negatives, of which no alarm is wanted; `all` keeps
all images and has clean ones as negatives. Two targets: `own`, the classifier whose features the detector sees, as in
the paper, where detectors on x and on R(x) thus see different adversaries; and `x`, the classifier on x, for both the
same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import erfc, isfinite, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_ext.attacks import L2, Linf, ascent, cross_entropy, margin, pgd
from art_ext.detectors import LID, KernelDensity, LayerDetector, Mahalanobis, auc, tnr_at_tpr
from art_ext.evaluation.statistics import ENOUGH, Z95, Interval, bootstrap, holm
from art_ext.nn import seeded

STEPS = 5
ATTACKS = ("FGSM", "BIM", "C&W", "PGD-Linf", "PGD-L2")
NOISES = (0.0, 0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)
"""Steps of the Mahalanobis detector's input that are tried; the released code's, there in units of a deviation."""
PROTOCOLS, TARGETS = ("paper", "all"), ("own", "x")
METRICS: dict[str, Callable[..., float]] = {"TNR at 95 % TPR": tnr_at_tpr, "AUC": auc}
KNOWN, UNSEEN = "", ", calibrated on FGSM"
LEVEL = 0.05
"""Of the differences that are called sure, in both directions and all cells of a block together."""
Scores = NDArray[np.float64]


@dataclass
class Space:
    """What detectors look at: a network from images to logits, its layers, and the last hidden one."""

    network: nn.Module
    layers: Sequence[str]
    last: str
    sets: dict[str, Tensor] = field(default_factory=dict)


def detectors(space: Space, x: Tensor, y: Tensor) -> dict[str, LayerDetector]:
    """The three of the paper, fitted on clean training images (N, C, H, W) and labels (N,)."""
    made: dict[str, LayerDetector] = {
        "KD": KernelDensity(space.network, [space.last], references=200),
        "LID": LID(space.network, space.layers),
        "MD": Mahalanobis(space.network, space.layers),
    }
    return {name: detector.fit(x, y) for name, detector in made.items()}


def attacked(name: str, network: nn.Module, x: Tensor, y: Tensor, eps: Mapping[str, float]) -> Tensor:
    """Images of one of `ATTACKS` as the paper runs them: 5 steps of eps / sqrt(5), the last iterate."""
    norm = L2() if name == "PGD-L2" else Linf()
    radius = eps[norm.name]
    options: dict[str, Any] = {"norm": norm, "eps": radius, "steps": STEPS, "step_size": radius / sqrt(STEPS)}
    if name == "FGSM":
        options |= {"steps": 1, "step_size": radius}
    loss = margin if name == "C&W" else cross_entropy
    start = name not in ("FGSM", "BIM")
    with seeded(0):
        pieces = zip(x.split(256), y.split(256), strict=True)
        return torch.cat([pgd(ascent(loss(network, b)), a, random_start=start, **options) for a, b in pieces])


def image_sets(space: Space, x: Tensor, y: Tensor, eps: Mapping[str, float]) -> dict[str, Tensor]:
    """Clean, noisy and attacked images by name; noise of half the Linf radius, about that of the released code."""
    generator = torch.Generator().manual_seed(0)
    noisy = (x + eps["Linf"] / 2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return {"clean": x, "noisy": noisy, **{name: attacked(name, space.network, x, y, eps) for name in ATTACKS}}


def right(network: nn.Module, sets: Mapping[str, Tensor], y: Tensor) -> dict[str, NDArray[np.bool_]]:
    """Whether each image of each set is classified as y (N,)."""
    with torch.no_grad():
        return {name: torch.cat([network(a).argmax(1) for a in x.split(256)]).eq(y).numpy() for name, x in sets.items()}


class Measured:
    """Layer scores (N, L) of image sets, each computed once."""

    def __init__(self, detector: LayerDetector, sets: Mapping[str, Tensor]) -> None:
        self.detector, self.sets = detector, sets
        self.found: dict[tuple[str, float, bool], Tensor] = {}

    def __call__(self, name: str, noise: float, calibration: int, test: bool) -> Tensor:
        """Those of the first `calibration` images, or of the others."""
        key = (name, noise, test)
        if key not in self.found:
            if isinstance(self.detector, Mahalanobis):
                self.detector.set_noise(noise)
            part = self.sets[name][calibration:] if test else self.sets[name][:calibration]
            with torch.no_grad():
                self.found[key] = self.detector.layer_scores(part)
        return self.found[key]


def cell_scores(
    measured: Measured, attack: str, learned_on: str, negatives: Sequence[str], kept: NDArray[np.bool_],
    calibration: int, noises: Sequence[float],
) -> tuple[Scores, Scores, float] | None:  # fmt: skip
    """Scores (N, negatives) and (N,) of the kept test images, and the noise chosen; None where too few are kept.

    Args:
        measured: of the detector.
        attack: the set of the positives.
        learned_on: that of the positives of the calibration.
        negatives: their sets.
        kept: which of all images count, (N,).
        calibration: so many first images are for the logistic regression, the others for the test.
        noises: to choose from, by AUC on the second half of the calibration after a fit on the first.
    """
    early, late = (torch.from_numpy(kept[part]) for part in (slice(calibration), slice(calibration, None)))
    if int(early.sum()) < 4 or int(late.sum()) < 2:
        return None

    def of(name: str, noise: float, test: bool) -> Tensor:
        return measured(name, noise, calibration, test)[late if test else early]

    detector, chosen = measured.detector, 0.0
    if len(detector.features.layers) > 1:
        half = int(early.sum()) // 2

        def quality(noise: float) -> float:
            low = [of(name, noise, False) for name in negatives]
            high = of(learned_on, noise, False)
            detector.calibrate_on(torch.cat([v[:half] for v in low]), high[:half])
            return auc(*(detector.combined(v) for v in (torch.cat([v[half:] for v in low]), high[half:])))

        chosen = max(noises, key=quality) if isinstance(detector, Mahalanobis) else 0.0
        low = torch.cat([of(name, chosen, False) for name in negatives])
        detector.calibrate_on(low, of(learned_on, chosen, False))
    clean = torch.stack([detector.combined(of(name, chosen, True)) for name in negatives], 1)
    return clean.double().numpy(), detector.combined(of(attack, chosen, True)).double().numpy(), chosen


def cells(
    kind: str, spaces: Mapping[str, Space], made: Mapping[str, LayerDetector], y: Tensor, calibration: int,
    noises: Sequence[float], resamples: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every cell of one kind of detector: what it reaches on x and on R(x), and the difference on the same images."""
    rows = []
    for target in TARGETS:
        sources = {name: spaces["x"] if target == "x" else space for name, space in spaces.items()}
        correct = {name: right(source.network, source.sets, y) for name, source in sources.items()}
        measured = {name: Measured(made[name], sources[name].sets) for name in spaces}
        for protocol in PROTOCOLS:
            for attack in ATTACKS:
                for by in (KNOWN,) if kind == "KD" or attack == "FGSM" else (KNOWN, UNSEEN):
                    compute = partial(_both, measured, correct, attack, by, protocol, calibration, noises)
                    row = {"detector": kind + by, "attack": attack, "target": target, "protocol": protocol}
                    rows.append(
                        row | summary(*compute(), resamples=resamples, scores=protocol == "all" and by == KNOWN)
                    )
    return rows


Found = dict[str, tuple[Scores, Scores, float] | None]


def _both(
    measured: Mapping[str, Measured], correct: Mapping[str, dict[str, NDArray[np.bool_]]], attack: str, by: str,
    protocol: str, calibration: int, noises: Sequence[float],
) -> tuple[Found, dict[str, NDArray[np.int_]]]:  # fmt: skip
    """Scores in each space, and the numbers of the test images that they are of."""
    found: Found = {}
    numbers = {}
    negatives = ("clean", "noisy") if protocol == "paper" else ("clean",)
    for name, answers in correct.items():
        kept = np.ones(len(answers["clean"]), dtype=bool)
        if protocol == "paper":
            kept = answers["clean"] & answers["noisy"] & ~answers[attack]
        learned_on = attack if by == KNOWN else "FGSM"
        found[name] = cell_scores(measured[name], attack, learned_on, negatives, kept, calibration, noises)
        numbers[name] = calibration + np.flatnonzero(kept[calibration:])
    return found, numbers


def summary(found: Found, numbers: Mapping[str, NDArray[np.int_]], *, resamples: int, scores: bool) -> dict[str, Any]:
    """Each metric in each space with its bootstrap interval, and R(x) minus x over the images that both have."""
    row: dict[str, Any] = {"spaces": {}, "difference": {}}
    for name, held in found.items():
        if held is None:
            continue
        low, high, noise = held
        row["spaces"][name] = {k: _listed(bootstrap(m, low, high, resamples=resamples)) for k, m in METRICS.items()}
        row["spaces"][name]["noise"] = noise
        if scores:
            row["spaces"][name] |= {"clean": _rounded(low[:, 0]), "adversarial": _rounded(high)}
    if len(row["spaces"]) == 2:
        common = np.intersect1d(numbers["x"], numbers["R(x)"])
        both = [values[np.isin(numbers[name], common)] for name in ("R(x)", "x") for values in (found[name] or ())[:2]]
        if len(common) > 1:
            row["difference"] = {
                k: _listed(bootstrap(partial(_gap, m), *both, resamples=resamples)) for k, m in METRICS.items()
            }
    return row


def _gap(metric: Callable[..., float], a: Scores, b: Scores, c: Scores, d: Scores) -> float:
    return metric(a, b) - metric(c, d)


def _listed(found: Interval) -> list[float | None]:
    """Mean, ends and n; no ends where they are undetermined."""
    return [round(v, 5) if isfinite(v) else None for v in found[:3]] + [found.n]


def _rounded(values: Scores) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def compared(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """In how many cells R(x) beats x and is beaten, and in how many of them, by detector, that is sure.

    Sure is by Holm over all the cells.

    Intervals are over test images, given the calibration and the networks, of which there is one each.
    """
    compared = [r for r in rows if r["difference"]]
    gaps = [r["difference"][metric] for r in compared]
    sure = surely(gaps)
    kinds = [r["detector"].removesuffix(UNSEEN) for r in compared]

    def told(sign: int) -> str:
        there = [(kind, s) for kind, g, s in zip(kinds, gaps, sure, strict=True) if sign * g[0] > 0]
        times = Counter(kind for kind, s in there if s)
        of_each = "".join(f", {kind} {n}" for kind, n in times.items())
        return f"{len(there)} of {len(gaps)} cells ({times.total()} surely, after Holm{of_each.replace(',', ':', 1)})"

    n = sorted(g[3] for g in gaps)
    images = "" if not n else f" (n={n[0]})" if n[0] == n[-1] else f" (n={n[0]} to {n[-1]})"
    return f"on the images kept in both{images}, R(x) above x in {told(1)}, below in {told(-1)}"


def surely(gaps: Sequence[Sequence[Any]]) -> list[bool]:
    """Which differences of cells are not by chance, after Holm over all of them, see `chance`."""
    return [p <= LEVEL for p in holm([chance(*gap) for gap in gaps])]


def chance(mean: float, low: float | None, high: float | None, n: int) -> float:
    """Two-sided probability of so large a difference by chance, by a normal law as wide as the bootstrap's interval.

    1 where the interval is undetermined.

    Args:
        mean: difference.
        low: end of its 95 % interval.
        high: likewise.
        n: images.
    """
    if low is None or high is None or n < ENOUGH or high <= low:
        return 1.0
    return erfc(abs(mean) * 2 * Z95 / (high - low) / sqrt(2))
