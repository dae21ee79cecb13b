"""Planted faults, each caught by its check, and by none on an honest control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from art.defences.preprocessor import GaussianAugmentation, SpatialSmoothing
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.defences import PurifierPreprocessor, as_purifier
from art_ext.evaluation import Attack, Cell, Defended, Knowledge, Probe, Report, Threat, evaluate
from art_ext.evaluation.inspect import ModelInfo, UnitTest, identities, inspect_model
from art_ext.evaluation.judge import CHECKS, MODEL_CHECKS, judge
from art_ext.evaluation.judge.models import attack_unit_test
from art_ext.evaluation.run.unit_test import unit_test
from art_ext.evaluation.tags import tags_of
from art_ext.purifiers import Purifier

from .conftest import Blur, Halves, Noise, Problem

THREAT = Threat("Linf", 0.2)
PGD = Attack("native", "PGD", {"steps": 8})


class Forgets(Blur):
    """Under `no_grad`: attackers get no gradient."""

    def purify(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().purify(x)


class Rounds(Purifier):
    """Rounds, and says that it is differentiable: the gradient is zero almost everywhere."""

    name = "rounds"
    paper = ""

    def purify(self, x: Tensor) -> Tensor:
        return (x * 16).round() / 16


class RoundsHonestly(Rounds):
    """Rounds, and says so: BPDA."""

    differentiable = False


class Saturates(Blur):
    """Nearly every pixel ends up beyond the clamp."""

    def purify(self, x: Tensor) -> Tensor:
        return (super().purify(x) - 0.5) * 1e6 + 0.5


class Oracle(Purifier):
    """Looks up the clean image by its texture within each half; its gradient moves whole halves, unseen."""

    name = "oracle"
    paper = ""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known, self.textures = known, self.texture(known)

    @staticmethod
    def texture(x: Tensor) -> Tensor:
        halves = torch.stack([x[..., :4], x[..., 4:]], 1).flatten(2)
        flat = (halves - halves.median(2, keepdim=True).values).flatten(1)
        return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-9)

    def purify(self, x: Tensor) -> Tensor:
        match = (self.texture(x) @ self.textures.T).argmax(1)
        return self.known[match] + 1e-3 * (x - x.detach())


class Turns(Blur):
    """The gradient points the wrong way."""

    def purify(self, x: Tensor) -> Tensor:
        y = super().purify(x)
        return 2 * y.detach() - y


class ArtRounding(PreprocessorPyTorch):
    """As a user of ART writes it: rounds, with an identity `estimate_forward` that ART never calls (issue 1526)."""

    def __init__(self) -> None:
        super().__init__(device_type="cpu", is_fitted=True, apply_fit=False, apply_predict=True)

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        return (x * 16).round() / 16, y

    def estimate_forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        return x, y


class Probabilities(nn.Module):
    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x).softmax(1)


def blindly(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Attacks the classifier alone, whatever it is told."""
    return pgd(ascent(cross_entropy(module[1], y)), x, norm=Linf(), eps=threat.eps, steps=5)


