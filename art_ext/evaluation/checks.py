"""Checks that look at the models themselves: could an attack have worked at all? Each gives a verdict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.attacks import ascent, cross_entropy, margin
from art_ext.evaluation.backends import Attack, art
from art_ext.evaluation.binarisation import LEAST, binarisation_test
from art_ext.evaluation.models import Defended
from art_ext.evaluation.report import Verdict
from art_ext.evaluation.threat import Threat
from art_ext.nn.modes import seeded
from art_ext.purifiers import Purifier

NO_GRADIENT = "no gradient at all"
LOOKED_AT = 64
"""Images that these checks look at."""


def look(model: Defended, x: Tensor, y: Tensor, threat: Threat, random: bool) -> list[Verdict]:
    """Every check of this module on a model.

    Args:
        model: in eval mode.
        x: images (N, C, H, W) in [0, 1]; the first `LOOKED_AT` are used.
        y: labels (N,).
        threat: norm and radius.
        random: whether the model is randomised.
    """
    name, module, x, y = model.name, model.module, x[:LOOKED_AT], y[:LOOKED_AT]
    found = [gives_logits(name, module, x), gradient_reaches(name, module, x, y, threat)]
    if NO_GRADIENT in found[1].detail:
        reason = "there is no gradient"
        found += [Verdict(check, name, "not run", reason) for check in ("gradient through ART", "finite differences")]
    else:
        found.append(art_agrees(model, x, y))
        found.append(finite_differences(model, x[:5], y[:5], threat))
    if model.purifier is not None:
        found.append(saturated(name, model.purifier, x, threat))
    return found


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


def gradient_reaches(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Verdict:
    """Share of images whose gradient is zero at a random start: warn above 0, fail from 5 %."""
    try:
        gradient = ascent(cross_entropy(module, y))(_started(x, threat))
    except (RuntimeError, ValueError) as error:  # nothing between the output and the input requires a gradient
        return Verdict("zero gradient", name, "fail", f"{NO_GRADIENT}: {error}")
    dead = float((gradient.abs().flatten(1).amax(1) == 0).float().mean())
    verdict = "pass" if dead == 0 else "warn" if dead < 0.05 else "fail"
    return Verdict("zero gradient", name, verdict, f"{100 * dead:.1f} % of {len(x)} images have a zero gradient")


def art_agrees(model: Defended, x: Tensor, y: Tensor) -> Verdict:
    """Fails when ART's `loss_gradient` of the wrapped classifier is zero, or not torch's.

    The classifier is the user's own where the model came from ART. Both gradients see the same draws.
    """
    classifier = model.estimator or art.estimator(model.module, x, y)
    labels = nn.functional.one_hot(y, int(classifier.nb_classes)).cpu().numpy()
    with seeded(0):
        through_art = art.loss_gradient(classifier, x, labels).cpu()
    with seeded(0):
        direct = ascent(cross_entropy(model.module, y))(x).cpu() / len(x)  # ART's loss is a mean over the batch
    peak, gap = float(through_art.abs().max()), float((through_art - direct).abs().max())
    wrong = peak == 0 or gap > 1e-5 + 1e-3 * float(direct.abs().max())
    detail = "ART's gradient is zero" if peak == 0 else f"largest difference {gap:.1e}"
    return Verdict("gradient through ART", model.name, "fail" if wrong else "pass", detail)


def finite_differences(model: Defended, x: Tensor, y: Tensor, threat: Threat) -> Verdict:
    """Fails when the margin does not change along the gradient as the gradient says, by a quarter, on most images.

    The step is small enough that the gradient should hold along it; draws are the same on both sides.
    """
    check = "finite differences"
    if model.purifier is not None and not model.purifier.differentiable:
        return Verdict(check, model.name, "not run", "the purifier's gradient is an approximation (BPDA)")
    loss, start = margin(model.module, y), 0.05 + 0.9 * _started(x, threat)  # room to both sides of every pixel
    with seeded(0):
        gradient = ascent(loss)(start)
    length = gradient.flatten(1).norm(dim=1)
    usable = length > 0
    if not bool(usable.any()):
        return Verdict(check, model.name, "fail", f"the gradient of all {len(x)} images is zero")
    along = gradient / length.clamp_min(1e-30).view(-1, 1, 1, 1)
    errors = []
    for change in (1e-2, 1e-3):  # of the margin; a kink within the larger step may spoil it, float32 the smaller one
        h = (change / length.clamp_min(1e-30)).clamp_max(1e-2).view(-1, 1, 1, 1)
        sides = []
        for sign in (1, -1):
            with torch.no_grad(), seeded(0):
                sides.append(loss(start + sign * h * along))
        slope = (sides[0] - sides[1]) / (2 * h.flatten())
        errors.append((slope / length - 1).abs())
    error = float(torch.stack(errors).amin(0)[usable].median())
    detail = f"slope along the gradient differs by {100 * error:.1f} % (median of {int(usable.sum())} images)"
    return Verdict(check, model.name, "pass" if error <= 0.25 else "fail", detail)


def saturated(name: str, purifier: Purifier, x: Tensor, threat: Threat) -> Verdict:
    """Share of pixels that the purifier's final clamp holds, with no gradient: warn above 5 %, fail from 90 %."""
    with torch.no_grad():
        values = torch.cat([purifier.unclamped(piece) for piece in _started(x, threat).split(purifier.batch_size)])
    held = float(((values < -1e-6) | (values > 1 + 1e-6)).float().mean())
    verdict = "pass" if held <= 0.05 else "warn" if held < 0.9 else "fail"
    return Verdict("saturated pixels", name, verdict, f"the final clamp holds {100 * held:.1f} % of the pixels")


def attack_unit_test(model: Defended, x: Tensor, threat: Threat, steps: int, random: bool) -> Verdict:
    """Whether the probes' PGD finds 95 % of examples that are known to be there (`binarisation_test`).

    Warns below that, and fails where the whole interval lies below. The features are what the widest linear layer of
    the classifier takes: on narrow ones random search succeeds too, and the test says little.
    """
    check, name = "attack unit test", model.name
    linear = [m for m in model.classifier.modules() if isinstance(m, nn.Linear)]
    if random or not linear:
        reason = "randomised: a planted example is not certain" if random else "the classifier has no linear layer"
        return Verdict(check, name, "not run", reason)
    attack = Attack("native", "PGD", {"steps": steps})
    widest = max(linear, key=lambda m: m.in_features)
    found = binarisation_test(_Before(model.module, widest), attack, x, threat)
    if not any(found.usable) or found.random_share > 0.5:
        return Verdict(check, name, "not run", "no image gave a problem that random search does not solve")
    verdict = "pass" if found.share >= LEAST else "warn" if found.interval.high >= LEAST else "fail"
    detail = f"{attack.title} finds {found.interval}, random search {100 * found.random_share:.1f} %"
    return Verdict(check, name, verdict, detail)


class _Before(nn.Module):
    """What a layer of a network takes, flattened."""

    def __init__(self, module: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.module, self.layer = module, layer

    def forward(self, x: Tensor) -> Tensor:
        taken: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            self.module(x)
        finally:
            handle.remove()
        return taken[-1].flatten(1)


def _started(x: Tensor, threat: Threat) -> Tensor:
    """Random points of the ball, always the same ones."""
    with seeded(0):
        return (x + threat.ball.sample(x, threat.eps)).clamp(0, 1)
