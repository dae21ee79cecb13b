"""Training of DIR: masked restoration of adversaries, then restorations whose representation is robust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Norm, ascent, cross_entropy, pgd
from art_ext.attacks.settings import training_attack
from art_ext.nn.modes import evaluating, untracked
from art_ext.objectives.stages import check_unused, named_norm, numbers, stages
from art_ext.plain import number
from art_ext.purifiers.dir import DIR
from art_ext.training import Objective


class _AgainstTarget(Objective):
    """What both stages share: a purifier, its target h, and PGD adversaries.

    Args:
        purifier: the DIR to train.
        target: h, images in [0, 1] to logits.
        eps: radius of the training adversaries, in the units of x.
        steps: of the training attack, which runs with purifier and target in eval mode.
        step_size: of the training attack; 1.25 * eps / steps unless given, the paper's 2/255 at 8/255 and 5 steps.
        norm: of the training attack; Linf unless given.

    Attributes:
        learning_rate: that `optimizer` gives the purifier; set another before training.

    Raises:
        ValueError: eps or steps not positive, or an eps above 1 in Linf.
    """

    frozen: ClassVar[tuple[str, ...]] = ("target",)
    learning_rate: float

    def __init__(
        self,
        purifier: DIR,
        target: nn.Module,
        *,
        eps: float = 8 / 255,
        steps: int = 5,
        step_size: float | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.purifier, self.target = purifier, target
        self.eps, self.steps, given, self.norm = training_attack(eps, steps, step_size, norm)
        self.step_size = 1.25 * self.eps / self.steps if given is None else given

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"restorer": list(self.purifier.parameters())}

    def attacked(self, model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] within eps of x that `model` takes for another class than y (N,).

        The model sees all N images at once: it may hold something of each, such as its mask.
        """
        loss = cross_entropy(model, y)
        gradient = ascent(lambda v: loss(v))  # a function of its own is not cut into pieces
        with evaluating(self.purifier, self.target):
            return pgd(gradient, x, norm=self.norm, eps=self.eps, steps=self.steps, step_size=self.step_size)


