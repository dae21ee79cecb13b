"""Libraries through one door: what they are called with, what comes back, and what they break."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import Averaged, Gradient, Leave
from art_ext.data import fashion_mnist
from art_ext.evaluation.backends import BACKENDS, YOURS, Attack, art
from art_ext.evaluation.backends.wrapped import Wrapped
from art_ext.evaluation.threat import Threat
from art_ext.nn import seeded
from art_ext.purifiers import Purifier

LINF = Threat("Linf", 0.2)


class Problem(NamedTuple):
    """Images, labels and a convolutional network that is right about them."""

    x: Tensor
    y: Tensor
    classifier: nn.Module


class Convolution(nn.Module):
    """A convolution over the whole image and a last layer, as float32 networks are: neither takes another dtype.

    Args:
        weight: (K, C, H, W), what each logit looks for.
        scale: of the logits.
    """

    def __init__(self, weight: Tensor, scale: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2:], bias=False)
        self.head = nn.Linear(len(weight), len(weight))
        with torch.no_grad():
            self.convolution.weight.copy_(weight)
            self.head.weight.copy_(scale * torch.eye(len(weight)))
            self.head.bias.copy_(torch.tensor([0.0, 0.0, -scale / 2, -0.6 * scale, 0.0])[: len(weight)])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.convolution(x).flatten(1))
        return logits


@pytest.fixture
def problem() -> Problem:
    """Two classes told apart by which half of a 1x6x8 image is brighter; the other two logits never win."""
    x = 0.4 + 0.2 * torch.rand(12, 1, 6, 8)
    y = torch.arange(12) % 2
    x[y == 0, ..., :4] += 0.05
    x[y == 1, ..., 4:] += 0.05
    weight = torch.zeros(4, 1, 6, 8)
    weight[0, ..., :4] = weight[1, ..., 4:] = 1 / 24
    weight[2:] = 1 / 48
    return Problem(x, y, Convolution(weight, 20.0))


@pytest.fixture(scope="module")
def colour() -> tuple[Tensor, Tensor, nn.Module]:
    """Three classes told apart by the mean of a channel, on 3 x 16 x 16 images; a fourth logit never wins."""
    weight = torch.zeros(4, 3, 16, 16)
    for channel in range(3):
        weight[channel, channel] = 1 / 256
    weight[3] = 1 / 768
    network = Convolution(weight, 30.0)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -1.5]))
    y = torch.arange(8) % 3
    x = 0.4 + 0.2 * torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[torch.arange(8), y] += 0.05
    return x, y, network


class Blur(Purifier):
    name = "blur"
    paper = ""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 3, 3), 1 / 9), requires_grad=False)

    def purify(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, [1] * 4, mode="replicate")
        return torch.nn.functional.conv2d(padded, self.weight)


class Noise(Purifier):
    """Remembers how many images each of its calls held."""

    name = "noise"
    paper = ""
    stochastic = True

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def purify(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return x + 0.1 * torch.randn_like(x)


def noisy(problem: Problem, samples: int, average: str = "logits") -> tuple[Noise, Averaged]:
    """A randomised defence, and what an attacker that averages over it sees."""
    purifier = Noise()
    return purifier, Averaged(nn.Sequential(purifier, problem.classifier), samples, average).eval()


# What each attack needs to break the toy problem in a moment; those that are not here are tested below or elsewhere.
QUICK = {
    ("native", "APGD"): {"steps": 10},
    ("native", "AutoAttack"): {"steps": 10, "queries": 20, "targets": 2},
    ("native", "FAB-T"): {"steps": 10, "targets": 2},
    ("native", "Square"): {"queries": 200},
    ("native", "SI-NI-TI-DIM"): {"steps": 10, "kernel": 3},
    ("native", "StAdv"): {"steps": 30, "bound": 0.6, "smoothness": 0.0, "step_size": 0.05},
    ("native", "ReColorAdv"): {"steps": 30, "bound": 0.3, "step_size": 0.02, "smoothness": 0.0},
    ("native", "JPEG"): {"steps": 20, "eps": 4.0},
    ("art", "FGSM"): {},
    ("art", "AutoAttack"): {},
    ("art", "Square"): {"max_iter": 200, "p_init": 0.3},
    ("art", "C&W"): {"max_iter": 5, "initial_const": 0.1, "largest_const": 1.0},
    ("art", "DeepFool"): {"max_iter": 50},
    ("art", "HopSkipJump"): {"steps": 3, "max_eval": 50, "init_eval": 10},
    ("torchattacks", "FGSM"): {},
    ("torchattacks", "MI-FGSM"): {"steps": 10, "step_size": 0.05},
    ("torchattacks", "DI-FGSM"): {},
    ("torchattacks", "TI-FGSM"): {"len_kernel": 3},
    ("torchattacks", "SI-NI-FGSM"): {},
    ("torchattacks", "VMI-FGSM"): {"steps": 10, "step_size": 0.05},
    ("torchattacks", "VNI-FGSM"): {"steps": 10, "step_size": 0.05},
    ("torchattacks", "Square"): {"n_queries": 200},
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("backend", "name"), QUICK)
def test_every_attack_breaks_a_simple_model(backend: str, name: str, colour: tuple[Tensor, Tensor, nn.Module]) -> None:
    x, y, network = colour
    with seeded(0):
        x_adv = Attack(backend, name, QUICK[backend, name])(network, x, y, LINF)
    assert bool((network(x).argmax(1) == y).all())
    wrong = int((network(x_adv).argmax(1) != y).sum())
    assert wrong >= (5 if name in ("StAdv", "HopSkipJump", "DeepFool") else 8), wrong


def test_every_attack_is_named_here_or_in_the_harness_tests() -> None:
    elsewhere = {("native", "PGD"), ("native", "FGSM"), ("native", "MI-FGSM"), ("native", "SSP"), ("art", "PGD"),
                 ("art", "APGD"), ("torchattacks", "PGD"), ("torchattacks", "APGD")}  # fmt: skip
    every = {(b, n) for b, backend in BACKENDS.items() if b != "autoattack" for n in backend.names}
    assert every == {*QUICK, *elsewhere}


@torch.no_grad()
def test_ssp_moves_the_features(problem: Problem) -> None:
    x_adv = Attack("native", "SSP", {"steps": 5})(problem.classifier, problem.x, problem.y, LINF)
    start = (problem.x + LINF.ball.sample(problem.x, 0.2)).clamp(0, 1)
    moved, by_chance = (problem.classifier(v) - problem.classifier(problem.x) for v in (x_adv, start))
    assert float(moved.norm(dim=1).mean()) > 2 * float(by_chance.norm(dim=1).mean())


def test_stadv_breaks_the_undefended_classifier() -> None:
    """At the papers' bound, 0.05 of half an image at 32 pixels, scaled to 28."""
    test = fashion_mnist("test", 48)
    network = presets.load("fashion_mnist_cnn")
    attack = Attack("native", "StAdv", {"steps": 20, "bound": 0.05 * 32 / 28})
    x_adv = attack(network, test.x, test.y, LINF)
    assert float((network(test.x).argmax(1) == test.y).float().mean()) > 0.8
    assert float((network(x_adv).argmax(1) == test.y).float().mean()) < 0.05


