"""What makes another training is refused by name, and what cannot work before the first step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as lrs

from art_ext.nn.hashing import sha256
from art_ext.nn.identity import identity
from art_ext.training import Batches, Callbacks, Checkpoint, Objective, Validation, made_optimizers, run
from art_ext.training.identity import identity_of
from tests.training.toys import Game, data, game

ScheduleOf = Callable[[Optimizer], Any]


class Own:
    """A schedule of a user's: the rate is divided after each epoch, by a number that grows."""

    def __init__(self, optimizer: Optimizer, by: float = 2.0) -> None:
        self.optimizer, self.by, self.epochs = optimizer, by, 0

    def step(self) -> None:
        self.epochs += 1
        for group in self.optimizer.param_groups:
            group["lr"] /= self.by + self.epochs


class Falling:
    """Rates as an object that is called."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, epoch: int) -> float:
        return float(self.by**epoch)


def power(epoch: int, by: float) -> float:
    return by**epoch


def sequential(milestone: int, factor: float) -> ScheduleOf:
    return lambda o: lrs.SequentialLR(o, [lrs.ConstantLR(o, factor), lrs.ExponentialLR(o, 0.9)], [milestone])


SCHEDULES: dict[str, tuple[ScheduleOf, ScheduleOf]] = {
    "StepLR's gamma": (lambda o: lrs.StepLR(o, 1, 0.5), lambda o: lrs.StepLR(o, 1, 0.6)),
    "PolynomialLR's power": (lambda o: lrs.PolynomialLR(o, 4, 1.0), lambda o: lrs.PolynomialLR(o, 4, 2.0)),
    "OneCycleLR's share": (
        lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9, pct_start=0.3),
        lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9, pct_start=0.5),
    ),
    "OneCycleLR's annealing": (
        lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9),
        lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="linear"),
    ),
    "CyclicLR's peak": (
        lambda o: lrs.CyclicLR(o, 0.01, 0.1, cycle_momentum=False),
        lambda o: lrs.CyclicLR(o, 0.01, 0.2, cycle_momentum=False),
    ),
    "SequentialLR's milestone": (sequential(1, 0.5), sequential(2, 0.5)),
    "SequentialLR's part": (sequential(1, 0.5), sequential(1, 0.6)),
    "ChainedScheduler's part": (
        lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, 0.5)]),
        lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, 0.6)]),
    ),
    "LambdaLR's object": (lambda o: lrs.LambdaLR(o, Falling(0.5)), lambda o: lrs.LambdaLR(o, Falling(0.6))),
    "LambdaLR's partial": (
        lambda o: lrs.LambdaLR(o, partial(power, by=0.5)), lambda o: lrs.LambdaLR(o, partial(power, by=0.6))
    ),
    "a user's own": (Own, lambda o: Own(o, 3.0)),
}  # fmt: skip


def trained(path: Path, schedule: ScheduleOf | None, epochs: int, method: Game | None = None, **more: Any) -> str:
    """Hash of the weights after a training with one schedule for the generator."""
    objective = game() if method is None else method
    optimizers = {k: SGD(p, 0.1, momentum=0.5) for k, p in objective.players().items()}
    schedulers = [] if schedule is None else [schedule(optimizers["generator"])]
    run([objective], data(False), epochs=epochs, optimizers=[optimizers], schedulers=schedulers,
        checkpoint=path, **more)  # fmt: skip
    return sha256(objective.trained_state().values())


@pytest.mark.parametrize("name", SCHEDULES)
def test_another_schedule_is_another_training_and_the_same_goes_on(name: str, tmp_path: Path) -> None:
    schedule, other = SCHEDULES[name]
    whole = trained(tmp_path / "whole", schedule, 4)
    trained(tmp_path / "state", schedule, 2)
    with pytest.raises(ValueError, match=r"expected the checkpoint of a training with .*scheduler 0's"):
        trained(tmp_path / "state", other, 4)
    assert trained(tmp_path / "state", schedule, 4) == whole


class Counting:
    def __init__(self) -> None:
        self.epochs = 0

    def step(self) -> None:
        self.epochs += 1


def test_a_scheduler_that_has_been_stepped_is_still_the_one_that_began(tmp_path: Path) -> None:
    counting = Counting()
    for epochs in (1, 2, 3):
        run([game()], data(False), epochs=epochs, schedulers=[counting], checkpoint=tmp_path / "state")
    assert counting.epochs == 3
    again = Counting()
    run([game()], data(False), epochs=4, schedulers=[again], checkpoint=tmp_path / "state")
    assert again.epochs == 4
    later = Counting()
    later.step()
    with pytest.raises(ValueError, match="scheduler 0's epochs"):
        run([game()], data(False), epochs=5, schedulers=[later], checkpoint=tmp_path / "state")


def test_fewer_epochs_than_the_checkpoint_has_are_refused_and_the_same_are_read_back(tmp_path: Path) -> None:
    found = trained(tmp_path / "state", None, 3)
    with pytest.raises(ValueError, match="of at most 1 epochs, got one of 3"):
        trained(tmp_path / "state", None, 1)
    assert trained(tmp_path / "state", None, 3) == found


class Renamed(Game):
    """The same training as `Game`'s, by another class."""


