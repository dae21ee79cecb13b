"""Training of AToP: a generator by its own loss, then fine-tuned with the classifier's [Lin et al., ICLR 2024]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Norm, ascent, cross_entropy, pgd, straight_through_clamp
from art_ext.attacks.settings import training_attack
from art_ext.nn import mean_l1
from art_ext.nn.modes import evaluating
from art_ext.objectives.stages import check_unused, named_norm, numbers, stages
from art_ext.purifiers.atop import AToP, PatchDiscriminator
from art_ext.training import Objective

ATTACKS = ("fgsm", "pgd", "purifier")
DATA = ("adversarial", "clean")


class AToPPretraining(Objective):
    """l_g on clean images: L1 of the coarse and of the refined image, and a hinge GAN; needs no labels.

    Players: "discriminator", then "generator", as in the released code; the generator alone where the purifier is an
    auto-encoder or `adversarial` is 0. Differs from the released code, which detaches the generator's GAN term: here
    its gradient reaches the generator. All losses are taken at the generator's resolution, on the whole image.

    L1 is in the units of x, of images in [0, 1]. The released code has images in [-1, 1] there, whose L1 is twice as
    large, with weights of 1 for the GAN term and 0.05 for the classifier's: 0.5 and 0.025 here, the same in proportion.

    Args:
        purifier: the AToP to train.
        discriminator: images in [0, 1] and masks to scores, any shape with N rows; unless given, a `PatchDiscriminator`
            a third wider than the generator that leaves 4 x 4 patches of `purifier.size` (of 32 pixels without one).
            Not used without a GAN term.
        adversarial: weight of the generator's GAN term (released: 0.5 in these units).

    Attributes:
        learning_rate: of both players; set another before training.

    Raises:
        ValueError: adversarial is negative.
    """

    learning_rate: float = 1e-4

    def __init__(self, purifier: AToP, discriminator: nn.Module | None = None, *, adversarial: float = 0.5) -> None:
        super().__init__()
        if not 0 <= adversarial < float("inf"):
            raise ValueError(f"expected adversarial >= 0, got {adversarial}")
        self.purifier, self.adversarial = purifier, adversarial
        self.discriminator: nn.Module | None = None
        if purifier.restorer == "gan" and adversarial:
            self.discriminator = default_discriminator(purifier) if discriminator is None else discriminator

    def players(self) -> dict[str, list[nn.Parameter]]:
        generator = {"generator": list(self.purifier.parameters())}
        if self.discriminator is None:
            return generator
        return {"discriminator": list(self.discriminator.parameters()), **generator}

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam as the released configuration has it."""
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.5, 0.999))

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        if player == "discriminator":
            return {"hinge": self.discrimination(x_adv)}
        return self.generation(x_adv)[0]

    def discrimination(self, target: Tensor) -> Tensor:
        """The discriminator's hinge loss: images (N, C, H, W) are real, their restorations are not."""
        assert self.discriminator is not None
        with torch.no_grad():
            target = self.purifier.resized(target)
            restored, hidden = self.restored(target)
        scores = self.discriminator(torch.cat([target, restored[-1]]), torch.cat([hidden, hidden]))
        return hinge(*scores.chunk(2))

    def generation(self, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """l_g of the purifier on images (N, C, H, W), and their restorations at the generator's resolution."""
        target = self.purifier.resized(target)
        restored, hidden = self.restored(target)
        names = ("coarse", "refined")[-len(restored) :]
        terms = {name: mean_l1(image, target) for name, image in zip(names, restored, strict=True)}
        if self.discriminator is not None:
            terms["adversarial"] = -self.adversarial * self.discriminator(restored[-1], hidden).mean()
        return terms, restored[-1]

    def restored(self, seen: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the purifier restores from images (N, C, H, W) at its resolution, and what any mask hid (N, 1, H, W)."""
        draw = self.purifier.draw(seen)
        return self.purifier.restorations(seen, draw), draw.masks.any(0)


class AToPFineTuning(AToPPretraining):
    """l_g + lambda * CE(f(g(t(x'))), y), f frozen; only the generator, and its discriminator, move.

    l_g takes x' for the real image, as the paper and the released code have it: the purifier learns to restore the
    adversary itself and leaves its removal to the second term. Differs from the released code: images are in [0, 1] on
    both sides of f, restorations are clamped before it with a straight-through gradient, the adversaries have the
    native resolution, and the second term counts from the first epoch on.

    Args:
        purifier: the AToP to train.
        classifier: f, images in [0, 1] to logits; frozen.
        data: "adversarial" is the poster's (b); "clean" is its (a), with x in the place of x' in both terms.
        weight: lambda; released, in these units: 0.025 on CIFAR-10, 0.05 on ImageNette and on clean CIFAR-10.
        attack: "fgsm" takes one step of eps against f alone (released), "pgd" several of them from a random start,
            "purifier" those against f behind the purifier, with new draws at each step.
        eps: radius of the training adversaries, in the units of x.
        steps: of "pgd" and "purifier".
        step_size: of these; 2.5 * eps / steps unless given.
        norm: of the training attack; Linf unless given.
        discriminator: see `AToPPretraining`; give that of the pre-training, so that it goes on.
        adversarial: see `AToPPretraining`.

    Raises:
        ValueError: an argument out of its range.
    """

    frozen: ClassVar[tuple[str, ...]] = ("classifier",)
    labelled: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913  the training attack's, and each term's
        self,
        purifier: AToP,
        classifier: nn.Module,
        *,
        data: str = "adversarial",
        weight: float = 0.025,
        attack: str = "fgsm",
        eps: float = 8 / 255,
        steps: int = 10,
        step_size: float | None = None,
        norm: Norm | None = None,
        discriminator: nn.Module | None = None,
        adversarial: float = 0.5,
    ) -> None:
        super().__init__(purifier, discriminator, adversarial=adversarial)
        if data not in DATA or attack not in ATTACKS:
            raise ValueError(f"expected data out of {DATA} and attack out of {ATTACKS}, got {data!r} and {attack!r}")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"expected weight >= 0, got {weight}")
        self.classifier = classifier
        self.data, self.weight, self.attack = data, weight, attack
        self.eps, self.steps, self.step_size, self.norm = training_attack(eps, steps, step_size, norm)

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        if self.data == "clean":
            return x
        model = nn.Sequential(self.purifier, self.classifier) if self.attack == "purifier" else self.classifier
        gradient = ascent(cross_entropy(model, _required(y)))
        single = self.attack == "fgsm"
        with evaluating(self.purifier, self.classifier):
            return pgd(
                gradient,
                x,
                norm=self.norm,
                eps=self.eps,
                steps=1 if single else self.steps,
                step_size=self.eps if single else self.step_size,
                random_start=not single,
            )

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        if player == "discriminator":
            return {"hinge": self.discrimination(x_adv)}
        labels = _required(y)
        terms, restored = self.generation(x_adv)
        if self.weight:
            logits = self.classifier(straight_through_clamp(self.purifier.native(restored, x)))
            terms["classification"] = self.weight * F.cross_entropy(logits, labels)
        return terms


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 - real) / 2 + mean relu(1 + fake) / 2 over all scores of a discriminator."""
    return ((1 - real).relu().mean() + (1 + fake).relu().mean()) / 2


def default_discriminator(purifier: AToP) -> PatchDiscriminator:
    """The released discriminator in proportion to a purifier, see `AToPPretraining`; itself at width 48, size 256."""
    layers = max(1, round(math.log2((purifier.size or 32) / 4)))
    made = PatchDiscriminator(purifier.channels or 3, max(1, purifier.width * 4 // 3), layers)
    return made.to(next((p.device for p in purifier.parameters()), torch.device("cpu")))


def _required(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("expected labels (N,) to fine-tune AToP with, got None")
    return y


@stages.register(AToP)
@numbers
def atop_stages(  # noqa: PLR0913  every option of the method
    purifier: AToP, classifier: nn.Module | None = None, *, attack: str = "fgsm", eps: float = 8 / 255, steps: int = 10,
    step_size: float | None = None, norm: Norm | str | None = None, data: str = "adversarial", weight: float = 0.025,
    adversarial: float = 0.5, discriminator: nn.Module | None = None, pretrain: bool = True,
    finetune: bool | None = None, learning_rate: float = 1e-4,
) -> list[Objective]:  # fmt: skip
    """Pre-training, then fine-tuning with the classifier's loss; they share a discriminator. See `AToPFineTuning`.

    Args:
        purifier: the AToP to train.
        classifier: f, frozen; needed by the second stage alone.
        attack: of the second stage: "fgsm", "pgd" or "purifier".
        eps: radius of the training adversaries, in the units of x.
        steps: of the training attack, but for "fgsm".
        step_size: of "pgd" and "purifier"; 2.5 * eps / steps unless given.
        norm: of the training attack, or its name; Linf unless given.
        data: of the second stage: "adversarial" (the poster's b) or "clean" (its a).
        weight: lambda, of the classifier's loss.
        adversarial: weight of the GAN term.
        discriminator: images in [0, 1] and masks to scores; a new `PatchDiscriminator` unless given.
        pretrain: have the first stage.
        finetune: have the second stage, which needs labels; unless given, where there is a classifier.
        learning_rate: of Adam, for the generator and its discriminator.

    Raises:
        ValueError: no stage, a second one without classifier, an option of a stage that is not there, or an argument
            out of its range.
    """
    finetune = classifier is not None if finetune is None else finetune
    if not pretrain and not finetune:
        raise ValueError("expected a stage to train, got pretrain=False and no fine-tuning")
    given = {"attack": attack, "eps": eps, "steps": steps, "step_size": step_size, "data": data, "weight": weight}
    if not finetune:
        check_unused(AToP, "finetune=True and a classifier", {**given, "norm": norm})
    first = AToPPretraining(purifier, discriminator, adversarial=adversarial)
    if discriminator is not None and first.discriminator is None:
        raise ValueError("expected a discriminator only where there is a GAN term, got one without such a term")
    made = [first] if pretrain else []
    if finetune:
        if classifier is None:
            raise ValueError("expected a classifier to fine-tune AToP for, got None")
        game: dict[str, Any] = {**given, "norm": named_norm(norm), "adversarial": adversarial}
        made.append(AToPFineTuning(purifier, classifier, discriminator=first.discriminator, **game))
    for stage in made:
        stage.learning_rate = learning_rate
    return [*made]
