"""Files of a training's figures, by Lightning Fabric's own loggers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

KINDS = ("csv", "tensorboard")


def made_logger(kind: str, folder: Path | str) -> Logger:
    """A logger of a kind that writes below the folder, each training that is begun or gone on with in its own place.

    Args:
        kind: "csv" writes metrics.csv, "tensorboard" what that program shows.
        folder: made with the first line.

    Raises:
        ImportError: a package is not there.
        ValueError: no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"expected logger out of {', '.join(KINDS)}, got {kind!r}")
    if kind == "csv":
        return CSVLogger(folder, name=kind, flush_logs_every_n_steps=1)
    try:
        return TensorBoardLogger(folder, name=kind)
    except ModuleNotFoundError as error:
        raise ImportError(
            "expected the package tensorboard for the logger of that name, got none: pip install tensorboard"
        ) from error


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