def test_minimum_norm_attacks_are_brought_into_the_ball(colour: tuple[Tensor, Tensor, nn.Module]) -> None:
    x, y, network = colour
    small = Threat("Linf", 0.001)
    x_adv = Attack("art", "DeepFool", {"max_iter": 50})(network, x, y, small)
    assert float((x_adv - x).abs().max()) == pytest.approx(0.001, rel=1e-2)
    assert bool((network(x_adv).argmax(1) == y).all())


@pytest.mark.parametrize(
    ("attack", "threat", "what"),
    [
        (Attack("torchattacks", "PGD"), Threat("L1", 1.0), "L1"),
        (Attack("torchattacks", "TI-FGSM"), LINF, "3 channels"),
        (Attack("native", "AutoAttack"), Threat("L1", 1.0), "L1"),
        (Attack("native", "PGD", {"check_every": 5}, targeted="random"), LINF, "untargeted"),
        (Attack("art", "HopSkipJump"), Threat("L1", 1.0), "L1"),
        (Attack("autoattack", "standard", {"order": ["square"]}), LINF, "order"),
        (Attack("autoattack", "custom"), LINF, "attacks of AutoAttack's custom version as a list of at least one"),
    ],
)
def test_what_a_library_cannot_do_is_said(attack: Attack, threat: Threat, what: str, problem: Problem) -> None:
    with pytest.raises(ValueError, match=what):
        attack(problem.classifier, problem.x, problem.y, threat)


