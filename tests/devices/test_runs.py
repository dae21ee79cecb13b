"""Everything runs on a device without a tensor of another one, and gives what the CPU gives where nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import attacks
from art_ext.attacks.active import Leave
from art_ext.cli import app
from art_ext.defences import DIRTrainer, PurifierPreprocessor
from art_ext.detectors import DETECTORS
from art_ext.evaluation import Attack, Defended, Threat, evaluate
from art_ext.purifiers import PURIFIERS
from art_ext.training import fit

from . import toys
from .fake import FakeCuda


@pytest.fixture
def mode() -> Iterator[FakeCuda]:
    with FakeCuda() as mode:
        yield mode


def on_cpu(x: Tensor) -> Tensor:
    return x.detach().cpu()


VIEWS = ("__call__", "relaxed", "approximate")


@pytest.mark.parametrize("name", toys.VARIANTS)
def test_purifiers(mode: FakeCuda, name: str) -> None:
    purifier, (x, _) = toys.VARIANTS[name](), toys.images()
    expected = {view: getattr(purifier, view)(x) for view in VIEWS}
    purifier.to("cuda")
    for view in VIEWS:
        there = x.to("cuda").requires_grad_()
        found = getattr(purifier, view)(there)
        assert found.device == there.device == torch.device("cuda:0")
        (gradient,) = torch.autograd.grad(found.sum(), there)
        assert gradient.is_cuda
        if not purifier.stochastic:
            assert torch.allclose(on_cpu(found), expected[view], atol=1e-6)


@pytest.mark.parametrize("name", ["rdp", "atop"])
def test_helper_networks_are_made_where_the_purifier_is(mode: FakeCuda, name: str) -> None:
    for stage in toys.purifier(name).to("cuda").stages(toys.classifier().to("cuda")):
        assert all(p.is_cuda for p in stage.parameters())


@pytest.mark.parametrize("name", PURIFIERS)
def test_adaptive_attacks(mode: FakeCuda, name: str) -> None:
    purifier, classifier = toys.purifier(name).to("cuda"), toys.classifier().to("cuda")
    x, y = (part.to("cuda") for part in toys.images())
    for gradient in purifier.requires_grad_(False).adaptive_attacks(classifier, x, y).values():
        assert attacks.pgd(gradient, x, norm=attacks.Linf(), eps=0.1, steps=2).is_cuda


@pytest.mark.parametrize("name", toys.METHODS)
def test_objectives(mode: FakeCuda, name: str) -> None:
    for objective in toys.stages(name):
        objective.to("cuda")
        before = [on_cpu(p).clone() for p in objective.parameters()]
        steps = list(fit(objective, toys.batches(), epochs=1))
        assert len(steps) == 2
        assert all(p.is_cuda for p in objective.parameters())
        assert any(not torch.equal(on_cpu(p), q) for p, q in zip(objective.parameters(), before, strict=True))


def attacked(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every native attack, by name."""
    for norm in attacks.NORMS.values():
        eps = 0.05 if norm.name == "Linf" else 0.5
        for loss in (attacks.cross_entropy, attacks.margin, attacks.dlr):
            gradient = attacks.ascent(loss(model, y))
            yield f"pgd {norm.name}", attacks.pgd(gradient, x, norm=norm, eps=eps, steps=3, momentum=1, nesterov=True)
        yield "si_ni_ti_dim", attacks.si_ni_ti_dim(model, x, y, norm=norm, eps=eps, steps=2)
        if norm.name == "L1":
            continue
        best: Any = {"score": attacks.margin(model, y), "leave": Leave()}
        yield "apgd", attacks.apgd(attacks.dlr(model, y), x, norm=norm, eps=eps, steps=9, restarts=2, **best)
        yield "eot", attacks.apgd(attacks.dlr(model, y), x, norm=norm, eps=eps, steps=4, eot_samples=2)
        yield "fab", attacks.fab(model, x, y, norm=norm, eps=eps, steps=6, targets=2, restarts=2)
        yield "square", attacks.square(model, x, y, norm=norm, eps=eps, queries=12, restarts=2)
        yield "autoattack", attacks.autoattack(model, x, y, norm=norm, eps=eps, steps=5, targets=2, queries=8)
    for function in (attacks.stadv, attacks.recoloradv, attacks.jpeg_attack):
        yield function.__name__, function(model, x, y, steps=2)
    checked: Any = {"norm": attacks.Linf(), "eps": 0.05, "steps": 4, "check_every": 2}
    yield "pgd_until_broken", attacks.pgd_until_broken(model, x, y, **checked)


def test_attacks(mode: FakeCuda) -> None:
    model = toys.classifier().to("cuda").requires_grad_(False)
    x, y = (part.to("cuda") for part in toys.images())
    for name, found in attacked(model, x, y):
        assert found.is_cuda, name
        assert found.shape == x.shape


