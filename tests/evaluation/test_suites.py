"""Ready-made suites, the probes behind the checks, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from art_ext.evaluation import SUITES, Attack, Defended, Knowledge, Probe, Tag, Threat, evaluate, suite
from art_ext.evaluation.inspect import Found, ModelInfo
from art_ext.evaluation.run.unit_test import images_for
from art_ext.evaluation.schedule import Schedule, schedule
from art_ext.evaluation.settings import Settings, check_call
from art_ext.evaluation.tags import old_spelling, tags_of

from .conftest import Blur, Halves, Noise, Problem

LINF = Threat("Linf", 0.1)


def settings(**changes: object) -> Settings:
    known = (Knowledge.FULL,)
    return replace(Settings(known, 8, "logits", 2, 0, 32, False, False, Probe(16, 20)), **changes)  # type: ignore[arg-type]


def planned(purifier: object, attacks: list[Attack], random: bool, **changes: object) -> Schedule:
    model = Defended("m", Halves(), purifier)  # type: ignore[arg-type]
    info = ModelInfo("m", 4, randomised=Found.CLEAN if random else Found.NOWHERE)
    return schedule([model], attacks, LINF, (1, 6, 8), 40, settings(**changes), {"m": info})


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("classes", [2, 10])
def test_a_suite_holds_attacks_that_its_threat_and_classes_allow(name: str, norm: str, classes: int) -> None:
    threat = Threat(norm, 0.1)
    made = suite(name, threat, classes=classes, channels=1)
    assert made.options["suite"] == name
    assert len({a.title for a in made.attacks}) == len(made.attacks)
    for attack in made.attacks:
        attack.stated(threat)
    official = any(a.backend == "autoattack" for a in made.attacks)
    ours = any((a.backend, a.name) == ("native", "AutoAttack") for a in made.attacks)
    assert official == (classes >= 4 and (name != "standard" or norm == "L1"))
    assert ours == (name != "smoke" and norm != "L1")


def test_a_larger_suite_costs_more() -> None:
    costs = [sum(a.cost() * (a.images or 100) for a in suite(name, LINF, classes=10).attacks) for name in SUITES]
    assert costs == sorted(costs)
    with pytest.raises(ValueError, match="smoke, standard, full"):
        suite("quick", LINF, classes=10)


def test_the_smoke_suite_runs_whole(problem: Problem) -> None:
    made = suite("smoke", LINF, classes=4, channels=1)
    models = [Defended("bare", problem.classifier), Defended("blur", problem.classifier, Blur())]
    report = evaluate(models, made.attacks, problem.x, problem.y, threat=LINF, progress=False, **made.options)
    assert report.suite == "smoke"
    assert not any(c.refused for c in report.cells)
    assert {c.backend for c in report.attacked("blur")} == {"native", "art", "torchattacks", "autoattack"}


def test_probes_change_one_thing_each() -> None:
    jobs = planned(Noise(), [Attack("native", "FGSM")], random=True).probes
    base = next(j for j in jobs if Tag.BASE in j.tags)
    assert (base.images, base.eot_samples, base.threat) == (16, 8, LINF)
    by = {tag: [j for j in jobs if tag in j.tags] for tag in Tag}
    assert sorted(j.threat.eps for j in by[Tag.EPS]) == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.5])
    assert sorted(j.attack.parameters["steps"] for j in by[Tag.STEPS]) == [5, 20, 40]
    assert sorted(j.eot_samples for j in by[Tag.EOT_SAMPLES]) == [2, 8, 16]
    assert [j.seed for j in by[Tag.START]] == [1]
    assert [(j.frozen, j.eot_samples) for j in by[Tag.FROZEN]] == [(True, 1)]
    assert [j.relaxed for j in by[Tag.CLAMP]] == [True]
    for job in jobs:
        changed = [f for f in ("attack", "threat", "seed", "eot_samples", "frozen", "relaxed")
                   if getattr(job, f) != getattr(base, f)]  # fmt: skip
        assert len(changed) <= 1 or job.frozen, (job.tags, changed)


def test_a_deterministic_bare_model_has_no_probes_of_randomness_or_clamp() -> None:
    jobs = planned(None, [Attack("native", "FGSM")], random=False).probes
    assert {tag for j in jobs for tag in j.tags} == set(Tag) - {Tag.FROZEN, Tag.CLAMP}
    assert planned(None, [Attack("native", "FGSM")], random=False, probe=None).probes == ()


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("Linf", [("APGD", "cross_entropy"), ("APGD", "margin")]), ("L2", [("APGD", "cross_entropy"), ("APGD", "margin")]),
     ("L1", [("APGD", "cross_entropy"), ("APGD", "margin")])],
)  # fmt: skip
def test_stronger_attacks_are_probed_on_other_losses(norm: str, expected: list[tuple[str, str]]) -> None:
    model, info = Defended("m", Halves(), Blur()), ModelInfo("m", 4)
    threat = Threat(norm, 0.1)
    jobs = schedule([model], [Attack("native", "FGSM")], threat, (1, 6, 8), 40, settings(), {"m": info}).probes
    stronger = [j for j in jobs if Tag.APGD in j.tags]
    assert [(j.attack.name, j.attack.parameters["loss"]) for j in stronger] == expected
    assert {(j.attack.parameters["steps"], j.images, j.knowledge, j.threat) for j in stronger} == {
        (40, 16, Knowledge.FULL, threat)
    }
    assert {j.tags for j in stronger} == {frozenset({Tag.APGD})}


def test_what_is_probed_where_nothing_is_said() -> None:
    probe = Probe()
    assert (probe.images, probe.steps, probe.seeds, probe.unit_tests) == (128, 20, 1, None)
    assert probe.images >= 6 / 0.05  # six images of one side are surely more; they are 5 % of 120


def test_every_suite_answers_as_often_and_an_odd_number_of_times() -> None:
    asked = {suite(name, LINF, classes=10).options["repeats"] for name in SUITES}
    assert len(asked) == 1
    assert asked.pop() % 2 == 1


def test_larger_suites_make_the_effort_that_a_claim_needs() -> None:
    for name, threat in ((name, Threat(norm, 0.1)) for name in SUITES[1:] for norm in ("Linf", "L2")):
        made = suite(name, threat, classes=10)
        for on in ("deterministic", "randomised"):
            some = [a.effort for a in made.attacks if a.on in ("all", on) and not a.black_box and a.bound is None]
            assert len({loss for steps, losses in some if (steps or 0) >= 100 for loss in losses}) >= 2
        assert made.options["eot_samples"] >= 20


def test_three_seeds_where_they_are_asked_for() -> None:
    jobs = planned(None, [Attack("native", "FGSM")], random=False, probe=Probe(8, 4, seeds=3)).probes
    assert sorted(j.seed for j in jobs if Tag.SEED in j.tags) == [0, 1, 2]


def test_tags_in_the_spelling_of_old_reports() -> None:
    assert tags_of("base, eps, steps, draws, seed") == {Tag.BASE, Tag.EPS, Tag.STEPS, Tag.EOT_SAMPLES, Tag.SEED}
    assert old_spelling(tags_of("draws, more")) == "draws, more"
    assert tags_of("") == frozenset()


def test_the_unit_test_runs_where_it_is_cheap() -> None:
    dear, cheap = (planned(Blur(), [Attack("native", "PGD", {"steps": k})], random=False) for k in (10_000, 1))
    assert images_for(Probe(), dear, 1) == 8
    assert images_for(Probe(), cheap, 1) == 0
    assert images_for(Probe(unit_tests=0), dear, 1) == 0
    assert images_for(Probe(unit_tests=3), cheap, 1) == 3


@pytest.mark.parametrize(
    "wrong", [{"images": 0}, {"steps": 0}, {"seeds": 0}, {"unit_tests": -1}, {"images": True}, {"steps": "4"}]
)
def test_a_probe_refuses_what_is_no_number_of_images(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        Probe(**wrong)  # type: ignore[arg-type]


def test_one_samples_pass_is_one_pass(problem: Problem) -> None:
    """Memory: no pass of a randomised model holds more than a block."""
    seen: list[int] = []

    class Watching(Noise):
        def purify(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return super().purify(x)

    model = Defended("m", problem.classifier, Watching())
    attack = Attack("native", "PGD", {"steps": 2})
    for average in ("logits", "gradients"):
        evaluate([model], [attack], problem.x, problem.y, threat=LINF, eot_samples=6, average=average, probe=None,
                 progress=False)  # fmt: skip
    assert max(seen) == 12


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_can_be_asked_for(name: str, problem: Problem) -> None:
    made = suite(name, LINF, classes=4, channels=1)
    given = {k: made.options[k] for k in ("knowledge", "eot_samples", "repeats", "probe")}
    whole = Settings(**given, average="logits", seed=0, batch_size=8, survivors_only=False, cross=False)
    models = [Defended("bare", problem.classifier), Defended("blur", problem.classifier, Blur())]
    assert check_call(models, made.attacks, problem.x, problem.y, whole, LINF, (0, 1)) == (0, 1)
