"""Detectors compared: which images count, and what is compared with what."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.detectors import auc
from art_ext.evaluation.detection import protocol as detection
from experiments import detection_page


class Fake(detection.Mahalanobis):
    """Two layers whose scores are given: image i of a set has (i, noise * 100) and 5 more in the first if attacked."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.features = nn.Identity()  # type: ignore[assignment]
        self.features.layers = ("a", "b")
        self.noise = 0.0

    def layer_scores(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0]
        helped = 5.0 * x.flatten(1)[:, 1] * (self.noise == 0.01)  # this noise alone tells the kinds apart
        return torch.stack([first % 3 + helped, torch.zeros_like(first)], 1)


def sets(n: int = 40) -> dict[str, Tensor]:
    numbers = torch.arange(n).float()
    clean = torch.stack([numbers, torch.zeros(n)], 1)
    return {"clean": clean, "noisy": clean, "PGD-Linf": torch.stack([numbers, torch.ones(n)], 1)}


def test_cells_keep_the_images_of_the_protocol_and_choose_the_noise() -> None:
    measured = detection.Measured(Fake(), sets())
    kept = torch.arange(40).numpy() % 2 == 0
    found = detection.cell_scores(measured, "PGD-Linf", "PGD-Linf", ("clean", "noisy"), kept, 20, (0.0, 0.01, 0.005))
    assert found is not None
    low, high, noise = found
    assert (low.shape, high.shape, noise) == ((10, 2), (10,), 0.01)
    assert auc(low, high) == 1
    np.testing.assert_array_equal(low[:, 0], low[:, 1])
    assert len(np.unique(low)) == 3  # the images are 20, 22, ..., by their number modulo 3
    assert {key[0] for key in measured.found} == {"clean", "noisy", "PGD-Linf"}
    few = np.zeros(40, dtype=bool)
    few[20:] = True
    assert detection.cell_scores(measured, "PGD-Linf", "PGD-Linf", ("clean",), few, 20, (0.0,)) is None


def test_selection_of_the_paper() -> None:
    answers = {k: np.ones(40, dtype=bool) for k in ("clean", "noisy")} | {"PGD-Linf": np.zeros(40, dtype=bool)}
    answers["clean"][[0, 21]], answers["noisy"][[1, 22]], answers["PGD-Linf"][[2, 23]] = False, False, True
    measured = {name: detection.Measured(Fake(), sets()) for name in ("x", "R(x)")}
    options: tuple[Any, ...] = ("PGD-Linf", detection.KNOWN)
    found, numbers = detection._both(measured, {"x": answers, "R(x)": answers}, *options, "paper", 20, (0.01,))
    assert numbers["x"].tolist() == [20, *range(24, 40)]
    assert found["x"] is not None
    assert found["x"][0].shape == (17, 2)
    found, numbers = detection._both(measured, {"x": answers, "R(x)": answers}, *options, "all", 20, (0.01,))
    assert numbers["R(x)"].tolist() == [*range(20, 40)]
    assert found["x"] is not None
    assert found["x"][0].shape == (20, 1)


def test_differences_are_of_the_same_images() -> None:
    # Images 1, 2 and 3 on x, 2, 3 and 4 on R(x): only 2 and 3 are compared; R(x) tells them apart, x does not.
    on_x = (np.array([[9.0], [1.0], [2.0]]), np.array([0.0, 1.0, 2.0]), 0.0)
    on_r = (np.array([[1.0], [2.0], [9.0]]), np.array([5.0, 6.0, 0.0]), 0.0)
    row = detection.summary(
        {"x": on_x, "R(x)": on_r}, {"x": np.array([1, 2, 3]), "R(x)": np.array([2, 3, 4])}, resamples=20, scores=True
    )
    # On images 2 and 3: R(x) has 1, 2 clean and 5, 6 attacked, all pairs right. x has 1, 2 and 1, 2: half of them.
    assert row["difference"]["AUC"][0] == 0.5
    assert row["difference"]["AUC"][3] == 2
    assert row["spaces"]["x"]["AUC"][0] == pytest.approx(auc(*on_x[:2]), abs=1e-5)
    assert row["spaces"]["x"]["adversarial"] == [0, 1, 2]
    alone = detection.summary(
        {"x": on_x, "R(x)": None}, {"x": np.array([1]), "R(x)": np.array([])}, resamples=2, scores=False
    )
    assert alone["difference"] == {}
    assert list(alone["spaces"]) == ["x"]