def forgetful(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Finds an example and returns the clean image."""
    pgd(ascent(cross_entropy(module, y)), x, norm=Linf(), eps=threat.eps, steps=8)
    return x


@dataclass
class Case:
    """A model, how it is attacked, and the check that must fail."""

    make: Callable[[Problem], Defended]
    check: str
    attacks: list[Attack] = field(default_factory=lambda: [PGD])
    options: dict[str, Any] = field(default_factory=dict)


def yours(function: Callable[..., Tensor]) -> list[Attack]:
    return [Attack("yours", "mine", function=function)]


def defended(purifier: Purifier) -> Callable[[Problem], Defended]:
    return lambda p: Defended("m", p.classifier, purifier)


def of_art(preprocessor: Callable[[], Any]) -> Callable[[Problem], Defended]:
    def make(problem: Problem) -> Defended:
        classifier = PyTorchClassifier(
            problem.classifier, nn.CrossEntropyLoss(), (1, 6, 8), 4, clip_values=(0.0, 1.0),
            preprocessing_defences=preprocessor(), device_type="cpu",
        )  # fmt: skip
        return Defended.from_art("m", classifier)

    return make


SMOOTHING = {"window_size": 3, "channels_first": True, "clip_values": (0.0, 1.0)}
PLANTED = {
    "rounding with an identity estimate_forward": Case(of_art(ArtRounding), "gradient through ART"),
    "rounding called differentiable": Case(defended(Rounds()), "zero gradient"),
    "no_grad": Case(defended(Forgets()), "zero gradient"),
    "a function called differentiable": Case(
        lambda p: Defended("m", p.classifier, as_purifier(torch.no_grad()(lambda x: x * 1), differentiable=True)),
        "zero gradient",
    ),
    "probabilities": Case(lambda p: Defended("m", Probabilities(p.classifier), Blur()), "gives logits"),
    "noise, one draw": Case(
        defended(Noise()), "randomness", [Attack("native", "PGD", {"steps": 8}, eot_samples=1)]
    ),
    "a clamp that saturates": Case(defended(Saturates()), "saturated pixels"),
    "leaves the ball": Case(defended(Blur()), "inside the threat", yours(lambda m, x, y, t: (x + 0.25).clamp(0, 1))),
    "leaves the box": Case(defended(Blur()), "inside the threat", yours(lambda m, x, y, t: x - x.amin() - 0.01)),
    "NaN": Case(defended(Blur()), "inside the threat", yours(lambda m, x, y, t: x * torch.nan)),
    "blind, labelled white-box": Case(defended(Blur()), "knowledge as labelled", yours(blindly)),
    "survives Linf 0.5": Case(lambda p: Defended("m", p.classifier, Oracle(p.x)), "reaches chance"),
    "a gradient of the wrong sign": Case(defended(Turns()), "finite differences"),
    "an example found and not returned": Case(defended(Blur()), "silent success", yours(forgetful)),
    "an attack that does nothing": Case(
        lambda p: Defended("m", p.classifier), "undefended breaks", yours(lambda m, x, y, t: x + 0 * m(x).sum())
    ),
}  # fmt: skip
CONTROLS = {
    "the bare classifier": Case(lambda p: Defended("m", p.classifier), ""),
    "blur": Case(defended(Blur()), ""),
    "noise under EOT": Case(defended(Noise()), "", options={"eot_samples": 8}),
    "rounding under BPDA": Case(defended(RoundsHonestly()), ""),
    "a function under BPDA": Case(lambda p: Defended("m", p.classifier, as_purifier(torch.round)), ""),
    "ART's median filter": Case(of_art(lambda: SpatialSmoothing(**SMOOTHING)), ""),
    "blur through ART's libraries": Case(
        defended(Blur()), "", [Attack("art", "PGD", {"steps": 8, "step_size": 0.05}), PGD,
                               Attack("torchattacks", "APGD", {"steps": 8})],
        {"knowledge": [Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL]},
    ),
}  # fmt: skip


def report_on(case: Case, problem: Problem) -> Report:
    options = {"knowledge": [Knowledge.FULL], "probe": Probe(12, 8), "repeats": 3, "eot_samples": 4} | case.options
    with torch.no_grad():
        model = case.make(problem)
    return evaluate([model], case.attacks, problem.x, problem.y, threat=THREAT, progress=False, **options)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_fail_their_check(name: str, problem: Problem) -> None:
    report = report_on(PLANTED[name], problem)
    found = {v.check: v for v in report.checks}
    assert found[PLANTED[name].check].verdict == "fail", found[PLANTED[name].check]
    assert found[PLANTED[name].check].model == "m"


@pytest.mark.parametrize("name", CONTROLS)
def test_honest_controls_fail_none(name: str, problem: Problem) -> None:
    report = report_on(CONTROLS[name], problem)
    assert [v for v in report.checks if v.verdict == "fail"] == []
    ran = {v.check for v in report.checks if v.verdict != "not run"}
    expected = {"gives logits", "zero gradient", "gradient through ART", "randomness", "budget monotone",
                "reaches chance", "converged", "inside the threat", "iterative not weaker"}  # fmt: skip
    assert ran >= expected, expected - ran


def net() -> nn.Module:
    torch.manual_seed(0)
    features = (
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(108, 150),
        nn.Tanh(),
    )
    return nn.Sequential(*features, nn.Linear(150, 4)).eval()


class Detours(Blur):
    """Right in value; every other pixel's gradient is multiplied by -3."""

    def purify(self, x: Tensor) -> Tensor:
        y = super().purify(x)
        turned = torch.ones_like(y)
        turned[..., ::2] = -3
        return y.detach() + turned * (y - y.detach())


def unit_tested(model: Defended, x: Tensor, threat: Threat, steps: int) -> tuple[str, str]:
    """What the unit test of the attack says of a model."""
    y = torch.zeros(len(x), dtype=torch.int64)
    info = inspect_model(model, identities(model)["classifier"], x, y, threat, 64)
    found = attack_unit_test(replace(info, unit_test=unit_test(model, info, x, threat, steps)))
    assert found is not None
    return found


@pytest.mark.parametrize(("purifier", "expected"), [(None, "pass"), (Blur(), "pass"), (Detours(), "fail")])
def test_the_attack_is_given_examples_that_exist(purifier: Purifier | None, expected: str) -> None:
    x = torch.rand(12, 1, 10, 10)
    found = unit_tested(Defended("m", net(), purifier), x, Threat("Linf", 0.1), 40)
    assert found[0] == expected, found


def test_a_weak_pgd_warns_where_apgd_finds_what_is_there() -> None:
    found = unit_tested(Defended("m", net(), Blur()), torch.rand(12, 1, 10, 10), Threat("Linf", 0.1), 1)
    assert found[0] == "warn", found
    info = ModelInfo("m", unit_test=UnitTest(20, 20, 0, by_pgd=18))
    assert attack_unit_test(info) == (
        "warn",
        "the probes' PGD finds 90.0 %, and with APGD 100.0 % [83.9, 100.0] n=20, random search 0.0 %",
    )


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (UnitTest(20, 20, 0, by_pgd=20), "pass"),
        (UnitTest(20, 10, 0, by_pgd=10), "fail"),
        (UnitTest(20, 18, 0, by_pgd=10), "warn"),
        (UnitTest(20, 19, 0), "pass"),
        (UnitTest(20, 18, 0), "warn"),
        (UnitTest(reason="no"), "not run"),
    ],
)
def test_the_unit_test_is_judged_by_all_that_was_tried(test: UnitTest, expected: str) -> None:
    found = attack_unit_test(ModelInfo("m", unit_test=test))
    assert found is not None
    assert found[0] == expected