def test_classes_of_what_is_trained_count(tmp_path: Path) -> None:
    trained(tmp_path / "state", None, 1)
    torch.manual_seed(11)
    with pytest.raises(ValueError, match="class of the method"):
        trained(tmp_path / "state", None, 2, Renamed())
    other = game()
    other.generator[2] = nn.Identity()
    with pytest.raises(ValueError, match=r"class of generator\.2.*Identity"):
        trained(tmp_path / "state", None, 2, other)


SHIFT = 0.1


def test_values_of_globals_and_code_of_called_objects_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(x: Tensor) -> Tensor:
        return x + SHIFT

    before = identity(shifted).sha256
    assert identity(shifted).sha256 == before
    monkeypatch.setitem(globals(), "SHIFT", 0.9)
    assert identity(shifted).sha256 != before
    one, other = (type("Shift", (), {"__call__": f}) for f in (lambda _, x: x + 1, lambda _, x: x * 2))
    assert identity(one()).sha256 != identity(other()).sha256


def test_what_an_augmentation_draws_from_numpy_and_python_belongs_to_the_step(tmp_path: Path) -> None:
    import random

    def noisy(x: Tensor) -> Tensor:
        return (x + 0.1 * np.random.rand() + 0.1 * random.random()).clamp(0, 1)  # noqa: NPY002

    def weights(name: str) -> str:
        objective = game()
        batches = Batches(data().x, batch_size=4, seed=2, augment=noisy)
        run([objective], batches, epochs=1, checkpoint=tmp_path / name)
        return sha256(objective.trained_state().values())

    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert weights("a") == weights("b")
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_more_epochs_of_a_stage_with_another_behind_it_are_refused_before_anything_changes(tmp_path: Path) -> None:
    def both(epochs: int | list[int]) -> None:
        run([game(), game()], data(False), epochs=epochs, checkpoint=tmp_path / "state")

    both(1)
    there = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"expected stage 2 to follow 2 epochs of stage 1, .*state\.2 .* followed 1"):
        both(2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == there
    both(1)
    both([1, 2])


class Metric:
    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, metric: float) -> None:
        raise AssertionError


def refused(pattern: str, kind: type[Exception] = ValueError, batches: Any = None, **options: Any) -> None:
    """A training of two stages that is refused while both still have the weights that they began with."""
    stages = [game(), game()]
    before = [sha256(s.state_dict().values()) for s in stages]
    given = {k: v(stages) if isinstance(v, type(refused)) and k != "validate" else v for k, v in options.items()}
    with pytest.raises(kind, match=pattern):
        run(stages, data(False) if batches is None else batches, **{"epochs": 1, **given})
    assert [sha256(s.state_dict().values()) for s in stages] == before


def test_optimizers_are_checked_before_any_stage_is_trained() -> None:
    refused(
        "expected optimizers for", optimizers=lambda s: [*made_optimizers(s)[:1], {"nobody": Adam(s[1].parameters())}]
    )
    strangers = list(game().parameters())
    refused("that player's parameters, got one over others",
            optimizers=lambda s: [{k: SGD(strangers, 0.1) for k in one.players()} for one in s])  # fmt: skip
    refused("expected an optimizer for 'generator', got int", TypeError,
            optimizers=lambda s: [dict.fromkeys(one.players(), 3) for one in s])  # fmt: skip
    refused("expected optimizers for Game, Game, got some for critic", optimizers={"critic": 1})


