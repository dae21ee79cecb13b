"""What an evaluation that is not finished has found so far, read from its folder: no result, and marked as none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from art_ext.evaluation.blocks import blocks
from art_ext.evaluation.statistics import Interval, mean_interval

MARK = "PARTIAL: this evaluation is not finished. What it leaves so far is no result: blocks and attacks are missing."
HEADER = ["model", "attack", "knowledge", "blocks", "images", "left so far"]


class Row(NamedTuple):
    """An attack on a model under a knowledge, as far as it is.

    Attributes:
        blocks: that are there.
        of: how many it will be.
        left: of the images that are there, the share that is right in every repeat.
    """

    model: str
    attack: str
    knowledge: str
    blocks: int
    of: int
    left: Interval


def partial_rows(folder: Path) -> list[Row]:
    """What has been attacked so far; probes are left out.

    Args:
        folder: of an evaluation; nothing is computed but from the answers that it holds.

    Raises:
        ValueError: the folder holds no evaluation.
    """
    n = planned_images(folder)
    found: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for file in sorted((folder / "answers").glob("*.safetensors")):
        said = _facts(file)
        if said is None or said["probe"]:
            continue
        row = found.setdefault((said["model"], said["attack"], said["knowledge"]), {})
        if len(said["right"]) >= len(row.get(said["block"], {"right": ""})["right"]):
            row[said["block"]] = said
    return [Row(*who, len(there), _all(there.values(), n), _left(there.values())) for who, there in found.items()]


def planned_images(folder: Path) -> int:
    """How many images the evaluation of a folder has.

    Raises:
        ValueError: the folder holds no evaluation.
    """
    try:
        return int(json.loads((folder / "evaluation.json").read_text("utf-8"))["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected the folder of an evaluation, got {folder}: no sound evaluation.json") from error


def partial_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    return HEADER, [[r.model, r.attack, r.knowledge, f"{r.blocks} of {r.of}", str(r.left.n), str(r.left)] for r in rows]


def partial_markdown(rows: Sequence[Row]) -> str:
    """A page, marked as what it is."""
    from art_ext.evaluation.report.tables import table_lines

    return "\n".join(["# Partial report", "", MARK, "", *table_lines(*partial_table(rows)), ""])


def _facts(file: Path) -> dict[str, Any] | None:
    """What a record of answers says beside them, None where it is damaged."""
    try:
        with safe_open(file, "pt") as opened:
            facts: dict[str, Any] = json.loads((opened.metadata() or {})["facts"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return facts


def _all(there: Any, n: int) -> int:
    limits = [said["limit"] for said in there]
    images = n if None in limits else min(n, max(limits))
    return len(list(blocks(images)))


def _left(there: Any) -> Interval:
    return mean_interval([float(flag) for said in there for flag in said["right"]])