@pytest.mark.parametrize("backend", ["native", "art", "torchattacks"])
def test_gradients_are_averaged_where_the_library_can(backend: str, problem: Problem) -> None:
    _, target = noisy(problem, 4, "gradients")
    x_adv = Attack(backend, "PGD", {"steps": 5, "step_size": 0.1})(target, problem.x, problem.y, LINF)
    assert float((problem.classifier(x_adv).argmax(1) == problem.y).float().mean()) == 0


def test_averaged_gradients_that_a_library_lacks_are_refused(problem: Problem) -> None:
    _, target = noisy(problem, 4, "gradients")
    with pytest.raises(ValueError, match="to average gradients, got MI-FGSM"):
        Attack("torchattacks", "MI-FGSM")(target, problem.x, problem.y, LINF)


@pytest.mark.parametrize("name", ["MI-FGSM", "SI-NI-FGSM", "VMI-FGSM", "VNI-FGSM"])
def test_torchattacks_that_leave_the_box_can_attack_a_purifier(name: str, problem: Problem) -> None:
    """Neighbours and looks ahead are outside [0, 1], which a purifier refuses."""
    target = nn.Sequential(Blur(), problem.classifier).eval()
    x_adv = Attack("torchattacks", name)(target, problem.x, problem.y, LINF)
    assert float((target(x_adv).argmax(1) == problem.y).float().mean()) < 0.5


def test_torchattacks_follow_gradients_from_outside_the_box(problem: Problem) -> None:
    from art_ext.evaluation.backends.torchattacks import _WithState

    inside, outside = problem.x[:1].clone().requires_grad_(), (problem.x[:1] + 1.5).requires_grad_()
    wrapped = _WithState(problem.classifier)
    assert torch.equal(wrapped(inside), problem.classifier(inside))
    wrapped(outside)[0, 0].backward()
    assert torch.equal(wrapped(outside), problem.classifier(torch.ones_like(outside)))
    assert outside.grad is not None
    assert float(outside.grad[..., :4].abs().min()) > 0  # logit 0 is the mean of the left half


@pytest.mark.parametrize("version", ["rand", "custom"])
def test_autoattack_keeps_the_candidate_of_worst_mean_margin(version: str, problem: Problem) -> None:
    _, target = noisy(problem, 3)
    parameters = {"attacks": ["apgd-ce", "square"]} if version == "custom" else {}
    x_adv = Attack("autoattack", version, parameters)(target, problem.x[:4], problem.y[:4], Threat("Linf", 0.05))
    assert not torch.equal(x_adv, problem.x[:4])
    with torch.no_grad(), seeded(3):
        right = torch.stack([target.module(x_adv).argmax(1) == problem.y[:4] for _ in range(20)]).float().mean()
        clean = torch.stack([target.module(problem.x[:4]).argmax(1) == problem.y[:4] for _ in range(20)]).float().mean()
    assert float(right) < 0.5 * float(clean)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_autoattack_takes_as_many_targets_as_there_are(problem: Problem) -> None:
    attack = Attack("autoattack", "custom", {"attacks": ["apgd-t", "fab-t"]})
    x_adv = attack(problem.classifier, problem.x[:2], problem.y[:2], Threat("Linf", 0.002))  # too little to end early
    assert x_adv.shape == problem.x[:2].shape


