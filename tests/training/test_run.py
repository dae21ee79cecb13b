"""A whole training: the best epoch of each stage, the files of a logger."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import data, game

from art_ext.training import Callbacks, Validation, made_logger, run

SCORES = [0.2, 0.6, 0.4, 0.1]


def scripted(scores: list[float], **options: Any) -> Validation:
    left = iter(scores)
    return Validation(lambda: {"figure": next(left), "other": 1.0}, "figure", **options)


def trained(epochs: int, stages: int = 1, **options: Any) -> tuple[list[Any], list[dict[str, float]]]:
    found: list[Any] = [game() for _ in range(stages)]
    rows = run(found, data(), epochs=epochs, seed=5, **options)
    return [{k: v.clone() for k, v in g.state_dict().items()} for g in found], rows


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_each_stage_ends_with_its_best_epoch() -> None:
    validation = scripted([*SCORES, 0.1, 0.2, 0.9, 0.3])
    found, rows = trained(4, 2, validate=validation)
    assert validation.best_epochs == [1, 2]
    assert [row["figure"] for row in rows] == [*SCORES, 0.1, 0.2, 0.9, 0.3]
    assert same(found[0], trained(2)[0][0])
    assert same(found[1], trained(3)[0][0])


def test_patience_counts_in_each_stage() -> None:
    seen: list[int] = []
    trained(
        4, 2, validate=scripted([0.5, 0.4, 0.3, 0.9, 0.1], patience=1),
        callbacks=Callbacks(on_epoch=lambda number, _: seen.append(number)),
    )  # fmt: skip
    assert seen == [1, 1, 2, 2, 2][: len(seen)]
    assert seen[:3] == [1, 1, 2]
    with pytest.raises(ValueError, match="patience >= 1 or None, got 0"):
        scripted([], patience=0)


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_resumed_stage_knows_its_best_epoch(killed_after: int, tmp_path: Path) -> None:
    expected = trained(4, validate=scripted(SCORES))[0]
    path = tmp_path / "state"
    trained(killed_after, validate=scripted(SCORES[:killed_after]), checkpoint=path)
    validation = scripted(SCORES[killed_after:])
    found, _ = trained(4, validate=validation, checkpoint=path)
    assert same(found[0], expected[0])
    assert validation.best_epochs == [1]
    held = bytearray((tmp_path / "state.best").read_bytes())
    held[len(held) // 2] ^= 1
    (tmp_path / "state.best").write_bytes(held)
    with pytest.raises(ValueError, match="damaged"):
        trained(5, validate=scripted([0.1]), checkpoint=path)


def test_another_measurement_does_not_go_on(tmp_path: Path) -> None:
    trained(1, validate=scripted([0.1], about={"images": 3}), checkpoint=tmp_path / "state")
    with pytest.raises(ValueError, match=r"whose validation is {'images': 4"):
        trained(2, validate=scripted([0.1], about={"images": 4}), checkpoint=tmp_path / "state")


def test_rows_are_logged_with_steps_that_go_on(tmp_path: Path) -> None:
    _, rows = trained(2, 2, logger=made_logger("csv", tmp_path), validate=scripted([*SCORES]))
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [int(r["step"]) for r in written] == [3, 6, 9, 12]
    assert [float(r["stage"]) for r in written] == [1, 1, 2, 2]
    for row, line in zip(rows, written, strict=True):
        assert {k: pytest.approx(float(line[k])) for k in row} == row
    trained(1, logger=made_logger("csv", tmp_path))
    assert sorted(p.name for p in (tmp_path / "csv").iterdir()) == ["version_0", "version_1"]
    with pytest.raises(ValueError, match="logger out of csv, tensorboard, mlflow, wandb, got 'paper'"):
        made_logger("paper", tmp_path)


def test_the_row_of_an_epoch_that_was_gone_on_with_is_the_mean_of_its_own_steps(tmp_path: Path) -> None:
    def killed(step: Any) -> None:
        if step.number == 2:
            raise KeyboardInterrupt

    told: list[Any] = []
    options: dict[str, Any] = {"checkpoint": tmp_path / "state", "every": 1}
    with pytest.raises(KeyboardInterrupt):
        trained(2, callbacks=Callbacks(on_step=killed), **options)
    _, rows = trained(2, callbacks=Callbacks(on_step=told.append), **options)
    first = [step.terms for step in told if step.epoch == 0]
    assert 0 < len(first) < len(data())
    for name, mean in rows[0].items():
        if name != "epoch":
            assert mean == pytest.approx(sum(terms[name] for terms in first) / len(first)), name
