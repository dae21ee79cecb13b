"""Whether a DRRDN has come apart: what each head can read from the part that is not its own."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.classifiers.drrdn.network import DRRDN
from art_ext.nn.modes import evaluating, seeded


def diagnose(model: DRRDN, x: Tensor, x_adv: Tensor, y: Tensor, *, batch_size: int = 256) -> dict[str, float]:
    """Accuracies of the heads on both parts, and the critic's estimate of their mutual information; model in eval mode.

    - `c_i_on_z_s`: natural or adversarial, from z_s; 0.5 where nothing of that is left.
    - `c_i_on_z_i`: the same from z_i; should go to 1.
    - `c_s_on_z_i`: the class, from z_i; should be at chance.
    - `mutual_information`: of z_s and z_i in nats, see `Mine`; meaningful where the critic was trained, and a lower
      bound even then.

    Args:
        model: to look into.
        x: images as the model takes them.
        x_adv: their adversaries.
        y: class indices (N,).
        batch_size: images at once, and rows of the mutual information's estimate.
    """
    pieces = [t.split(batch_size) for t in (x, x_adv, y)]
    sums = dict.fromkeys(("c_i_on_z_s", "c_i_on_z_i", "c_s_on_z_i", "mutual_information"), 0.0)
    with evaluating(model), torch.no_grad(), seeded(0):
        for natural, adversarial, labels in zip(*pieces, strict=True):
            for name, value in _of_batch(model, natural, adversarial, labels).items():
                sums[name] += value * len(natural) / len(x)
    return sums


def _of_batch(model: DRRDN, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, float]:
    _, z_s, z_i = model.represent(torch.cat([x, x_adv]))
    is_natural = torch.arange(len(z_s), device=z_s.device) < len(x)
    return {
        "c_i_on_z_s": float(((model.natural(z_s) > 0) == is_natural).float().mean()),
        "c_i_on_z_i": float(((model.natural(z_i) > 0) == is_natural).float().mean()),
        "c_s_on_z_i": float((model.c_s(z_i).argmax(1) == torch.cat([y, y])).float().mean()),
        "mutual_information": float(model.critic.information(z_s, z_i)),
    }
