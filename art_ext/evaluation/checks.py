"""Checks that tell a robust defence from an attack that could not have worked; each gives a verdict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy
from art_ext.evaluation.backends import art
from art_ext.evaluation.report import CLEAN, Report, Verdict
from art_ext.evaluation.statistics import paired_difference
from art_ext.evaluation.threat import Knowledge, Threat

NO_GRADIENT = "no gradient at all"
BLACK_BOX = (Knowledge.TRANSFER.value, Knowledge.BLIND.value)


def gives_logits(name: str, module: nn.Module, x: Tensor) -> Verdict:
    """Fails on outputs that are probabilities: they flatten the gradients of every attack."""
    with torch.no_grad():
        out = module(x)
    sums_to_one = bool((out.sum(1) - 1).abs().max() < 1e-5)
    probabilities = sums_to_one and bool((out >= 0).all() and (out <= 1).all())
    detail = "outputs are probabilities, expected logits" if probabilities else f"outputs sum to {out.sum(1)[0]:.3g}"
    return Verdict("gives logits", name, "fail" if probabilities else "pass", detail)


def randomised(module: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether five passes differ: in the number of correct answers, or in normalised logits by more than 1e-4."""
    with torch.no_grad():
        outs = [module(x) for _ in range(5)]
    units = [out / out.norm(dim=1, keepdim=True).clamp_min(1e-12) for out in outs]
    moved = max(float((unit - units[0]).abs().max()) for unit in units)
    right = {int((out.argmax(1) == y).sum()) for out in outs}
    return moved > 1e-4 or len(right) > 1


def draws_suffice(name: str, random: bool, draws: int) -> Verdict:
    """Fails when a randomised model was attacked through a single draw."""
    if not random:
        return Verdict("randomness", name, "pass", "deterministic: five passes agree")
    verdict = "pass" if draws > 1 else "fail"
    return Verdict("randomness", name, verdict, f"randomised: strongest full attack averaged {draws} draw(s)")


def gradient_reaches(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Verdict:
    """Share of images whose gradient is zero at a random start: warn above 0, fail from 5 %."""
    start = (x + threat.ball.sample(x, threat.eps)).clamp(0, 1)
    try:
        gradient = ascent(cross_entropy(module, y))(start)
    except RuntimeError as error:  # autograd: nothing between the output and the input requires a gradient
        return Verdict("zero gradient", name, "fail", f"{NO_GRADIENT}: {error}")
    dead = float((gradient.abs().flatten(1).amax(1) == 0).float().mean())
    verdict = "pass" if dead == 0 else "warn" if dead < 0.05 else "fail"
    return Verdict("zero gradient", name, verdict, f"{100 * dead:.1f} % of {len(x)} images have a zero gradient")


def art_agrees(name: str, module: nn.Module, x: Tensor, y: Tensor) -> Verdict:
    """Fails when ART's `loss_gradient` of the wrapped classifier is not torch's; for deterministic models."""
    through_art = torch.from_numpy(art.estimator(module, x, y).loss_gradient(x.cpu().numpy(), one_hot(module, x, y)))
    direct = ascent(cross_entropy(module, y))(x).cpu() / len(x)  # ART's loss is a mean over the batch
    gap = float((through_art - direct).abs().max())
    return Verdict("gradient through ART", name, "pass" if gap <= 1e-5 else "fail", f"largest difference {gap:.1e}")


def one_hot(module: nn.Module, x: Tensor, y: Tensor) -> object:
    """Labels as ART's gradients want them, (N, K)."""
    with torch.no_grad():
        classes = module(x[:1]).shape[1]
    return nn.functional.one_hot(y, classes).cpu().numpy()


def undefended_breaks(report: Report, name: str) -> Verdict:
    """The same attacks take the bare classifier to about 0: pass to 5 %, warn to 10 %."""
    worst = report.worst_case(name)
    verdict = "pass" if worst.mean <= 0.05 else "warn" if worst.mean <= 0.10 else "fail"
    return Verdict("undefended breaks", name, verdict, f"worst case {worst}")


def black_box_weaker(report: Report, name: str) -> Verdict:
    """Fails when blind or transfer attacks break more images than full ones, paired, beyond the interval."""
    cells = report.attacked(name)
    groups = {
        "black": [c for c in cells if c.knowledge in BLACK_BOX],
        "full": [c for c in cells if c.knowledge in (Knowledge.FULL.value, Knowledge.OWN.value)],
    }
    if not all(groups.values()):
        return Verdict("black-box not stronger", name, "not run", "needs a black-box and a full attack")
    n = min(len(c.correct[0]) for group in groups.values() for c in group)
    survived = {k: [min(c.survived[i] for c in g) for i in range(n)] for k, g in groups.items()}
    gap = paired_difference(survived["full"], survived["black"])
    detail = (
        f"full minus black-box accuracy {100 * gap.mean:.1f} points [{100 * gap.low:.1f}, {100 * gap.high:.1f}] n={n}"
    )
    return Verdict("black-box not stronger", name, "fail" if gap.low > 0 else "pass", detail)


def clean_cost(report: Report, bare: str, name: str) -> Verdict:
    """How much clean accuracy the defence costs, paired; never fails, always said."""
    pair = [report.cell(m, CLEAN, "none").survived for m in (bare, name)]
    gap = paired_difference(*pair)
    detail = f"{100 * gap.mean:.1f} points lost [{100 * gap.low:.1f}, {100 * gap.high:.1f}] n={gap.n}"
    return Verdict("clean accuracy cost", name, "pass", detail)
