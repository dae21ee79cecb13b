"""Libraries through one door: what they are called with, what comes back, and what they break."""

from __future__ import annotations

import pytest
import torch

from art_ext import presets
from art_ext.attacks import Averaged, Gradient
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Defended, Threat, plan
from art_ext.evaluation.backends import BACKENDS
from art_ext.evaluation.plans import PLANS
from art_ext.nn import seeded

from .conftest import Blur, Halves, Noise, Problem

LINF = Threat("Linf", 0.2)


@pytest.fixture(scope="module")
def colour() -> tuple[torch.Tensor, torch.Tensor, torch.nn.Module]:
    """Four classes told apart by the mean of a channel, on 3 x 16 x 16 images."""

    class Channels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(30.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            means = x.mean((2, 3))
            return self.scale * torch.cat([means, means.mean(1, keepdim=True) - 0.05], 1)

    y = torch.arange(8) % 3
    x = 0.4 + 0.2 * torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[torch.arange(8), y] += 0.05
    return x, y, Channels()


# What each attack needs to break the toy problem in a moment; those that are not here are tested below or elsewhere.
QUICK = {
    ("native", "APGD"): {"steps": 10},
    ("native", "SI-NI-TI-DIM"): {"steps": 10, "kernel": 3},
    ("native", "StAdv"): {"steps": 30, "bound": 0.6, "smoothness": 0.0, "step_size": 0.05},
    ("native", "ReColorAdv"): {"steps": 30, "bound": 0.3, "step_size": 0.02, "smoothness": 0.0},
    ("native", "JPEG"): {"steps": 20, "eps": 4.0},
    ("art", "FGSM"): {},
    ("art", "AutoAttack"): {},
    ("art", "Square"): {"max_iter": 200, "p_init": 0.3},
    ("art", "C&W"): {"max_iter": 20},
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
def test_every_attack_breaks_a_simple_model(backend: str, name: str, colour: tuple) -> None:  # type: ignore[type-arg]
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


def test_minimum_norm_attacks_are_brought_into_the_ball(colour: tuple) -> None:  # type: ignore[type-arg]
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
        (Attack("native", "APGD"), Threat("L1", 1.0), "L1"),
        (Attack("native", "PGD", {"loss": "hinge"}), LINF, "hinge"),
        (Attack("native", "SSP", targeted="random"), LINF, "untargeted"),
        (Attack("native", "PGD", {"check_every": 5, "momentum": 1.0}), LINF, "alone, got PGD with .*momentum"),
        (Attack("native", "PGD", {"check_every": 5, "best": True}), LINF, "last iterates"),
        (Attack("native", "MI-FGSM", {"check_every": 5}), LINF, "got MI-FGSM"),
        (Attack("native", "PGD", {"check_every": 5}, targeted="random"), LINF, "untargeted"),
        (Attack("art", "Square", targeted="random"), LINF, "untargeted"),
        (Attack("art", "HopSkipJump"), Threat("L1", 1.0), "L1"),
        (Attack("autoattack", "standard", {"order": ["square"]}), LINF, "order"),
    ],
)
def test_what_a_library_cannot_do_is_said(attack: Attack, threat: Threat, what: str, problem: Problem) -> None:
    with pytest.raises(ValueError, match=what):
        attack(problem.classifier, problem.x, problem.y, threat)


@pytest.mark.parametrize("backend", ["native", "art", "torchattacks"])
def test_gradients_are_averaged_where_the_library_can(backend: str, problem: Problem) -> None:
    from art_ext.evaluation import Knowledge

    model = Defended("noise", problem.classifier, Noise())
    target = model.target(Knowledge.FULL, 4, average="gradients")
    x_adv = Attack(backend, "PGD", {"steps": 5, "step_size": 0.1})(target.eval(), problem.x, problem.y, LINF)
    assert float((problem.classifier(x_adv).argmax(1) == problem.y).float().mean()) == 0


