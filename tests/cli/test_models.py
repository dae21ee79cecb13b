"""Every kind of SPEC gives the very same network; what is none is refused in one line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext import presets
from art_ext.cli.classifiers import load_classifier
from art_ext.cli.code import code
from art_ext.cli.evaluated import models_of, warn_of_other_trainings
from art_ext.cli.purifiers import load_purifier, purifier_presets
from art_ext.cli.trying import check_classifier, check_purifier
from art_ext.cli.users import Users
from art_ext.data import fashion_mnist
from art_ext.evaluation import Defended
from art_ext.nn.modes import evaluating

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks(files: Any) -> dict[str, tuple[str, nn.Module]]:
    """Spec and original of each kind of file."""
    net = code(files.spec("layered"))().eval()
    x = torch.rand(2, 1, 6, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        torch.jit.script(net).save(files.root / "net.pt")
        torch.jit.freeze(torch.jit.script(net)).save(files.root / "frozen.ts")
    for name, shapes in {"net": ({0: torch.export.Dim.AUTO},), "static": None}.items():
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=shapes), files.root / f"{name}.pt2")
    specs = {"code": files.spec("layered"), **{n: str(files.root / n) for n in ("net.pt", "frozen.ts", "net.pt2")}}
    return {kind: (spec, net) for kind, spec in specs.items()}


@pytest.mark.parametrize("kind", ["code", "net.pt", "frozen.ts", "net.pt2"])
def test_all_kinds_are_one_network(files: Any, networks: Any, kind: str) -> None:
    spec, net = networks[kind]
    loaded = load_classifier(spec, device=CPU)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    for n in (1, 2, 5):
        x = torch.rand(n, 1, 6, 8, requires_grad=True)
        assert torch.allclose(loaded(x), net(x), atol=1e-6)
        ours, theirs = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (loaded, net))
        assert torch.allclose(ours, theirs, atol=1e-5)
    model = Defended("bare", loaded).module
    with evaluating(model):
        model.eval()
    assert check_classifier(loaded, torch.rand(3, 1, 6, 8), torch.tensor([0, 3, 1]), "it") == 4


def test_presets_modules_factories_and_importable_names(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(load_classifier("fashion_mnist_cnn", device=CPU)(x), presets.load("fashion_mnist_cnn")(x))
    monkeypatch.chdir(files.root)
    monkeypatch.syspath_prepend(files.root)  # other tests' files of this name may stand before the working directory
    monkeypatch.delitem(sys.modules, "net", raising=False)
    by_module, by_instance = (load_classifier(s, device=CPU) for s in ("net:make", "net.py:network"))
    assert torch.equal(by_module(x), by_instance(x))


def test_normalisation_stands_before_the_model_but_not_before_presets(files: Any) -> None:
    x = torch.rand(2, 1, 6, 8)
    plain = load_classifier(files.spec("layered"), device=CPU)
    standardised = load_classifier(files.spec("layered"), device=CPU, mean=[0.5], std=[0.25])
    assert torch.allclose(standardised(x), plain((x - 0.5) / 0.25))
    preset = load_classifier("fashion_mnist_cnn", device=CPU, mean=[0.5], std=[0.25])
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(preset(x), presets.load("fashion_mnist_cnn")(x))
    three = load_classifier(files.spec("layered"), device=CPU, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(ValueError, match="normalise 1 channel"):
        check_classifier(three, torch.rand(2, 1, 6, 8), None, "it")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fashion_mnist_cn", r"did you mean 'fashion_mnist_cnn'\?"),
        ("fashion_mnist_rdp", "is a purifier"),
        ("missing.pt", "is not there"),
        ("missing.pt2", "is not there"),
        ("weights.pth", "weights alone are no model"),
        ("{root}/static.pt2", r"dynamic batch dimension, got one for batches of 2.*Dim\.AUTO"),
        ("{root}/test.npz.pt2", "torch.export file"),
        ("{root}/pickle.pt", "TorchScript file.*is none"),
        ("{root}/net.py:mak", r"did you mean 'make'\?"),
        ("{root}/net.py:broken", "RuntimeError: no weights here"),
        ("{root}/none.py:make", "no such file"),
        ("{root}/bad.py:make", "SyntaxError"),
        ("no_such_package.nets:make", "ModuleNotFoundError"),
    ],
)
def test_refused(files: Any, networks: Any, spec: str, message: str) -> None:
    torch.save({"weight": torch.ones(2)}, files.root / "pickle.pt")
    (files.root / "test.npz.pt2").write_bytes(files.npz.read_bytes())
    (files.root / "bad.py").write_text("def make(:\n")
    with pytest.raises(ValueError, match=message):
        load_classifier(spec.format(root=files.root), device=CPU)


def test_what_is_no_module_or_half_a_normalisation(files: Any) -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got int"):
        load_classifier(files.spec("number"), device=CPU)
    with pytest.raises(ValueError, match="--mean and --std together"):
        load_classifier(files.spec("make"), device=CPU, mean=[0.5])
    with pytest.raises(ValueError, match=r"--mean for images in \[0, 1\]"):
        load_classifier(files.spec("make"), device=CPU, mean=[123.7], std=[58.4])


def test_a_classifier_that_does_not_fit_the_images(files: Any) -> None:
    x = torch.rand(3, 1, 6, 8)
    with pytest.raises(ValueError, match=r"labels below 4.*got 4"):
        check_classifier(code(files.spec("network")), x, torch.tensor([0, 4, 1]), "it")
    with pytest.raises(ValueError, match="AssertionError: three channels"):
        check_classifier(load_classifier(files.spec("picky"), device=CPU), x, None, "it")
    with pytest.raises(ValueError, match="to give logits"):
        check_classifier(nn.Identity(), x, None, "it")


def test_purifiers_by_preset_folder_and_function(files: Any, tmp_path: Path) -> None:
    x = torch.rand(3, 1, 6, 8)
    assert torch.equal(load_purifier(str(files.rdp), device=CPU)(x), files.purifier(x))
    assert load_purifier("fashion_mnist_rdp", device=CPU).name == "rdp"
    blurred: Tensor = code(files.spec("blur"))(x)
    assert torch.allclose(load_purifier(files.spec("blur"), device=CPU)(x), blurred.clamp(0, 1), atol=1e-6)
    with pytest.raises(ValueError, match="is a classifier"):
        load_purifier("fashion_mnist_cnn", device=CPU)
    with pytest.raises(ValueError, match=r"did you mean 'fashion_mnist_rdp'\?"):
        load_purifier("fashion_mnist_rpd", device=CPU)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_purifier(str(tmp_path), device=CPU)
    with pytest.raises(ValueError, match=r"method out of rdp.*did you mean 'rdp'\?"):
        load_purifier(str(files.rdp), device=CPU, method="rpd")
    with pytest.raises(ValueError, match=r"1 channel\(s\), what the purifier takes, got 3"):
        check_purifier(files.purifier, torch.rand(2, 3, 6, 8))


def models(classifier: str, *purifiers: str, robust: str | None = None, bare: bool = False) -> list[Defended]:
    specs = {"classifier": classifier, "surrogate": None, "robust": robust}
    normal = {"mean": None, "std": None, "device": CPU}
    found = fashion_mnist("test", 4)
    made = models_of(specs, purifiers, None, found, normal, bare, Users())[0]
    warn_of_other_trainings(purifiers, made, found, normal)
    return made


def test_a_preset_behind_another_classifier_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    models("fashion_mnist_cdvae_classifier", "fashion_mnist_cdvae")
    assert not capsys.readouterr().err
    models("fashion_mnist_cnn", "fashion_mnist_cdvae", "fashion_mnist_rdp")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: fashion_mnist_cdvae was trained for the classifier fashion_mnist_cdvae_classifier, and another one "
        "stands behind it"
    )


def test_the_same_classifier_under_another_name_is_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.py"
    file.write_text("from art_ext import presets\n\ndef make():\n    return presets.load('fashion_mnist_cnn')\n")
    models(f"{file}:make", "fashion_mnist_atop")
    assert not capsys.readouterr().err


def test_every_preset_of_a_purifier_names_a_classifier_of_its_data() -> None:
    for name in purifier_presets():
        found = presets.describe(name).classifier
        family = name.rsplit("_", 1)[0].removesuffix("_atop")
        assert not found or (found in presets.names() and found.startswith(family)), name
    wanting = [name for name in purifier_presets() if not presets.describe(name).classifier]
    assert wanting == ["cifar10_rdp", "fashion_mnist_atop_pretrained"]  # trained for none


def test_a_classifier_that_was_trained_against_attacks_is_not_undefended() -> None:
    assert [(m.name, m.robust) for m in models("fashion_mnist_cnn")] == [("undefended", False)]
    assert [(m.name, m.robust) for m in models("fashion_mnist_drrdn")] == [("fashion_mnist_drrdn", True)]
    found = models("fashion_mnist_cnn", "fashion_mnist_rdp", robust="fashion_mnist_robust")
    assert [(m.name, m.robust) for m in found] == [
        ("undefended", False), ("fashion_mnist_rdp", False), ("robust baseline", True),
    ]  # fmt: skip
    own = models("fashion_mnist_cnn", "fashion_mnist_rdp", robust="fashion_mnist_cnn")  # said of the classifier itself
    assert [(m.name, m.robust) for m in own] == [("fashion_mnist_cnn", True), ("fashion_mnist_rdp", False)]
    assert [m.name for m in models("fashion_mnist_robust", "fashion_mnist_dir", bare=True)] == ["fashion_mnist_dir"]


@pytest.mark.parametrize("load", [load_classifier, load_purifier])
def test_a_file_without_a_name_is_told_which_there_are(load: Any, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("raise SystemExit\nnetwork = _hidden = 3\ndef make(): ...\nclass Net: ...\ndef _build(): ...\n")
    with pytest.raises(ValueError, match=r"as .*net\.py:NAME, got the file alone; names there: make, Net, network$"):
        load(str(file), device=CPU)  # and runs nothing of it
    file.write_text("def (")
    with pytest.raises(ValueError, match=r"names there: none$"):
        load(str(file), device=CPU)
