"""Attacks as they are written down: what is taken, what is refused, and what is known of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.evaluation.backends import BACKENDS, YOURS, Attack, attack, parameters
from art_ext.evaluation.report import Cell
from art_ext.evaluation.threat import Knowledge, Threat

LINF = Threat("Linf", 0.1)
EVERY = [(b, name) for b, backend in BACKENDS.items() for name in backend.names]


def made(backend: str, name: str, given: dict[str, Any] | None = None) -> Attack:
    needed = {"attacks": ["apgd-ce"]} if name == "custom" else {}
    return Attack(backend, name, {**needed, **(given or {})})


def own(*_: object) -> torch.Tensor:
    return torch.zeros(1)


@pytest.mark.parametrize("few", [np.int64(3), np.array(3), torch.tensor(3), np.float32(3), 3.0])
def test_numbers_of_numpy_and_torch_become_pythons(few: Any) -> None:
    found = Attack("native", "PGD", {"steps": few, "step_size": np.float32(0.5)}, images=few, eot_samples=few)  # type: ignore[arg-type]
    assert found.parameters == {"steps": 3, "step_size": 0.5}
    assert type(found.parameters["steps"]) is int
    assert type(found.parameters["step_size"]) is float
    assert found.stated(LINF)["steps"] == 3
    assert found.title == "native PGD-3 + EOT-3"
    assert type(found.images) is int
    assert found == Attack("native", "PGD", {"steps": 3, "step_size": 0.5}, images=3, eot_samples=3)


def test_what_has_no_plain_value_is_refused() -> None:
    with pytest.raises(TypeError, match="expected steps of native PGD as a plain value"):
        Attack("native", "PGD", {"steps": object()})
    with pytest.raises(TypeError, match="expected loss of art Square as a plain value"):
        Attack("art", "Square", {"loss": lambda x: x})
    with pytest.raises(TypeError, match="plain value"):
        Attack("native", "StAdv", {"smoothness": nn.Identity()})
    with pytest.raises(TypeError, match="plain value"):
        Attack(YOURS, "mine", {"net": nn.Identity()}, function=own)
    with pytest.raises(TypeError, match="as a dict"):
        Attack("native", "PGD", [("steps", 3)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by name, got 3"):
        Attack("native", "PGD", {3: 3})  # type: ignore[dict-item]
    features = nn.Flatten()
    ssp = Attack("native", "SSP", {"features": features})
    assert ssp.parameters["features"] is features
    assert ssp.stated(LINF)["features"] == "Flatten"


COUNTED = [
    ("native", "PGD", "steps"), ("native", "PGD", "restarts"), ("native", "PGD", "check_every"),
    ("native", "APGD", "restarts"), ("native", "SI-NI-TI-DIM", "copies"), ("native", "StAdv", "steps"),
    ("art", "PGD", "steps"), ("art", "PGD", "max_iter"), ("art", "PGD", "batch_size"),
    ("art", "APGD", "nb_random_init"),
    ("art", "Square", "nb_restarts"), ("art", "C&W", "binary_search_steps"), ("art", "DeepFool", "nb_grads"),
    ("art", "HopSkipJump", "max_eval"), ("torchattacks", "PGD", "steps"), ("torchattacks", "Square", "n_queries"),
    ("torchattacks", "APGD", "n_restarts"), ("torchattacks", "APGD", "eot_iter"), ("torchattacks", "VMI-FGSM", "N"),
    ("torchattacks", "SI-NI-FGSM", "m"), ("autoattack", "standard", "batch_size"),
]  # fmt: skip
LENGTHS = [
    ("native", "PGD", "step_size"), ("native", "StAdv", "bound"), ("native", "JPEG", "eps"), ("native", "APGD", "rho"),
    ("art", "PGD", "eps_step"), ("art", "PGD", "step_size"), ("art", "C&W", "learning_rate"),
    ("torchattacks", "PGD", "alpha"), ("torchattacks", "PGD", "step_size"), ("torchattacks", "MI-FGSM", "decay"),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "name", "key"), COUNTED)
def test_counts_are_whole_numbers_of_at_least_one(backend: str, name: str, key: str) -> None:
    for bad in (0, -1, 1.5, np.int64(0), float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"expected {key} of {backend} {name} as a whole number"):
            made(backend, name, {key: bad})
    for wrong in (True, "3", [3], np.bool_(True)):
        with pytest.raises(TypeError, match=f"expected {key} of {backend} {name} as a whole number"):
            made(backend, name, {key: wrong})
    assert made(backend, name, {key: 2}).parameters[key] == 2


@pytest.mark.parametrize(("backend", "name", "key"), LENGTHS)
def test_lengths_are_finite_and_positive(backend: str, name: str, key: str) -> None:
    free = key in ("rho", "decay")  # any finite number
    for bad in (float("nan"), float("inf"), *(() if free else (0, 0.0, -0.1, np.float32(-1)))):
        with pytest.raises(ValueError, match=f"expected {key} of"):
            made(backend, name, {key: bad})
    for wrong in (True, "0.1", [0.1]):
        with pytest.raises(TypeError, match=f"expected {key} of"):
            made(backend, name, {key: wrong})
    assert made(backend, name, {key: 0.25}).parameters[key] == 0.25


def test_arts_start_at_the_image_stays_legal() -> None:
    assert Attack("art", "PGD", {"num_random_init": 0}).parameters == {"num_random_init": 0}
    with pytest.raises(ValueError, match="of at least 0"):
        Attack("art", "PGD", {"num_random_init": -1})


@pytest.mark.parametrize(
    ("backend", "name", "given", "what"),
    [
        ("native", "PGD", {"random_start": 1}, "random_start of native PGD as True or False, got 1"),
        ("native", "PGD", {"best": "yes"}, "best of native PGD as True or False"),
        ("native", "PGD", {"momentum": "1"}, "momentum"),
        ("native", "PGD", {"momentum": True}, "momentum"),
        ("native", "APGD", {"rho": None}, "rho"),
        ("native", "ReColorAdv", {"grid": 16}, "grid of native ReColorAdv as a list"),
        ("art", "PGD", {"random_eps": 0}, "random_eps of art PGD as True or False"),
        ("art", "APGD", {"loss_type": True}, "loss_type of art APGD as a number, string or list"),
        ("torchattacks", "APGD", {"loss": 3}, "loss of torchattacks APGD as a string"),
        ("torchattacks", "Square", {"resc_schedule": "on"}, "resc_schedule"),
        ("autoattack", "standard", {"seed": "0"}, "seed of autoattack standard as a finite number"),
    ],
)
def test_values_have_the_type_of_the_librarys_default(
    backend: str, name: str, given: dict[str, Any], what: str
) -> None:
    with pytest.raises(TypeError, match=f"expected .*{what}"):
        Attack(backend, name, given)


@pytest.mark.parametrize(
    ("backend", "name", "given", "what"),
    [
        ("native", "PGD", {"stepz": 3}, "steps.*got 'stepz'"),
        ("native", "PGD", {"eps": 0.1}, "no eps among the parameters of native PGD"),
        ("native", "SSP", {"loss": "margin"}, "no loss"),
        ("native", "FGSM", {"check_every": 3}, "got 'check_every'"),
        ("art", "PGD", {"norm": 2}, "no norm"),
        ("art", "PGD", {"steps": 3, "max_iter": 4}, "steps or max_iter"),
        ("art", "AutoAttack", {"attacks": []}, "no attacks"),
        ("torchattacks", "PGD", {"eps": 0.1}, "no eps"),
        ("torchattacks", "PGD", {"step_size": 0.1, "alpha": 0.1}, "step_size or alpha"),
        ("native", "PGD", {"loss": "hinge"}, "loss to be one of cross_entropy, margin, dlr; got 'hinge'"),
        ("native", "APGD", {"loss": "ce"}, "loss to be one of"),
        ("native", "JPEG", {"loss": "dlr"}, "loss to be one of margin, cross_entropy"),
        ("torchattacks", "APGD", {"loss": "cross_entropy"}, "loss to be one of ce, dlr"),
        ("native", "PGD", {"check_every": 5, "momentum": 1.0}, "alone, got PGD with .*momentum"),
        ("native", "PGD", {"check_every": 5, "best": True}, "last iterates"),
        ("autoattack", "custom", {"attacks": []}, r"attacks as a list of at least one of apgd-ce.*got \[\]"),
        ("autoattack", "custom", {"attacks": "square"}, "list of at least one"),
        ("autoattack", "custom", {"attacks": ["pgd"]}, "list of at least one"),
        ("autoattack", "standard", {"attacks": ["square"]}, "got 'attacks'"),
        ("autoattack", "standard", {"order": []}, "order as a list"),
    ],
)
def test_parameters_that_an_attack_does_not_take(backend: str, name: str, given: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{what}"):
        Attack(backend, name, given)


@pytest.mark.parametrize(
    ("given", "error", "what"),
    [
        ({"images": 0}, ValueError, "images >= 1"),
        ({"images": True}, TypeError, "images"),
        ({"images": "3"}, TypeError, "images"),
        ({"images": 2.5}, ValueError, "images=2.5"),
        ({"eot_samples": 0}, ValueError, "eot_samples >= 1 as a whole number, got eot_samples=0"),
        ({"eot_samples": float("nan")}, ValueError, "eot_samples"),
        ({"black_box": 1}, TypeError, "black_box as True or False"),
        ({"label": 3}, TypeError, "label as a string"),
        ({"on": True}, ValueError, "on='all'"),
        ({"knowledge": []}, ValueError, "members of Knowledge"),
        ({"knowledge": ("full",)}, ValueError, "members of Knowledge"),
        ({"knowledge": "full"}, ValueError, "members of Knowledge"),
        ({"knowledge": Knowledge.FULL}, ValueError, "members of Knowledge"),
    ],
)
def test_fields_that_are_refused(given: dict[str, Any], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=f"expected .*{what}"):
        Attack("native", "PGD", **given)


def test_functions_of_ones_own() -> None:
    mine = Attack(YOURS, "mine", {"steps": np.int64(7)}, function=own, black_box=True)
    assert (mine.gradient_free, mine.follows_gradients, mine.parameters) == (True, False, {"steps": 7})
    assert mine.cost(2) == 2 * 3 * 7
    assert mine.stated(LINF) == {"steps": 7}
    with pytest.raises(TypeError, match="callable"):
        Attack(YOURS, "mine", function=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="to return a tensor, got NoneType"):
        Attack(YOURS, "mine", function=lambda *_: None)(nn.Flatten(), torch.zeros(1, 1, 1, 2), torch.tensor([0]), LINF)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", ["SI-NI-TI-DIM", "SSP"])
def test_attacks_without_a_targeted_form(name: str) -> None:
    with pytest.raises(ValueError, match=f"untargeted attack, got native {name}"):
        Attack("native", name, targeted="random")


def test_draws_are_the_old_name() -> None:
    with pytest.warns(DeprecationWarning, match=r"draws of Attack\(\) is called eot_samples now"):
        old = Attack("native", "PGD", draws=3)  # type: ignore[call-arg]
    assert (old.draws, old.eot_samples) == (3, 3)
    assert Attack("native", "PGD", {}, 5, 3).eot_samples == 3
    assert BACKENDS["native"].own_threat == BACKENDS["native"].non_lp


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_every_attack_has_a_cost_that_grows_with_the_samples(backend: str, name: str) -> None:
    one = made(backend, name).cost(1)
    assert one >= 1
    assert made(backend, name).cost(8) == 8 * one


def test_costs_by_hand() -> None:
    """Forward passes an image; forward and backward are three."""
    assert Attack("native", "FGSM").cost() == 3
    assert Attack("native", "PGD", {"steps": 10, "restarts": 2}).cost(4) == 3 * 10 * 2 * 4
    assert Attack("art", "PGD", {"steps": 7}).cost() == 21
    assert Attack("art", "PGD", {"max_iter": 7, "num_random_init": 3}).cost() == 63
    assert Attack("art", "APGD", {"max_iter": 7}).cost() == 3 * 7 * 5
    assert Attack("torchattacks", "Square", {"n_queries": 1000}).cost() == 1000
    assert Attack("torchattacks", "VMI-FGSM", {"steps": 2, "N": 4}).cost() == 3 * 2 * 5
    cheap, dear = (Attack("autoattack", "custom", {"attacks": a}).cost() for a in (["apgd-ce"], ["apgd-ce", "square"]))
    assert cheap < dear


@pytest.mark.parametrize(
    ("attack", "steps", "losses"),
    [
        (Attack("native", "FGSM"), 1, ("cross_entropy",)),
        (Attack("native", "PGD"), 40, ("cross_entropy",)),
        (Attack("native", "PGD", {"steps": 200, "loss": "margin", "restarts": 3}), 200, ("margin",)),
        (Attack("native", "APGD", {"loss": "dlr"}), 100, ("dlr",)),
        (Attack("native", "AutoAttack"), 100, ("cross_entropy", "dlr")),
        (Attack("native", "AutoAttack", {"steps": 20}), 20, ("cross_entropy", "dlr")),
        (Attack("native", "Square"), 0, ()),
        (Attack("art", "PGD", {"max_iter": 7}), 7, ("cross_entropy",)),
        (Attack("art", "PGD", {"steps": 7}), 7, ("cross_entropy",)),
        (Attack("art", "APGD", {"loss_type": "difference_logits_ratio"}), 100, ("dlr",)),
        (Attack("art", "HopSkipJump", {"steps": 7}), 0, ()),
        (Attack("art", "FGSM"), 1, ("cross_entropy",)),
        (Attack("torchattacks", "FGSM"), 1, ("cross_entropy",)),
        (Attack("torchattacks", "APGD", {"loss": "ce", "steps": 50}), 50, ("cross_entropy",)),
        (Attack("torchattacks", "APGD", {"loss": "dlr"}), 10, ("dlr",)),
        (Attack("torchattacks", "Square", {"loss": "ce"}), 0, ()),
        (Attack("autoattack", "standard"), 100, ("cross_entropy", "dlr", "distance")),
        (Attack("autoattack", "rand"), 100, ("cross_entropy", "dlr")),
        (Attack("autoattack", "custom", {"attacks": ["square"]}), 0, ()),
        (Attack("autoattack", "custom", {"attacks": ["apgd-dlr", "fab", "apgd-t"]}), 100, ("dlr", "distance")),
        (Attack(YOURS, "mine", {"steps": 500}, function=own), None, ()),
    ],
    ids=lambda value: value.title if isinstance(value, Attack) else str(value),
)
def test_steps_and_losses_by_hand(attack: Attack, steps: int | None, losses: tuple[str, ...]) -> None:
    assert attack.effort == (steps, losses)


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_every_attack_climbs_something_or_uses_no_gradient(backend: str, name: str) -> None:
    found = made(backend, name)
    steps, losses = found.effort
    assert bool(losses) == bool(steps) == (not found.black_box)
    stated = found.stated(LINF)
    own = next((stated[k] for k in ("steps", "max_iter") if k in stated), None)
    assert found.black_box or own in (None, steps)


@pytest.mark.parametrize(
    ("backend", "stated", "expected"),
    [
        ("native", {"steps": 20}, (20, ("cross_entropy",))),
        ("native", {"steps": 20, "loss": "margin"}, (20, ("margin",))),
        ("art", {"max_iter": 7}, (7, ("cross_entropy",))),
        ("autoattack", {"norm": "Linf"}, (100, ("cross_entropy", "dlr"))),
        ("autoattack", {"attacks": ["square"]}, (None, ())),
        ("art", {"nb_grads": 3}, (None, ())),
    ],
)
def test_reports_that_do_not_say_it_are_known_by_their_parameters(
    backend: str, stated: dict[str, Any], expected: tuple[int | None, tuple[str, ...]]
) -> None:
    old = Cell("m", "a", "full", ((True,),), backend, stated)
    assert (old.steps, old.losses) == expected
    said = Cell("m", "a", "full", ((True,),), backend, stated, steps=0)
    assert (said.steps, said.losses) == (0, ())
    clean = Cell("m", "clean", "none", ((True,),), backend, stated)
    assert (clean.steps, clean.losses) == (None, ())


def test_what_can_follow_a_gradient() -> None:
    able = {(b, name) for b, name in EVERY if made(b, name).follows_gradients}
    assert able == {("native", "FGSM"), ("native", "PGD"), ("native", "MI-FGSM")}
    assert not Attack("native", "PGD", targeted="random").follows_gradients


def test_what_uses_no_gradient() -> None:
    free = {(b, name) for b, name in EVERY if made(b, name).gradient_free}
    assert free == {("native", "Square"), ("art", "Square"), ("art", "HopSkipJump"), ("torchattacks", "Square")}
    assert not Attack("native", "PGD", black_box=True).black_box  # the entry says it


def test_a_missing_library_is_said_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from art_ext.evaluation.backends import torchattacks

    def missing() -> None:
        raise ImportError("torchattacks is not installed")

    monkeypatch.setattr(torchattacks, "_library", missing)
    assert Attack("torchattacks", "PGD", {"steps": 3}).parameters == {"steps": 3}
    with pytest.raises(ValueError, match="steps"):  # what the name alone says still holds
        Attack("torchattacks", "PGD", {"steps": 0})
    with pytest.raises(ImportError, match="not installed"):
        Attack("torchattacks", "PGD").versions()


@pytest.mark.parametrize(("backend", "name"), EVERY)
def test_every_number_of_a_library_is_checked(backend: str, name: str) -> None:
    """No parameter whose default is a number takes a bool, a string or NaN."""
    for key, default in BACKENDS[backend].parameters(name).items():
        if isinstance(default, bool) or not isinstance(default, int | float):
            continue
        for bad in (True, "1", float("nan")):
            with pytest.raises((TypeError, ValueError), match=f"expected {key} of"):
                made(backend, name, {key: bad})


def test_the_tables_name_what_exists() -> None:
    every = {k for b, name in EVERY for k in BACKENDS[b].parameters(name)}
    aliases = {k for backend in BACKENDS.values() for k in backend.aliases}
    beyond = {"n_iter", "n_target_classes", "nb_parallel"}  # of other versions of the libraries
    assert {*parameters.COUNTS, *parameters.POSITIVE} - every - aliases <= beyond
    assert attack.BACKENDS is BACKENDS