def test_attacks_without_draws_find_what_they_find_on_the_cpu(mode: FakeCuda) -> None:
    """Images leave later on a device; each is broken here or there all the same."""
    (x, y), model, broken = toys.images(12), toys.classifier(), {}
    for device in ("cpu", "cuda"):
        network, images, labels = model.to(device), x.to(device), y.to(device)
        score = attacks.margin(network, labels)
        options: Any = {"norm": attacks.Linf(), "eps": 0.02}
        leaving = attacks.pgd(
            attacks.ascent(attacks.cross_entropy(network, labels)), images, steps=10, random_start=False, score=score,
            leave=Leave(), **options,
        )  # fmt: skip
        walked = attacks.fab(network, images, labels, steps=10, targets=3, **options)
        broken[device] = [on_cpu(score(found) > 0).tolist() for found in (leaving, walked)]
    assert broken["cpu"] == broken["cuda"]
    assert all(0 < sum(flags) < 12 for flags in broken["cpu"])


@pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)
def test_detectors(mode: FakeCuda, kind: Any, tmp_path: Path) -> None:
    x, y = toys.images(120)
    network = toys.classifier().requires_grad_(False)
    expected = kind(network, ["2", "4"]).fit(x, y).scores(x[:5])
    detector = kind(network, ["2", "4"]).to("cuda")
    x, y = x.to("cuda"), y.to("cuda")
    some = x[:5].clone().requires_grad_()
    scores = detector.fit(x, y).scores(some)
    assert scores.is_cuda
    assert torch.allclose(on_cpu(scores), expected, rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(scores.sum(), some)[0].is_cuda
    assert detector.calibrate(x[:20], (x[:20] + 0.1).clamp(0, 1)).scores(some).is_cuda
    detector.save(tmp_path / "found")


def test_an_evaluation(mode: FakeCuda, tmp_path: Path) -> None:
    device = "cuda:1"
    classifier = toys.classifier().requires_grad_(False).to(device)
    x, y = (part.to(device) for part in toys.images())
    purifier = toys.purifier("dir").requires_grad_(False).to(device)
    models = [Defended("plain", classifier), Defended("dir", classifier, purifier)]
    steps = {"steps": 2}
    found = [Attack("native", "PGD", steps), Attack("native", "APGD", steps), Attack("art", "PGD", {"max_iter": 2})]
    result = evaluate(
        models, found, x, y, threat=Threat("Linf", 8 / 255), eot_samples=2, repeats=2, batch_size=4,
        probe=None,
    )  # fmt: skip
    assert result.cells
    assert all(p.device == torch.device(device) for m in (classifier, purifier) for p in m.parameters())
    assert mode.current == 0


NETWORK = """
import torch
from torch import nn
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4))
"""


def test_the_command_line(mode: FakeCuda, tmp_path: Path) -> None:
    data, network, out = tmp_path / "data.npz", tmp_path / "network.py", tmp_path / "cdvae"
    x = np.random.default_rng(0).random((12, 1, 8, 12), dtype=np.float32)
    np.savez(data, x=x, y=np.arange(12) % 4)
    network.write_text(NETWORK)
    common = ["--data", str(data), "--classifier", f"{network}:make", "--device", "cuda:1"]
    train = ["train", "cdvae", *common, "--out", str(out), "--epochs", "1", "--batch-size", "6", "--width", "4"]
    train += ["--set", "latent=6", "--set", "classifier_width=4"]
    judge = ["evaluate", *common, "--purifier", str(out), "--images", "4", "--attack", "native:FGSM"]
    judge += ["--no-purifier-baseline", "--out", str(tmp_path / "report")]
    for words in (train, judge):
        result = CliRunner().invoke(app, words)
        assert result.exit_code in (0, 3), result.output  # 3: a check failed, as checks of such toys may
    assert (tmp_path / "report" / "report.json").is_file()


def test_a_purifier_elsewhere_than_its_classifier_moves_to_it_and_not_the_other_way(mode: FakeCuda) -> None:
    (x, y), classifier = toys.images(), toys.classifier()
    preprocessor = PurifierPreprocessor(toys.purifier("dir"))  # on the device, its classifier is not
    assert preprocessor.device.type == "cuda"
    estimator = PyTorchClassifier(
        classifier, nn.CrossEntropyLoss(), tuple(x.shape[1:]), toys.CLASSES, clip_values=(0, 1), device_type="cpu",
        preprocessing_defences=[preprocessor],
    )  # fmt: skip
    estimator.predict(x.numpy())
    with pytest.warns(UserWarning, match="the purifier moves from cuda:0 to cpu, where its classifier is: give both"):
        trainer = DIRTrainer(estimator, steps=1, radius_steps=1)
    trainer.fit(x.numpy(), y.numpy(), nb_epochs=1)
    assert {p.device.type for p in (*preprocessor.purifier.parameters(), *classifier.parameters())} == {"cpu"}
    assert estimator.predict(x.numpy()).shape == (len(x), toys.CLASSES)
