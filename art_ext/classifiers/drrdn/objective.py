"""DRRDN's losses and players [Yang et al., AAAI 2021, Eqs. 4 to 11 and Algorithm 1]."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Norm, ascent, cross_entropy, pgd
from art_ext.attacks.settings import training_attack
from art_ext.classifiers.drrdn.network import DRRDN
from art_ext.nn.losses import per_sample_mse
from art_ext.nn.modes import evaluating, untracked
from art_ext.plain import number
from art_ext.training import ByEpoch, Objective, Scheduler

PAPER: Mapping[str, Mapping[str, Any]] = {
    "mnist": {"eps": 0.3, "steps": 40, "step_size": 0.01},
    "cifar10": {"eps": 0.031, "steps": 10, "step_size": 0.007},
}
"""The paper's training attack by data set; SGD starts from 1e-2 and 1e-1, a tenth of it after epochs 55, 75, 90."""

FALLS = (0.55, 0.75, 0.9)
"""Shares of the epochs after which the paper's rate falls to a tenth."""

PRINTED = ("adversarial", "entropy", "information", "reconstruction")
"""Terms that have another form in print than the one used by default, see `DRRDNObjective`."""

WEIGHTED = ("domain", "adversarial", "entropy")
"""Terms whose weight is 1 in the paper."""


@dataclass(frozen=True)
class Weights:
    """Of the terms of Eq. 11 but the class's, which is 1."""

    domain: float = 1.0
    adversarial: float = 1.0
    entropy: float = 1.0
    information: float = 0.1
    reconstruction: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, number(value, f"the weight {name!r}", at_least=0))
        if self.adversarial and not self.domain:
            raise ValueError(
                f"expected a domain term where there is an adversarial one, for c_i to learn from; got {self}"
            )


