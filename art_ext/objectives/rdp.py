"""Algorithm 1 of RDP: self-supervised adversaries, the losses of both branches, a relativistic discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, feature, pgd
from art_ext.attacks.settings import training_attack
from art_ext.nn import mean_l1, relativistic
from art_ext.objectives.stages import numbers, stages
from art_ext.plain import number
from art_ext.purifiers.rdp import RDP, Discriminator
from art_ext.training import Objective


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms [Bai et al. 2021, eqs. 6 and 9]; 0 switches a term off.

    Attributes:
        feature: of the feature terms of P (1 in the paper).
        pixel: alpha_1.
        latent: alpha_2.
        adversarial: alpha_3.
        reconstruction: of the whole reconstruction branch (1 in the paper).
        reconstruction_pixel: beta.
    """

    feature: float = 1.0
    pixel: float = 1e-2
    latent: float = 1e-1
    adversarial: float = 1e-4
    reconstruction: float = 1.0
    reconstruction_pixel: float = 1e-4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, number(value, f"the weight {name!r}", at_least=0))
        if not any((self.feature, self.pixel, self.latent, self.adversarial, self.reconstruction)):
            raise ValueError(f"expected a weight above 0, got {self}")

    @classmethod
    def of(cls, given: Weights | Mapping[str, float] | None) -> Weights:
        """Those given; a mapping gives some of them by name, and the others are the paper's.

        Raises:
            TypeError: no mapping, or a weight that is no number.
            ValueError: a name of none, a negative weight, or weights that are all 0.
        """
        if isinstance(given, Weights):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"expected weights as a mapping, got {type(given).__name__}")
        known, found = vars(cls()), dict(given or {})
        if found.keys() - known.keys():
            raise ValueError(f"expected weights out of {', '.join(known)}; got {', '.join(found)}")
        return cls(**found)


