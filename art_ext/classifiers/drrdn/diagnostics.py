"""How far a DRRDN has come apart: what its own heads read from the parts, and what fresh ones do."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from art_ext.classifiers.drrdn.network import DRRDN
from art_ext.nn.modes import evaluating, seeded


def diagnose(model: DRRDN, x: Tensor, x_adv: Tensor, y: Tensor, *, batch_size: int = 256) -> dict[str, float]:
    """Accuracies of the model's own heads on both parts, and its critic's estimate of their mutual information.

    These heads are the opponents that the parts were trained against: what they cannot read may be there all the same,
    and `read_out` finds it. The model is in eval mode.

    - `c_i_on_z_s`: natural or adversarial, from z_s; the training drives it to 0.5 and may drive it below, where the
      head still tells them apart, the wrong way round.
    - `c_i_on_z_i`: the same from z_i; the training drives it to 1.
    - `c_s_on_z_i`: the class, from z_i; the training drives it to chance.
    - `mutual_information`: of z_s and z_i in nats, see `Mine.information`; meaningful where the critic was trained.

    Args:
        model: to look into.
        x: images as the model takes them.
        x_adv: their adversaries.
        y: class indices (N,).
        batch_size: images at once, and rows of the mutual information's estimate.

    Raises:
        ValueError: no images, or not one adversary and label for each.
    """
    _check(x, x_adv, y, 1)
    pieces = [t.split(batch_size) for t in (x, x_adv, y)]
    sums = dict.fromkeys(("c_i_on_z_s", "c_i_on_z_i", "c_s_on_z_i", "mutual_information"), 0.0)
    with evaluating(model), torch.no_grad(), seeded(0):
        for natural, adversarial, labels in zip(*pieces, strict=True):
            for name, value in _of_batch(model, natural, adversarial, labels).items():
                sums[name] += value * len(natural) / len(x)
    return sums


def _check(x: Tensor, x_adv: Tensor, y: Tensor, least: int) -> None:
    if len(x) < least or x_adv.shape != x.shape or y.shape != (len(x),):
        raise ValueError(
            f"expected {least} images or more, adversaries of the same shape and a label each, got shapes "
            f"{tuple(x.shape)}, {tuple(x_adv.shape)} and {tuple(y.shape)}"
        )


def _of_batch(model: DRRDN, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, float]:
    _, z_s, z_i = model.represent(torch.cat([x, x_adv]))
    is_natural = torch.arange(len(z_s), device=z_s.device) < len(x)
    return {
        "c_i_on_z_s": float(((model.natural(z_s) > 0) == is_natural).float().mean()),
        "c_i_on_z_i": float(((model.natural(z_i) > 0) == is_natural).float().mean()),
        "c_s_on_z_i": float((model.c_s(z_i).argmax(1) == torch.cat([y, y])).float().mean()),
        "mutual_information": float(model.critic.information(z_s, z_i)),
    }


def read_out(model: DRRDN, x: Tensor, x_adv: Tensor, y: Tensor, *, batch_size: int = 256) -> dict[str, float]:
    """Accuracies of fresh heads, each trained on the parts of half of the images and tried on those of the others.

    "domain from z_s" and "domain from z_i" tell natural from adversarial, "class from z_s" and "class from z_i" the
    class; an image and its adversary are in the same half, which is drawn at random, always the same. What such a head
    reads is in the part, whatever the model's own heads say; what it does not read may still be there.

    Args:
        model: to look into.
        x: images as the model takes them, two at least.
        x_adv: their adversaries.
        y: class indices (N,).
        batch_size: images at once.

    Raises:
        ValueError: fewer than two images, or not one adversary and label for each.
    """
    _check(x, x_adv, y, 2)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    with evaluating(model), torch.no_grad():
        pairs = [[model.represent(piece) for piece in images.split(batch_size)] for images in (x, x_adv)]
    half = len(x) // 2
    order = np.random.default_rng(0).permutation(len(x))  # images may come class by class
    labels = y.cpu().numpy()[order]
    found = {}
    for part in ("z_s", "z_i"):
        natural, adversarial = (torch.cat([getattr(p, part) for p in pieces]).cpu().numpy()[order] for pieces in pairs)
        scaler = StandardScaler().fit(np.concatenate([natural[:half], adversarial[:half]]))
        known, other = (
            scaler.transform(np.concatenate([natural[rows], adversarial[rows]]))
            for rows in (slice(None, half), slice(half, None))
        )
        for what in ("domain", "class"):
            told, asked = (
                np.arange(2 * len(piece)) < len(piece) if what == "domain" else np.concatenate([piece, piece])
                for piece in (labels[:half], labels[half:])
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                head = MLPClassifier((64,), max_iter=200, random_state=0).fit(known, told)
            found[f"{what} from {part}"] = float((head.predict(other) == asked).mean())
    return found
