"""What tells the classifier and the images of a training from those of another command, in `training.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.cli.records import RECORD, json_object
from art_ext.nn.hashing import sha256

PROBES = 8
TOLERANCE = 0.02
"""Of the range of the logits: another device or precision moves them less, another normalisation more."""
ANSWERS, AFTERWARDS, SHA256, SHAPE = "answers", "answers_afterwards", "sha256_of_classifier", "shape"
"""Keys of the record: logits before the training, logits of a classifier that was trained too, weights, (C, H, W)."""
NOT_COMPARED = ("classifier", "data", "keys", "size", "channels", AFTERWARDS, SHAPE)
"""Keys that another spelling of the same training may change: its images and its classifier have hashes."""


def probes(shape: Sequence[int]) -> Tensor:
    """`PROBES` smooth images (N, C, H, W) in [0, 1], the same ones always: no image of a user's is kept for this."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(PROBES, shape[0], 4, 4, generator=generator)
    return F.interpolate(coarse, size=tuple(shape[1:]), mode="bilinear", align_corners=False)


def answers(network: nn.Module, shape: Sequence[int], device: torch.device) -> list[list[float]] | None:
    """A classifier's logits on the probes, to four digits; None for one that answers otherwise the second time."""
    x = probes(shape).to(device)
    with torch.no_grad():
        first, second = ([[float(f"{v:.4g}") for v in row] for row in network(x).tolist()] for _ in range(2))
    return first if apart(first, second) == 0 else None


def apart(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """The largest difference of two sets of logits, 0 within the tolerance and infinity for other numbers of them."""
    a, b = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return math.inf
    a, b = a[a.isfinite()], b[b.isfinite()]
    if not len(a):
        return 0.0
    most = float((a - b).abs().max())
    return 0.0 if most <= TOLERANCE * float(a.max() - a.min()) else most


def settled(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a training as its folder is to have it: what means the same in another spelling stays as it is."""
    there = json_object(out / RECORD) if (out / RECORD).is_file() else {}
    if not there:
        return record
    kept = {key: there[key] for key in NOT_COMPARED if key in there}
    if record.get(ANSWERS) and there.get(ANSWERS) and apart(there[ANSWERS], record[ANSWERS]) == 0:
        kept[ANSWERS] = there[ANSWERS]
    later = (*NOT_COMPARED, ANSWERS)  # an older version has not written these
    return {key: value for key, value in record.items() if key in there or key not in later} | kept


def difference(
    record: Mapping[str, Any], network: nn.Module, shape: Sequence[int], normal: Mapping[str, Any], device: torch.device
) -> str:
    """How an evaluation's classifier and images differ from those of a training; empty where they do not.

    Args:
        record: of the training; one without answers is not compared with them.
        network: the evaluation's classifier.
        shape: of its images, (C, H, W).
        normal: mean and std, None where not given.
        device: of the classifier.
    """
    found = []
    if record.get(SHAPE) not in (None, list(shape)):
        found.append(f"images of {_sides(record[SHAPE])}, now {_sides(shape)}")
        return "; ".join(found + _otherwise(record, normal))
    known = record.get(AFTERWARDS) or record.get(ANSWERS)
    now = answers(network, shape, device) if known else None
    if not known or now is None:
        return "; ".join(_otherwise(record, normal))
    most = apart(known, now)
    if most == 0:  # whatever was said about mean and std
        return ""
    much = "other classes" if len(known[0]) != len(now[0]) else f"logits up to {most:.3g} apart on {PROBES} images"
    found.append(f"a classifier with other answers ({much}{_weights(record, network)})")
    return "; ".join(found + _otherwise(record, normal))


def _weights(record: Mapping[str, Any], network: nn.Module) -> str:
    same = record.get(SHA256) == sha256(network.state_dict().values())
    return ", from the same weights" if same else ""


def _otherwise(record: Mapping[str, Any], normal: Mapping[str, Any]) -> list[str]:
    if "classifier" not in record:  # an older version did not write mean and std either
        return []
    pairs = [(key, record.get(key), normal.get(key)) for key in ("mean", "std")]
    return [f"--{key} {_numbers(then)}, now {_numbers(now)}" for key, then, now in pairs if then != now]


def _numbers(values: Sequence[float] | None) -> str:
    return "not given" if values is None else ",".join(f"{v:g}" for v in values)


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
