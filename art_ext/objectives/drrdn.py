"""Training of DRRDN: Algorithm 1 from its options; the objective itself is the classifier's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from art_ext.attacks import Norm
from art_ext.attacks.settings import training_attack
from art_ext.classifiers.drrdn import DRRDN, DRRDNObjective
from art_ext.objectives.stages import named_norm, numbers, stages
from art_ext.training import Objective


@stages.register(DRRDN)
@numbers
def drrdn_stages(  # noqa: PLR0913  every option of the method
    model: DRRDN, classifier: nn.Module | None = None, *, eps: float = 0.3, steps: int = 40,
    step_size: float | None = 0.01, norm: Norm | str | None = None, lambda_mi: float = 0.1, lambda_rec: float = 0.1,
    weights: Mapping[str, float] | None = None, printed: Collection[str] = (), through_encoder: bool = True,
    learning_rate: float = 1e-2, momentum: float = 0.9, weight_decay: float = 0.0, critic_rate: float = 1e-3,
    domain_rate: float | None = None, enter: Callable[[Tensor], Tensor] | None = None,
) -> list[Objective]:  # fmt: skip
    """Algorithm 1; the training attack is by default the paper's for MNIST, see `DRRDNObjective` for the rest.

    Args:
        model: the DRRDN to train.
        classifier: none; the model is one.
        eps: radius of the training adversaries, in the units of x.
        steps: of the training attack.
        step_size: of the training attack; 2.5 * eps / steps if None.
        norm: of the training attack, or its name; Linf unless given.
        lambda_mi: weight of the mutual information, 0 for none.
        lambda_rec: weight of the reconstruction, 0 for none.
        weights: of "domain", "adversarial" and "entropy"; the paper's 1 where not given.
        printed: terms that are to have the paper's form.
        through_encoder: whether Eqs. 7 and 8 move the encoder.
        learning_rate: of SGD, for every player but the critic.
        momentum: of SGD.
        weight_decay: of SGD, for the classifiers alone.
        critic_rate: of Adam, for the critic.
        domain_rate: of Adam, for c_i as a player of its own; one of the classifiers, as in the paper, if None.
        enter: images in [0, 1] to what the model takes; the identity unless given.

    Raises:
        ValueError: a classifier, an argument out of its range, or an attack that cannot reach eps.
    """
    if classifier is not None:
        raise ValueError(f"expected no classifier to train a DRRDN with, got {type(classifier).__name__}")
    eps, steps, step_size, norm = training_attack(eps, steps, step_size, named_norm(norm))
    if step_size is not None and steps * step_size < eps * (1 - 1e-6):
        raise ValueError(
            f"expected a training attack that can reach eps={eps}, got {steps} steps of {step_size}; "
            "step_size=None takes 2.5 * eps / steps"
        )
    objective = DRRDNObjective(
        model, eps=eps, steps=steps, step_size=step_size, norm=norm, lambda_mi=lambda_mi, lambda_rec=lambda_rec,
        weights=weights, printed=printed, enter=enter,
    )  # fmt: skip
    objective.through_encoder = through_encoder
    objective.learning_rate, objective.momentum = learning_rate, momentum
    objective.weight_decay, objective.critic_rate, objective.domain_rate = weight_decay, critic_rate, domain_rate
    return [objective]
