"""Workers from the command line: they load models from the same words; every command of docs/scaling.md runs."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_ext.cli.workers import Loaded, executor_of
from art_ext.evaluation import Report
from art_ext.evaluation.executors import Executor
from art_ext.evaluation.executors.task import images_file
from art_ext.evaluation.executors.worker import Worker
from art_ext.evaluation.report.partial import MARK

ROOT = Path(__file__).parents[2]
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
]  # fmt: skip
QUICK = ("--attack", "native:PGD:steps=2", "--knowledge", "full", "--eps", 0.2, "--device", "cpu")


class Inside(Executor):
    """A worker in this process that loads the models itself."""

    def __init__(self, workers: int, load: Any) -> None:
        self.load = load

    def run(self, task: Any, waves: Any, progress: Any, jobs: Any, runner: Any) -> None:
        assert not task.sent
        with images_file(task.folder, runner.x, runner.y) as file:
            worker = Worker(pickle.loads(pickle.dumps(replace(task, images=file))), 1)
        for unit in (unit for wave in waves for unit in wave):
            progress.done(worker.do(unit))
        worker.modes.close()


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.plots.figures", lambda report: {})


def test_workers_load_what_the_command_names_and_change_nothing(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("art_ext.evaluation.executors.Processes", Inside)
    command = ("evaluate", "--classifier", files.spec("make"), "--purifier", files.rdp, "--data", files.npz, *QUICK)
    call(*command, "--out", tmp_path / "alone")
    call(*command, "--out", tmp_path / "workers", "--workers", 2)
    found = [Report.load(tmp_path / name / "report.json") for name in ("alone", "workers")]
    assert found[0].findings() == found[1].findings()
    assert any("units were made by inside" in note for note in found[1].notes)
    shown = call("status", tmp_path / "workers").stdout
    assert "finished" in shown
    assert "0 workers" in shown
    assert "1 of 1" in shown


def test_an_interrupted_evaluation_has_a_partial_report(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", "--classifier", files.spec("make"), "--purifier", files.rdp, "--data", files.npz, *QUICK)
    honest, made = Worker.do, []

    def killed(self: Worker, unit: Any) -> Any:
        if any(0 in unit.jobs for unit in made):  # probes may come before the attacks
            raise KeyboardInterrupt
        made.append(unit)
        return honest(self, unit)

    monkeypatch.setattr("art_ext.evaluation.executors.Processes", Inside)
    monkeypatch.setattr(Worker, "do", killed)
    call(*command, "--attack", "native:FGSM", "--out", tmp_path / "out", "--workers", 1, code=130)
    shown = call("report", tmp_path / "out", "--out", tmp_path / "so_far").stdout
    assert MARK in shown
    page = (tmp_path / "so_far" / "partial.md").read_text("utf-8")
    assert MARK in page
    assert "1 of 1" in page
    assert not (tmp_path / "so_far" / "report.json").exists()
    assert "not finished" in call("status", tmp_path / "out").stdout
    assert "expected the folder of an evaluation" in call("status", tmp_path, code=2).stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((2, "spark", None), "expected executor as"),
        ((2, "rays", None), "expected --executor ray"),
        ((None, "torchrun", None), "expected a process of torchrun"),
        ((2, "torchrun", None), "expected --workers without"),
        ((2, None, ["partition=gpu"]), "expected --slurm with --executor slurm"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    given: tuple[Any, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    load: Any = Loaded({}, (), None, None, {}, False, "smoke", None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        executor_of(*given, load)


@pytest.mark.slow
def test_every_command_of_the_page_runs(files: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("submitit")
    shutil.copy(files.code, tmp_path / "net.py")
    order = np.tile(np.arange(12), 8)
    np.savez(tmp_path / "test.npz", x=files.x.numpy()[order], y=files.y.numpy()[order])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    findings = []
    assert len(COMMANDS) == 6
    for line in COMMANDS:
        if "evaluate" in line:
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr[-3000:]}"
        if "evaluate" in line:
            findings.append(Report.load(tmp_path / "out" / "report.json").findings())
    assert all(found == findings[0] for found in findings)