class DRRDNObjective(Objective):
    """Algorithm 1: five players that move in turn on the same images and adversaries.

    | player | moves | minimises |
    |---|---|---|
    | classifiers | g, d_s, c_s, d_i, c_i | cross-entropy of the class (Eq. 4), natural or adversarial (Eq. 6) |
    | domain | c_i, only where `domain_rate` makes it a player of its own | Eq. 6, ahead of any weight |
    | disentanglers | g (by default), d_s, d_i | c_i fooled by z_s (Eq. 7), c_s unsure about z_i (Eq. 8) |
    | critic | T | minus the mutual information of z_s and z_i (Eq. 9), see `Mine` |
    | information | d_s, d_i | that mutual information |
    | reconstructor | d_s, d_i, r | distance of r(z_s, z_i) from z (Eq. 10) |

    Batch normalisation: images and adversaries pass g as one batch, so that c_i cannot tell them by the statistics of
    their batches, and the running statistics are those of the mixture that the network meets later; of a step's passes
    only the first player's moves them. Adversaries are made in eval mode.

    Differs from the paper, whose Eqs. 7 and 8 are ill-posed; `printed` gives the forms in print back:

    - adversarial: log c_i(z_s) and log(1 - c_i(z_s')) have no lower bound and no gradient where c_i is sure. Here
      -log(1 - c_i(z_s)) - log c_i(z_s'), the non-saturating form.
    - entropy: p(z_i) log p(z_i') is minus the cross-entropy of two predictions, which falls without end where they
      disagree. Here the negative entropy of each, from -2 log K to 0.
    - information: the critic's estimate may be pushed below zero, which no mutual information is. Here it counts from
      zero up.
    - reconstruction: the squared distance grows with the width of z, and its weight with it. Here its mean over values.

    Eq. 6 reaches d_s nowhere (its superscript): z_s is detached there. Eq. 10 reaches g nowhere: z is. About Eqs. 7 and
    8 the paper says two things: their superscripts have g among what they move, the text and line 7 of Algorithm 1 the
    disentanglers alone.

    The weights of 1 are the paper's, for its 100 epochs. In short trials on MNIST at eps 0.3, one seed, class and
    robustness suffered or collapsed with them. With 0.1, 0.05 and 0.1 they did not, but the parts had hardly come apart
    (see `art_ext.classifiers.drrdn.diagnose`), and robustness was that of training by halves: see results/drrdn.md.

    Args:
        model: the DRRDN to train.
        eps: radius of the training adversaries, in the units of x; see `PAPER`.
        steps: of the training attack, PGD on c_s(d_s(g(x))) from a random start (Eq. 2).
        step_size: of the training attack; 2.5 * eps / steps unless given.
        norm: of the training attack; Linf unless given.
        lambda_mi: weight of the mutual information. The paper's is in a supplement that is not to be had.
        lambda_rec: weight of the reconstruction; likewise.
        weights: of "domain", "adversarial" and "entropy"; the paper's 1 where not given. A term of weight 0 is not
            computed, a player without terms does not move: with these three and both lambdas at 0 this is adversarial
            training on images and adversaries by halves.
        printed: terms out of `PRINTED` that are to have the paper's form.
        enter: images in [0, 1] to what the model takes; the identity unless given.

    Attributes:
        through_encoder: whether Eqs. 7 and 8 move g; set it before the players are asked for.
        learning_rate: of SGD, for every player but the critic; set another before training.
        momentum: of SGD; not given in the paper.
        weight_decay: of SGD, for the classifiers alone, since their parameters move with other players too.
        critic_rate: of Adam, for the critic, which SGD at the others' rate makes diverge or sleep.
        domain_rate: of Adam, for c_i, which then moves by itself, after the classifiers; None, as in the paper, has it
            among them.

    Raises:
        ValueError: a negative weight or lambda, an unknown term, or an adversarial term against a c_i that has no
            "domain" term to learn from.
    """

    labelled: ClassVar[bool] = True
    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    critic_rate: float = 1e-3
    domain_rate: float | None = None

    def __init__(
        self,
        model: DRRDN,
        *,
        eps: float = 0.3,
        steps: int = 40,
        step_size: float | None = None,
        norm: Norm | None = None,
        lambda_mi: float = 0.1,
        lambda_rec: float = 0.1,
        weights: Mapping[str, float] | None = None,
        printed: Collection[str] = (),
        enter: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if unknown := {*(weights or {})} - {*WEIGHTED}:
            raise ValueError(f"expected weights of {', '.join(WEIGHTED)}; got {sorted(unknown)}")
        if unknown := {*printed} - {*PRINTED}:
            raise ValueError(f"expected printed out of {', '.join(PRINTED)}; got {sorted(unknown)}")
        self.weights = Weights(**weights or {}, information=lambda_mi, reconstruction=lambda_rec)
        self.model, self.printed, self.through_encoder = model, tuple(sorted(printed)), True
        self.eps, self.steps, self.step_size, self.norm = training_attack(eps, steps, step_size, norm)
        self.enter: Callable[[Tensor], Tensor] = enter or (lambda x: x)
        self._strength = 1.0  # not a setting, but what a `Rise` has come to

    @property
    def strength(self) -> float:
        """Factor of the weights of Eqs. 6 to 8, 1 unless a `Rise` sets it."""
        return self._strength

    @strength.setter
    def strength(self, share: float) -> None:
        self._strength = share

    def players(self) -> dict[str, list[nn.Parameter]]:
        m, on = self.model, self.weights
        apart = self.domain_rate is not None and on.domain
        found = {"classifiers": _parameters(m.encoder, m.d_s, m.c_s, m.d_i, *(() if apart else (m.c_i,)))}
        if apart:
            found["domain"] = _parameters(m.c_i)
        if on.adversarial or on.entropy:
            found["disentanglers"] = _parameters(*((m.encoder,) if self.through_encoder else ()), m.d_s, m.d_i)
        if on.information:
            found["critic"] = _parameters(m.critic)
            found["information"] = _parameters(m.d_s, m.d_i)
        if on.reconstruction:
            found["reconstructor"] = _parameters(m.d_s, m.d_i, m.reconstructor)
        return found

    def optimizer(self, player: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The paper's SGD, for the critic and a c_i that moves by itself Adam."""
        if player == "critic":
            return torch.optim.Adam(parameters, self.critic_rate)
        if player == "domain":
            assert self.domain_rate is not None
            return torch.optim.Adam(parameters, self.domain_rate)
        decay = self.weight_decay if player == "classifiers" else 0.0
        return torch.optim.SGD(parameters, self.learning_rate, self.momentum, weight_decay=decay)

    def schedulers(self, optimizers: Mapping[str, torch.optim.Optimizer], epochs: int) -> list[Scheduler]:
        """The paper's: a tenth of the rate after 55, 75 and 90 % of the epochs."""
        falls = [max(1, round(share * epochs)) for share in FALLS]
        return [torch.optim.lr_scheduler.MultiStepLR(o, falls) for o in optimizers.values()]

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        with evaluating(self.model):
            gradient = ascent(cross_entropy(lambda v: self.model(self.enter(v)), _required(y)))
            return pgd(gradient, x, norm=self.norm, eps=self.eps, steps=self.steps, step_size=self.step_size)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        both = self.enter(torch.cat([x, x_adv]))
        if player == "classifiers":
            return self._weighted(self._classification(self.model.encode(both), _required(y)))
        with untracked(self.model):
            z = self.model.encode(both)
        if player == "disentanglers":
            return self._weighted(self._exclusion(z if self.through_encoder else z.detach()))
        z = z.detach()
        _, z_s, z_i = self.model.disentangle(z)
        if player == "domain":
            z_s, z_i = z_s.detach(), z_i.detach()
            return {"domain": told_apart(self.model.natural(z_i)) + told_apart(self.model.natural(z_s))}
        if player == "critic":  # ahead of any weight
            return {"information": self.model.critic.loss(z_s.detach(), z_i.detach())}
        if player == "information":
            estimate = self.model.critic.information(z_s, z_i)
            return self._weighted({"information": estimate if player in self.printed else estimate.clamp_min(0)})
        return self._weighted({"reconstruction": self._distance(self.model.reconstruct(z_s, z_i), z)})

    def _classification(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Eqs. 4 and 6 on representations of images, then of their adversaries, (2 N, F)."""
        z_s = self.model.d_s(z)
        terms = {"class": sum_of_halves(F.cross_entropy(self.model.c_s(z_s), y.repeat(2), reduction="none"))}
        if self.weights.domain:
            z_i = self.model.d_i(z)
            terms["domain"] = told_apart(self.model.natural(z_i)) + told_apart(self.model.natural(z_s.detach()))
        return terms

    def _exclusion(self, z: Tensor) -> dict[str, Tensor]:
        """Eqs. 7 and 8, each where it has a weight."""
        terms = {}
        if self.weights.adversarial:
            u = self.model.natural(self.model.d_s(z))
            terms["adversarial"] = -told_apart(u) if "adversarial" in self.printed else told_apart(-u)
        if self.weights.entropy:
            log_p = self.model.c_s(self.model.d_i(z)).log_softmax(1)
            natural, adversarial = log_p.chunk(2)
            crossed = "entropy" in self.printed
            terms["entropy"] = (
                (natural.exp() * adversarial).sum(1).mean() if crossed else sum_of_halves((log_p.exp() * log_p).sum(1))
            )
        return terms

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Eq. 10."""
        printed = "reconstruction" in self.printed
        return sum_of_halves((a - b).square().sum(1) if printed else per_sample_mse(a, b))

    def _weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {**vars(self.weights), **{k: self.strength * getattr(self.weights, k) for k in WEIGHTED}}
        return {name: weights.get(name, 1.0) * term for name, term in terms.items()}


class Rise(ByEpoch):
    """A scheduler that raises the weights of Eqs. 6 to 8 from 0 to what they are over the first epochs, in a line.

    It goes to `fit`, or to a trainer's, among the schedulers, and so into checkpoints; the paper does not have it.

    Args:
        objective: whose `strength` it sets, at once and then after each epoch.
        epochs: after which the weights are whole, such as a third of all.

    Raises:
        ValueError: epochs below 1.
    """

    def __init__(self, objective: DRRDNObjective, epochs: int) -> None:
        if epochs < 1:
            raise ValueError(f"expected epochs >= 1, got {epochs}")
        self.objective, self.total_steps = objective, epochs
        self.apply()

    def apply(self) -> None:
        """Sets the weight that belongs to the epoch."""
        self.objective.strength = min(1.0, self.epoch / self.total_steps)


def sum_of_halves(values: Tensor) -> Tensor:
    """Mean over images plus mean over their adversaries, of (2 N,)."""
    natural, adversarial = values.chunk(2)
    return natural.mean() + adversarial.mean()


def told_apart(u: Tensor) -> Tensor:
    """-E log c_i(natural) - E log(1 - c_i(adversarial)) of the logits (2 N,) of both, without overflow."""
    natural, adversarial = u.chunk(2)
    return F.softplus(-natural).mean() + F.softplus(adversarial).mean()


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def _required(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("expected labels (N,) to train a classifier, got None")
    return y
