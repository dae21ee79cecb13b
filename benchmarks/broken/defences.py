"""29 defences that only look robust, each with the reason."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import margin
from art_ext.evaluation import Attack, Threat
from benchmarks.broken.case import Case, answers, claimed, purifies
from benchmarks.broken.networks import (
    BatchStatistics,
    Cache,
    LabelLeak,
    LargestOnly,
    RaisesLate,
    Saturating,
    StopsGradient,
)
from benchmarks.broken.problem import Net, fresh, trained

CALLS = 200
"""Passes before the defences that count them change: inspection needs fewer, attacks more."""


class WrongSign(torch.autograd.Function):
    """The identity, whose gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def nan_gradient(x: Tensor) -> Tensor:
    return x + 0 * (x - x.detach()).abs().sqrt()


def reseeds(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return x + 0.1 * torch.randn_like(x)


def off_grid(classifier: nn.Module, x: Tensor) -> Tensor:
    logits = classifier(x)
    off = ((255 * x).round() - 255 * x).abs().flatten(1).amax(1, keepdim=True) > 1e-3
    return logits + 3 * off * torch.randn_like(logits)


def some_images(classifier: nn.Module, x: Tensor) -> Tensor:
    logits = classifier(x)
    bright = x.flatten(1).mean(1, keepdim=True) > 0.46
    return logits + 3 * bright * torch.randn_like(logits)


def unsure(logits: Tensor) -> Tensor:
    """Whether the two largest logits lie close together, (N, 1): hardly ever on clean images."""
    first, second = logits.topk(2, 1).values.unbind(1)
    return (first - second < 2)[:, None]


def after_an_attack(classifier: nn.Module, x: Tensor) -> Tensor:
    logits = classifier(x)
    return logits + 3 * unsure(logits) * torch.randn_like(logits)


def not_a_number(classifier: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = classifier(x)
    return logits.masked_fill(unsure(logits), torch.nan)


def in_place(classifier: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = classifier(x.add_(0.01).clamp_(0, 1))
    return logits


def inference(classifier: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = classifier(x)
        return logits


def through_numpy(classifier: nn.Module, x: Tensor) -> Tensor:
    return torch.from_numpy(classifier(x).detach().numpy().copy())


def out_of_memory(classifier: nn.Module, x: Tensor) -> Tensor:
    if len(x) > 16:
        raise torch.OutOfMemoryError(f"tried to allocate {len(x)} images")
    logits: Tensor = classifier(x)
    return logits


def unmoved(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    return x + 0 * margin(module, y)(x).sum()


TOO_SMALL = Attack("native", "PGD", {"steps": 40, "step_size": 2 / 255 / 255, "random_start": False})

BROKEN: dict[str, Case] = {
    "k winners take all": Case(
        "which activations win changes with every step, so gradients lead nowhere",
        lambda name, p: claimed(name, trained(fresh(lambda: Net(LargestOnly(0.1))))),
    ),
    "logits times 1e6": Case("cross-entropy has no gradient where softmax is sure", answers(lambda f, x: 1e6 * f(x))),
    "probabilities": Case("softmax flattens the gradients of every loss", answers(lambda f, x: f(x).softmax(1))),
    "label leak": Case(
        "answers with the label of the nearest image of the test set", lambda name, p: claimed(name, LabelLeak(p))
    ),
    "cache by hash": Case(
        "says what it said to a clean image of the same coarse hash", lambda name, p: claimed(name, Cache(p.classifier))
    ),
    "gradient stops after some passes": Case(
        "a counter turns the gradient off once inspection is over",
        lambda name, p: purifies(StopsGradient(CALLS))(name, p),
    ),
    "label leak after some passes": Case(
        "a counter turns the label leak on once inspection is over",
        lambda name, p: claimed(name, LabelLeak(p, CALLS)),
    ),
    "batch mixing": Case(
        "an answer depends on what else is in the batch", purifies(lambda x: 0.5 * x + 0.5 * x.mean(0, keepdim=True))
    ),
    "batch norm in train mode": Case(
        "normalises with the statistics of the attacked batch",
        lambda name, p: claimed(name, trained(fresh(lambda: Net(nn.Sequential(BatchStatistics(8), nn.ReLU()))))),
    ),
    "noise off the 8-bit grid": Case("deterministic on files, randomised on what an attack tries", answers(off_grid)),
    "noise on some images": Case("randomised for bright images alone", answers(some_images)),
    "noise after an attack": Case("randomised only where it is unsure", answers(after_an_attack)),
    "reseeding": Case("its noise is that of the place in the batch, and known", purifies(reseeds)),
    "straight-through that detaches": Case("no gradient comes back", purifies(lambda x: x.detach() + 0 * x)),
    "backward of the wrong sign": Case("attacks climb down", purifies(WrongSign.apply)),
    "float16 rounding": Case(
        "logits of coarse steps", answers(lambda f, x: (f(x) + 2048).half().float() - 2048)
    ),
    "few levels": Case("rounding has no gradient, and nobody says so", purifies(lambda x: (8 * x).round() / 8)),
    "NaN logits": Case("no answer where it is unsure", answers(not_a_number)),
    "NaN gradient": Case("attacks get NaN to go along", purifies(nan_gradient)),
    "in-place writing": Case("changes the images of its caller", answers(in_place)),
    "grey": Case("no image is left to attack, or to classify", purifies(lambda x: 0 * x + 0.5)),
    "attack in other units": Case(
        "the attack's steps are 255 times too small", lambda name, p: claimed(name, p.classifier), (TOO_SMALL,)
    ),
    "attack that returns the clean image": Case(
        "nothing was attacked",
        lambda name, p: claimed(name, p.classifier),
        (Attack("yours", "clean image", function=unmoved),),
    ),
    "inference mode": Case("no gradient can be asked for", answers(inference)),
    "numpy": Case("no gradient comes through numpy", answers(through_numpy)),
    "saturating clamp": Case("the final clamp holds every pixel", purifies(lambda x: 1e6 * (x - 0.45) + 0.45)),
    "saturating sigmoid": Case(
        "hardly a pixel has a gradient", lambda name, p: claimed(name, trained(fresh(Saturating)))
    ),
    "out of memory": Case("no pass of more than 16 images", answers(out_of_memory)),
    "raises late": Case(
        "attacks end before they are done", lambda name, p: claimed(name, RaisesLate(p.classifier, CALLS))
    ),
}  # fmt: skip
"""By name; every one is made anew at each call."""
