"""What inspection finds of a model: identity, answers, randomness, gradients; each fault planted."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended, Knowledge, Threat, evaluate
from art_ext.evaluation.inspect import Fingerprint, Found, Gradient, ModelInfo, identities, identity, inspect_model
from art_ext.evaluation.inspect.gradients import art_gradient
from art_ext.images import Normalize
from art_ext.nn import seeded
from art_ext.nn.modes import all_seeded
from art_ext.purifiers import AToP

from .conftest import Blur, Halves, Noise, Problem

THREAT = Threat("Linf", 0.2)


class Around(nn.Module):
    """A network behind a function of (network, images)."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Any], network: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.network = function, network or Halves()

    def forward(self, x: Tensor) -> Any:
        return self.function(self.network, x)


def inspected(problem: Problem, model: Defended, piece: int = 64) -> ModelInfo:
    for part in model.parts():
        part.eval()
    return inspect_model(model, identities(model)["classifier"], problem.x, problem.y, THREAT, piece)


def atop(transform: str) -> AToP:
    with seeded(0):
        return AToP(channels=1, width=8, dilations=[2], grid=4, transform=transform)


def scaled(by: float) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda network, x: by * network(x)


class Holds(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return x


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def hooked(by: float) -> nn.Module:
    """A network whose gradient, not its answers, is another one."""
    network = Halves()
    network.register_full_backward_hook(lambda module, inward, outward: (by * inward[0],))
    return network


def of_class(by: float) -> nn.Module:
    """A network whose class was edited: nothing that it holds tells."""
    source = f"class Edited(nn.Module):\n    def forward(self, x):\n        return x * {by}"
    held: dict[str, Any] = {"nn": nn, "__name__": "user"}
    exec(source, held)
    made: nn.Module = held["Edited"]()
    return made


DIFFERENT = {
    "code of the class": (of_class(1.0), of_class(2.0)),
    "weights": (Halves(20.0), Halves(19.0)),
    "a transform": (atop("RT1"), atop("RT3")),
    "mean": (Normalize([0.1], [0.5]), Normalize([0.2], [0.5])),
    "a number held by a function": (Around(scaled(1.0)), Around(scaled(-1.0))),
    "code of a function": (Around(lambda n, x: n(x)), Around(lambda n, x: n(x) + 1)),
    "an attribute": (Holds(1), Holds(2)),
    "an array": (Holds(np.arange(3)), Holds(np.arange(3) + 1)),
    "a nested list": (Holds([{"a": [1, 2]}]), Holds([{"a": [1, 3]}])),
    "an object's attribute": (Holds(Threat("Linf", 0.1)), Holds(Threat("Linf", 0.2))),
    "a tensor that is no buffer": (Holds(torch.zeros(2)), Holds(torch.ones(2))),
    "an attribute in a slot": (Holds(Slots(1)), Holds(Slots(2))),
    "a backward hook": (hooked(1.0), hooked(2.0)),
    "a partial": (Holds(functools.partial(max, 1)), Holds(functools.partial(max, 2))),
    "the class": (nn.ReLU(), nn.Sigmoid()),
    "the order of layers": (nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.ReLU())),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_changes_the_answers_changes_the_hash(name: str) -> None:
    one, two = DIFFERENT[name]
    assert identity(one).sha256 != identity(two).sha256


def test_mode_and_batch_size_and_hooks_of_ours_do_not(problem: Problem) -> None:
    blur = Blur()
    before = identity(blur).sha256
    blur.batch_size = 3
    blur.eval()
    blur(problem.x)
    assert identity(blur).sha256 == before
    assert identity(Blur()).sha256 == before


def test_a_logger_is_its_name() -> None:
    before = identity(Holds(logging.getLogger("one"))).sha256
    logging.getLogger("one.more")  # all loggers of a process know each other
    assert identity(Holds(logging.getLogger("one"))).sha256 == before
    assert identity(Holds(logging.getLogger("two"))).sha256 != before


def test_a_cycle_ends_and_what_cannot_be_read_is_said() -> None:
    holds = Holds([])
    holds.value.append(holds)
    assert not identity(holds).opaque
    assert identity(Holds(memoryview(b"abc"))).opaque


@pytest.mark.filterwarnings("ignore:.torch.jit.[a-z]*. is deprecated:DeprecationWarning")
def test_scripted_networks_have_an_identity() -> None:
    one, two = (torch.jit.script(nn.Sequential(nn.Flatten(), nn.Threshold(by, 0.0))) for by in (0.1, 0.2))
    assert identity(one).sha256 != identity(two).sha256
    assert identity(one).sha256 == identity(one).sha256


def test_a_seed_repeats_what_pythons_generator_draws() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    drawn = []
    for _ in range(2):
        with all_seeded(3):
            drawn.append(random.random())
    assert drawn[0] == drawn[1]
    assert random.random() == expected  # ambient randomness goes on undisturbed


def test_fingerprints_are_compared_with_a_tolerance() -> None:
    logits = torch.tensor([[10.0, 0.0], [0.0, 10.0], [torch.nan, 1.0]])
    one = Fingerprint.of(logits)
    assert one.predicted == (0, 1, -1)
    assert one.agrees(Fingerprint.of(logits + 0.005))  # 1e-3 of a range of 10 is 0.01
    assert not one.agrees(Fingerprint.of(logits + 0.02))
    assert not one.agrees(Fingerprint.of(logits.flip(1)))
    assert one.agrees(Fingerprint.of(logits[:2]))  # of fewer images


def test_facts_come_back_from_plain_values(problem: Problem) -> None:
    info = inspected(problem, Defended("noise", problem.classifier, Noise()))
    assert ModelInfo.from_plain(info.plain()) == info
    assert info.random
    assert info.classes == 4


# What five passes of a model differ on. Clean images are halves of 8-bit values; points of the ball are none.
def off_the_grid(x: Tensor) -> Tensor:
    on = ((255 * x).round() - 255 * x).abs().flatten(1).amax(1) < 1e-3
    return torch.where(on.view(-1, 1, 1, 1), x, x + 0.1 * torch.randn_like(x))


def at_the_edge(x: Tensor) -> Tensor:
    """Random where a pixel has moved by the whole radius, as an attack does and a random point hardly."""
    far = ((x - 0.5).abs() > 0.198).flatten(1).float().mean(1) > 0.2
    return torch.where(far.view(-1, 1, 1, 1), x + 0.1 * torch.randn_like(x), x)


@pytest.mark.parametrize(
    ("purifier", "where"),
    [
        (Blur(), Found.NOWHERE),
        (Noise(), Found.CLEAN),
        (as_purifier(off_the_grid, differentiable=True), Found.BALL),
        (as_purifier(at_the_edge, differentiable=True), Found.ATTACKED),
    ],
    ids=["nowhere", "clean", "ball", "attacked"],
)
def test_randomness_is_found_where_it_is(purifier: Any, where: Found) -> None:
    y = torch.arange(12) % 2
    x = torch.full((12, 1, 6, 8), 128 / 255)
    x[y == 0, ..., :4], x[y == 1, ..., 4:] = 130 / 255, 130 / 255
    problem = Problem(x, y, Halves())
    assert inspected(problem, Defended("m", problem.classifier, purifier)).randomised is where


def test_randomness_that_comes_too_late_is_named(problem: Problem) -> None:
    calls = []

    def late(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x + (0.1 * torch.randn_like(x) if len(calls) > 60 else 0)

    model = Defended("m", problem.classifier, as_purifier(late, differentiable=True))
    report = evaluate([model], [Attack("native", "PGD", {"steps": 40})], problem.x, problem.y, threat=THREAT,
                      probe=None, progress=False, knowledge=[Knowledge.FULL])  # fmt: skip
    found = {v.check: v for v in report.checks}
    assert not report.info("m").random
    assert found["randomness"].verdict == "fail"
    assert "EOT was not used" in found["randomness"].detail


def mixing(network: nn.Module, x: Tensor) -> Tensor:
    return network((x - x.mean(0, keepdim=True) + 0.5).clamp(0, 1))


def test_an_answer_that_depends_on_the_batch_is_found(problem: Problem) -> None:
    honest = inspected(problem, Defended("m", problem.classifier))
    assert honest.batch is not None
    assert (honest.batch.images, honest.batch.changed) == (12, 0)
    found = inspected(problem, Defended("m", Around(mixing))).batch
    assert found is not None
    assert found.changed > 6


def test_a_randomised_model_that_mixes_is_found_and_one_that_does_not_is_not(problem: Problem) -> None:
    noise = inspected(problem, Defended("m", problem.classifier, Noise())).batch
    assert noise is not None
    assert noise.changed == 0

    class Mixing(Noise):
        def purify(self, x: Tensor) -> Tensor:
            return super().purify(x - x.mean(0, keepdim=True) + 0.5)

    mixed = inspected(problem, Defended("m", problem.classifier, Mixing())).batch
    assert mixed is not None
    assert mixed.changed > 3


def test_batch_statistics_in_eval_mode_are_found(problem: Problem) -> None:
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    model = Defended("m", nn.Sequential(norm, problem.classifier))
    found = inspected(problem, model).batch
    assert found is not None
    assert found.changed > 0


def test_writing_into_the_input_is_found_and_harms_nobody(problem: Problem) -> None:
    kept = problem.x.clone()
    inplace = Around(lambda n, x: n(x.sub_(0.1)))
    purifier = as_purifier(lambda x: x.mul_(0.9), differentiable=True)
    for model in (Defended("m", inplace), Defended("m", problem.classifier, purifier)):
        assert inspected(problem, model).writes_input
        assert torch.equal(problem.x, kept)
    assert not inspected(problem, Defended("m", problem.classifier, Blur())).writes_input


def gradient_of(function: Callable[[nn.Module, Tensor], Any], problem: Problem) -> ModelInfo:
    return inspected(problem, Defended("m", Around(function)))


def no_grad(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def inference(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (lambda n, x: n(x), Gradient.EXACT, ""),
        (no_grad, Gradient.MISSING, "no_grad"),
        (inference, Gradient.MISSING, "inference_mode"),
        (lambda n, x: n(x.detach()), Gradient.MISSING, "autograd"),
        (lambda n, x: checkpoint(n, x, use_reentrant=True), Gradient.FAILED, "use_reentrant"),
        (lambda n, x: n(x.relu_()), Gradient.EXACT, ""),
    ],
    ids=["honest", "no_grad", "inference_mode", "detached", "reentrant checkpointing", "in-place ReLU first"],
)
def test_a_gradient_is_missing_only_where_autograd_says_so(
    function: Callable[[nn.Module, Tensor], Any], kind: Gradient, words: str, problem: Problem
) -> None:
    info = gradient_of(function, problem)
    assert info.gradient is kind, info.gradient_error
    assert words in info.gradient_error


def test_zero_and_broken_gradients_are_counted(problem: Problem) -> None:
    assert gradient_of(lambda n, x: n((16 * x).round() / 16), problem).zero_gradients == 12
    broken = gradient_of(lambda n, x: n(x) + 0 * (0 * x).sqrt().sum((1, 2, 3))[:, None], problem)
    assert (broken.zero_gradients, broken.bad_gradients) == (0, 12)


@pytest.mark.parametrize("most", [16, 3, 1])
def test_out_of_memory_is_no_missing_gradient(problem: Problem, most: int) -> None:
    def hungry(network: nn.Module, x: Tensor) -> Tensor:
        if x.requires_grad and len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x)

    model = Defended("m", Around(hungry))
    assert inspected(problem, model).gradient is Gradient.EXACT
    attacks = [Attack("native", "PGD", {"steps": 3}), Attack("art", "PGD", {"steps": 3, "step_size": 0.1})]
    report = evaluate([model], attacks, problem.x, problem.y, threat=THREAT, probe=None, progress=False)
    plain = evaluate([Defended("m", Halves())], attacks, problem.x, problem.y, threat=THREAT, probe=None,
                     progress=False)  # fmt: skip
    assert [c.correct for c in report.cells] == [c.correct for c in plain.cells]


def test_out_of_memory_with_one_image_refuses_the_row_by_name(problem: Problem) -> None:
    def hungry(network: nn.Module, x: Tensor) -> Tensor:
        if x.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x)

    report = evaluate([Defended("m", Around(hungry))], [Attack("native", "PGD", {"steps": 3}),
                      Attack("torchattacks", "Square", {"n_queries": 3})], problem.x, problem.y, threat=THREAT,
                      probe=None, progress=False)  # fmt: skip
    _, pgd, square = report.cells
    assert pgd.refusal.value == "out of memory"
    assert not square.refused
    assert {v.check: v.verdict for v in report.checks}["attacks ran"] == "fail"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_dtypes_are_asked_in_theirs(dtype: torch.dtype, problem: Problem) -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=dtype))
            self.inner = Halves().to(dtype)

        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == dtype
            return self.inner(x) * self.weight

    info = inspected(problem, Defended("m", Typed()))
    assert info.dtype == str(dtype).removeprefix("torch.")
    assert (info.slopes is None) == (dtype is torch.bfloat16)
    report = evaluate([Defended("m", Typed())], [Attack("native", "PGD", {"steps": 3}),
                      Attack("art", "PGD", {"steps": 3, "step_size": 0.1})], problem.x, problem.y, threat=THREAT,
                      probe=None, progress=False)  # fmt: skip
    assert not any(c.refused for c in report.cells)
    assert report.worst_case("m").mean == 0


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda z: (z,), TypeError, "a tuple of 1"),
        (lambda z: {"logits": z}, TypeError, r"a dict of \['logits'\]"),
        (lambda z: None, TypeError, "NoneType"),
        (lambda z: z.argmax(1), TypeError, "int64"),
        (lambda z: z[:1], ValueError, r"\(1, 4\) for"),
        (lambda z: z[..., None], ValueError, r"4, 1\) for"),
    ],
)
def test_what_is_no_logits_is_refused_before_anything_is_run(
    answer: Callable[[Tensor], Any], error: type[Exception], words: str, problem: Problem
) -> None:
    model = Defended("m", Around(lambda n, x: answer(n(x))))
    with pytest.raises(error, match=words):
        evaluate([model], [Attack("native", "FGSM")], problem.x, problem.y, threat=THREAT, progress=False)


