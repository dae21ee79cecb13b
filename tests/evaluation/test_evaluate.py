"""The harness: what is attacked under which knowledge, what is refused, what is left as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, cross_entropy
from art_ext.evaluation import Attack, Defended, Knowledge, Report, Threat, evaluate
from art_ext.evaluation import backends as registry
from art_ext.evaluation.report.tables import bare_of
from art_ext.evaluation.settings import given_knowledge
from art_ext.evaluation.targets import StandIn

from .conftest import Blur, Halves, Noise, Problem

THREAT = Threat("Linf", 0.2)
ATTACKS = [
    Attack("native", "PGD", {"steps": 5}),
    Attack("native", "FGSM"),
    Attack("native", "MI-FGSM", {"steps": 5}),
    Attack("art", "PGD", {"steps": 5, "step_size": 0.1}),
    Attack("art", "APGD", {"steps": 5, "nb_random_init": 1}),
    Attack("torchattacks", "PGD", {"steps": 5, "step_size": 0.1}),
    Attack("torchattacks", "APGD", {"steps": 5}),
    Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}),
]


def quiet(*models: Defended, attacks: list[Attack], problem: Problem, **options: object) -> object:
    options = {"probe": None, "threat": THREAT, "progress": False} | options
    return evaluate(models, attacks, problem.x, problem.y, **options)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.title)
def test_every_attack_breaks_the_undefended_model_and_stays_inside(attack: Attack, problem: Problem) -> None:
    bare = Defended("bare", problem.classifier)
    report = quiet(bare, attacks=[attack], problem=problem)
    assert report.cell("bare", "clean", "none").accuracy.mean == 1
    assert report.worst_case("bare").mean == 0
    found = next(v for v in report.checks if v.check == "undefended breaks")
    assert found.detail.startswith("0 of 12 images are left")
    assert (report.cells[1].steps, report.cells[1].losses) == attack.effort


@pytest.mark.parametrize(
    ("backend", "norm"), [("native", "L1"), ("native", "L2"), ("art", "L2"), ("torchattacks", "L2")]
)
def test_other_norms_break_it_too(backend: str, norm: str, problem: Problem) -> None:
    threat = Threat(norm, {"L1": 9.6, "L2": 1.4}[norm])  # 48 pixels x 0.2, and 0.2 * sqrt(48) = 1.386
    attack = Attack(backend, "PGD", {"steps": 10, "step_size": threat.eps / 4})
    report = quiet(Defended("bare", problem.classifier), attacks=[attack], problem=problem, threat=threat)
    assert report.worst_case("bare").mean == 0


def test_knowledge_decides_what_is_differentiated(problem: Problem) -> None:
    surrogate, blur = Halves(), Blur()
    model = Defended("m", problem.classifier, blur, surrogate)
    assert model.target(Knowledge.TRANSFER) is model.surrogate_network
    assert model.target(Knowledge.BLIND) is model.network
    assert model.network.module is problem.classifier
    assert list(model.target(Knowledge.FULL)) == [blur, model.network]
    bpda = model.target(Knowledge.BPDA)
    assert torch.equal(bpda(problem.x), model.module(problem.x))
    x = problem.x.clone().requires_grad_()
    (through,) = torch.autograd.grad(bpda(x)[:, 0].sum(), x)
    y = blur(problem.x).detach().requires_grad_()  # identity backward: the classifier's gradient at the purified image
    (expected,) = torch.autograd.grad(problem.classifier(y)[:, 0].sum(), y)
    assert torch.allclose(through, expected)
    assert isinstance(bpda[0], StandIn)


def test_a_model_without_the_means_is_not_attacked_so(problem: Problem) -> None:
    with pytest.raises(ValueError, match="transfer"):
        Defended("m", problem.classifier, Blur()).target(Knowledge.TRANSFER)
    with pytest.raises(ValueError, match="bpda"):
        Defended("m", problem.classifier).target(Knowledge.BPDA)
    report = quiet(
        Defended("m", problem.classifier, Blur()),
        attacks=[ATTACKS[1]],
        problem=problem,
        knowledge=[Knowledge.TRANSFER, Knowledge.BLIND],
    )
    assert {c.knowledge for c in report.cells} == {"none", "blind"}
    assert "transfer attacks on m: no surrogate" in report.not_tested


def test_randomised_models_get_eot_and_redraws_deterministic_ones_neither(problem: Problem) -> None:
    models = [
        Defended("bare", problem.classifier),
        Defended("blur", problem.classifier, Blur()),
        Defended("noise", problem.classifier, Noise()),
    ]
    attacks = [
        Attack("native", "FGSM", on="deterministic"),
        Attack("native", "PGD", {"steps": 3}, eot_samples=4, on="randomised"),
        Attack("native", "MI-FGSM", {"steps": 2}),
    ]
    report = quiet(
        *models, attacks=attacks, problem=problem, repeats=3, eot_samples=2, knowledge=[Knowledge.FULL, Knowledge.BLIND]
    )
    titles = {m: [(c.attack, c.knowledge) for c in report.attacked(m)] for m in report.models()}
    fgsm, pgd, mi = "native FGSM", "native PGD-3", "native MI-FGSM-2"
    assert titles["bare"] == [(fgsm, "undefended"), (mi, "undefended")]
    assert titles["blur"] == [(fgsm, "full"), (fgsm, "blind"), (mi, "full"), (mi, "blind")]
    # A blind attacker does not see the randomness, so there is nothing for him to average.
    eot = [(f"{pgd} + EOT-4", "full"), (pgd, "blind"), (f"{mi} + EOT-2", "full"), (mi, "blind")]
    assert titles["noise"] == eot
    assert [c.parameters["eot_samples"] for c in report.attacked("noise")] == [4, 1, 2, 1]
    assert {len(c.correct) for c in report.attacked("noise")} == {3}
    assert {len(c.correct) for c in report.attacked("blur")} == {1}
    verdicts = {(v.model, v.check): v.verdict for v in report.checks}
    assert verdicts["noise", "randomness"] == "pass"


def test_an_attack_can_be_kept_to_some_knowledge(problem: Problem) -> None:
    models = [Defended("bare", problem.classifier), Defended("blur", problem.classifier, Blur())]
    attacks = [
        Attack("native", "PGD", {"steps": 2}, knowledge=(Knowledge.BPDA,)),
        Attack("native", "MI-FGSM", {"steps": 2}),
    ]
    report = quiet(*models, attacks=attacks, problem=problem, knowledge=[Knowledge.BPDA, Knowledge.FULL])
    found = [(c.model, c.attack, c.knowledge) for c in report.cells if c.attack != "clean"]
    pgd, mi = "native PGD-2", "native MI-FGSM-2"
    assert found == [
        ("bare", pgd, "undefended"), ("blur", pgd, "bpda"),
        ("bare", mi, "undefended"), ("blur", mi, "bpda"), ("blur", mi, "full"),
    ]  # fmt: skip
    assert "native PGD-2: only bpda" in report.not_tested
    assert [a["knowledge"] for a in report.provenance["attacks"]] == [["bpda"], None]
    with pytest.raises(ValueError, match=r"attacks under \['bpda'\]"):
        quiet(*models, attacks=attacks, problem=problem, knowledge=[Knowledge.FULL])


@pytest.mark.parametrize("knowledge", [(), ("bpda",), Knowledge.BPDA])
def test_an_attack_refuses_what_is_no_knowledge(knowledge: object) -> None:
    with pytest.raises((ValueError, TypeError), match="expected knowledge to hold members of Knowledge"):
        Attack("native", "PGD", knowledge=knowledge)  # type: ignore[arg-type]


def test_blind_examples_are_those_of_the_undefended_classifier_and_made_once(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def run(name: str, module: nn.Module, x: Tensor, *_: object, **__: object) -> Tensor:
        calls.append(module)
        return x

    monkeypatch.setitem(registry.BACKENDS, "native", replace(registry.BACKENDS["native"], run=run))
    models = [Defended("bare", problem.classifier), Defended("m", problem.classifier, Blur())]
    quiet(*models, attacks=[Attack("native", "FGSM")], problem=problem, knowledge=[Knowledge.BLIND])
    assert [module.module for module in calls] == [problem.classifier]


@pytest.mark.parametrize(
    ("cheat", "what"),
    [
        (lambda x: x + 0.3, "distance above"),
        (lambda x: x - 0.19 - x.amin(), "outside"),
        (lambda x: x * torch.nan, "NaN"),
        (lambda x: x[:, :, 1:], "shape"),
    ],
)
def test_an_attack_that_cheats_is_refused(
    cheat: object, what: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheating = replace(registry.BACKENDS["native"], run=lambda n, m, x, *_: cheat(x))
    monkeypatch.setitem(registry.BACKENDS, "native", cheating)
    with pytest.raises(ValueError, match=what):
        Attack("native", "FGSM")(problem.classifier, problem.x * 0.5, problem.y, Threat("Linf", 0.25))


def test_everything_is_left_as_it_was(problem: Problem) -> None:
    class WithNorm(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.norm(x))

    classifier = WithNorm().train()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    ambient, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    models = [Defended("bare", classifier), Defended("blur", classifier, Blur())]
    quiet(*models, attacks=[ATTACKS[0], ATTACKS[3], ATTACKS[5]], problem=problem)
    assert all(m.training for m in classifier.modules())
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())
    assert torch.equal(torch.get_rng_state(), ambient)
    assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002


def test_same_seed_same_report(problem: Problem) -> None:
    models = [Defended("bare", problem.classifier), Defended("noise", problem.classifier, Noise())]
    options = {"attacks": [ATTACKS[0], ATTACKS[3]], "problem": problem, "repeats": 2}
    first, second = (quiet(*models, **options) for _ in range(2))
    assert [c.correct for c in first.cells] == [c.correct for c in second.cells]


@pytest.mark.parametrize(
    ("x", "y", "error", "what"),
    [
        (torch.rand(2, 6, 8), torch.zeros(2).long(), ValueError, "N, C, H, W"),
        (torch.rand(2, 1, 6, 8) * 255, torch.zeros(2).long(), ValueError, "divide by 255"),
        (torch.rand(0, 1, 6, 8), torch.zeros(0).long(), ValueError, "one image"),
        (torch.rand(2, 1, 6, 8), torch.zeros(3).long(), ValueError, "2 class indices"),
        (torch.rand(2, 1, 6, 8), torch.tensor([0, -1]), ValueError, "minimum -1"),
        (torch.rand(2, 1, 6, 8), torch.zeros(2), TypeError, "int64"),
        (torch.rand(2, 1, 6, 8).double(), torch.zeros(2).long(), TypeError, "float32"),
        (torch.rand(2, 1, 6, 8), torch.tensor([0, 4]), ValueError, "4 classes of the models, got 4"),
    ],
)
def test_bad_input(x: Tensor, y: Tensor, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        evaluate([Defended("bare", Halves())], [ATTACKS[0]], x, y, threat=THREAT, progress=False, probe=None)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"eot_samples": 0}, "eot_samples"),
        ({"repeats": 0}, "repeats"),
        ({"batch_size": 0}, "batch_size"),
        ({"average": "losses"}, "logits, gradients"),
        ({"shard": (2, 2)}, "0 <= i < n"),
        ({"shard": (0.5, 2)}, "whole number"),
        ({"seed": 2**70}, "64 bits"),
        ({"survivors_only": True, "cross": True}, "survivors_only or cross"),
    ],
)
def test_bad_settings(options: dict[str, object], what: str, problem: Problem) -> None:
    with pytest.raises(ValueError, match=what):
        quiet(Defended("bare", problem.classifier), attacks=[ATTACKS[0]], problem=problem, **options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"shard": "0/1"}, r"a shard \(i, n\)"),
        ({"shard": (True, 2)}, "whole number"),
        ({"knowledge": {"full"}}, "members of Knowledge"),
        ({"knowledge": [Knowledge.FULL, "full"]}, "members of Knowledge"),
        ({"data": [1]}, "data as a dict"),
        ({"attacks": [None]}, "every attack as a Attack, got NoneType"),
        ({"attacks": ATTACKS[0]}, "attacks as a list, got Attack"),
    ],
)
def test_settings_of_another_type(options: dict[str, Any], what: str, problem: Problem) -> None:
    with pytest.raises(TypeError, match=what):
        quiet(Defended("bare", problem.classifier), problem=problem, **{"attacks": [ATTACKS[0]], **options})


def test_knowledge_that_is_given_twice_is_given_once(problem: Problem) -> None:
    model = Defended("blurred", problem.classifier, Blur())
    twice = quiet(model, attacks=[ATTACKS[0]], problem=problem, knowledge=[Knowledge.FULL, Knowledge.FULL])
    assert [c.knowledge for c in twice.cells] == ["none", "full"]
    assert given_knowledge({Knowledge.FULL, Knowledge.BLIND}) == (Knowledge.BLIND, Knowledge.FULL)


def test_a_radius_in_the_units_of_bytes_is_refused(problem: Problem) -> None:
    def asked(threat: Threat) -> Report:
        model, attack = Defended("bare", problem.classifier), Attack("native", "FGSM")
        return evaluate([model], [attack], problem.x, problem.y, threat=threat, probe=None)

    with pytest.raises(ValueError, match=r"expected eps for images in \[0, 1\], such as 8 / 255, got 8"):
        asked(Threat("Linf", 8))
    assert asked(Threat("L2", 8)).threat["eps"] == 8


def test_models_of_different_classes_are_refused(problem: Problem) -> None:
    two = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ValueError, match="logits"):
        quiet(Defended("four", problem.classifier), Defended("two", two), attacks=[ATTACKS[0]], problem=problem)


def test_bad_attacks_and_threats() -> None:
    with pytest.raises(ValueError, match="native, art"):
        Attack("foolbox", "PGD")
    with pytest.raises(ValueError, match="FGSM"):
        Attack("native", "DeepFool")
    with pytest.raises(ValueError, match="eot_samples"):
        Attack("native", "PGD", eot_samples=0)
    with pytest.raises(ValueError, match="images=-1"):
        Attack("native", "PGD", images=-1)
    with pytest.raises(ValueError, match="'sometimes'"):
        Attack("native", "PGD", on="sometimes")
    with pytest.raises(ValueError, match="'most likely'"):
        Attack("native", "PGD", targeted="most likely")
    with pytest.raises(ValueError, match="'yours'"):
        Attack("yours", "mine")
    with pytest.raises(ValueError, match="'yours'"):
        Attack("native", "PGD", function=lambda m, x, y, t: x)
    with pytest.raises(ValueError, match="without a purifier"):
        Defended("m", Halves(), Blur(), robust=True)
    with pytest.raises(ValueError, match="Linf"):
        Threat("L3", 0.1)
    with pytest.raises(ValueError, match="-1"):
        Threat("L2", -1)
    twice = [Defended("m", Halves())] * 2
    with pytest.raises(ValueError, match="different names"):
        evaluate(twice, [ATTACKS[0]], torch.rand(1, 1, 6, 8), torch.zeros(1).long(), threat=THREAT)


def test_attacks_that_cannot_be_told_apart_are_refused(problem: Problem) -> None:
    pgd = {"steps": 2}
    two = [Attack("native", "PGD", pgd), Attack("native", "PGD", pgd | {"step_size": 0.1})]
    with pytest.raises(ValueError, match="different titles"):
        quiet(Defended("bare", problem.classifier), attacks=two, problem=problem)
    other = [two[0], Attack("native", "PGD", pgd | {"loss": "margin"})]
    report = quiet(Defended("bare", problem.classifier), attacks=other, problem=problem)
    assert [c.attack for c in report.attacked("bare")] == ["native PGD-2", "native PGD-2 margin"]


def test_a_missing_library_says_how_to_get_it(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match=r"pip install art-ext\[torchattacks\]"):
        quiet(Defended("bare", problem.classifier), attacks=[ATTACKS[5]], problem=problem)


def test_a_methods_own_gradients_are_followed_and_the_best_candidate_kept(problem: Problem) -> None:
    class Weak(Blur):
        """Names two gradients: one that does nothing, and the true one."""

        def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
            true = ascent(cross_entropy(nn.Sequential(self, classifier), y))
            return {"true": true, "nothing": torch.zeros_like}

    attacks = [Attack("native", "PGD", {"steps": 5}), ATTACKS[3]]
    models = [Defended("weak", problem.classifier, Weak()), Defended("blur", problem.classifier, Blur())]
    report = quiet(*models, attacks=attacks, problem=problem, knowledge=[Knowledge.ADAPTIVE])
    assert [(c.model, c.attack) for c in report.cells[2:]] == [("weak", "native PGD-5")]
    assert report.worst_case("weak").mean == 0


def test_beside_a_defended_model_stands_its_own_classifier_alone(problem: Problem) -> None:
    sharp, flat, other = problem.classifier, Halves(2.0), Halves(5.0)
    models = [
        Defended("bare", sharp), Defended("robust", flat, robust=True), Defended("blur", flat, Blur()),
        Defended("blur before another", other, Blur()),
    ]  # fmt: skip
    report = quiet(*models, attacks=[Attack("native", "FGSM")], problem=problem, knowledge=[Knowledge.FULL])
    assert isinstance(report, Report)
    assert [bare_of(report, m.name) for m in models[2:]] == ["robust", None]
    header, rows = report.table()
    column = {row[0]: row[header.index("bare classifier")] for row in rows if row[1] == "clean"}
    assert column == {
        "robust": str(report.clean("robust").accuracy),
        "blur": column["robust"],
        "blur before another": "",
    }
    again = Report.from_json(report.to_json())
    assert bare_of(again, "blur") == "robust"
    unsaid = replace(report, inspected=tuple(replace(info, classifier="") for info in report.inspected))
    assert bare_of(unsaid, "blur") == "bare"  # as reports were read before