class RDPObjective(Objective):
    """Players: "restorers" (P and R), then "discriminator".

    Norms of Eqs. 2 to 8, which the paper does not reduce, are means over values. The critic is that of Eq. 5, plain
    relativistic; the paper's prose says relativistic average. With means and a deep F the feature terms are nearly the
    whole loss: alpha_1 and alpha_3 change little then.

    Args:
        purifier: the RDP to train.
        features: F, frozen: images in [0, 1] to features.
        weights: of the loss terms; the paper's where not given.
        eps: Linf radius of the training adversaries in the units of x (the paper: 16/255).
        steps: of the training attack (NRP: 100; not given in the paper).
        step_size: of the training attack, in the units of x; 2.5 * eps / steps unless given (NRP: 0.01).
        clean_share: expected share of a batch that P sees unperturbed, in [0, 1), so that it learns to leave clean ones
            alone. Algorithm 1 has none: there P sees x for the latent only.
        shared_latent: let L_R reach P's encoder through the natural latent. Algorithm 1 updates P by L_P alone, so the
            default is False, and then R cannot change P; the paper's prose wants both branches to disentangle together.
        learning_rate: Adam's, for all three networks (the paper: 1e-4).
    """

    frozen: ClassVar[tuple[str, ...]] = ("features",)

    def __init__(
        self,
        purifier: RDP,
        features: nn.Module,
        *,
        weights: Weights | Mapping[str, float] | None = None,
        eps: float = 16 / 255,
        steps: int = 10,
        step_size: float | None = None,
        clean_share: float = 0.0,
        shared_latent: bool = False,
        learning_rate: float = 1e-4,
    ) -> None:
        super().__init__()
        if not 0 <= clean_share < 1:
            raise ValueError(f"expected clean_share in [0, 1), got {clean_share}")
        self.purifier, self.features = purifier, features
        device = next((p.device for p in purifier.parameters()), torch.device("cpu"))
        self.discriminator = Discriminator(purifier.channels or 3).to(device)
        self.weights = Weights.of(weights)
        self.eps, self.steps, self.step_size, _ = training_attack(eps, steps, step_size)
        self.clean_share, self.shared_latent, self.learning_rate = clean_share, shared_latent, learning_rate

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {
            "restorers": list(self.purifier.parameters()),
            "discriminator": list(self.discriminator.parameters()),
        }

    def optimizer(self, player: str, parameters: object) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.learning_rate)  # type: ignore[arg-type]

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        """SSP, eq. 1: images whose features lie far from those of x; needs no labels.

        Differs from NRP's code: starts from x + U(-eps, eps), not from Gaussian noise.
        """
        gradient = ascent(feature(self.features, x))
        x_adv = pgd(gradient, x, norm=Linf(), eps=self.eps, steps=self.steps, step_size=self.step_size)
        if not self.clean_share:
            return x_adv
        spared = torch.rand(len(x), 1, 1, 1, device=x.device) < self.clean_share
        return torch.where(spared, x, x_adv)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        if player == "discriminator":
            return {"relativistic": self._discrimination(x, x_adv)}
        natural = self.purifier.encoder(x_adv)
        purified = self.purifier.decoder(natural)
        terms = self._purification(x, natural, purified) | self._reconstruction(x_adv, natural)
        return {name: weight * value for name, (weight, value) in terms.items() if weight}

    def _purification(self, x: Tensor, natural: Tensor, purified: Tensor) -> dict[str, tuple[float, Tensor]]:
        """L_P, eqs. 2 to 6."""
        w = self.weights
        terms = {
            "feature": (w.feature, mean_l1(self.features(purified), self.features(x))),
            "pixel": (w.pixel, mean_l1(purified, x)),
        }
        if w.latent:
            terms["latent"] = (w.latent, mean_l1(natural, self.purifier.encoder(x)))
        if w.adversarial:
            critic = relativistic(self.discriminator(purified), self.discriminator(x))
            terms["adversarial"] = (w.adversarial, critic)
        return terms

    def _reconstruction(self, x_adv: Tensor, natural: Tensor) -> dict[str, tuple[float, Tensor]]:
        """L_R, eqs. 7 to 9; empty when the branch has no weight."""
        w = self.weights
        if not w.reconstruction:
            return {}
        seen = natural if self.shared_latent else natural.detach()
        rebuilt, _ = self.purifier.reconstructor(x_adv, seen)
        return {
            "reconstruction_feature": (w.reconstruction, mean_l1(self.features(rebuilt), self.features(x_adv))),
            "reconstruction_pixel": (w.reconstruction * w.reconstruction_pixel, mean_l1(rebuilt, x_adv)),
        }

    def _discrimination(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """L_D, not printed in the paper: the mirror image of eq. 5, real preferred to purified."""
        with torch.no_grad():
            purified = self.purifier.clean(x_adv)
        return relativistic(self.discriminator(x), self.discriminator(purified))


@stages.register(RDP)
@numbers
def rdp_stages(
    purifier: RDP, classifier: nn.Module | None = None, *, features: nn.Module | None = None,
    weights: Weights | Mapping[str, float] | None = None, eps: float = 16 / 255, steps: int = 10,
    step_size: float | None = None, clean_share: float = 0.0, shared_latent: bool = False, learning_rate: float = 1e-4,
) -> list[Objective]:  # fmt: skip
    """Algorithm 1, which needs no labels; see `RDPObjective`.

    Args:
        purifier: the RDP to train.
        classifier: F where `features` is not given: its logits are the features then.
        features: F: images in [0, 1] to any tensor, such as a `FeatureExtractor`.
        weights: of the loss terms, some of them by name; the paper's where not given.
        eps: Linf radius of the training adversaries, in the units of x.
        steps: of the training attack.
        step_size: of the training attack; 2.5 * eps / steps unless given.
        clean_share: expected share of a batch that P sees unperturbed, in [0, 1).
        shared_latent: let the reconstruction loss reach P's encoder.
        learning_rate: of Adam, for all three networks.

    Raises:
        ValueError: neither features nor a classifier, or an argument out of its range.
    """
    found = classifier if features is None else features
    if found is None:
        raise ValueError(
            "expected a feature extractor to train RDP with, got None: pass features=FeatureExtractor(network, layer), "
            "or a classifier"
        )
    return [
        RDPObjective(
            purifier, found, weights=weights, eps=eps, steps=steps, step_size=step_size, clean_share=clean_share,
            shared_latent=shared_latent, learning_rate=learning_rate,
        )
    ]  # fmt: skip