def test_the_unit_test_is_run_where_it_is_asked_for(problem: Problem) -> None:
    report = report_on(Case(defended(Blur()), "", options={"probe": Probe(2, 2, unit_tests=2)}), problem)
    assert ("attack unit test", "not run") in {(v.check, v.verdict) for v in report.checks}
    assert all(v.check != "attack unit test" for v in report_on(CONTROLS["blur"], problem).checks)


def test_the_unit_test_wants_a_linear_layer_and_no_randomness() -> None:
    for network, purifier, reason in ((Halves(), Blur(), "linear"), (net(), Noise(), "randomised")):
        model = Defended("m", network, purifier)
        said, detail = unit_tested(model, torch.rand(4, 1, 10, 10), THREAT, 2)
        assert (said, reason in detail) == ("not run", True)


def test_a_refused_attack_ends_nothing_and_counts_for_nothing(problem: Problem) -> None:
    case = Case(defended(Blur()), "", [*yours(lambda m, x, y, t: x + 0.3), PGD])
    report = report_on(case, problem)
    assert report.cell("m", "yours mine", "full").refused
    assert [c.attack for c in report.attacked("m")] == ["native PGD-8"]
    assert "refused" in report.markdown()


def test_without_a_gradient_the_exact_attacks_are_refused_and_the_others_run(problem: Problem) -> None:
    case = Case(defended(Forgets()), "", options={"knowledge": [Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL]})
    report = report_on(case, problem)
    assert {c.knowledge: bool(c.refused) for c in report.cells[1:]} == {"blind": False, "bpda": False, "full": True}