def test_parameters_are_stated_with_the_librarys_defaults() -> None:
    stated = Attack("art", "PGD", {"steps": 7}).stated(LINF)
    assert (stated["max_iter"], stated["eps_step"], stated["num_random_init"]) == (7, 0.1, 0)
    assert Attack("torchattacks", "DI-FGSM").stated(LINF)["decay"] == 1.0
    assert Attack("torchattacks", "PGD").stated(LINF)["step_size"] == 2 / 255
    native = Attack("native", "PGD", {"steps": 5}).stated(LINF)
    assert native["step_size"] == pytest.approx(2.5 * 0.2 / 5)
    assert native["best"]
    assert not Attack("native", "FGSM").stated(LINF)["random_start"]
    rounds = Attack("native", "PGD", {"steps": 5, "check_every": 2}).stated(LINF)
    known = {"steps": 5, "step_size": pytest.approx(0.1), "random_start": True, "loss": "cross_entropy", "best": False}
    assert rounds == {**known, "check_every": 2}


def test_checked_pgd_attacks_each_sample_and_stops(problem: Problem) -> None:
    seen: list[int] = []

    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return problem.classifier(x)

    attack = Attack("native", "PGD", {"steps": 6, "check_every": 3})
    x_adv = attack(Averaged(Counting(), 10, "gradients"), problem.x, problem.y, LINF)
    assert bool((problem.classifier(x_adv).argmax(1) != problem.y).all())
    assert sum(seen) == 4 * 10 * len(problem.x)  # three steps and a check, all broken by then
    with pytest.raises(ValueError, match="got averaged logits"):
        attack(Averaged(Counting(), 10, "logits"), problem.x, problem.y, LINF)
    with pytest.raises(ValueError, match=r"10 EOT samples or more .*randomised model, got 9: give eot_samples=10, or"):
        attack(Averaged(Counting(), 9, "gradients"), problem.x, problem.y, LINF)


def test_libraries_that_average_gradients_see_single_samples(problem: Problem) -> None:
    purifier, target = noisy(problem, 4, "gradients")
    Attack("torchattacks", "PGD", {"steps": 5})(target, problem.x, problem.y, LINF)
    assert purifier.sizes == [12] * 20  # five steps of four samples
    purifier, target = noisy(problem, 4)
    Attack("torchattacks", "PGD", {"steps": 5})(target, problem.x, problem.y, LINF)
    assert purifier.sizes == [48] * 5
    purifier.sizes.clear()
    Attack("autoattack", "rand")(target, problem.x[:3], problem.y[:3], Threat("Linf", 0.001))
    assert purifier.sizes.count(3) > 4 * 100  # APGD's own four samples a step


@pytest.mark.parametrize("name", ["PGD", "APGD"])
def test_native_attacks_average_gradients_or_logits(
    name: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from art_ext.evaluation.backends import native

    seen: list[int] = []
    eot, apgd = native.eot, native.attacks.apgd

    def watched_eot(gradient: Gradient, eot_samples: int, **options: Any) -> Gradient:
        seen.append(eot_samples)
        return eot(gradient, eot_samples, **options)

    def watched_apgd(*arguments: Any, eot_samples: int, **options: Any) -> Tensor:
        seen.append(eot_samples)
        return apgd(*arguments, eot_samples=eot_samples, **options)

    monkeypatch.setattr(native, "eot", watched_eot)
    monkeypatch.setattr(native.attacks, "apgd", watched_apgd)
    for average in ("gradients", "logits"):
        _, target = noisy(problem, 4, average)
        Attack("native", name, {"steps": 2})(target, problem.x, problem.y, LINF)
    assert seen == [4, 1]


def test_restarts_keep_the_best_of_all_starts(problem: Problem) -> None:
    wide = Threat("Linf", 0.2)  # the steps go nowhere, the starts break an image now and then

    def left(restarts: int) -> set[int]:
        with seeded(0):
            attack = Attack("native", "PGD", {"steps": 1, "step_size": 0.001, "restarts": restarts})
            x_adv = attack(problem.classifier, problem.x, problem.y, wide)
        return set((problem.classifier(x_adv).argmax(1) == problem.y).nonzero().flatten().tolist())

    assert left(30) < left(1)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def linear(classes: int, *shape: int) -> nn.Module:
    """A float32 network on images of the shape (C, H, W)."""
    network = nn.Sequential(nn.Conv2d(shape[0], 4, 1), nn.Flatten(), nn.Linear(4 * shape[1] * shape[2], classes))
    with torch.no_grad():
        network[2].weight.mul_(4)
    return network.eval()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("threat", [LINF, Threat("L2", 0.5)], ids=lambda t: t.norm)
def test_hopskipjump_asks_in_float32(threat: Threat) -> None:
    """ART makes float64 images under numpy 2, which a float32 network refuses."""
    network, x = linear(5, 3, 12, 12), images(3, 3, 12, 12)
    seen = []
    network[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].dtype))
    y = network(x).argmax(1)
    x_adv = Attack("art", "HopSkipJump", {"max_iter": 1, "max_eval": 20, "init_eval": 10})(network, x, y, threat)
    assert set(seen) == {torch.float32}
    assert x_adv.dtype == torch.float32