@pytest.mark.parametrize("given", [lambda x: x, Halves, None, 3])
def test_what_is_no_model_is_refused_when_it_is_named(given: Any) -> None:
    with pytest.raises(TypeError, match=r"expected classifier as an nn\.Module"):
        Defended("m", given)
    if given is not None:
        with pytest.raises(TypeError, match="as_purifier"):
            Defended("m", Halves(), given)


def test_the_callers_modes_and_images_are_no_obstacle(problem: Problem) -> None:
    attacks = [Attack("native", "PGD", {"steps": 3}), Attack("art", "PGD", {"steps": 3, "step_size": 0.1})]
    options: dict[str, Any] = {"threat": THREAT, "probe": None, "progress": False}
    model = Defended("m", Halves())
    want = evaluate([model], attacks, problem.x, problem.y, **options).findings()
    with torch.no_grad():
        assert evaluate([model], attacks, problem.x, problem.y, **options).findings() == want
    with torch.inference_mode():
        assert evaluate([model], attacks, problem.x.clone(), problem.y, **options).findings() == want
    x = problem.x.clone().requires_grad_()
    assert evaluate([model], attacks, x, problem.y, **options).findings() == want
    assert x.grad is None


@pytest.mark.filterwarnings("ignore:.torch.jit.[a-z]*. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # inside torch.compile
def test_scripted_exported_and_compiled_networks_run(problem: Problem) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()
    attack = [Attack("native", "PGD", {"steps": 3})]
    made = {
        "eager": net,
        "scripted": torch.jit.script(net),
        "frozen": torch.jit.freeze(torch.jit.script(net)),
        "exported": torch.export.export(net, (problem.x,), dynamic_shapes=({0: torch.export.Dim("n")},)).module(),
        "compiled": torch.compile(net, backend="eager"),
    }
    found = {}
    for name, network in made.items():
        report = evaluate([Defended("m", network)], attack, problem.x, problem.y, threat=THREAT, probe=None,
                          progress=False)  # fmt: skip
        assert not any(c.refused for c in report.cells), report.cells[1].refused
        found[name] = [c.correct for c in report.cells]
    assert all(rows == found["eager"] for rows in found.values())


def test_the_answer_is_the_same_whatever_the_batch_size(problem: Problem) -> None:
    class Twice(Noise):
        """Draws for the rows of a batch one after the other, twice: cut otherwise, they get other draws."""

        def purify(self, x: Tensor) -> Tensor:
            return super().purify(x) + 0.1 * torch.randn(len(x), 1, 1, 1)

    models = [Defended("bare", problem.classifier), Defended("noise", problem.classifier, Twice())]
    attacks = [Attack("native", "PGD", {"steps": 3}), Attack("art", "PGD", {"steps": 2, "step_size": 0.1})]
    many = problem.x.repeat(4, 1, 1, 1), problem.y.repeat(4)  # 48 images: two blocks
    found = [
        evaluate(models, attacks, *many, threat=THREAT, probe=None, progress=False, batch_size=size,
                 eot_samples=3, repeats=2).findings()
        for size in (1, 5, 64)
    ]  # fmt: skip
    answers = [[c.predicted for c in f.cells] for f in found]  # passes differ: what is cut is computed again
    assert answers[0] == answers[1] == answers[2]
    prints = [f.info("noise").fingerprint for f in found]
    assert prints[0] == prints[1] == prints[2]


def test_arts_gradient_is_held_against_the_same_draws() -> None:
    """AToP draws several things an image: in other pieces, each image would get others."""
    with seeded(0):
        purifier = AToP(**AToP.small).eval().requires_grad_(False)
        classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 12, 4)).eval()
        x, y = torch.rand(40, 3, 8, 12), torch.arange(40) % 4
    found = art_gradient(Defended("AToP", classifier, purifier), x, y)
    assert found.direct > 0
    assert found.gap < 1e-6