def test_a_gradient_that_art_does_not_see_fails(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    from art_ext.evaluation.backends import art

    honest = art.estimator

    def scaled(*args: object) -> object:
        classifier = honest(*args)
        gradient = classifier.loss_gradient
        classifier.loss_gradient = lambda x, y: 0.5 * gradient(x, y)
        return classifier

    monkeypatch.setattr(art, "estimator", scaled)
    report = report_on(CONTROLS["blur"], problem)
    assert {v.check: v.verdict for v in report.checks}["gradient through ART"] == "fail"


def test_art_gradients_are_compared_in_the_units_of_the_image(problem: Problem) -> None:
    class Bytes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Halves()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.permute(0, 3, 1, 2) / 255)

    classifier = PyTorchClassifier(
        Bytes(), nn.CrossEntropyLoss(), (6, 8, 1), 4, clip_values=(0.0, 255.0), channels_first=False,
        device_type="cpu", preprocessing_defences=SpatialSmoothing(window_size=3, clip_values=(0.0, 255.0)),
    )  # fmt: skip
    case = Case(lambda p: Defended.from_art("m", classifier), "")
    report = report_on(case, problem)
    assert [v for v in report.checks if v.verdict == "fail"] == []
    expected = classifier.predict((problem.x * 255).permute(0, 2, 3, 1).numpy()).argmax(1)
    clean = report.cell("m", "clean", "none").correct[0]
    assert list(clean) == (expected == problem.y.numpy()).tolist()


def test_art_gradients_are_compared_under_the_same_draws(problem: Problem) -> None:
    noise = GaussianAugmentation(0.1, augmentation=False, apply_predict=True, apply_fit=False, clip_values=(0, 1))
    report = report_on(Case(of_art(lambda: noise), "", options={"eot_samples": 2, "repeats": 2}), problem)
    assert {v.check: v.verdict for v in report.checks}["gradient through ART"] == "pass"


def test_art_classifiers_with_our_preprocessors_are_taken_apart(problem: Problem) -> None:
    blur = Blur()
    preprocessors = [PurifierPreprocessor(blur, device_type="cpu"), SpatialSmoothing(**SMOOTHING)]
    model = of_art(lambda: preprocessors[0])(problem)
    assert model.purifier is blur
    with torch.no_grad():
        expected = nn.Sequential(blur, problem.classifier)(problem.x)
    assert torch.allclose(model.module(problem.x), expected, atol=1e-6)
    classifier = PyTorchClassifier(
        problem.classifier, nn.CrossEntropyLoss(), (1, 6, 8), 4, clip_values=(0.0, 1.0), device_type="cpu"
    )
    bare = Defended.from_art("bare", classifier)
    assert bare.purifier is None
    both = as_purifier([as_purifier(preprocessors[0]), as_purifier(preprocessors[1])])
    report = report_on(Case(defended(both), ""), problem)
    assert [v for v in report.checks if v.verdict == "fail"] == []


# What follows is judged from cells alone.


def report_of(*cells: Cell, probes: tuple[Cell, ...] = (), **facts: Any) -> Report:
    about = {"defended": ["m"], "robust": [], "randomised": {"m": False}, "classes": 10} | facts
    clean = tuple(Cell(m, "clean", "none", ((True,) * 40,)) for m in dict.fromkeys(c.model for c in cells))
    return Report({"norm": "Linf", "eps": 0.1}, (*clean, *cells), (), (), about, probes)


def cell(knowledge: str, right: int, of: int = 40, model: str = "m", attack: str = "a", **facts: Any) -> Cell:
    return Cell(model, attack, knowledge, (tuple(i < right for i in range(of)),), **facts)