@pytest.mark.parametrize("name", ["PGD", "Square"])
def test_art_asks_a_sequential_as_a_whole(name: str) -> None:
    """ART calls the children of a Sequential one by one: a hook on it would see nothing."""
    network, x = linear(4, 1, 6, 8), images(5, 1, 6, 8)
    seen: list[Tensor] = []
    handle = network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach().clone()))
    given = {"PGD": {"steps": 3, "step_size": 0.05}, "Square": {"max_iter": 30, "p_init": 0.3}}[name]
    y = network(x).argmax(1)
    seen.clear()
    x_adv = Attack("art", name, given)(network, x, y, Threat("Linf", 0.1))
    handle.remove()
    assert not torch.equal(x_adv, x)
    asked = torch.cat(seen)
    moved = (asked[:, None] - x[None]).abs().flatten(2).amax(2).amin(1) > 1e-6
    assert bool(moved.any())  # other points of the ball than the images themselves


@pytest.mark.parametrize(
    ("height", "width", "threat", "p_init"),
    [
        (12, 17, LINF, 0.8),
        (28, 40, LINF, 0.8),
        (40, 28, Threat("L2", 1.0), 0.3),
        (6, 8, Threat("L2", 1.0), 0.1),
        (10, 10, LINF, 1.0),
    ],
)
def test_arts_square_says_which_images_it_cannot_do(height: int, width: int, threat: Threat, p_init: float) -> None:
    network, x = linear(4, 1, height, width), images(2, 1, height, width)
    with pytest.raises(ValueError, match=rf"expected .* for ART's Square.*{height} x {width}"):
        Attack("art", "Square", {"max_iter": 5, "p_init": p_init})(network, x, network(x).argmax(1), threat)


@pytest.mark.parametrize(
    ("height", "width", "threat", "p_init"),
    [
        (12, 17, LINF, 0.54),
        (28, 40, LINF, 0.6),
        (28, 40, Threat("L2", 1.0), 0.5),
        (12, 11, Threat("L2", 1.0), 0.3),
        (16, 16, Threat("L2", 1.0), 0.8),
        (10, 10, LINF, 0.8),
    ],
)
def test_arts_square_does_the_others(height: int, width: int, threat: Threat, p_init: float) -> None:
    network, x = linear(4, 1, height, width), images(2, 1, height, width)
    x_adv = Attack("art", "Square", {"max_iter": 20, "p_init": p_init})(network, x, network(x).argmax(1), threat)
    assert bool(threat.holds(x, x_adv).all())


@contextmanager
def repeated() -> Iterator[None]:
    """The same random numbers each time, those of numpy, which ART uses, included."""
    np.random.seed(0)  # noqa: NPY002
    with seeded(0):
        yield


EASY: list[tuple[str, str, dict[str, Any]]] = [
    ("native", "PGD", {"steps": 3}),
    ("native", "APGD", {"steps": 3}),
    ("art", "PGD", {"steps": 3, "step_size": 0.02}),
    ("art", "FGSM", {}),
    ("art", "APGD", {"max_iter": 2, "nb_random_init": 1}),
    ("art", "DeepFool", {"steps": 3}),
    ("torchattacks", "PGD", {"steps": 3}),
    ("torchattacks", "MI-FGSM", {"steps": 3}),
    ("torchattacks", "APGD", {"steps": 3}),
    ("autoattack", "custom", {"attacks": ["apgd-ce"]}),
]


