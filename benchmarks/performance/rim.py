"""What ART's classifier with a preprocessing defence takes, against the bare purifier and network in a row."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.defences import RDPPreprocessor
from benchmarks.performance import libraries
from benchmarks.performance.measure import Comparison, Contender, Run
from benchmarks.performance.problems import WEAK, Options, Problem, facts, preset_rdp, problem

N, BATCH = 256, 128
OURS, BARE = "RDPPreprocessor in ART", "nn.Sequential"


def rim(options: Options) -> list[Comparison]:
    """`loss_gradient` and `predict`."""
    n = options.n(N)
    settings = facts(WEAK, n, options, purifier="fashion_mnist_rdp", batch_size=BATCH)

    def comparison(name: str, art: Any, bare: Any) -> Comparison:
        contenders = [
            Contender(BARE, lambda: bare(problem(WEAK, n, options))),
            Contender(OURS, lambda: art(problem(WEAK, n, options))),
        ]
        return Comparison("rim", f"rim, {name}", contenders, OURS, settings)

    return [comparison("loss_gradient", art_gradient, bare_gradient), comparison("predict", art_predict, bare_predict)]


def classifier(problem: Problem) -> Any:
    """An ART classifier defended by the preset's RDP."""
    preset = preset_rdp()
    defence = RDPPreprocessor(
        1, 24, 8, "residual", 2, batch_size=BATCH, device_type=libraries.art_device(problem)
    )  # fmt: skip
    defence.purifier.load_state_dict(preset.state_dict())
    return libraries.estimator(problem.module, problem, defence)


def defended(problem: Problem) -> nn.Module:
    """The same without ART."""
    purifier = preset_rdp().to(problem.x.device)
    purifier.batch_size = BATCH
    return nn.Sequential(purifier, problem.module).eval()


def art_gradient(problem: Problem) -> Run:
    """Gradient of the loss with respect to all images, as one batch."""
    art, x = classifier(problem), problem.x.cpu().numpy()
    y = F.one_hot(problem.y, art.nb_classes).cpu().numpy()
    return lambda: art.loss_gradient(x, y)


def bare_gradient(problem: Problem) -> Run:
    """The same by autograd."""
    model, x, y = defended(problem), problem.x, problem.y

    def run() -> Tensor:
        images = x.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(images), y), images)[0].cpu()

    return run


def art_predict(problem: Problem) -> Run:
    """Logits of all images."""
    art, x = classifier(problem), problem.x.cpu().numpy()
    return lambda: art.predict(x, batch_size=BATCH)


def bare_predict(problem: Problem) -> Run:
    """The same without ART."""
    model, x = defended(problem), problem.x

    def run() -> Tensor:
        with torch.no_grad():
            return torch.cat([model(piece) for piece in x.split(BATCH)]).cpu()

    return run
