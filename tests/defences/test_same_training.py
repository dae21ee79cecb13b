"""ART's doors: what makes another training is refused, values that are no settings too, and nobody's state is moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.data_generators import NumpyDataGenerator
from torch import Tensor, nn

from art_ext.classifiers import SmallDRRDN
from art_ext.data import fashion_mnist
from art_ext.defences import DRRDNTrainer, RDPTrainer
from art_ext.estimators import DRRDNClassifier
from art_ext.nn import seeded
from art_ext.objectives import Weights
from art_ext.purifiers import RDP
from art_ext.training import Batches, run
from tests.defences.test_how import FIT, C, X, Y, defended


def purifier_of(trainer: Any) -> RDP:
    found: RDP = trainer.preprocessor.purifier
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, b[k]) for k, v in a.items())


def by_generator(x: np.ndarray[Any, Any], state: Path, epochs: int = 1, **how: Any) -> None:
    trainer = RDPTrainer(defended(), steps=1, checkpoint=state, **how)
    trainer.fit_generator(NumpyDataGenerator(x, Y, 3, shuffle=False), nb_epochs=epochs)


def test_a_generator_of_other_images_or_another_augmentation_is_another_training(tmp_path: Path) -> None:
    by_generator(X, tmp_path / "state")
    with pytest.raises(ValueError, match="data's images"):
        by_generator(X[::-1].copy(), tmp_path / "state", 2)
    with pytest.raises(ValueError, match="data's augmentation"):
        by_generator(X, tmp_path / "state", 2, augment="shift_and_flip:1")
    by_generator(X, tmp_path / "state", 2)


def test_the_augmentation_of_a_generator_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        by_generator(X, tmp_path / "state", augment=lambda x: 5 * x)


def test_weights_that_were_loaded_are_those_that_a_training_began_with(tmp_path: Path) -> None:
    trainer = RDPTrainer(defended(), steps=1, checkpoint=tmp_path / "state")
    trainer.fit(X, Y, **FIT)
    other = defended()
    with seeded(9):
        foreign = RDP(C, 2, 2, "residual").state_dict()
    other.preprocessing_defences[0].purifier.load_state_dict(foreign)
    again = RDPTrainer(other, steps=1, checkpoint=tmp_path / "state")
    with pytest.raises(ValueError, match="began with the weights that the method has now"):
        again.fit(X, Y, **FIT)
    assert same(foreign, purifier_of(again).state_dict())


def test_a_training_goes_on_in_the_process_that_it_was_loaded_in(tmp_path: Path) -> None:
    whole = RDPTrainer(defended(), steps=1)
    whole.fit(X, Y, nb_epochs=3, batch_size=4)
    for epochs in (1, 2, 3):
        trainer = RDPTrainer(defended(), steps=1, checkpoint=tmp_path / "state")
        trainer.fit(X, Y, nb_epochs=epochs, batch_size=4)
        trainer.fit(X, Y, nb_epochs=epochs, batch_size=4)  # read back
    assert same(purifier_of(trainer).state_dict(), purifier_of(whole).state_dict())


def test_the_optimizers_of_a_trainer_cannot_be_replaced_in_silence() -> None:
    trainer = RDPTrainer(defended(), steps=1)
    with pytest.raises(TypeError, match="item assignment"):
        trainer.optimizers["restorers"] = torch.optim.SGD(purifier_of(trainer).parameters(), 0.0)  # type: ignore[index]


def test_validation_leaves_the_ambient_generator_alone() -> None:
    trainer = RDPTrainer(defended(), steps=1)
    before = torch.get_rng_state()
    trainer.fit(X, Y, validation_data=(X, Y), **FIT)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("given", [X, (X, Y, Y), (X,)])
def test_validation_data_is_a_pair(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected validation data as images and labels, got"):
        RDPTrainer(defended(), steps=1).fit(X, Y, validation_data=given, **FIT)


def test_a_network_of_other_precision_is_refused() -> None:
    art = defended()
    art.preprocessing_defences[0].purifier.double()
    with pytest.raises(ValueError, match=r"expected networks in float32 to train, got torch\.float64"):
        RDPTrainer(art, steps=1).fit(X, Y, **FIT)


@pytest.mark.parametrize(
    ("options", "kind", "pattern"),
    [
        ({"weights": {"pixel": -1}}, ValueError, "weight 'pixel' as a finite number of at least 0, got -1"),
        ({"weights": {"pixel": None}}, TypeError, "weight 'pixel' as a finite number of at least 0, got NoneType"),
        ({"weights": {"pixel": "a"}}, TypeError, "weight 'pixel' as a finite number of at least 0, got 'a'"),
        ({"weights": {"pixel": float("nan")}}, ValueError, "weight 'pixel'"),
        ({"weights": 5}, TypeError, "weights as a mapping, got int"),
        ({"weights": dict.fromkeys(vars(Weights()), 0)}, ValueError, "expected a weight above 0"),
        ({"shared_latent": "no"}, TypeError, "expected shared_latent as True or False, got 'no'"),
        ({"learning_rate": None}, TypeError, "learning_rate"),
        ({"clean_share": None}, TypeError, "clean_share"),
        ({"features": 3}, TypeError, "expected features as a module, got int"),
        ({"seed": 1.5}, ValueError, "seed as a whole number"),
        ({"seed": None}, TypeError, "seed as a whole number"),
        ({"seed": 2**70}, ValueError, r"seed below 2\*\*63"),
    ],
)
def test_values_that_are_no_settings_are_refused_by_name(
    options: dict[str, Any], kind: type[Exception], pattern: str
) -> None:
    with pytest.raises(kind, match=pattern):
        RDPTrainer(defended(), **{"steps": 1, **options})


def test_switches_of_other_methods_are_true_or_false() -> None:
    with pytest.raises(TypeError, match="expected pretrain as True or False"):
        stages_of_dir(pretrain="no")
    with pytest.raises(TypeError, match="expected through_encoder as True or False, got 'no'"):
        DRRDNTrainer(drrdn(), through_encoder="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the weight 'domain' as a finite number"):
        DRRDNTrainer(drrdn(), weights={"domain": "a"})  # type: ignore[dict-item]


def stages_of_dir(**options: Any) -> Any:
    from art_ext.purifiers import DIR

    return DIR(C, 4, 8, 2, 1, 1).stages(defended().model, **options)


def drrdn() -> DRRDNClassifier:
    with seeded(0):
        model = SmallDRRDN(1, 10, width=2, hidden=8, critic_width=4)
    loss = nn.CrossEntropyLoss()
    return DRRDNClassifier(model, loss, input_shape=(1, 28, 28), nb_classes=10, clip_values=(0, 1), device_type="cpu")


def test_drrdn_has_the_papers_schedule_by_every_door(tmp_path: Path) -> None:
    data = fashion_mnist("train", 8)
    options: dict[str, Any] = {"eps": 0.1, "steps": 1, "step_size": None}
    classifier = drrdn()
    trainer = DRRDNTrainer(classifier, **options, seed=3)
    trainer.fit(data.x.numpy(), data.y.numpy(), nb_epochs=4, batch_size=4)
    with seeded(0):
        model = SmallDRRDN(1, 10, width=2, hidden=8, critic_width=4)
    from art_ext.objectives import stages as stages_of

    with seeded(3):
        made = stages_of(model, **options)
    run(made, Batches(data.x, data.y, batch_size=4, seed=3), epochs=4, seed=3)
    assert same(model.state_dict(), classifier.model.state_dict())
    rates = [g["lr"] for o in trainer.optimizers.values() for g in o.param_groups if isinstance(o, torch.optim.SGD)]
    assert rates == pytest.approx([1e-5] * len(rates))


def test_a_drrdn_with_loaded_weights_does_not_go_on_from_another_one(tmp_path: Path) -> None:
    data = fashion_mnist("train", 4)

    def fit(classifier: DRRDNClassifier) -> None:
        trainer = DRRDNTrainer(classifier, eps=0.1, steps=1, step_size=None, checkpoint=tmp_path / "state")
        trainer.fit(data.x.numpy(), data.y.numpy(), nb_epochs=1, batch_size=4)

    fit(drrdn())
    loaded = drrdn()
    with seeded(8):
        model = SmallDRRDN(1, 10, width=2, hidden=8, critic_width=4)
    loaded.model.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="began with the weights that the method has now"):
        fit(loaded)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"width": 3}, "expected the arguments and weights of a RDP in"),
        ({"width": "4"}, "expected the arguments and weights of a RDP in"),
        ({"noise_std": "a"}, "expected the arguments and weights of a RDP in"),
        ({"foo": 1}, r"expected arguments of RDP in .*config\.json, got foo"),
    ],
)
def test_an_altered_configuration_is_refused_by_its_folder(
    change: dict[str, Any], pattern: str, tmp_path: Path
) -> None:
    RDP(C, 2, 2, "residual").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(ValueError, match=pattern):
        RDP.from_pretrained(tmp_path)
