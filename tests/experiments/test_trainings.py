"""Trainings by an executor: each network of each seed once, in an order that has what it needs, the same weights."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.classifiers import ClassifierObjective
from art_ext.evaluation.executors import Executor
from art_ext.evaluation.executors.units import Queue
from experiments import render
from experiments.core import Experiment
from experiments.lab import Lab
from experiments.networks import Network
from experiments.trainings import Trainings, alone, planned, train
from tests.experiments.test_runner import ROOT, SHORT, checkpoints, lab, linear, tiny


class Inside(Executor):
    """One worker, in this process."""

    def run(self, task: Any, waves: Any, progress: Any, jobs: Any, runner: None) -> None:
        with task.on_disk(runner) as sent:
            worker = pickle.loads(pickle.dumps(sent)).worker(torch.get_num_threads())
        for wave in waves:
            queue = Queue(wave, progress)
            while (unit := queue.take()) is not None:
                queue.done(worker.do(unit))


def declare(monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    module = SimpleNamespace(declare=lambda data, scale: experiment)
    monkeypatch.setattr(render, "module", lambda paper: module)


def task(runs: Path, *todo: tuple[str, int]) -> Trainings:
    runs.mkdir(exist_ok=True)
    return Trainings("rdp", "fashion_mnist", "small", todo, None, runs, "cpu", "32-true", False, None)


def test_each_seed_is_trained_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, tiny(linear()))
    train(Inside(), task(tmp_path / "runs", ("net", 0), ("net", 1)))
    made = checkpoints(tmp_path)
    assert len(made) == 2
    by_workers = [lab(tmp_path, linear(), seed=seed)("net")[1].weight for seed in (0, 1)]
    assert checkpoints(tmp_path) == made
    here = [lab(tmp_path / "here", linear(), seed=seed)("net")[1].weight for seed in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(by_workers, here, strict=True))


def test_what_a_network_needs_comes_before_it_and_what_ships_is_left_out(tmp_path: Path) -> None:
    def after(net: nn.Module, nets: Any) -> ClassifierObjective:
        nets("net")
        return ClassifierObjective(net)

    experiment = tiny(linear())
    later = Network(linear().make, after, SHORT)
    networks = {"later": later, "unused": linear(), **experiment.networks, "given": Network(linear().make)}
    models = {"plain": experiment.models["plain"].__class__("later", surrogate="given")}
    found = Experiment("rdp", "fashion_mnist", "small", networks, models, experiment.parts)
    here = lab(tmp_path, linear())
    mine = Lab(found, None, here.runs, here.out, here.fabric)
    assert planned(mine, ["weak"], [0, 4]) == (("net", 0), ("net", 4), ("later", 0), ("later", 4))
    assert not checkpoints(tmp_path)


def test_what_a_training_raises_is_told_by_name_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(net: nn.Module, nets: Any) -> ClassifierObjective:
        raise ArithmeticError("no loss")

    declare(monkeypatch, tiny(Network(linear().make, fails, SHORT)))
    with pytest.raises(RuntimeError, match="net, seed 3: ArithmeticError: no loss; net, seed 5: Arithm"):
        train(Inside(), task(tmp_path / "runs", ("net", 3), ("net", 5)))


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a worker that sees .*elsewhere"):
        Trainings(
            "rdp", "fashion_mnist", "small", (), None, tmp_path / "elsewhere", "cpu", "32-true", False, None
        ).worker(1)


def test_a_training_without_time_is_left_for_another_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, tiny(linear()))
    train(Inside(), replace(task(tmp_path / "runs", ("net", 0)), until=time.time() - 1))
    assert not [*(tmp_path / "runs" / "networks").glob("*.json")]


def test_a_network_that_another_worker_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is trained because another one needs it."""

    def after(net: nn.Module, nets: Any) -> ClassifierObjective:
        nets("net")
        return ClassifierObjective(net)

    networks = {"net": linear(), "later": Network(linear().make, after, SHORT)}
    experiment = replace(tiny(linear()), networks=networks)
    declare(monkeypatch, experiment)
    (tmp_path / "runs").mkdir()
    said, left = [], threading.Event()

    def other() -> None:
        with alone(tmp_path / "runs" / "net 0.lock"):
            said.append("other")
            left.wait(30)
            said.append(f"other ends, {len(checkpoints(tmp_path))} trained")

    thread = threading.Thread(target=other)
    thread.start()
    while not said:
        time.sleep(0.01)
    threading.Timer(1.0, left.set).start()
    train(Inside(), task(tmp_path / "runs", ("later", 0)))
    thread.join()
    assert said == ["other", "other ends, 0 trained"]
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("given", [("--workers", "2"), ("--executor", "ray"), ("--executor", "slurm")], ids=" ".join)
def test_seeds_are_trained_by_workers_from_the_command_line(given: tuple[str, str], tmp_path: Path) -> None:
    for library in {"ray": ["ray"], "slurm": ["submitit"]}.get(given[1], []):
        pytest.importorskip(library)
    words = ["drrdn", "--data", "fashion_mnist", "--part", "white", "--dry-run", "--seed", "0", "1", *given]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words, "--runs", str(tmp_path), "--results", str(tmp_path / "results")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    kept = sorted(path.name for path in (tmp_path / "dry" / "networks").glob("*.json"))
    assert kept
    assert len(kept) % 2 == 0
    assert len([*(tmp_path / "dry" / "results").glob("drrdn_*.json")]) == 2