@pytest.mark.parametrize(("backend", "name", "given"), EASY, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda m: m.__name__)
def test_the_callers_mode_changes_nothing(
    mode: Any, backend: str, name: str, given: dict[str, Any], problem: Problem
) -> None:
    attack, threat = Attack(backend, name, given), Threat("Linf", 0.05)
    with repeated():
        expected = attack(problem.classifier, problem.x, problem.y, threat)
    assert not torch.equal(expected, problem.x)
    with repeated(), mode():
        found = attack(problem.classifier, problem.x.clone(), problem.y.clone(), threat)
        assert torch.equal(found, expected)
    with repeated():
        found = attack(problem.classifier, problem.x.clone().requires_grad_(), problem.y, threat)
    assert torch.equal(found, expected)
    assert not found.requires_grad


@pytest.mark.parametrize(("backend", "name", "given"), EASY, ids=lambda v: v if isinstance(v, str) else "")
def test_gradients_that_are_not_finite_stop_no_attack(
    backend: str, name: str, given: dict[str, Any], problem: Problem
) -> None:
    """The gradient of the first pixel is NaN, as that of a square root at 0."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = problem.classifier

        def forward(self, x: Tensor) -> Tensor:
            pixel = x[:, 0, 0, 0]
            logits: Tensor = self.inside(x) + 0 * (pixel - pixel.detach()).sqrt()[:, None]
            return logits

    with seeded(0):
        x_adv = Attack(backend, name, given)(Root(), problem.x, problem.y, Threat("Linf", 0.1))
    assert bool(torch.isfinite(x_adv).all())
    assert bool((problem.classifier(x_adv).argmax(1) != problem.y).any())


class Stuck(nn.Module):
    """Memory runs out where it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(("backend", "name", "given"), EASY, ids=lambda v: v if isinstance(v, str) else "")
def test_out_of_memory_comes_as_it_is(backend: str, name: str, given: dict[str, Any], problem: Problem) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        Attack(backend, name, given)(Stuck(), problem.x, problem.y, LINF)


@pytest.mark.parametrize(("backend", "name", "given"), EASY, ids=lambda v: v if isinstance(v, str) else "")
def test_the_callers_images_are_left_alone(backend: str, name: str, given: dict[str, Any], problem: Problem) -> None:
    """Even by a network that writes into what it gets."""

    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = problem.classifier

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inside(x)
            with torch.no_grad():
                x.data.mul_(0.9)
            return logits

    x, y = problem.x.clone(), problem.y.clone()
    flags = [p.requires_grad for p in problem.classifier.parameters()]
    with suppress(ValueError):  # what is left of such images may be no example
        Attack(backend, name, given)(Writing(), x, y, LINF)
    assert torch.equal(x, problem.x)
    assert torch.equal(y, problem.y)
    assert [p.requires_grad for p in problem.classifier.parameters()] == flags


def test_what_an_attack_writes_into_its_images_is_judged_against_them(problem: Problem) -> None:
    """It gets a copy, so the ball is that around the images as they were."""
    attack = Attack(YOURS, "writes", function=lambda module, x, y, threat: x.add_(0.3))
    with pytest.raises(ValueError, match="distance above"):
        attack(problem.classifier, problem.x * 0.5, problem.y, LINF)


@pytest.mark.parametrize(("height", "width", "threat"), [(12, 17, LINF), (28, 40, LINF), (13, 11, Threat("L2", 1.0))])
def test_arts_square_does_what_its_refusal_proposes(height: int, width: int, threat: Threat) -> None:
    network, x = linear(4, 1, height, width), images(2, 1, height, width)
    y = network(x).argmax(1)
    with pytest.raises(ValueError, match="is small enough") as refusal:
        Attack("art", "Square", {"max_iter": 20, "p_init": 1.0})(network, x, y, threat)
    found = re.search(r"p_init=([\d.e-]+) is", str(refusal.value))
    assert found is not None
    x_adv = Attack("art", "Square", {"max_iter": 20, "p_init": float(found[1])})(network, x, y, threat)
    assert bool(threat.holds(x, x_adv).all())