def probe(tags: str, right: int, **parameters: Any) -> Cell:
    stated = {"eps": 0.1, "steps": 20, "eot_samples": 1} | parameters
    return cell("full", right, tags=tags_of(tags), parameters=stated)


def verdict(report: Report, check: str, model: str = "m") -> str:
    return {(v.check, v.model): v.verdict for v in judge(report)}[check, model]


@pytest.mark.parametrize(("black", "full", "expected"), [(30, 5, "pass"), (5, 30, "fail"), (20, 20, "pass")])
@pytest.mark.parametrize("kind", ["blind", "transfer", "square"])
def test_black_box_stronger_than_white_box_fails(kind: str, black: int, full: int, expected: str) -> None:
    other = cell("full", black, attack="Square", black_box=True) if kind == "square" else cell(kind, black)
    assert verdict(report_of(other, cell("full", full)), "black-box not stronger") == expected


@pytest.mark.parametrize(("left", "expected"), [(0, "pass"), (2, "pass"), (3, "warn"), (5, "fail")])
def test_undefended_must_break(left: int, expected: str) -> None:
    report = report_of(cell("undefended", left, model="bare"), defended=[])
    assert verdict(report, "undefended breaks", "bare") == expected
    robust = report_of(cell("undefended", left, model="bare"), defended=[], robust=["bare"])
    assert all(v.check != "undefended breaks" for v in judge(robust))


@pytest.mark.parametrize(("baseline", "expected"), [(30, "warn"), (10, "pass"), (2, "pass")])
def test_an_adversarially_trained_network_that_leaves_more_warns(baseline: int, expected: str) -> None:
    both = (cell("undefended", baseline, model="robust"), cell("full", 10))
    assert verdict(report_of(*both, robust=["robust"]), "static baseline") == expected
    assert verdict(report_of(both[1]), "static baseline") == "not run"


@pytest.mark.parametrize(("once", "many", "expected"), [(30, 10, "pass"), (10, 30, "fail"), (20, 21, "pass")])
def test_pgd_weaker_than_fgsm_fails(once: int, many: int, expected: str) -> None:
    report = report_of(cell("full", 20), probes=(probe("base", many), probe("fgsm", once)))
    assert verdict(report, "iterative not weaker") == expected


@pytest.mark.parametrize(
    ("curve", "expected"),
    [({0.05: 30, 0.1: 20, 0.2: 5}, "pass"), ({0.05: 30, 0.1: 5, 0.2: 20}, "fail"), ({0.2: 5, 0.05: 6, 0.1: 7}, "pass")],
)
def test_accuracy_that_rises_with_the_budget_fails(curve: dict[float, int], expected: str) -> None:
    probes = tuple(probe("eps", right, eps=eps) for eps, right in curve.items())
    assert verdict(report_of(cell("full", 20), probes=probes), "budget monotone") == expected


# Wilson's lower end for 8 of 40 is 10.5 %, above a chance of 10 %; for 7 of 40 it is 8.7 %.
@pytest.mark.parametrize(("right", "expected"), [(0, "pass"), (7, "pass"), (8, "fail"), (40, "fail")])
def test_accuracy_above_chance_where_every_image_can_be_grey_fails(right: int, expected: str) -> None:
    report = report_of(cell("full", 20), probes=(probe("eps, chance", right, eps=0.5),))
    assert verdict(report, "reaches chance") == expected


# 20 of 40: a standard error is sqrt(0.25 / 40) = 7.9 points, 3.2 images.
@pytest.mark.parametrize(("more", "expected"), [(20, "pass"), (17, "pass"), (16, "warn"), (25, "pass")])
@pytest.mark.parametrize("tags", ["steps, more", "draws, more"])
def test_an_attack_that_gains_from_more_effort_warns(tags: str, more: int, expected: str) -> None:
    report = report_of(cell("full", 20), probes=(probe("base", 20), probe(tags, more)))
    assert verdict(report, "converged") == expected