def test_counting_who_beats_whom() -> None:
    # z = 2 * 1.96 * mean / width. 3.92: p = 0.00009. 1.96: 0.05, by itself sure. -2.24: 0.025. -2.61: 0.009.
    gaps = [[0.1, 0.05, 0.15], [0.1, 0.0, 0.2], [0.0, -0.1, 0.1], [-0.08, -0.15, -0.01], [-0.2, -0.35, -0.05]]
    kinds = (f"KD{detection.UNSEEN}", "KD", "LID", "MD", "MD")
    rows: list[Any] = [
        {"detector": kind, "difference": {"AUC": [*gap, 100]}} for kind, gap in zip(kinds, gaps, strict=True)
    ]
    rows += [{"detector": "KD", "difference": {}}]
    found = [detection.chance(*gap, 100) for gap in gaps]
    assert found == pytest.approx([8.86e-5, 0.05, 1, 0.0250, 0.0089], rel=0.01)
    # Holm: 5 * 0.00009, 4 * 0.0089 are below 0.05; 3 * 0.025 is not, nor is anything after it.
    told = (
        "R(x) above x in 2 of 5 cells (1 surely, after Holm: KD 1), below in 2 of 5 cells (1 surely, after Holm: MD 1)"
    )
    assert detection.compared(rows, "AUC") == f"on the images kept in both (n=100), {told}"
    # Where the cells were fewer, the third would be sure.
    assert "below in 2 of 2 cells (2 surely, after Holm: MD 2)" in detection.compared([rows[i] for i in (3, 4)], "AUC")
    rows[0]["difference"]["AUC"][3] = 99  # too few to be sure of anything
    told = "R(x) above x in 2 of 5 cells (0 surely, after Holm), below in 2 of 5 cells (1 surely, after Holm: MD 1)"
    assert detection.compared(rows, "AUC") == f"on the images kept in both (n=99 to 100), {told}"
    none = "0 of 0 cells (0 surely, after Holm)"
    assert detection.compared(rows[-1:], "AUC").endswith(f"R(x) above x in {none}, below in {none}")


def test_few_images_have_no_interval() -> None:
    low, high = np.arange(99.0)[:, None], np.arange(50.0, 149.0)
    row = detection.summary(
        {"x": (low, high, 0.0), "R(x)": None}, {"x": np.arange(99), "R(x)": np.array([])}, resamples=20, scores=False
    )
    value = auc(low, high)
    assert row["spaces"]["x"]["AUC"] == [pytest.approx(value, abs=1e-5), None, None, 99]
    json.dumps(row, allow_nan=False)
    shown = detection_page.entry([{"detector": "KD", "attack": "FGSM", **row}], "KD", "FGSM", "x")
    assert shown.endswith(f" / {100 * value:.1f} [undetermined]")
    kept = {"TNR at 95 % TPR": [0.5, 0.4, 0.6, 100], "AUC": [1.0, 1.0, 1.0, 100]}
    told = detection_page.entry([{"detector": "KD", "attack": "FGSM", "spaces": {"x": kept}}], "KD", "FGSM", "x")
    assert told == "50.0 [40.0, 60.0] / 100.0 [undetermined]"
    assert detection.chance(0.2, None, None, 200) == 1
    assert detection.chance(0.2, 0.2, 0.2, 200) == 1


def test_attacks_are_the_papers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, y = 0.3 + 0.4 * torch.rand(6, 1, 3, 4), torch.arange(6) % 3
    eps = {"Linf": 0.1, "L2": 0.5}
    moved = {name: detection.attacked(name, network, x, y, eps) - x for name in detection.ATTACKS}
    assert all(float(moved[n].abs().max()) <= 0.1 + 1e-6 for n in ("FGSM", "BIM", "C&W", "PGD-Linf"))
    torch.testing.assert_close(moved["FGSM"].abs(), torch.full_like(x, 0.1))
    assert bool((moved["PGD-L2"].flatten(1).norm(dim=1) <= 0.5 + 1e-5).all())
    assert not torch.equal(moved["BIM"], moved["PGD-Linf"])  # one starts at random
    with torch.no_grad():
        assert not network(x + moved["C&W"]).argmax(1).eq(y).all()
