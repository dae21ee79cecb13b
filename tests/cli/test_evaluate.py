"""Evaluations and reports from the command line are those of `evaluate` and `merged`."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.cli.code import code
from art_ext.cli.evaluate import attack_of
from art_ext.data import balanced_order, order_sha256
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, evaluate
from art_ext.nn.hashing import sha256

QUICK = ("--attack", "native:PGD:steps=2", "--attack", "native:FGSM:label=quick", "--knowledge", "full")
TIGHT = (*QUICK, "--knowledge", "blind", "--eps", 0.2, "--batch-size", 6, "--device", "cpu")


@pytest.fixture(scope="module")
def command(files: Any) -> tuple[Any, ...]:
    models = ("--classifier", files.spec("make"), "--purifier", files.rdp)
    return ("evaluate", *models, "--data", files.npz, *TIGHT)


@pytest.fixture(scope="module")
def done(call: Any, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("done") / "out"
    shown = call(*command, "--out", out).stdout
    assert all(word in shown for word in ("undefended", "native PGD-2", "quick", "checks: ", "n=12"))
    return out


@pytest.fixture(autouse=True)
def _no_more_pictures(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time of a tiny evaluation; `done` has them."""
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})


def findings(folder: Path) -> Report:
    return Report.load(folder / "report.json").findings()


def test_it_is_what_python_evaluates(files: Any, done: Path) -> None:
    network = code(files.spec("make"))()
    models = [Defended("undefended", network), Defended("rdp", network, files.purifier)]
    attacks = [Attack("native", "PGD", {"steps": 2}), Attack("native", "FGSM", label="quick")]
    order = balanced_order(files.y)
    about = {"order": "balanced by class", "order_sha256": order_sha256(order)}
    report = evaluate(
        models, attacks, files.x[order].float() / 255, files.y[order], threat=Threat("Linf", 0.2), batch_size=6,
        eot_samples=4, repeats=5, knowledge=[Knowledge.FULL, Knowledge.BLIND], probe=Probe(16, 5), progress=False,
        data={"name": "test.npz", "images": "the first of 12", **about},
    )  # fmt: skip
    assert findings(done) == report.findings()
    assert (done / "report.md").read_text("utf-8") == Report.load(done / "report.json").markdown()
    assert (done / "report.html").read_text("utf-8").count("data:image/png;base64,") == 2


