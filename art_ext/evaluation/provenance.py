"""Where a report comes from: for its readers, nothing is computed from it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import art_ext
from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.numerics import device_name, precision_flags

RECORDED = (
    "versions", "images", "shape", "threat", "settings", "attacks", "data", "shard", "scheme",
    "sha256_of_images", "sha256_of_labels",
)  # fmt: skip
"""What the report takes from the folder's manifest."""


def provenance(call: Mapping[str, Any], x: Tensor, batch_size: int, found: Sequence[ModelInfo]) -> dict[str, Any]:
    """Versions, machine, data, settings and models, as JSON values.

    Args:
        call: manifest of the evaluation.
        x: its images.
        batch_size: images that passed at once.
        found: facts about each model.
    """
    return {
        **{k: call[k] for k in RECORDED},
        "git": _commit(),
        "python": platform.python_version(),
        "device": device_name(x.device),
        "precision": precision_flags(),
        "threads": torch.get_num_threads(),
        "seed": call["settings"]["seed"],
        "batch_size": batch_size,
        "classes": found[0].classes,
        "randomised": {m.name: m.random for m in found},
        "defended": [m.name for m in found if m.defended],
        "robust": [m.name for m in found if m.robust],
        "sha256_of_models": {m.name: m.sha256 for m in found},
    }


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of the package's checkout, None for an installed package."""
    root = Path(art_ext.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