def test_averaged_gradients_hold_no_more_than_a_batch(problem: Problem) -> None:
    from art_ext.evaluation import Knowledge, evaluate

    sizes: list[int] = []

    class Counting(Noise):
        def purify(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return super().purify(x)

    model = Defended("noise", problem.classifier, Counting())
    attacks = [Attack("native", "PGD", {"steps": 1, "best": False}), Attack("native", "APGD", {"steps": 1})]
    x_y = (problem.x, problem.y)
    options = {"threat": LINF, "knowledge": [Knowledge.FULL], "draws": 6, "batch_size": 4, "redraws": 1, "probe": None}
    evaluate([model], attacks, *x_y, average="gradients", progress=False, **options)
    assert max(s for s in sizes if s != 12) <= 24  # rating a candidate holds no graph, and takes all draws
    sizes.clear()
    evaluate([model], attacks[:1], *x_y, average="gradients", progress=False, **options)
    gradients = sizes[-(3 * 6 + 3) :]
    assert max(gradients) == 4


def test_averaged_gradients_that_a_library_lacks_are_refused(problem: Problem) -> None:
    from art_ext.evaluation import Knowledge

    target = Defended("noise", problem.classifier, Noise()).target(Knowledge.FULL, 4, average="gradients")
    with pytest.raises(ValueError, match="to average gradients, got MI-FGSM"):
        Attack("torchattacks", "MI-FGSM")(target, problem.x, problem.y, LINF)


@pytest.mark.parametrize("name", ["MI-FGSM", "SI-NI-FGSM", "VMI-FGSM", "VNI-FGSM"])
def test_torchattacks_that_leave_the_box_can_attack_a_purifier(name: str, problem: Problem) -> None:
    """Neighbours and looks ahead are outside [0, 1], which a purifier refuses."""
    from art_ext.evaluation import Knowledge

    target = Defended("blur", problem.classifier, Blur()).target(Knowledge.FULL).eval()
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
    from art_ext.evaluation import Knowledge

    model = Defended("noise", problem.classifier, Noise())
    parameters = {"attacks": ["apgd-ce", "square"]} if version == "custom" else {}
    target = model.target(Knowledge.FULL, 3).eval()
    x_adv = Attack("autoattack", version, parameters)(target, problem.x[:4], problem.y[:4], Threat("Linf", 0.05))
    assert not torch.equal(x_adv, problem.x[:4])
    with torch.no_grad(), seeded(3):
        right = torch.stack([model.module(x_adv).argmax(1) == problem.y[:4] for _ in range(20)]).float().mean()
        clean = torch.stack([model.module(problem.x[:4]).argmax(1) == problem.y[:4] for _ in range(20)]).float().mean()
    assert float(right) < 0.5 * float(clean)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_autoattack_takes_as_many_targets_as_there_are(problem: Problem) -> None:
    attack = Attack("autoattack", "custom", {"attacks": ["apgd-t", "fab-t"]})
    x_adv = attack(problem.classifier, problem.x[:2], problem.y[:2], Threat("Linf", 0.002))  # too little to end early
    assert x_adv.shape == problem.x[:2].shape


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("threat", [LINF, Threat("L2", 1.0), Threat("L1", 5.0)], ids=lambda t: t.norm)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_plans_hold_attacks_that_exist_for_the_threat(name: str, threat: Threat, classes: int) -> None:
    made = plan(name, threat, classes=classes, channels=1)
    titles = [a.title for a in made.attacks]
    assert len(set(titles)) == len(titles)
    for attack in made.attacks:
        assert attack.stated(threat)
        assert "dlr" not in attack.title or classes >= 3
        assert attack.backend != "autoattack" or classes >= 4
    with pytest.raises(ValueError, match="smoke, standard, full"):
        plan("thorough", threat, classes=classes)


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


def test_checked_pgd_attacks_each_draw_and_stops(problem: Problem) -> None:
    seen: list[int] = []

    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return problem.classifier(x)

    attack = Attack("native", "PGD", {"steps": 6, "check_every": 3})
    x_adv = attack(Averaged(Counting(), 4, "gradients"), problem.x, problem.y, LINF)
    assert bool((problem.classifier(x_adv).argmax(1) != problem.y).all())
    assert seen == [4 * len(problem.x)] * 4  # three steps and a look, all broken by then
    with pytest.raises(ValueError, match="got averaged logits"):
        attack(Averaged(Counting(), 4, "logits"), problem.x, problem.y, LINF)


def test_a_smoke_plan_runs_whole(problem: Problem) -> None:
    from art_ext.evaluation import evaluate

    made = plan("smoke", LINF, classes=4, channels=1)
    models = [Defended("bare", problem.classifier), Defended("blur", problem.classifier, Blur(), Halves(5.0))]
    report = evaluate(models, made.attacks, problem.x, problem.y, threat=LINF, progress=False, **made.options)
    assert {c.backend for c in report.attacked("blur")} == {"native", "art", "torchattacks", "autoattack"}
    assert report.worst_case("blur").mean == 0


class Counting(Noise):
    """Remembers how many images each of its calls held."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def purify(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return super().purify(x)


def test_libraries_that_average_gradients_see_single_draws(problem: Problem) -> None:
    from art_ext.evaluation import Knowledge

    purifier = Counting()
    model = Defended("m", problem.classifier, purifier)
    target = model.target(Knowledge.FULL, 4, average="gradients").eval()
    Attack("torchattacks", "PGD", {"steps": 5})(target, problem.x, problem.y, LINF)
    assert purifier.sizes == [12] * 20  # five steps of four draws
    purifier.sizes.clear()
    target = model.target(Knowledge.FULL, 4).eval()
    Attack("torchattacks", "PGD", {"steps": 5})(target, problem.x, problem.y, LINF)
    assert purifier.sizes == [48] * 5
    purifier.sizes.clear()
    Attack("autoattack", "rand")(target, problem.x[:3], problem.y[:3], Threat("Linf", 0.001))
    assert purifier.sizes.count(3) > 4 * 100  # APGD's own four draws a step


@pytest.mark.parametrize("name", ["PGD", "APGD"])
def test_native_attacks_average_gradients_or_logits(
    name: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from art_ext.evaluation import Knowledge
    from art_ext.evaluation.backends import native

    seen: list[int] = []
    eot, apgd = native.eot, native.attacks.apgd

    def watched_eot(gradient: Gradient, draws: int, **options: object) -> Gradient:
        seen.append(draws)
        return eot(gradient, draws, **options)

    def watched_apgd(*arguments: object, draws: int, **options: object) -> torch.Tensor:
        seen.append(draws)
        return apgd(*arguments, draws=draws, **options)

    monkeypatch.setattr(native, "eot", watched_eot)
    monkeypatch.setattr(native.attacks, "apgd", watched_apgd)
    model = Defended("m", problem.classifier, Noise())
    for average in ("gradients", "logits"):
        target = model.target(Knowledge.FULL, 4, average=average).eval()
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


def test_the_sweeps_of_a_probe() -> None:
    from art_ext.evaluation import Knowledge, Probe
    from art_ext.evaluation.jobs import Settings, probe_jobs
    from art_ext.evaluation.models import StandIn

    settings = Settings((Knowledge.FULL,), 8, "logits", 1, 3, 4, False, False, Probe(5, 20, seeds=3))
    models = [Defended("bare", Halves()), Defended("noise", Halves(), Noise())]
    jobs = probe_jobs(models, Threat("Linf", 0.1), (1, 6, 8), 100, settings, {"bare": False, "noise": True})
    bare = [j for j in jobs if j.model.name == "bare"]
    assert all(j.images == 5 and j.knowledge is Knowledge.UNDEFENDED and j.draws == 1 for j in bare)
    assert sorted(j.threat.eps for j in bare if "eps" in j.probe.split(", ")) == [0.025, 0.05, 0.1, 0.2, 0.5]
    assert [j.threat.eps for j in bare if "chance" in j.probe.split(", ")] == [0.5]
    assert sorted(j.attack.parameters["steps"] for j in bare if "steps" in j.probe.split(", ")) == [5, 20, 40]
    assert [j.seed for j in bare if "seed" in j.probe.split(", ")] == [3, 4, 5]
    assert [j.seed for j in bare if "start" in j.probe.split(", ")] == [4]
    noise = [j for j in jobs if j.model.name == "noise"]
    assert sorted(j.draws for j in noise if "draws" in j.probe.split(", ")) == [2, 8, 16]
    (frozen,) = (j for j in noise if j.probe == "frozen")
    assert (frozen.frozen, frozen.draws) == (True, 1)
    (clamp,) = (j for j in noise if j.probe == "clamp")
    fronts = [m for m in clamp.target().modules() if isinstance(m, StandIn)]
    assert [m.view for m in fronts] == ["relaxed"]
    assert not any(j.relaxed or j.frozen for j in noise if j not in (frozen, clamp))
