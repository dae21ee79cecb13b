"""A training's figures for trackers: files and TensorBoard by Lightning Fabric's own loggers, MLflow, W&B."""

from __future__ import annotations

import importlib.util
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

PROJECT = "art_ext"
"""Name of MLflow's experiment and of the project of W&B."""


class _Tracker(Logger):
    """A logger that begins its run with the first figures."""

    def __init__(self, folder: Path | str, package: str) -> None:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(package)
        self.folder = Path(folder)

    @cached_property
    @abstractmethod
    def run(self) -> Any:
        """The run, begun."""

    @property
    def name(self) -> str:
        return PROJECT

    def finalize(self, status: str) -> None:
        if "run" in vars(self):  # begun
            self.end(status == "success")

    @abstractmethod
    def end(self, done: bool) -> None:
        """Closes the run, as done or as failed."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("expected figures, got hyperparameters: they stand in training.json")


class MLflowLogger(_Tracker):
    """A run of MLflow, on the server of MLFLOW_TRACKING_URI or else in mlflow.db of the folder."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder, "mlflow")

    @cached_property
    def client(self) -> Any:
        from mlflow import MlflowClient

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self.folder.mkdir(parents=True, exist_ok=True)
        return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder.absolute()}/mlflow.db")

    @cached_property
    def run(self) -> Any:
        known = self.client.get_experiment_by_name(PROJECT)
        return self.client.create_run(known.experiment_id if known else self.client.create_experiment(PROJECT)).info

    @property
    def version(self) -> str:
        return str(self.run.run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run.run_id, re.sub(r"[^\w\-. /]", "_", name), value, step=step)

    def end(self, done: bool) -> None:
        self.client.set_terminated(self.run.run_id, "FINISHED" if done else "FAILED")


class WandbLogger(_Tracker):
    """A run of Weights & Biases; with WANDB_MODE=offline it stays in the folder."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder, "wandb")

    @cached_property
    def run(self) -> Any:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(project=PROJECT, dir=str(self.folder), reinit="create_new")

    @property
    def version(self) -> str:
        return str(self.run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run.log(dict(metrics), step=step, commit=True)

    def end(self, done: bool) -> None:
        self.run.finish(0 if done else 1)


MADE: Mapping[str, Callable[[Path | str], Logger]] = {
    "csv": lambda folder: CSVLogger(folder, name="csv", flush_logs_every_n_steps=1),
    "tensorboard": lambda folder: TensorBoardLogger(folder, name="tensorboard"),
    "mlflow": MLflowLogger,
    "wandb": WandbLogger,
}
KINDS = tuple(MADE)


def made_logger(kind: str, folder: Path | str) -> Logger:
    """A logger of a kind that writes below the folder, each training that is begun or resumed in its own place.

    Args:
        kind: "csv" writes metrics.csv; "tensorboard", "mlflow" and "wandb" what these programs show.
        folder: made with the first line.

    Raises:
        ImportError: a package is not there.
        ValueError: no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"expected logger out of {', '.join(KINDS)}, got {kind!r}")
    try:
        return MADE[kind](folder)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"expected the package {kind} for the logger of that name, got none: pip install 'art-ext[{kind}]'"
        ) from error


@contextmanager
def finalized(logger: Logger | None) -> Iterator[None]:
    """Calls a logger's `finalize` with the outcome of the training."""
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        if logger is not None:
            logger.finalize(status)


def log_row(logger: Logger, row: Mapping[str, float], stage: int, step: int) -> None:
    """Writes the figures of an epoch.

    Args:
        logger: where to.
        row: figures by name.
        stage: its number, from 1.
        step: steps done, over all stages.
    """
    logger.log_metrics({**row, "stage": float(stage)}, step)
    logger.save()
