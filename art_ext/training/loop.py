"""The only training loop: players move in turn on the same adversaries, every step is seeded, kills lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from art_ext.nn.modes import evaluating, seeded, trainable
from art_ext.plain import plain
from art_ext.training.checkpoint import Checkpoint
from art_ext.training.objective import Objective

Batch = tuple[Tensor, Tensor | None]


class Data(Protocol):
    """Mini-batches whose order depends on the epoch alone, see `art_ext.training.batches.Batches`."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on."""


class Scheduler(Protocol):
    """Anything that is stepped once an epoch.

    One whose `load_state_dict` may refuse has a `check_state` that refuses the same, before anything else is loaded.
    """

    def step(self) -> None: ...


@dataclass(frozen=True)
class Step:
    """What one step of training did.

    Attributes:
        number: steps done, this one included, over all epochs.
        epoch: from 0.
        terms: each weighted loss term before the step, as "player/term".
    """

    number: int
    epoch: int
    terms: dict[str, float]


def fit(
    objective: Objective,
    data: Data,
    *,
    epochs: int,
    seed: int = 0,
    optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
    schedulers: Sequence[Scheduler] = (),
    checkpoint: Checkpoint | None = None,
    fabric: Fabric | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Trains the objective's players and yields after every step; nothing happens until the iterator is consumed.

    Each step draws its randomness from (seed, step number), so that a resumed run repeats the unbroken one bit for bit
    on the same device with as many threads, whatever the caller does between steps. Modes, `requires_grad` flags and
    gradients are found unchanged at every yield.

    Args:
        objective: the method.
        data: batches of images in [0, 1] and labels; under several processes each takes its share of every batch.
        epochs: passes over the data.
        seed: of everything random inside a step.
        optimizers: one a player; `objective.optimizer` unless given.
        schedulers: stepped at the end of each epoch.
        checkpoint: where to keep the state; an existing file is resumed.
        fabric: device, precision and processes; one process on the objective's device unless given.
        stop: asked before each epoch, also before that at which a checkpoint is taken up; no epoch begins where it
            says so.

    Raises:
        FloatingPointError: a loss is NaN or infinite; names the terms. The last checkpoint is kept.
        ValueError: the checkpoint belongs to another training (other settings of the method, of an optimiser or of a
            scheduler are another one), or a batch has fewer images than there are processes.
    """
    if not len(data):
        raise ValueError("expected at least one batch to train on, got none")
    fabric = fabric or _fabric_for(objective)
    optimizers = dict(optimizers or {k: objective.optimizer(k, p) for k, p in objective.players().items()})
    if set(optimizers) != set(objective.players()):
        raise ValueError(f"expected optimizers for {list(objective.players())}, got {list(optimizers)}")
    run = _Run(objective, optimizers, schedulers, fabric, {"seed": seed, "batches": len(data)})
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        run.load_state_dict(state)
    first = run.steps
    for epoch in range(first // len(data), epochs):
        if stop():
            return
        batches = data.epoch(epoch, run.steps - epoch * len(data))
        while run.steps < (epoch + 1) * len(data):
            with seeded(_step_seed(seed, run.steps, fabric.global_rank)):
                terms = run.step(*run.share(*next(batches)))
            run.steps += 1
            if run.steps % len(data) == 0:
                run.end_epoch()
            if checkpoint is not None and (run.steps % checkpoint.every == 0 or run.steps == epochs * len(data)):
                run.save(checkpoint)
            yield Step(run.steps, epoch, terms)


def _fabric_for(objective: nn.Module) -> Fabric:
    device = next(objective.parameters()).device
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(accelerator=device.type, devices=devices)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 1_009 + rank) % 2**63


class _Run:
    """A training under way: the objective as Fabric wraps it, its optimisers, and what a checkpoint must hold."""

    def __init__(
        self,
        objective: Objective,
        optimizers: Mapping[str, torch.optim.Optimizer],
        schedulers: Sequence[Scheduler],
        fabric: Fabric,
        identity: Mapping[str, int],
    ) -> None:
        self.bare, self.fabric = objective, fabric
        self.identity = {**identity, "players": list(optimizers), "schedulers": len(schedulers)}
        # As they are at the start: what a method changes while it trains is its state.
        self.settings = _settings(vars(objective)) | {
            f"{owner}'s {k}": v
            for owner, found in (
                *((f"{name}'s group {i}", g) for name, o in optimizers.items() for i, g in enumerate(o.param_groups)),
                *((f"scheduler {i}", vars(s)) for i, s in enumerate(schedulers)),
            )
            for k, v in _constants(found).items()
        }
        self.wrapped = fabric.setup_module(objective)
        self.wrapped.mark_forward_method("terms")
        self.plain, self.schedulers = optimizers, schedulers
        self.optimizers: dict[str, Any] = {k: fabric.setup_optimizers(o) for k, o in optimizers.items()}
        self.steps = 0

    def share(self, x: Tensor, y: Tensor | None) -> Batch:
        """This process's part of a batch, on its device; every process refuses a batch that leaves one without."""
        if len(x) < self.fabric.world_size:
            raise ValueError(
                f"expected at least one image a process ({self.fabric.world_size}), got {len(x)} in a batch"
            )
        part = slice(self.fabric.global_rank, None, self.fabric.world_size)
        x = self.fabric.to_device(x[part])
        return x, None if y is None else self.fabric.to_device(y[part])

    def step(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        with _training(self.bare):
            with self.fabric.autocast(), trainable((), self.bare.parameters()):
                x_adv = self.bare.perturb(x, y).detach()
            values: dict[str, float] = {}
            for player, parameters in self.bare.players().items():
                with trainable(parameters, self.bare.parameters()):
                    with self.fabric.autocast():  # Fabric's own is that of `forward`, which a lone process goes past
                        terms = self.wrapped.terms(player, x, x_adv, y)
                    numbers = {f"{player}/{k}": float(v.detach()) for k, v in terms.items()}
                    _check_finite(numbers, self.steps)
                    self._move(player, torch.stack(list(terms.values())).sum())
                values |= numbers
        return values

    def _move(self, player: str, loss: Tensor) -> None:
        optimizer = self.optimizers[player]
        optimizer.zero_grad()
        self.fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    def end_epoch(self) -> None:
        for scheduler in self.schedulers:
            scheduler.step()

    def save(self, checkpoint: Checkpoint) -> None:
        if self.fabric.is_global_zero:
            checkpoint.save(self.state_dict())
        self.fabric.barrier()

    def state_dict(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "settings": self.settings,
            "steps": self.steps,
            "objective": self.bare.trained_state(),
            "optimizers": {k: o.state_dict() for k, o in self.plain.items()},
            "schedulers": [_plain_state(s) for s in self.schedulers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        found = state["identity"]
        if found != self.identity:
            raise ValueError(f"expected the checkpoint of a training with {self.identity}, got one with {found}")
        earlier = state.get("settings", {})  # older checkpoints have none, and are taken at their word
        other = [k for k in self.settings if k in earlier and earlier[k] != self.settings[k]]
        if other:
            mine, theirs = ({k: v[k] for k in other} for v in (self.settings, earlier))
            raise ValueError(f"expected the checkpoint of a training with {mine}, got one with {theirs}")
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            getattr(scheduler, "check_state", lambda _: None)(saved)  # what may refuse does so before anything changes
        self.bare.load_trained_state(state["objective"])
        for player, optimizer in self.plain.items():
            optimizer.load_state_dict(state["optimizers"][player])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            load: Callable[[Any], None] = getattr(scheduler, "load_state_dict", lambda _: None)
            load(saved)
        self.steps = state["steps"]


@contextmanager
def _training(objective: Objective) -> Iterator[None]:
    """Train mode for an objective, eval mode for its frozen parts, every mode put back on leaving."""
    with evaluating(objective):
        objective.train()
        for name in objective.frozen:
            objective.get_submodule(name).eval()
        yield


CONSTANTS = (
    "initial_lr", "lr", "betas", "weight_decay", "momentum", "T_max", "eta_min", "milestones", "gamma", "step_size",
    "total_steps", "start_factor", "end_factor", "total_iters", "T_0", "T_mult", "factor", "falls", "weights",
    "nesterov", "eps",
)  # fmt: skip
"""What of an optimiser's group or a scheduler does not change while it is used, but for a scheduled lr."""


def _constants(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: values[k] for k in CONSTANTS if k in values and not (k == "lr" and "initial_lr" in values)}
    found = {k: _scalar(v) for k, v in found.items()}
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in found.items() if not isinstance(v, Tensor)}


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values among an objective's attributes, and those inside its dataclasses and norms."""
    found: dict[str, Any] = {}
    for k, held in values.items():
        v = _scalar(held)
        named = isinstance(getattr(v, "name", None), str) and not isinstance(v, nn.Module)
        if named or (is_dataclass(v) and not isinstance(v, type)):
            found |= {k: getattr(v, "name", type(v).__name__)}
            found |= {f"{k}.{name}": value for name, value in _settings(vars(v)).items()}
        elif isinstance(v, (bool, int, float, str, tuple, type(None))) and k != "training" and k[0] != "_":
            found[k] = v
    return found


def _plain_state(scheduler: Scheduler) -> dict[str, Any] | None:
    """What of a scheduler's state a checkpoint may hold: plain values; None where it has no state."""
    state: dict[str, Any] = getattr(scheduler, "state_dict", dict)()
    state = {k: _scalar(v) for k, v in state.items()}
    return {k: v for k, v in state.items() if isinstance(v, (bool, int, float, str, list, tuple, dict, type(None)))}


def _scalar(value: Any) -> Any:
    """A number of numpy or torch as Python's; anything else as it is."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0)
    return plain(value) if single else value


def _check_finite(terms: Mapping[str, float], step: int) -> None:
    bad = {k: v for k, v in terms.items() if not abs(v) < float("inf")}
    if bad:
        raise FloatingPointError(f"expected finite losses, got {bad} at step {step}; all terms: {dict(terms)}")
