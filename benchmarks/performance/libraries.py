"""The same attack by each library, called as its users call it; each function gives what is timed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks import Leave
from art_ext.evaluation import Attack, Defended, Knowledge
from art_ext.evaluation.run.crafting import confirmed
from art_ext.evaluation.schedule import Job
from art_ext.nn.compiling import standing_in
from art_ext.nn.precision import BFLOAT16, FLOAT32, has_bfloat16
from benchmarks.performance.problems import Problem

Run = Callable[[], Tensor]
STEP = 0.25
"""Length of a step of PGD, in radii."""


def estimator(module: nn.Module, problem: Problem, defences: Any = None) -> Any:
    """An ART classifier of images in [0, 1] with the classes of the problem."""
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = problem.module(problem.x[:1]).shape[1]
    return PyTorchClassifier(
        module, nn.CrossEntropyLoss(), tuple(problem.x.shape[1:]), classes, clip_values=(0.0, 1.0),
        preprocessing_defences=defences, device_type=art_device(problem),
    )  # fmt: skip


def art_device(problem: Problem) -> str:
    """What ART calls the device of the images."""
    return "cpu" if problem.x.device.type == "cpu" else "gpu"


def _generate(attack: Any, problem: Problem) -> Run:
    x, y = problem.x.cpu().numpy(), problem.y.cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(x, y))


def art_pgd(problem: Problem, steps: int, classifier: Any = None) -> Run:
    """ART's `ProjectedGradientDescentPyTorch`."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch

    eps = problem.threat.eps
    attack = ProjectedGradientDescentPyTorch(
        classifier or estimator(problem.module, problem), eps=eps, eps_step=STEP * eps, max_iter=steps,
        num_random_init=1, batch_size=len(problem.x), verbose=False,
    )  # fmt: skip
    return _generate(attack, problem)


def art_eot_pgd(problem: Problem, steps: int, samples: int) -> Run:
    """The same on the `EOTClassifier` of a purifier and a network."""
    from art_ext.defences import PurifierPreprocessor
    from art_ext.estimators import EOTClassifier

    purifier = problem.purifier
    assert purifier is not None
    defence = PurifierPreprocessor(purifier, batch_size=purifier.batch_size, device_type=art_device(problem))
    return art_pgd(problem, steps, EOTClassifier(estimator(problem.network, problem, defence), samples))


def art_apgd(problem: Problem, steps: int) -> Run:
    """ART's `AutoProjectedGradientDescent`, one start."""
    from art.attacks.evasion import AutoProjectedGradientDescent

    eps = problem.threat.eps
    attack = AutoProjectedGradientDescent(
        estimator(problem.module, problem), eps=eps, eps_step=2 * eps, max_iter=steps, nb_random_init=1,
        batch_size=len(problem.x), verbose=False,
    )  # fmt: skip
    return _generate(attack, problem)


def art_autoattack(problem: Problem) -> Run:
    """ART's `AutoAttack`, which has no FAB."""
    from art.attacks.evasion import AutoAttack

    eps = problem.threat.eps
    classifier = estimator(problem.module, problem)
    return _generate(AutoAttack(classifier, eps=eps, eps_step=2 * eps, batch_size=len(problem.x)), problem)


def torchattacks_attack(problem: Problem, name: str, **options: Any) -> Run:
    """An attack of torchattacks by its class's name."""
    import torchattacks

    attack = getattr(torchattacks, name)(problem.module, eps=problem.threat.eps, **options)
    return lambda: attack(problem.x, problem.y)


def foolbox_pgd(problem: Problem, steps: int) -> Run:
    """Foolbox's `LinfPGD`."""
    foolbox = import_module("foolbox")  # is no dependency

    eps = problem.threat.eps
    model = foolbox.PyTorchModel(problem.module, bounds=(0, 1), device=problem.x.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP * eps, steps=steps, random_start=True)
    return lambda: attack(model, problem.x, problem.y, epsilons=[eps])[1][0]


def bare_pgd(problem: Problem, steps: int) -> Run:
    """As few lines as PGD can have; what it takes is what the passes take."""
    module, x, y, eps = problem.module, problem.x, problem.y, problem.threat.eps

    def run() -> Tensor:
        x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(steps):
            x_adv.requires_grad_()
            loss = F.cross_entropy(module(x_adv), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x_adv)
            moved = x_adv.detach() + STEP * eps * gradient.sign()
            x_adv = (x + (moved - x).clamp(-eps, eps)).clamp(0, 1)
        return x_adv

    return run


def official_apgd(problem: Problem, steps: int) -> Run:
    """pyautoattack's APGD on the cross-entropy, one start."""
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        problem.module, n_iter=steps, norm="Linf", n_restarts=1, eps=problem.threat.eps, seed=0, loss="ce",
        device=problem.x.device,
    )  # fmt: skip
    return lambda: attack.perturb(problem.x, problem.y)


def official_autoattack(problem: Problem) -> Run:
    """AutoAttack's standard version by `autoattack` or `pyautoattack`, whichever is installed."""
    return native(problem, "standard", backend="autoattack")


def native(
    problem: Problem, name: str, *, backend: str = "native", active: bool = False, half: bool = False,
    compiled: bool = False, samples: int = 1, **parameters: Any,
) -> Run:  # fmt: skip
    """An attack by name, as `evaluate` runs it.

    Args:
        problem: what is attacked.
        name: of the attack.
        backend: its library; this package's unless given.
        active: images that are broken leave the batch.
        half: gradients in bfloat16, channels-last.
        compiled: passes that `torch.compile` makes faster, see `evaluate`.
        samples: of EOT, averaged over the samples' own gradients as torchattacks and `EOTClassifier` do.
        parameters: of the attack.

    Raises:
        ValueError: bfloat16 on a device without instructions for it, so that nothing would be gained.
    """
    if half and not has_bfloat16(problem.x.device):
        raise ValueError("expected a device with bfloat16 instructions, got one without")
    model = Defended("ours", problem.network, problem.purifier)
    knowledge = Knowledge.UNDEFENDED if problem.purifier is None else Knowledge.FULL
    job = Job(
        model, Attack(backend, name, parameters), knowledge, problem.threat, 0, len(problem.x), samples, "gradients",
        leave=Leave() if active else None, crafting=BFLOAT16 if half else FLOAT32,
    )  # fmt: skip
    target, passes = job.target(0), model.compiled if compiled else ()

    def run() -> Tensor:
        with standing_in(passes):
            return job.attack(target, problem.x, problem.y, problem.threat, leave=confirmed(job))

    return run
