"""CD-VAE's white-box game: the classifier of G(x) and the purifier against their attacker [Yang et al. 2021, 3.4]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Loss, Norm, ascent, cross_entropy, logit_margin, margin, pgd, straight_through_clamp
from art_ext.attacks.settings import training_attack
from art_ext.classifiers import ClassifierObjective
from art_ext.nn.modes import evaluating
from art_ext.objectives.cdvae import CDVAETraining, Disentangling, labels, mean_over
from art_ext.objectives.stages import check_unused, named_norm, numbers, stages
from art_ext.purifiers.cdvae import CDVAE, Coded
from art_ext.training import Objective

VARIANTS: dict[str, dict[str, float]] = {
    "paper": {"gamma": 0.1, "beta": 0.2, "margin": 0.1},
    "released": {"gamma": 0.1, "beta": 0.01, "margin": 20.0},
}
"""Weights where none are given; the paper's gamma and margin here are not in it."""
KAPPA = 10.0
"""Margin beyond which the released attack goes no further."""
LOSSES = ("cross-entropy", "margin")
"""That the training attack may raise: Eq. 7's, and that of the paper's Table 7, which calls PGD on it C&W."""


class CDVAEGame(Disentangling):
    """Eqs. 7 to 10, mixed with Eqs. 1 to 3 on clean images: what an attack bends in G(x') is to go to R(x').

    x' attacks D_G(G(x')). Where D_G is no longer sure of y, p[y] - max of the others <= margin, the player "game" (G, D
    and D_G together) minimises L_G(x') - gamma * (log D_G(G(x'))[y] + log D(R(x'))[most likely wrong class]), means
    over these samples, and 0 where there are none; and Eq. 1 on the clean images.

    The released code is another game, `variant="released"`: G reconstructs the clean image from x', D learns the most
    likely class, right or wrong, both over all samples; the gate is a margin of logits and holds for D_G's term alone;
    beta is 0.01; nothing is trained on clean images but those that were wrong before the attack; and the attack ascends
    the margin up to 10. The code's default margin is 8, its README trains with 20 and clips each value of a gradient
    to 1 (`clip`); its D_G has dropout of 0.3, which is the caller's network here.

    Whether D_G is sure, and of which class, is asked of the networks that were attacked: in eval mode, with z as the
    attack had it. In train mode batch statistics of attacked images alone, samples of z and dropout would answer.

    Nothing trains D_G on clean images in the paper's, as printed. Both sample z and put G(x') clamped before D_G, with
    a straight-through gradient. Differs from the paper, which gives no step size: here eps / sqrt(steps), as in the
    released code. Start from a CD-VAE trained on clean images.

    Args:
        purifier: see `Disentangling`.
        classifier: D_G, images in [0, 1] to logits; it is trained.
        residual_classifier: see there.
        gamma: see there; also of the clean images. 0.1, released, unless given.
        beta: see there; 0.2, released 0.01, unless given.
        margin: c of Eq. 8, of probabilities, which the paper leaves open: 0.1 unless given; released: 20, of logits.
        variant: "paper" or "released".
        clean: weight of Eq. 1 on clean images, in the paper's variant only.
        eps: radius of the training adversaries, in the units of x.
        steps: of the training attack, with all networks in eval mode.
        step_size: of the training attack; eps / sqrt(steps) unless given.
        norm: of the training attack; Linf unless given.
        loss: of the training attack: "cross-entropy" (Eq. 7) or "margin" (Table 7's C&W); the variant's unless given.
        clip: largest absolute value of an entry of a gradient, with the optimiser that `optimizer` makes; none unless
            given.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(  # noqa: PLR0913  the training attack's, and each term's
        self,
        purifier: CDVAE,
        classifier: nn.Module,
        residual_classifier: nn.Module | None = None,
        *,
        gamma: float | None = None,
        beta: float | None = None,
        margin: float | None = None,
        variant: str = "paper",
        clean: float = 1.0,
        eps: float = 8 / 255,
        steps: int = 10,
        step_size: float | None = None,
        norm: Norm | None = None,
        loss: str | None = None,
        clip: float | None = None,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"expected variant to be one of {', '.join(VARIANTS)}; got {variant!r}")
        if loss not in (None, *LOSSES):
            raise ValueError(f"expected loss to be one of {', '.join(LOSSES)}; got {loss!r}")
        if clip is not None and not 0 < clip < float("inf"):
            raise ValueError(f"expected clip > 0, got {clip}")
        given: dict[str, Any] = {"gamma": gamma, "beta": beta, "margin": margin}
        usual = VARIANTS[variant] | {k: v for k, v in given.items() if v is not None}
        super().__init__(purifier, residual_classifier, gamma=usual["gamma"], beta=usual["beta"])
        if not 0 <= clean < float("inf") or math.isnan(usual["margin"]):
            raise ValueError(f"expected clean >= 0 and a margin, got {clean=} and margin={usual['margin']}")
        self.classifier = classifier
        self.margin, self.variant, self.clean, self.clip = usual["margin"], variant, clean, clip
        self.loss = loss or ("margin" if variant == "released" else "cross-entropy")
        self.eps, self.steps, given_step, self.norm = training_attack(eps, steps, step_size, norm)
        self.step_size = self.eps / math.sqrt(self.steps) if given_step is None else given_step

    def trained(self) -> list[nn.Module]:
        return [*super().trained(), self.classifier]

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"game": super().players()["cdvae"]}

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The paper's, see `Disentangling`; it clips gradients where `clip` is given."""
        made = super().optimizer(player, parameters)
        if self.clip is not None:
            made.register_step_pre_hook(Clipped(self.clip))
        return made

    def attacked(self, x: Tensor) -> Tensor:
        """What the attack sees, D_G(G(x)) (N, K): with a sample of z in the released variant, else with its mean."""
        sampled = self.variant == "released"
        image = straight_through_clamp(self.coded(x).image) if sampled else self.purifier.relaxed(x)
        logits: Tensor = self.classifier(image)
        return logits

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        y = labels(y)
        released = self.variant == "released"
        loss: Loss = margin(self.attacked, y) if self.loss == "margin" else cross_entropy(self.attacked, y)
        if released and self.loss == "margin":
            loss = capped(loss, KAPPA)
        with evaluating(self.purifier, self.classifier):
            x_adv = pgd(ascent(loss), x, norm=self.norm, eps=self.eps, steps=self.steps, step_size=self.step_size)
            if not released:
                return x_adv
            with torch.no_grad():
                right = self.attacked(x).argmax(1) == y
        return torch.where(right.view(-1, 1, 1, 1), x_adv, x)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        y = labels(y)
        with evaluating(self.purifier, self.classifier), torch.no_grad():
            answers = self.attacked(x_adv)
        coded = self.coded(x_adv)
        logits = self.classifier(straight_through_clamp(coded.image))
        if self.variant == "released":
            return self.released_terms(coded, (logits, answers), x, x_adv, y)
        terms = self.adversarial_terms(coded, (logits, answers), x_adv, y)
        if self.clean:
            terms |= {f"clean {k}": self.clean * v for k, v in self.clean_terms(x, [(1.0, y)]).items()}
        return terms

    def adversarial_terms(
        self, coded: Coded, found: tuple[Tensor, Tensor], x_adv: Tensor, y: Tensor
    ) -> dict[str, Tensor]:
        """Eqs. 8 to 10 as printed.

        Args:
            coded: what G made of x'.
            found: D_G's logits (N, K) on it, in train mode and as attacked.
            x_adv: x' (N, C, H, W).
            y: labels (N,).
        """
        logits, answers = found
        unsure = -logit_margin(answers.softmax(1), y) <= self.margin
        wrong = answers.masked_fill(F.one_hot(y, answers.shape[1]).bool(), -torch.inf).argmax(1)
        terms = self.reconstruction_terms(coded, x_adv, unsure)
        return terms | self.class_terms(coded, logits, x_adv, (y, unsure), (wrong, unsure))

    def released_terms(
        self, coded: Coded, found: tuple[Tensor, Tensor], x: Tensor, x_adv: Tensor, y: Tensor
    ) -> dict[str, Tensor]:
        """The released code's loss, see `variant`; arguments as for `adversarial_terms`, and the clean images."""
        logits, answers = found
        everyone = torch.ones_like(y, dtype=torch.bool)
        unsure = -logit_margin(answers, y) < self.margin
        terms = self.reconstruction_terms(coded, x, everyone)
        return terms | self.class_terms(coded, logits, x_adv, (y, unsure), (answers.argmax(1), everyone))

    def class_terms(
        self, coded: Coded, logits: Tensor, x_adv: Tensor, seen: tuple[Tensor, Tensor], hidden: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Eq. 10: cross-entropies of D_G on G(x') and of D on R(x'), each against classes (N,) over flagged samples."""
        residual = self.residual_classifier(x_adv - coded.image)
        pairs = {"classification": (logits, *seen), "residual": (residual, *hidden)}
        return {
            name: self.gamma * mean_over(F.cross_entropy(found, classes, reduction="none"), chosen)
            for name, (found, classes, chosen) in pairs.items()
        }


class Clipped:
    """Clips each entry of an optimiser's gradients to [-most, most] before a step."""

    def __init__(self, most: float) -> None:
        self.most = most

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        torch.nn.utils.clip_grad_value_([p for group in optimizer.param_groups for p in group["params"]], self.most)


def capped(loss: Loss, most: float) -> Loss:
    """A loss (N,) that stops, with its gradient, where it has reached `most`."""
    return lambda x: loss(x).clamp_max(most)


@stages.register(CDVAE)
@numbers
def cdvae_stages(  # noqa: PLR0913  every option of the method
    purifier: CDVAE, classifier: nn.Module | None = None, *, gamma: float = 2e-3, beta: float = 0.2, mixup: float = 0.0,
    residual_classifier: nn.Module | None = None, disentangle: bool = True, train_classifier: bool = False,
    game: bool = False, variant: str = "paper", game_gamma: float | None = None, game_beta: float | None = None,
    margin: float | None = None, clean: float = 1.0, eps: float = 8 / 255, steps: int = 10,
    step_size: float | None = None, norm: Norm | str | None = None, loss: str | None = None, clip: float | None = None,
    learning_rate: float = 1e-3,
) -> list[Objective]:  # fmt: skip
    """Disentanglement, then the classifier on G(x), then the game, those that are wanted; all need labels.

    Args:
        purifier: G, the CDVAE to train.
        classifier: D_G; trained by the second stage and by the game.
        gamma: weight of the classification of residuals on clean images; the paper: 2e-3 to defend CIFAR-10.
        beta: weight of the KL divergence on clean images.
        mixup: of the first stage: a of Beta(a, a), 0 for none; released: 2.
        residual_classifier: D; the purifier's own unless given.
        disentangle: have the first stage, `CDVAETraining`.
        train_classifier: have the second stage, the classifier on G(x).
        game: have the third stage, `CDVAEGame`.
        variant: of the game: "paper" or "released".
        game_gamma: gamma of the game; the variant's unless given.
        game_beta: beta of the game; likewise.
        margin: of the game; likewise.
        clean: weight of the clean images' loss in the paper's game.
        eps: radius of the game's attack, in the units of x.
        steps: of the game's attack.
        step_size: of the game's attack; eps / sqrt(steps) unless given.
        norm: of the game's attack, or its name; Linf unless given.
        loss: of the game's attack: "cross-entropy" or "margin"; the variant's unless given.
        clip: largest entry of a gradient in the game; none unless given.
        learning_rate: of every stage.

    Raises:
        ValueError: no stage, no classifier for one that trains it, an option of a stage that is not there, or an
            argument out of its range.
    """
    if not (disentangle or train_classifier or game):
        raise ValueError("expected a stage to train, got disentangle=False, train_classifier=False and game=False")
    if classifier is None and (train_classifier or game):
        raise ValueError("expected the classifier of G(x) to train too, got None")
    attack: dict[str, Any] = {"variant": variant, "margin": margin, "clean": clean, "eps": eps, "steps": steps}
    attack |= {"step_size": step_size, "norm": norm, "loss": loss, "clip": clip}
    if not disentangle:
        check_unused(CDVAE, "disentangle=True", {"gamma": gamma, "beta": beta, "mixup": mixup})
    if not disentangle and not game:
        check_unused(CDVAE, "disentangle=True or game=True", {"residual_classifier": residual_classifier})
    if not game:
        check_unused(CDVAE, "game=True", {**attack, "game_gamma": game_gamma, "game_beta": game_beta})
    made: list[Disentangling | ClassifierObjective] = []
    if disentangle:
        made.append(CDVAETraining(purifier, residual_classifier, gamma=gamma, beta=beta, mixup=mixup))
    if train_classifier and classifier is not None:
        made.append(ClassifierObjective(classifier, purifier=purifier))
    if game and classifier is not None:
        attack |= {"norm": named_norm(norm), "gamma": game_gamma, "beta": game_beta}
        made.append(CDVAEGame(purifier, classifier, residual_classifier, **attack))
    for stage in made:
        stage.learning_rate = learning_rate
    return [*made]
