"""Figures of a training and of an evaluation in TensorBoard, MLflow and W&B, as these read them back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation import Cell, Report
from art_ext.evaluation.report.exports import log_report
from art_ext.training import finalized, made_logger
from art_ext.training.logs import WandbLogger, log_row

ROWS = ({"players/loss": 0.5, "epoch": 0.0}, {"players/loss": 0.25, "epoch": 1.0})
T, F = True, False
REPORT = Report(
    {"norm": "Linf", "eps": 0.1},
    (
        Cell("a/b", "clean", "none", ((T, T, T, T),)),
        Cell("a/b", "PGD-2 + EOT=3", "full", ((T, F, F, F),)),
        Cell("bare", "clean", "none", ((T, T, T, F),)),
    ),
    (), (), {},
)  # fmt: skip


class Recorder:
    """A logger of which only what is used is there."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.saved = 0

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        assert step == 0
        self.figures |= metrics

    def save(self) -> None:
        self.saved += 1


def test_a_report_is_logged_by_row_and_worst_case() -> None:
    found = Recorder()
    log_report(REPORT, found)  # type: ignore[arg-type]
    assert found.saved == 1
    accuracies = {k: v for k, v in found.figures.items() if k.endswith("accuracy")}
    assert accuracies == {
        "a_b/clean/accuracy": 1.0, "a_b/PGD-2 + EOT=3/full/accuracy": 0.25, "bare/clean/accuracy": 0.75,
        "a_b/worst_case/accuracy": 0.25,
    }  # fmt: skip
    worst = REPORT.worst_case("a/b")
    assert found.figures["a_b/worst_case/low"] == worst.low
    assert found.figures["a_b/worst_case/high"] == worst.high
    assert len(found.figures) == 12


def logged(kind: str, folder: Path) -> Any:
    """A logger that was told of two epochs, and one of a report."""
    training, evaluation = made_logger(kind, folder), made_logger(kind, folder)
    with finalized(training):
        for row in ROWS:
            log_row(training, row, 1, 3 * (int(row["epoch"]) + 1))
    with finalized(evaluation):
        log_report(REPORT, evaluation)
    return training, evaluation


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logged("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training, evaluation = (EventAccumulator(str(tmp_path / "tensorboard" / f"version_{i}")).Reload() for i in (0, 1))
    assert [(e.step, e.value) for e in training.Scalars("players/loss")] == [(3, 0.5), (6, 0.25)]
    assert evaluation.Scalars("a_b/worst_case/accuracy")[0].value == 0.25


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of its own database
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    training, evaluation = logged("mlflow", tmp_path)
    client = training.client
    assert [(m.step, m.value) for m in client.get_metric_history(training.version, "players/loss")] == [
        (3, 0.5), (6, 0.25),
    ]  # fmt: skip
    run = client.get_run(evaluation.version)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["a_b/PGD-2 _ EOT_3/full/accuracy"] == 0.25
    assert (tmp_path / "mlflow.db").is_file()
    failed = made_logger("mlflow", tmp_path)
    with suppress(KeyError), finalized(failed):
        log_row(failed, ROWS[0], 1, 3)
        raise KeyError
    assert client.get_run(failed.version).info.status == "FAILED"


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger: Any = made_logger("wandb", tmp_path)
    with finalized(logger):
        log_row(logger, ROWS[0], 1, 3)
        log_report(REPORT, evaluation := made_logger("wandb", tmp_path))
        log_row(logger, ROWS[1], 1, 6)
        assert logger.run.summary["players/loss"] == 0.25
        assert evaluation.run.summary["a_b/worst_case/accuracy"] == 0.25
    evaluation.finalize("success")
    assert len([*(tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]) == 2


def test_a_tracker_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for kind in ("mlflow", "wandb"):
        with pytest.raises(ImportError, match=rf"expected the package {kind} .*got none: pip install 'art-ext\[{kind}"):
            made_logger(kind, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with finalized(logger := WandbLogger(tmp_path)):
        pass  # nothing was said, so that no run begins
    assert "run" not in vars(logger)
    with pytest.raises(NotImplementedError, match="expected figures"):
        logger.log_hyperparams({})
    assert [*tmp_path.iterdir()] == []