class DIRPretraining(_AgainstTarget):
    """Eq. 2: restores the clean image from each masked part of an adversary against the target alone.

    The distance is the mean over pixels, summed over the K masks. The released code takes that of the fused output.
    Differs from the paper: Algorithm 1 pre-trains on natural images and adversaries, here as in the released code it is
    adversaries alone. Labels are the target's own answers where the data has none.
    """

    learning_rate = 1.5e-4

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        with torch.no_grad():
            labels = self.target(x).argmax(1) if y is None else y
        return self.attacked(self.target, x, labels)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        hidden = self.purifier.hidden(x_adv)
        parts = self.purifier.parts(x_adv, hidden)
        return {"restoration": (parts - x).square().mean((1, 2, 3, 4)).sum()}

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW as the released code has it; the paper names none."""
        return torch.optim.AdamW(parameters, lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=0.05)


class DIRRestoration(_AgainstTarget):
    """Eqs. 4 to 7: the restoration is classified right, and so is everything near it.

    L_adv = CE(h(x~), y) with x~ the fused restoration of an adversary against the whole pipeline, and
    L_rep = KL(h(x~) || h(x~ + delta)) for the delta that makes it large; Eqs. 4 and 5 print the other order, the
    released code has this one. The gradient of L_rep reaches x~ on both sides and not delta, as Eq. 5 reads.

    Differs from the released code: attack and losses see the same masks, as in Algorithm 1, delta is projected onto its
    ball, and restorations are clamped to [0, 1], since they are at inference; x~ + delta is not clamped. Batch
    normalisation of a target that is trained counts each step's images once, not those at x~ + delta again.

    Nothing in Eq. 7 keeps restorations near images, and the mean over complementary masks allows "twice what is seen,
    nothing for what is hidden", which is the identity: nothing is discarded then. A squared error for each mask has no
    such optimum (`pixel` with `per_mask`); `art_ext.purifiers.dir.slopes` measures which of the two was learned.

    Args:
        purifier: see above.
        target: h; frozen as in Algorithm 1 unless `joint`.
        alpha: weight of L_rep (the paper: 2).
        radius: of delta in the norm, in the units of x; eps unless given.
        radius_steps: sign steps towards delta, each of 2.5 * radius / radius_steps.
        pixel: weight of the squared error to the clean image, mean over pixels; the paper adds one where it leaves out
            the pre-training.
        per_mask: take that error for the restoration under each mask, mean over masks, as Eq. 2 does, instead of for
            their mean.
        shared_masks: draw the masks of a step once, before its attack, as Algorithm 1 does. Otherwise each step of the
            attack draws its own, and the losses others, as in the released code: a weaker attack.
        joint: train the target too, as the released code does, the purifier at 5e-5 and the target at 0.1; it then does
            not come back as it was. The code's alpha is 1.
        eps: see above.
        steps: see above.
        step_size: see above.
        norm: of the training attack and of delta; Linf unless given.
    """

    labelled: ClassVar[bool] = True
    carried: ClassVar[tuple[str, ...]] = ("masks",)
    learning_rate = 1e-2

    def __init__(  # noqa: PLR0913  the training attack's, and each term's
        self,
        purifier: DIR,
        target: nn.Module,
        *,
        alpha: float = 2.0,
        radius: float | None = None,
        radius_steps: int = 5,
        pixel: float = 0.0,
        per_mask: bool = False,
        shared_masks: bool = True,
        joint: bool = False,
        eps: float = 8 / 255,
        steps: int = 5,
        step_size: float | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__(purifier, target, eps=eps, steps=steps, step_size=step_size, norm=norm)
        if min(alpha, pixel) < 0 or radius_steps < 1:
            raise ValueError(f"expected alpha, pixel >= 0 and radius_steps >= 1, got {alpha}, {pixel}, {radius_steps}")
        alpha, pixel = number(alpha, "alpha"), number(pixel, "pixel")
        self.pixel, self.per_mask, self.shared_masks = pixel, per_mask, shared_masks
        self.masks: Tensor | None = None
        self.alpha, self.radius_steps = alpha, radius_steps
        self.radius = self.eps if radius is None else number(radius, "radius", above=0)
        self.joint = joint
        if joint:
            self.frozen = ()  # type: ignore[misc]
            self.learning_rate = 5e-5

    def players(self) -> dict[str, list[nn.Parameter]]:
        trained = [self.purifier, self.target] if self.joint else [self.purifier]
        return {"restorer": [p for module in trained for p in module.parameters()]}

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Adversaries against the whole pipeline; with `shared_masks` under the masks that `terms` then uses."""
        masks = self.masks = self.purifier.hidden(x) if self.shared_masks else None

        def pipeline(v: Tensor) -> Tensor:
            logits: Tensor = self.target(
                self.purifier.fused(v, masks).clamp(0, 1) if masks is not None else self.purifier(v)
            )
            return logits

        return self.attacked(pipeline, x, _required(y))

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        parts = self.purifier.parts(x_adv, self.purifier.hidden(x_adv) if self.masks is None else self.masks)
        restored = parts.mean(0).clamp(0, 1)
        logits = self.target(restored)
        terms = {"adversarial": F.cross_entropy(logits, _required(y))}
        if self.alpha:
            delta = self.worst(restored.detach())
            with untracked(self.target):
                nearby = self.target(restored + delta)
            terms["representation"] = self.alpha * divergence(logits, nearby).mean()
        if self.pixel:
            terms["restoration"] = self.pixel * ((parts if self.per_mask else restored) - x).square().mean()
        return terms

    def adversarial_losses(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """L_adv of the pipeline and that of the target alone, each under its own training attack, in eval mode.

        On training images they tell whether training has come as far as doing nothing: where the pipeline's is not the
        smaller one, a target without DIR would be better under the very attack that DIR was trained with.

        Args:
            x: images (N, C, H, W) in [0, 1]; all at once, so keep N small.
            y: class indices (N,).
        """
        kept = self.masks
        try:
            with evaluating(self), torch.no_grad():
                x_adv, alone = self.perturb(x, y), self.attacked(self.target, x, y)
                restored = self.purifier(x_adv) if self.masks is None else self.purifier.fused(x_adv, self.masks)
                logits = {"pipeline": self.target(restored.clamp(0, 1)), "target alone": self.target(alone)}
        finally:
            self.masks = kept
        return {name: float(F.cross_entropy(found, y)) for name, found in logits.items()}

    def worst(self, restored: Tensor) -> Tensor:
        """Delta of Eq. 4: within `radius` of the restorations (N, C, H, W), far in the target's answers.

        The target is in eval mode for it. The start is the released code's, since the gradient at 0 is zero.
        """
        with evaluating(self.target):
            with torch.no_grad():
                logits = self.target(restored)
            gradient = ascent(lambda v: divergence(logits, self.target(restored + v)))
            delta = self.norm.project(1e-3 * torch.randn_like(restored), self.radius)
            for _ in range(self.radius_steps):
                step = 2.5 * self.radius / self.radius_steps * self.norm.direction(gradient(delta))
                delta = self.norm.project(delta + step, self.radius)
        return delta

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The paper's: SGD with momentum 0.9 and weight decay 2e-4 at 1e-2; see `joint` for that of the code."""
        target = {id(p) for p in self.target.parameters()} if self.joint else set()
        groups = [
            {"params": [p for p in parameters if id(p) not in target], "lr": self.learning_rate},
            {"params": [p for p in parameters if id(p) in target], "lr": 0.1},
        ]
        return torch.optim.SGD([g for g in groups if g["params"]], lr=0.1, momentum=0.9, weight_decay=2e-4)


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(others)) of each sample, (N,)."""
    ours, theirs = F.log_softmax(logits, 1), F.log_softmax(others, 1)
    return (ours.exp() * (ours - theirs)).sum(1)


def _required(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("expected labels (N,) to train DIR's restoration, got None")
    return y


@stages.register(DIR)
@numbers
def dir_stages(  # noqa: PLR0913  every option of the method
    purifier: DIR, classifier: nn.Module | None = None, *, eps: float = 8 / 255, steps: int = 5,
    step_size: float | None = None, norm: Norm | str | None = None, alpha: float = 2.0, radius: float | None = None,
    radius_steps: int = 5, pixel: float = 0.0, per_mask: bool = False, shared_masks: bool = True, joint: bool = False,
    pretrain: bool = True, restore: bool = True, pretraining_rate: float | None = None,
    learning_rate: float | None = None,
) -> list[Objective]:  # fmt: skip
    """Masked restoration, then restoration for the target's answers; see `DIRPretraining` and `DIRRestoration`.

    Args:
        purifier: the DIR to train.
        classifier: the target; frozen unless `joint`.
        eps: radius of the training adversaries, in the units of x.
        steps: of the training attack.
        step_size: of the training attack; 1.25 * eps / steps unless given.
        norm: of the training attack and of the representation loss, or its name; Linf unless given.
        alpha: weight of the representation loss.
        radius: around restorations that the representation loss covers; eps unless given.
        radius_steps: that find the worst perturbation within the radius.
        pixel: weight of the squared error to the clean image in the second stage.
        per_mask: take that error for the restoration under each mask, not for their mean.
        shared_masks: draw the masks of a step once, for its attack and its losses.
        joint: train the target too in the second stage.
        pretrain: have the first stage, Eq. 2.
        restore: have the second stage, Eqs. 4 to 7, which needs labels.
        pretraining_rate: of AdamW in the first stage; the released code's 1.5e-4 unless given.
        learning_rate: of SGD for the purifier in the second stage; the paper's 1e-2, or if `joint` the released
            code's 5e-5, unless given.

    Raises:
        ValueError: no classifier, no stage, an option of a stage that is not there, or an argument out of its range.
    """
    if classifier is None:
        raise ValueError(
            "expected a target classifier to train DIR against, got None: hand one over, or use DIRTrainer"
        )
    if not pretrain and not restore:
        raise ValueError("expected a stage to train, got pretrain=False and restore=False")
    game: dict[str, Any] = {
        "alpha": alpha, "radius": radius, "radius_steps": radius_steps, "pixel": pixel, "per_mask": per_mask,
        "shared_masks": shared_masks, "joint": joint,
    }  # fmt: skip
    if not pretrain:
        check_unused(DIR, "pretrain=True", {"pretraining_rate": pretraining_rate})
    if not restore:
        check_unused(DIR, "restore=True", {**game, "learning_rate": learning_rate})
    attack: dict[str, Any] = {"eps": eps, "steps": steps, "step_size": step_size, "norm": named_norm(norm)}
    made: list[tuple[_AgainstTarget, float | None]] = []
    if pretrain:
        made.append((DIRPretraining(purifier, classifier, **attack), pretraining_rate))
    if restore:
        made.append((DIRRestoration(purifier, classifier, **attack, **game), learning_rate))
    for stage, rate in made:
        stage.learning_rate = stage.learning_rate if rate is None else rate
    return [stage for stage, _ in made]
