"""The runner: networks are trained once, shares of a report come together, every declared table can be run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import nn

from art_ext.classifiers import ClassifierObjective
from art_ext.evaluation import Attack, Knowledge, Report, Threat
from art_ext.nn import seeded
from experiments import page, render, runner
from experiments.__main__ import main
from experiments.core import SCALES, Experiment, Item, Model, Part, Table
from experiments.lab import Lab, OutOfTime
from experiments.networks import Network, Recipe, adam
from tests.experiments.made import cifar10_like, mnist_like

ROOT = Path(__file__).parents[2]
FGSM = Attack("native", "FGSM")


SHORT = Recipe(2, images=8, batch=4)


def linear(recipe: Recipe = SHORT, **more: Any) -> Network:
    def make(_: object) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    return Network(make, lambda net, _: ClassifierObjective(net), recipe, **more)


def tiny(network: Network, images: int = 65) -> Experiment:
    part = Part(("plain",), (FGSM,), Threat("Linf", 0.1), (Knowledge.FULL,), images)
    table = Table(("weak",), {"FGSM": ("native FGSM",)}, (("weak",),))
    models = {"plain": Model("net")}
    return Experiment("rdp", "fashion_mnist", "small", {"net": network}, models, {"weak": part}, {"A": table})


def lab(folder: Path, network: Network, **more: Any) -> Lab:
    fabric = Fabric(accelerator="cpu", devices=1)
    return Lab(tiny(network), None, folder / "runs", folder, fabric, **more)


def checkpoints(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (folder / "runs" / "networks").glob("*.1")}


def test_a_network_is_trained_once_and_another_setting_is_another_training(tmp_path: Path) -> None:
    first = lab(tmp_path, linear())("net")
    made = checkpoints(tmp_path)
    assert len(made) == 1
    again = lab(tmp_path, linear())("net")
    assert checkpoints(tmp_path) == made
    assert torch.equal(first[1].weight, again[1].weight)
    for number, other in enumerate(
        (Recipe(3, images=8, batch=4), Recipe(2, adam(0.5), images=8, batch=4), Recipe(2, images=9, batch=4)), start=2
    ):
        lab(tmp_path, linear(other))("net")
        assert len(checkpoints(tmp_path)) == number
    lab(tmp_path, linear(), seed=1)("net")
    assert len(checkpoints(tmp_path)) == 5


def test_a_training_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    whole = lab(tmp_path / "whole", linear())("net")
    with pytest.raises(OutOfTime, match="run again"):
        lab(tmp_path, linear(), deadline=time.time() - 1)("net")
    found = lab(tmp_path, linear())("net")
    assert torch.equal(found[1].weight, whole[1].weight)


def test_kept_weights_are_taken_for_the_same_training_alone(tmp_path: Path) -> None:
    with seeded(7):
        kept = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    save_file(kept.state_dict(), tmp_path / "w.safetensors", {"training": json.dumps({"epochs": 2, "rate": 0.1})})
    same, other = ({"epochs": n, "rate": 0.1} for n in (2, 3))
    taken = lab(tmp_path, linear(kept=tmp_path / "w.safetensors", facts=same))("net")
    assert torch.equal(taken[1].weight, kept[1].weight)
    made = lab(tmp_path, linear(kept=tmp_path / "w.safetensors", facts=other))("net")
    assert not torch.equal(made[1].weight, kept[1].weight)


def test_whoever_ends_last_puts_the_shares_together(tmp_path: Path) -> None:
    network = linear()
    whole = [*runner.carry_out(lab(tmp_path, network), ["weak"], (0, 1))]
    expected = Report.load(whole[0])
    other = tmp_path / "other"
    other.mkdir()
    assert [*runner.carry_out(lab(other, network), ["weak"], (1, 3))] == []
    assert [*runner.carry_out(lab(other, network), ["weak"], (0, 3))] == []
    (path,) = runner.carry_out(lab(other, network), ["weak"], (2, 3))
    found = Report.load(path)
    assert {c.images for c in found.cells} == {65}
    assert [c.correct for c in found.cells] == [c.correct for c in expected.cells]
    ((title, text),) = page.tables(tiny(network), other)
    assert (title, text.count("n=65")) == ("A", 3)


def test_workers_make_the_same_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, other = linear(), tmp_path / "other"
    other.mkdir()
    asked = []
    ordinary = runner.evaluate

    def evaluate(*given: Any, **options: Any) -> Report:
        asked.append(options["executor"])
        return ordinary(*given, **options)

    monkeypatch.setattr(runner, "evaluate", evaluate)
    (alone,) = runner.carry_out(lab(tmp_path, network), ["weak"], (0, 1))
    (path,) = runner.carry_out(lab(other, network), ["weak"], (0, 1), executor=1)
    assert asked == [None, 1]
    assert [c.predicted for c in Report.load(path).cells] == [c.predicted for c in Report.load(alone).cells]


@pytest.mark.parametrize("other", [("--shard", "0", "2"), ("--devices", "2")])
def test_workers_are_refused_beside_what_shares_the_blocks_already(other: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected --workers or --executor without --shard and --devices"):
        dry(tmp_path, "rdp", "--workers", "2", *other)
    with pytest.raises(ValueError, match="expected executor as"):
        dry(tmp_path, "rdp", "--executor", "dask")


def test_attacks_of_a_dry_run_are_short_and_keep_their_titles() -> None:
    attacks = [
        Attack("native", "PGD", {"steps": 200, "check_every": 10}, 64), Attack("autoattack", "rand"),
        Attack("native", "AutoAttack"), FGSM,
        Attack("native", "PGD", {"steps": 10}, eot_samples=1, targeted="random", label="targeted PGD-10"),
    ]  # fmt: skip
    found = [*runner.shortened(attacks)]
    assert [a.titled(20) for a in found] == [
        "native PGD-200",
        "autoattack rand",
        "native AutoAttack",
        "native FGSM",
        "targeted PGD-10",
    ]
    assert [a.parameters.get("steps") for a in found] == [2, 2, 2, None, 2]
    assert "check_every" not in found[0].parameters
    assert {a.backend for a in found} == {"native"}
    assert [a.eot_samples for a in found] == [None, None, None, None, 1]
    assert {a.images for a in found} == {None}


@pytest.mark.parametrize("paper", render.PAPERS)
def test_what_is_declared_is_there(paper: str) -> None:
    declared = render.module(paper)
    for scale in SCALES:
        for data in declared.DECLARED:
            e = declared.declare(data, scale)
            parts = {k: p for k, p in e.parts.items() if isinstance(p, Part)}
            assert {m for p in parts.values() for m in p.models} <= {*e.models}
            assert {p for t in e.tables.values() for group in (t.parts, *t.worst) for p in group} <= {*parts}
            names = [
                v for m in e.models.values() for v in (m.classifier, m.purifier, m.surrogate) if isinstance(v, str)
            ]
            assert {name.partition("/")[0] for name in names} <= {*e.networks}
            assert len({e.file(p) for p in e.parts}) == len(e.parts)
    every = {p for data in declared.DECLARED for p in declared.declare(data, "small").parts}
    assert {p for item in declared.ITEMS for p in item.parts} <= every


def test_the_state_of_a_table_is_what_the_folder_holds(tmp_path: Path) -> None:
    both, drawing = Item("Table 1", "x", ("blind", "white")), Item("Figure 1", "y")
    assert render.state("rdp", drawing, tmp_path) == "a drawing: nothing to run"
    assert render.state("rdp", both, tmp_path) == "declared"
    (tmp_path / "rdp_fashion_mnist_blind.json").touch()
    assert render.state("rdp", both, tmp_path) == "in part run small (fashion_mnist)"
    (tmp_path / "rdp_fashion_mnist_white.json").touch()
    assert render.state("rdp", both, tmp_path) == "run small (fashion_mnist)"
    assert render.state("rdp", replace(both, data=("cifar10",)), tmp_path) == "declared"
    for part in both.parts:
        (tmp_path / f"rdp_cifar10_{part}_paper_scale.json").touch()
    assert render.state("rdp", both, tmp_path) == "run at paper scale (cifar10)"


def dry(folder: Path, paper: str, *more: str) -> None:
    main([paper, "--dry-run", "--runs", str(folder / "runs"), "--folder", str(folder), *more])


def test_a_dry_run_trains_attacks_and_ends_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist_like(tmp_path)
    dry(tmp_path, "drrdn", "--part", "ablation")
    shown = capsys.readouterr().out
    assert "| DRRDN minus halves |" in shown
    assert shown.count("n=8") >= 12
    report = Report.load(tmp_path / "runs/dry/results/drrdn_mnist_ablation.json")
    assert report.models() == ["DRRDN", "DRRDN-MI", "DRRDN-REC", "halves"]
    assert {c.parameters["steps"] for c in report.attacked("DRRDN")} == {2}
    assert [*report.provenance["data"]["trainings"]] == sorted(report.models())
    with pytest.raises(SystemExit, match="expected --part out of"):
        dry(tmp_path, "drrdn", "--part", "nothing")


def test_a_dry_run_of_a_randomised_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry(tmp_path, "rdp", "--part", "targeted", "spectra")
    table = capsys.readouterr().out.split("The paper's Table 4")[1]
    assert table.count("R=5") >= 1
    assert "| dynamic RDP |" in table
    found = json.loads((tmp_path / "runs/dry/results/rdp_fashion_mnist_spectra.json").read_text("utf-8"))
    assert {k: len(v) for k, v in found["bands"].items()} == {"noise": 8, "perturbation": 8}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("paper", render.PAPERS)
@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_dry_run_of_all_at_the_papers_scale(paper: str, devices: str, tmp_path: Path) -> None:
    cifar10_like(tmp_path, 32)
    options = ["--dry-run", "--scale", "paper", "--data", "cifar10", "--devices", devices]
    folders = ["--runs", str(tmp_path / "runs"), "--folder", str(tmp_path)]
    command = [sys.executable, "-m", "experiments", paper, *options, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| model | clean |" in done.stdout
    declared = render.module(paper).declare("cifar10", "paper")
    made = {p.stem for p in (tmp_path / "runs/dry/results").glob("*.json")}
    assert made == {declared.file(part) for part in declared.parts}