@pytest.mark.parametrize(
    ("attack", "classes", "least"),
    [
        (Attack("torchattacks", "APGD", {"steps": 2, "loss": "dlr"}), 2, 3),
        (Attack("native", "APGD", {"steps": 2, "loss": "dlr"}), 2, 3),
        (Attack("art", "APGD", {"max_iter": 2, "loss_type": "difference_logits_ratio"}), 2, 3),
        (Attack("art", "AutoAttack"), 2, 3),
        (Attack("autoattack", "custom", {"attacks": ["apgd-dlr"]}), 2, 3),
        (Attack("autoattack", "custom", {"attacks": ["apgd-t"]}), 3, 4),
        (Attack("autoattack", "standard"), 3, 4),
        (Attack("autoattack", "rand"), 2, 3),
    ],
    ids=lambda v: v.title if isinstance(v, Attack) else str(v),
)
def test_losses_that_want_more_classes(attack: Attack, classes: int, least: int) -> None:
    network, x = linear(classes, 1, 6, 8), images(3, 1, 6, 8)
    with pytest.raises(ValueError, match=f"expected at least {least} classes for .*, got {classes}"):
        attack(network, x, network(x).argmax(1), LINF)


def test_an_art_classifier_is_on_its_images_device(problem: Problem) -> None:
    """What is elsewhere would be moved by ART; what ART has no name for is refused."""
    with pytest.raises(ValueError, match=r"expected images on cpu or cuda.*got meta"):
        art.estimator(problem.classifier.to("meta"), problem.x.to("meta"), problem.y)
    with pytest.raises(ValueError, match="expected the model on cpu, where the images are, got parts of it on meta"):
        art.estimator(problem.classifier, problem.x, problem.y)


def test_cuda_1_means_cuda_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, the current device is that of the images, which is what ART calls "gpu"."""

    class Images:
        device = torch.device("cuda", 1)

    seen: list[object] = []

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    with art._on_device_of(Images()):  # type: ignore[arg-type]
        seen.append("inside")
    assert seen == [torch.device("cuda", 1), "inside", 0]


def test_a_wrapped_module_is_the_module(problem: Problem) -> None:
    wrapped = Wrapped(problem.classifier)
    assert torch.equal(wrapped(problem.x.double()), problem.classifier(problem.x))
    assert Wrapped(nn.Flatten())(problem.x.half()).dtype == torch.float32
    x = problem.x.clone().requires_grad_()
    (found,) = torch.autograd.grad(wrapped(x).sum(), x)
    x = problem.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(problem.classifier(x).sum(), x)
    assert torch.equal(found, expected)
    assert Wrapped(problem.classifier.eval()).training is False


def test_restarts_of_pgd_leave_out_what_is_broken_and_keep_it() -> None:
    """Beyond 0.5 each sample is wrong, towards one class or the other; the mean of the two is right."""
    sides = itertools.cycle([(1.0, 2.0, -10.0), (1.0, -10.0, 2.0)])

    class Sides(torch.nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            beyond = (v.flatten(1).mean(1) > 0.5)[:, None]
            right = torch.tensor([1.0, 0.0, 0.0]) + 0 * v.flatten(1).sum(1, keepdim=True)
            return torch.where(beyond, torch.tensor(next(sides)), right)

    x, y, left = torch.full((20, 1, 1, 1), 0.5), torch.zeros(20).long(), []
    for restarts in (1, 6):
        torch.manual_seed(0)
        attack = Attack("native", "PGD", {"steps": 1, "restarts": restarts})
        x_adv = attack(Averaged(Sides(), 2, "gradients", 1), x, y, Threat("Linf", 0.1), leave=Leave(2))
        left.append(int((x_adv.flatten() <= 0.5).sum()))
    assert left[0] > 3
    assert left[1] < left[0] / 2


def test_one_sample_without_a_number_is_one_wrong_answer_and_not_the_best() -> None:
    """NaN at the start alone, in one sample of four: the iterates that follow are better."""
    calls = itertools.count()

    class Once(torch.nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            total = v.flatten(1).sum(1)
            return torch.stack([-total, total - 100], 1) + (torch.nan if next(calls) == 0 else 0)

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()
    attack = Attack("native", "PGD", {"steps": 5, "step_size": 0.05})
    x_adv = attack(Averaged(Once(), 4, "gradients", 1), x, y, Threat("Linf", 0.1))
    assert bool((x_adv > 0.59).all())
