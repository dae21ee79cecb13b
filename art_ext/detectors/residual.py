"""Any detector on R(x) = x - G(x), where CD-VAE finds what classes differ in [Yang et al. 2021, section 3.3]."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """R(x) = x - G(x), (N, C, H, W) in [-1, 1]; differentiable through G.

    Of a purifier that has a `residual` of its own it takes that one (CD-VAE's is x minus G(x) before the clamp to [0,
    1]); of any other `Purifier` `relaxed`, whose values are those of its output and whose gradient passes the clamp.

    Args:
        purifier: G, images (N, C, H, W) in [0, 1] to the same. A random one makes random scores.
    """

    def __init__(self, purifier: nn.Module) -> None:
        super().__init__()
        self.purifier = purifier

    def forward(self, x: Tensor) -> Tensor:
        own = getattr(self.purifier, "residual", None)
        left: Tensor = x - getattr(self.purifier, "relaxed", self.purifier)(x) if own is None else own(x)
        return left


def on_residuals(purifier: nn.Module, classifier: nn.Module) -> nn.Sequential:
    """The network for a detector on R(x): images to the logits of D(x - G(x)); layer "a" of D is called "1.a".

    Args:
        purifier: G, see `Residual`.
        classifier: D, trained on residuals (`ClassifierObjective(classifier, purifier=Residual(purifier))`).
    """
    return nn.Sequential(Residual(purifier), classifier)
