"""StAdv: adversarial images whose pixels have moved, not changed colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.attacks.gradient import straight_through_clamp
from art_ext.attacks.losses import Model, margin
from art_ext.attacks.search import adam, best_iterate, check_arguments, check_smoothness, roughness


def stadv(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    bound: float = 0.05,
    steps: int = 100,
    step_size: float = 0.01,
    smoothness: float = 0.0025,
    targeted: bool = False,
) -> Tensor:
    """Images (N, C, H, W) in [0, 1] whose pixels come from places at most `bound` away [arXiv:1801.02612].

    The objective is the margin minus smoothness / bound times the roughness of the flow; Adam ascends it from a small
    random flow, uniform in +-bound / 10 from the ambient generator, since a flow of zero lies on a kink of the
    bilinear interpolation. These are the form and the defaults of Laidlaw et al. 2021 [arXiv:2006.12655], not the
    L-BFGS of Xiao et al. 2018. Differs from the reference: it returns the last iterate (it tracks the best one and then
    drops it); here each sample keeps its iterate of highest margin. The reference also lets black in from outside the
    border; see `flow_images`.

    Args:
        model: images in [0, 1] to logits (N, K).
        x: clean images.
        y: labels (N,); the classes wanted when targeted.
        bound: largest flow along each axis, in units of half the side of the image: 0.05 is 0.8 pixels of 32.
        steps: gradient evaluations.
        step_size: Adam's learning rate, in the units of bound.
        smoothness: weight of the roughness, per bound; 0 leaves it out.
        targeted: make y win instead of lose.

    Raises:
        ValueError: bound or step_size not positive and finite, negative steps, smoothness negative or not finite, or
            labels that do not match the images.
    """
    check_arguments(x, y, steps=steps, positive={"bound": bound, "step_size": step_size})
    check_smoothness(smoothness)
    x = x.detach()
    rate = margin(model, y, targeted=targeted)
    flow = x.new_empty(len(x), 2, *x.shape[2:]).uniform_(-bound / 10, bound / 10).requires_grad_()

    def attempt(flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_adv = flow_images(x, flow)
        value = rate(x_adv)
        return x_adv, value, value - smoothness / bound * roughness(flow)

    return best_iterate(x, flow, attempt, adam(flow, bound=bound, step_size=step_size), steps)


def flow_images(x: Tensor, flow: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1] whose pixel at p is that of x at p + flow(p), bilinear between pixels.

    The places are clipped to the image, -1 to 1 from outer edge to outer edge (align_corners=False); in the outer half
    of a border pixel its own value holds. A flow of zero gives x back up to float error.

    Args:
        x: images in [0, 1].
        flow: (N, 2, H, W), to the right and down, in units of half the side: 2 / W is one pixel to the right.

    Raises:
        ValueError: if the flow does not have that shape.
    """
    if flow.shape != (len(x), 2, *x.shape[2:]):
        raise ValueError(f"expected a flow of shape {(len(x), 2, *x.shape[2:])}, got shape {tuple(flow.shape)}")
    identity = torch.eye(2, 3, dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    places = F.affine_grid(identity, list(x.shape), align_corners=False) + flow.permute(0, 2, 3, 1)
    moved = F.grid_sample(x, places.clamp(-1, 1), "bilinear", padding_mode="border", align_corners=False)
    return straight_through_clamp(moved)  # float error alone is outside, and must not stop a gradient