def test_another_start_adds_to_the_first() -> None:
    flags = tuple(i >= 16 for i in range(40))  # breaks 16 others, leaves 24 as many as the first breaks
    other = Cell("m", "a", "full", (flags,), parameters={"eot_samples": 1}, tags=tags_of("start, more, seed"))
    base = probe("base", 24)
    assert base.accuracy.mean == other.accuracy.mean
    assert verdict(report_of(cell("full", 24), probes=(base, other)), "converged") == "warn"


@pytest.mark.parametrize(("frozen", "expected"), [(5, "warn"), (20, "pass"), (30, "pass")])
def test_what_is_only_randomness_warns(frozen: int, expected: str) -> None:
    report = report_of(cell("full", 20), probes=(probe("base", 20), probe("frozen", frozen)))
    assert verdict(report, "frozen randomness") == expected


@pytest.mark.parametrize(("relaxed", "expected"), [(5, "fail"), (20, "pass"), (30, "pass")])
def test_what_the_clamp_hides_fails(relaxed: int, expected: str) -> None:
    report = report_of(cell("full", 20), probes=(probe("base", 20), probe("clamp", relaxed)))
    assert verdict(report, "clamp hides nothing") == expected


@pytest.mark.parametrize(("rights", "expected"), [((20, 21, 19), "pass"), ((5, 20, 35), "warn"), ((20, 20), "not run")])
def test_seeds_that_disagree_warn(rights: tuple[int, ...], expected: str) -> None:
    probes = tuple(probe("seed", right) for right in rights)
    assert verdict(report_of(cell("full", 20), probes=probes), "seeds") == expected


@pytest.mark.parametrize(("silent", "expected"), [(0, "pass"), (1, "warn"), (2, "fail")])
def test_silent_success_counts(silent: int, expected: str) -> None:
    report = report_of(cell("full", 20, observed={"watched": 40, "silent": silent}))
    assert verdict(report, "silent success") == expected


@pytest.mark.parametrize(
    ("knowledge", "seen", "back", "expected"),
    [
        ("full", 10, 10, "pass"),
        ("full", 10, 0, "fail"),
        ("full", 0, 0, "fail"),
        ("bpda", 10, 10, "pass"),
        ("bpda", 0, 0, "fail"),
        ("blind", 0, 0, "pass"),
        ("blind", 10, 0, "fail"),
        ("transfer", 10, 10, "fail"),
    ],
)
def test_labels_are_held_against_what_was_seen(knowledge: str, seen: int, back: int, expected: str) -> None:
    observed = {"forward": 10, "backward": 10, "purifier_forward": seen, "purifier_backward": back}
    assert verdict(report_of(cell(knowledge, 20, observed=observed)), "knowledge as labelled") == expected
    if (knowledge, seen) == ("full", 10):
        square = cell(knowledge, 20, observed=observed, black_box=True)
        assert verdict(report_of(square), "knowledge as labelled") == "pass"


def test_clean_cost_is_paired() -> None:
    cells = [Cell(m, "clean", "none", (tuple(i < n for i in range(40)),)) for m, n in (("bare", 40), ("m", 36))]
    cells.append(cell("undefended", 0, model="bare"))
    report = Report({"norm": "Linf", "eps": 0.1}, tuple(cells), (), (), {"defended": ["m"]})
    assert next(v.detail for v in judge(report) if v.check == "clean accuracy cost").startswith("10.0 points lost")


def test_every_check_is_exercised_here() -> None:
    here = Path(__file__).parent
    names = ("checks", "crafting", "headline", "broken")
    source = "".join((here / f"test_{name}.py").read_text("utf-8") for name in names)
    assert [check for check in (*CHECKS, *MODEL_CHECKS) if f'"{check}"' not in source] == []


def test_the_unit_test_of_an_l1_ball_is_run_where_pgd_is_weak() -> None:
    found = unit_tested(Defended("m", net(), Blur()), torch.rand(6, 1, 10, 10), Threat("L1", 5.0), 1)
    assert found[0] in ("warn", "fail"), found