def test_optimizers_by_the_name_of_the_objective_and_by_functions_are_used() -> None:
    def slow(parameters: list[nn.Parameter]) -> Optimizer:
        return SGD(parameters, 0.0)

    def weights(optimizers: Any) -> list[str]:
        stage = game()
        run([stage], data(False), epochs=1, optimizers=optimizers)
        return [sha256(p) for p in stage.players().values()]

    new = [sha256(p) for p in game().players().values()]
    assert weights(None) != new
    for given in (
        {"Game": {"generator": slow, "critic": slow}},
        {"generator": slow, "critic": slow},
        lambda stage: {k: SGD(p, 0.0) for k, p in stage.players().items()},
        [lambda stage: {k: SGD(p, 0.0) for k, p in stage.players().items()}],
        [{"generator": slow, "critic": slow}],
    ):
        assert weights(given) == new


class Labelled(Game):
    labelled = True


def test_data_numbers_and_places_are_checked_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused("expected a checkpoint in a folder that can be written", checkpoint=tmp_path / "file" / "state")
    refused(r"in \[0, 1\]", batches=Batches(255 * data().x, batch_size=4))
    refused("floating-point images", TypeError, batches=Batches((255 * data().x).byte(), batch_size=4))
    refused("epochs as a whole number, got 1.5", epochs=1.5)
    refused("epochs as a whole number, got '1'", TypeError, epochs="1")
    refused("epochs as a whole number, got NoneType", TypeError, epochs=None)
    refused("seed as a whole number of at least 0, got NoneType", TypeError, seed=None)
    refused(r"expected seed below 2\*\*63", seed=2**70)
    refused("every as a whole number of at least 1, got 0", checkpoint=tmp_path / "state", every=0)
    with pytest.raises(ValueError, match="expected labels to train Labelled"):
        run([Labelled()], data(False), epochs=1)


def test_an_augmentation_may_turn_bytes_into_images() -> None:
    batches = Batches((255 * data().x).byte(), batch_size=4, augment=lambda x: x.float() / 255)
    assert len(run([game()], batches, epochs=1)) == 1


def test_a_scheduler_that_wants_a_number_is_refused() -> None:
    stage = game()
    optimizers = made_optimizers([stage])
    with pytest.raises(TypeError, match="takes nothing, got Metric"):
        run([stage], data(False), epochs=1, optimizers=optimizers, schedulers=[Metric(optimizers[0]["critic"])])


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    def weights(kind: Callable[[int], Any], name: str) -> str:
        batches = Batches(data().x, batch_size=kind(4), seed=kind(2))
        for epochs in (1, 2):
            objective = game()
            run([objective], batches, epochs=kind(epochs), seed=kind(5), checkpoint=tmp_path / name, every=kind(2))
        return sha256(objective.trained_state().values())

    assert weights(np.int64, "a") == weights(int, "b")


def test_a_checkpoint_that_cannot_be_read_is_refused_by_its_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.save({"steps": np.int64(1), "about": np.random.default_rng})
    with pytest.raises(ValueError, match=r"state, which cannot be read"):
        checkpoint.load()


def test_a_figure_that_is_not_measured_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected a measurement of 'b', got a"):
        run([game()], data(False), epochs=1, validate=Validation(lambda: {"a": 1.0}, best="b"))


class Empty(Game):
    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        return {}


def test_a_player_without_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a loss term of 'generator', got none"):
        run([Empty()], data(False), epochs=1)


def test_schedules_of_the_paper_hold_unless_others_are_given() -> None:
    class Paced(Game):
        def schedulers(self, optimizers: Any, epochs: int) -> list[Any]:
            return [lrs.ExponentialLR(optimizers["critic"], 0.5)]

    def rate(**options: Any) -> float:
        stage: Objective = Paced()
        optimizers = {k: SGD(p, 0.1) for k, p in stage.players().items()}
        run([stage], data(False), epochs=2, optimizers=[optimizers], callbacks=Callbacks(), **options)
        return float(optimizers["critic"].param_groups[0]["lr"])

    assert rate() == pytest.approx(0.025)
    assert rate(schedulers=[]) == 0.1


def test_a_schedulers_identity_is_of_plain_values() -> None:
    stage = game()
    optimizer = SGD(stage.players()["critic"], 0.1)
    found = identity_of(stage, None, {"critic": optimizer}, [sequential(2, 0.5)(optimizer)])
    assert found["scheduler 0"] == "SequentialLR"
    assert found["scheduler 0's _milestones"] == [2]
    assert found["scheduler 0's _schedulers 0's factor"] == 0.5
