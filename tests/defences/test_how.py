"""Precision, devices and augmentation at ART's doors: trainers and `fit` do what `fit` of the loop does with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.classifiers import SmallDRRDN
from art_ext.data import shift_and_flip
from art_ext.data.augmentations import augmentation_of, random_crop
from art_ext.defences import DIRPreprocessor, DIRTrainer, DRRDNTrainer, PurifierTrainer, RDPPreprocessor, RDPTrainer
from art_ext.defences.training import How
from art_ext.estimators import DRRDNClassifier
from art_ext.nn import seeded
from art_ext.purifiers import DIR
from tests.processor import AMX

N, C, SIDE, K = 6, 1, 8, 3
X = np.random.default_rng(0).random((N, C, SIDE, SIDE), dtype=np.float32)
Y = np.arange(N) % K
FIT: dict[str, Any] = {"nb_epochs": 1, "batch_size": 4}
ROOT = Path(__file__).parents[2]


def defended() -> PyTorchClassifier:
    with seeded(0):
        network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(C * 16, K))
    defence = RDPPreprocessor(C, 2, 2, "residual", device_type="cpu")
    return PyTorchClassifier(
        network, nn.CrossEntropyLoss(), (C, SIDE, SIDE), K, clip_values=(0, 1), preprocessing_defences=defence,
        device_type="cpu",
    )  # fmt: skip


def by_trainer(kind: Any, **how: Any) -> dict[str, Tensor]:
    art = defended()
    kind(art, steps=1, seed=3, **how).fit(X, Y, **FIT)
    state: dict[str, Tensor] = art.preprocessing_defences[0].purifier.state_dict()
    return state


def by_fit(**how: Any) -> dict[str, Tensor]:
    art = defended()
    defence = art.preprocessing_defences[0]
    defence.fit(X, Y, **FIT, seed=3, classifier=art.model, steps=1, **how)
    state: dict[str, Tensor] = defence.purifier.state_dict()
    return state


def drrdn(**how: Any) -> dict[str, Tensor]:
    with seeded(0):
        model = SmallDRRDN(C, K, 2, hidden=6, critic_width=4)
    art = DRRDNClassifier(
        model, nn.CrossEntropyLoss(), input_shape=(C, SIDE, SIDE), nb_classes=K, clip_values=(0, 1), device_type="cpu"
    )
    DRRDNTrainer(art, steps=1, step_size=None, seed=3, **how).fit(X, Y, **FIT)
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"precision": "bf16-mixed"}, marks=pytest.mark.skipif(AMX, reason="NaN in bfloat16, see AMX")),
        {"augment": "shift_and_flip:1"},
        {"augment": "crop:6"},
    ],
    ids=["precision", "shift", "crop"],
)
def test_every_door_takes_it(how: dict[str, Any]) -> None:
    first = by_trainer(RDPTrainer, **how)
    assert same(first, by_trainer(PurifierTrainer, **how))
    assert same(first, by_fit(**how))
    assert not same(first, by_fit())
    if how != {"augment": "crop:6"}:  # its classifier takes images of one size
        assert not same(drrdn(**how), drrdn())


def test_a_text_is_the_function_that_it_names() -> None:
    assert same(by_fit(augment="shift_and_flip:1"), by_fit(augment=shift_and_flip(1)))
    assert same(by_fit(augment="crop:6x5"), by_fit(augment=random_crop(6, 5)))
    x = torch.rand(50, 2, 5, 4)
    seen = {tuple(int(i) for i in ((x == c).nonzero()[0])) for c in random_crop(3, 2)(x)[:, 0, 0, 0]}
    assert {place[2] for place in seen} == {0, 1, 2}
    assert {place[3] for place in seen} == {0, 1, 2}
    cut = random_crop(3, 2)(x[:1])
    assert any(torch.equal(cut[0], x[0, :, t : t + 3, s : s + 2]) for t in range(3) for s in range(3))


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ({"precision": "bf16-true"}, ValueError, "precision 32-true, bf16-mixed, 16-mixed, got 'bf16-true'"),
        ({"precision": "16-mixed"}, ValueError, "needs a GPU"),
        ({"devices": 0}, ValueError, "whole number of at least 1, got 0"),
        ({"devices": 1.5}, ValueError, "whole number of at least 1, got 1.5"),
        ({"augment": "turn"}, ValueError, "expected an augmentation as"),
        ({"augment": 3}, TypeError, "as a text or a function, got int"),
    ],
)
def test_what_cannot_work_is_refused_when_a_trainer_is_made(how: Any, error: type[Exception], told: str) -> None:
    art = defended()
    defence = art.preprocessing_defences[0]
    before = {k: v.clone() for k, v in defence.purifier.state_dict().items()}
    for call in (
        lambda: RDPTrainer(art, **how), lambda: defence.fit(X, **FIT, classifier=art.model, **how), lambda: drrdn(**how)
    ):  # fmt: skip
        with pytest.raises(error, match=told):
            call()
    assert same(before, defence.purifier.state_dict())


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        (lambda x: x[:1], "2 images of 1 channels from the augmentation"),
        (lambda x: x + 1, r"images in \[0, 1\] from the augmentation"),
        ("crop:9", "at least 9 x 9 pixels"),
    ],
)
def test_an_augmentation_that_does_not_fit_the_images(augment: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        by_fit(augment=augment)


def test_generators_are_augmented_and_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.training.devices._can_be_run_again", lambda: True)  # whoever runs the tests
    seen = []

    def noting(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x

    RDPTrainer(defended(), steps=1, augment=noting).fit_generator(NumpyDataGenerator(X, Y, 3), nb_epochs=1)
    assert seen == [2, 3, 3]  # it is tried on two images first
    trainer = RDPTrainer(defended(), steps=1)
    object.__setattr__(trainer.how, "devices", 2)
    with pytest.raises(ValueError, match="arrays to train on 2 devices with, got a generator"):
        trainer.fit_generator(NumpyDataGenerator(X, Y, 3), nb_epochs=1)


def test_the_defaults_stand_once() -> None:
    assert How() == How(seed=0, checkpoint=None, verbose=False, precision="32-true", devices=1, augment=None)
    assert augmentation_of(None) is None
    trainer = RDPTrainer(defended(), steps=1, seed=4, verbose=True, checkpoint="here")
    assert (trainer.seed, trainer.verbose, trainer.checkpoint) == (4, True, "here")


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import torch
from test_how import by_fit
if __name__ == "__main__":
    state = by_fit(devices=2, checkpoint={checkpoint!r})
    torch.save(state, f"{{sys.argv[1]}}.{{torch.distributed.get_rank()}}")
    again = by_fit(devices=2)
    assert all(torch.equal(state[k], v) for k, v in again.items())
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_script_trains_in_two_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        SCRIPT.format(here=str(Path(__file__).parent), checkpoint=str(tmp_path / "state"))
    )
    done = subprocess.run(
        [sys.executable, "script.py", str(tmp_path / "weights")], cwd=tmp_path, capture_output=True, text=True,
        timeout=180, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"weights.{rank}", weights_only=True) for rank in (0, 1))
    assert same(first, second)
    assert not same(first, defended().preprocessing_defences[0].purifier.state_dict())
    assert (tmp_path / "state.1").exists()


def test_a_second_stage_goes_on_although_the_first_one_is_not_run_again(tmp_path: Path) -> None:
    """ART's standardisation works something out at its first image, which the finished first stage does not show it."""

    def run(epochs: int) -> dict[str, Tensor]:
        with seeded(0):
            network = nn.Sequential(nn.Flatten(), nn.Linear(C * SIDE**2, K))
        defence = DIRPreprocessor(C, **{k: v for k, v in DIR.small.items() if k != "channels"}, device_type="cpu")
        art = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (C, SIDE, SIDE), K, clip_values=(0, 1), preprocessing_defences=defence,
            device_type="cpu",
        )  # fmt: skip
        trainer = DIRTrainer(art, steps=1, radius_steps=1, checkpoint=tmp_path / "state")
        trainer.fit(X, Y, nb_epochs=epochs, batch_size=4)
        return {k: v.clone() for k, v in defence.purifier.state_dict().items()}

    assert same(run(1), run(1))