def test_a_plan_runs_on_every_kind_of_model(call: Any, files: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(
        "evaluate", "--classifier", files.spec("make"), "--purifier", files.spec("blur"), "--data", files.folder,
        "--surrogate", files.spec("other"), "--robust", files.spec("other"), "--eps", "51/255", "--images", 6,
        "--suite", "smoke", "--out", out, "--device", "cpu",
    )  # fmt: skip
    report = Report.load(out / "report.json")
    assert report.models() == ["undefended", "blur", "robust baseline"]
    assert (report.threat["eps"], report.threat["given"], report.suite) == (0.2, "51/255", "smoke")
    assert {c.backend for c in report.cells} == {"", "native", "art", "torchattacks", "autoattack"}
    assert {c.knowledge for c in report.cells} == {"none", "undefended", "transfer", "blind", "bpda", "full"}
    # The files are those of class 0 and then those of class 1; in the order of their numbers they alternate.
    order = hashlib.sha256(struct.pack("<12q", *balanced_order([0] * 6 + [1] * 6))).hexdigest()
    data = {"name": "photos", "images": "the first of 12", "order": "balanced by class", "order_sha256": order}
    assert report.provenance["data"] == data
    assert report.provenance["images"] == 6
    assert report.provenance["robust"] == ["robust baseline"]


@pytest.mark.parametrize("stop_after", [0, 5])
def test_an_interrupted_evaluation_goes_on(
    call: Any, command: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    calls: list[str] = []
    honest = Attack.__call__

    def counted(self: Attack, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, **options: Any) -> Tensor:
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(self.title)
        return honest(self, module, x, y, threat, **options)

    monkeypatch.setattr(Attack, "__call__", counted)
    assert "the same command goes on" in call(*command, "--out", tmp_path, code=130).stderr
    assert not (tmp_path / "report.json").exists()
    monkeypatch.setattr(Attack, "__call__", honest)
    call(*command, "--out", tmp_path)
    assert findings(tmp_path) == findings(done)


def test_a_finished_evaluation_is_read_back(
    call: Any, command: Any, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("attacked again")

    monkeypatch.setattr(Attack, "__call__", never)
    assert "native PGD-2" in call(*command, "--out", done).stdout


def test_it_goes_on_with_more_images(
    call: Any, files: Any, changed: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block has 32 images: the first is not attacked again."""
    x = files.x.numpy().repeat(4, 0)[:40]
    np.savez(tmp_path / "more.npz", x=x, y=files.y.numpy().repeat(4)[:40])
    many = (*changed(command, "--data", tmp_path / "more.npz", "--batch-size", 40), "--out", tmp_path / "out")
    seen: list[int] = []
    honest = Attack.__call__
    monkeypatch.setattr(Attack, "__call__", lambda self, *a, **k: seen.append(len(a[1])) or honest(self, *a, **k))
    call(*many, "--images", 32)
    assert max(seen) == 32
    seen.clear()
    call(*many, "--images", 40)
    assert {*seen} == {8}
    assert Report.load(tmp_path / "out" / "report.json").provenance["images"] == 40


def test_shards_merge_to_the_whole(call: Any, refused: Any, command: Any, done: Path, tmp_path: Path) -> None:
    for i in (0, 1):
        shown = call(*command, "--shard", f"{i}/2", "--out", tmp_path / str(i)).stdout
        assert "art-ext report" in shown
        assert not (tmp_path / str(i) / "report.html").exists()
    parts = [tmp_path / str(i) / "report.json" for i in (1, 0)]
    shown = call("report", *parts, "--out", tmp_path / "whole").stdout
    assert "native PGD-2" in shown
    assert findings(tmp_path / "whole") == findings(done)
    assert (tmp_path / "whole" / "report.html").exists()
    assert (tmp_path / "whole" / "report.md").exists()
    assert "every shard i/n" in refused("report", parts[0], "--out", tmp_path / "half")
    assert "every shard i/n" in refused("report", parts[0], parts[0], "--out", tmp_path / "half")
    assert "is one of them" in refused("report", *parts, "--out", tmp_path / "0")
    assert not (tmp_path / "half").exists()


def test_a_single_report_is_rendered(call: Any, refused: Any, done: Path, tmp_path: Path) -> None:
    call("report", done / "report.json", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "report.json").read_text() == (done / "report.json").read_text()
    for name, text in {"a.json": "{", "b.json": "[]", "c.json": json.dumps({"schema": 2})}.items():
        (tmp_path / name).write_text(text)
        assert "that art-ext evaluate wrote" in refused("report", tmp_path / name, "--out", tmp_path / "x")
    assert "not there" in refused("report", tmp_path / "none.json", "--out", tmp_path / "x")


def test_strict_ends_with_three_where_a_check_failed(call: Any, files: Any, tmp_path: Path) -> None:
    arguments = ("--classifier", files.spec("Probabilities"), "--data", files.npz, *TIGHT, "--out", tmp_path)
    call("evaluate", *arguments)
    assert any(v.verdict == "fail" for v in Report.load(tmp_path / "report.json").checks)
    assert "a check failed" in call("evaluate", *arguments, "--strict", code=3).stderr
    assert (tmp_path / "report.html").exists()


def test_strict_is_content_without_a_failure(call: Any, command: Any, done: Path) -> None:
    failed = [v for v in Report.load(done / "report.json").checks if v.verdict == "fail"]
    call(*command, "--out", done, "--strict", code=3 if failed else 0)


def test_without_probes_their_checks_are_left_out(call: Any, command: Any, tmp_path: Path) -> None:
    shown = call(*command, "--probe", "none", "--out", tmp_path / "none")
    report = Report.load(tmp_path / "none" / "report.json")
    assert not report.probes
    assert not {v.check for v in report.checks} & {"converged", "budget monotone"}
    call(*command, "--probe", "5, 3", "--out", tmp_path / "few")
    probes = Report.load(tmp_path / "few" / "report.json").probes
    assert {(c.images, c.attack) for c in probes if "base" in c.tags} == {(5, "native PGD-3")}
    for wanted in ("Checks that fail or warn", "checks: ", "; all of them stand in the report"):
        assert wanted in shown.stdout
    assert "│ pass" not in shown.stdout
    assert [line.split(":")[0] for line in shown.stdout.splitlines()[-3:-1]] == ["undefended", "rdp"]
    assert "of clean images, " in shown.stdout.splitlines()[-2]


def test_without_the_baseline(call: Any, command: Any, tmp_path: Path) -> None:
    call(*command, "--no-purifier-baseline", "--out", tmp_path)
    assert Report.load(tmp_path / "report.json").models() == ["rdp"]


def test_attacks_from_text() -> None:
    found = attack_of('autoattack:custom:attacks=["apgd-ce", "square"],images=4,on=deterministic')
    assert found == Attack("autoattack", "custom", {"attacks": ["apgd-ce", "square"]}, images=4, on="deterministic")
    found = attack_of("art:PGD:steps=3,step_size=2/255,label=mine")
    assert found == Attack("art", "PGD", {"steps": 3, "step_size": 2 / 255}, label="mine")
    found = attack_of("native:StAdv:bound=0.1,steps=2,targeted=least likely")
    assert found == Attack("native", "StAdv", {"bound": 0.1, "steps": 2}, targeted="least likely")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--classifier", "fashion_mnist_cn"), "did you mean 'fashion_mnist_cnn'?"),
        (("--suite", "smok"), "did you mean 'smoke'?"),
        (("--suite", "smoke", "--preset", "smoke"), "expected --suite once, got --preset, its old name, too"),
        (("--knowledge", "ful"), "did you mean 'full'?"),
        (("--knowledge", "undefended"), "--knowledge out of transfer"),
        (("--knowledge", "transfer"), "--surrogate for transfer"),
        (("--attack", "native:PDG"), "did you mean 'native:PGD'?"),
        (("--attack", "native:pgd:steps=1"), "did you mean 'native:PGD' or 'art:PGD' or 'torchattacks:PGD'?"),
        (("--attack", "PGD"), "did you mean 'native:PGD' or 'art:PGD' or 'torchattacks:PGD'?"),
        (("--attack", "PGD"), "--attack out of"),
        (("--attack", "native:PGD:step=3"), "did you mean 'steps'?"),
        (("--attack", "native:PGD:steps"), "key=value"),
        (("--attack", "native:PGD:images=0"), "images >= 1"),
        (("--norm", "L7"), "one of Linf"),
        (("--eps", "8"), "such as 8/255, got 8"),
        (("--probe", "64"), "expected --probe as images,steps, such as 64,20, or none; got '64'"),
        (("--eps", "-0.1"), "of at least 0, got -0.1"),
        (("--shard", "2/2"), "i from 0 to n - 1"),
        (("--images", "13"), "at most 12"),
        (("--data", "missing"), "not there"),
        (("--keys", "x,labels"), "expected key 'labels' in"),
        (("--keys", "x,labels"), "got keys: x, y: say --keys IMAGES,LABELS"),
        (("--mean", "0.5,0.5,0.5", "--std", "1,1,1"), "normalise 1 channel(s)"),
        (("--purifier", "fashion_mnist_cnn"), "is a classifier"),
        (("--size", "6"), "with a folder"),
    ],
)
def test_refused_before_anything_is_written(
    refused: Any, changed: Any, command: Any, tmp_path: Path, changes: tuple[str, ...], message: str
) -> None:
    assert message in refused(*changed(command, *changes), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.arange(12) % 6}, "labels below 4, the classes of --classifier, got 5"),
        ({"x": np.full((12, 1, 6, 8), 200.0)}, "divide by 255"),
        ({"x": np.zeros((12, 3, 6, 8), np.uint8)}, "1 channel(s), what the purifier takes, got 3"),
        ({"x": np.zeros((12, 6), np.uint8)}, "got shape (12, 6)"),
        ({"x": np.zeros((12, 1, 6, 8), np.int32)}, "uint8 or floating-point"),
        ({"y": np.zeros(5, np.int64)}, "12 images and 5 labels"),
        ({"x": np.zeros((0, 1, 6, 8), np.uint8), "y": np.zeros(0, np.int64)}, "at least one image"),
    ],
)
def test_data_that_does_not_fit(
    refused: Any, files: Any, changed: Any, command: Any, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **({"x": files.x.numpy(), "y": files.y.numpy()} | arrays))
    assert message in refused(*changed(command, "--data", tmp_path / "bad.npz"), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_npz_and_models_of_other_classes(
    refused: Any, files: Any, changed: Any, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "text.npz").write_text("no zip")
    assert "which is neither" in refused(*changed(command, "--data", tmp_path / "text.npz"), "--out", tmp_path / "out")
    torch.manual_seed(0)
    (tmp_path / "ten.py").write_text("from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))\n")
    robust = ("--robust", f"{tmp_path / 'ten.py'}:net")
    assert "models of the same classes" in refused(*command, *robust, "--out", tmp_path / "out")


def test_a_folder_of_something_else_is_refused(refused: Any, command: Any, done: Path, tmp_path: Path) -> None:
    assert "one of other" in refused(*command, "--seed", 1, "--out", done)
    (tmp_path / "report.json").write_text((done / "report.json").read_text())
    assert "holds another report" in refused(*command, "--seed", 1, "--out", tmp_path)


def test_the_first_images_of_a_sorted_npz_are_of_every_class(
    call: Any, files: Any, changed: Any, command: Any, tmp_path: Path
) -> None:
    place = np.argsort(files.y.numpy(), kind="stable")
    x, y = files.x.numpy()[place], files.y.numpy()[place]
    np.savez(tmp_path / "sorted.npz", x=x, y=y)
    call(*changed(command, "--data", tmp_path / "sorted.npz"), "--images", 4, "--out", tmp_path / "out")
    report, order = Report.load(tmp_path / "out" / "report.json"), balanced_order(y)
    assert report.provenance["data"]["order_sha256"] == order_sha256(order)
    assert sorted(y[order[:4]]) == [0, 0, 1, 1]
    assert report.provenance["sha256_of_labels"] == sha256([torch.from_numpy(y[order[:4]])])


def test_debug_shows_the_traceback(changed: Any, command: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from art_ext.cli import app

    result = CliRunner().invoke(
        app, [*map(str, changed(command, "--eps", "x")), "--out", str(tmp_path / "out"), "--debug"]
    )
    assert isinstance(result.exception, ValueError)
    assert "expected --eps" in str(result.exception)
