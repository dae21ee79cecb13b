"""The only training loop: players move in turn on the same adversaries, every step is seeded, kills lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from art_ext.images import asking_once
from art_ext.nn.modes import all_seeded, evaluating, trainable
from art_ext.nn.shares import shared
from art_ext.plain import plain, seed_of
from art_ext.training.checkpoint import Checkpoint
from art_ext.training.devices import rounding
from art_ext.training.identity import differing, identity_of, note_origin, origin_of, origins_kept
from art_ext.training.objective import Objective, Scheduler
from art_ext.training.processes import any_process, check_fabric, end_together, find_unused

Batch = tuple[Tensor, Tensor | None]


class Data(Protocol):
    """Mini-batches whose order depends on the epoch alone, see `art_ext.training.batches.Batches`."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on."""


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
            scheduler are another one) or is of more epochs, optimizers of other parameters, a batch has fewer images
            than there are processes, or the precision or the strategy cannot work.
        RuntimeError: another process of the training failed; says how.
    """
    if not len(data):
        raise ValueError("expected at least one batch to train on, got none")
    fabric = fabric or _fabric_for(objective)
    check_fabric(fabric)
    find_unused(fabric)
    seed = seed_of(seed)
    run = _Run(objective, for_players(objective, optimizers), schedulers, fabric)
    if checkpoint is not None:
        checkpoint.check_place()
        run.take_up(checkpoint, data, seed, epochs)
    if run.steps >= epochs * len(data):
        note_origin(objective)  # nothing is left to do
    for epoch in range(run.steps // len(data), epochs):
        if any_process(fabric, stop()):
            return
        batches = data.epoch(epoch, run.steps - epoch * len(data))
        while run.steps < (epoch + 1) * len(data):
            with all_seeded(_step_seed(seed, run.steps)):
                terms = run.step(*next(batches))
            run.steps += 1
            if run.steps % len(data) == 0:
                run.end_epoch()
            if run.steps == epochs * len(data):
                note_origin(objective)
            if checkpoint is not None and (run.steps % checkpoint.every == 0 or run.steps == epochs * len(data)):
                run.save(checkpoint)
            yield Step(run.steps, epoch, terms)


def for_players(
    objective: Objective, optimizers: Mapping[str, Any] | None = None
) -> dict[str, torch.optim.Optimizer]:  # fmt: skip
    """An optimizer for each player of an objective.

    Args:
        objective: the method.
        optimizers: by player: optimizers, or functions that make one of the player's parameters. Those of the paper
            unless given.

    Raises:
        TypeError: something else than an optimizer.
        ValueError: not one for each player, or one that holds parameters of somebody else.
    """
    players = objective.players()
    given = {k: lambda p, k=k: objective.optimizer(k, p) for k in players} if optimizers is None else dict(optimizers)
    if set(given) != set(players):
        raise ValueError(f"expected optimizers for {list(players)}, got {list(given)}")
    made = {k: v(players[k]) if callable(v) else v for k, v in given.items()}
    for player, optimizer in made.items():
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"expected an optimizer for {player!r}, got {type(optimizer).__name__}")
        own = {id(p) for p in players[player]}
        if any(id(p) not in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(f"expected an optimizer of {player!r} over that player's parameters, got one over others")
    return made


def _fabric_for(objective: nn.Module) -> Fabric:
    device = next(objective.parameters()).device
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(accelerator=device.type, devices=devices)


def _step_seed(seed: int, step: int) -> int:
    """The same in all processes: each takes its part of what is drawn for the whole batch."""
    return (seed * 1_000_003 + step * 1_009) % 2**63


class _Run:
    """A training under way: the objective as Fabric wraps it, its optimisers, and what a checkpoint must hold."""

    def __init__(
        self,
        objective: Objective,
        optimizers: Mapping[str, torch.optim.Optimizer],
        schedulers: Sequence[Scheduler],
        fabric: Fabric,
    ) -> None:
        self.bare, self.fabric = objective, fabric
        self.identity: dict[str, Any] = {}
        self.origin = origin_of(objective)
        moved = [p for parameters in objective.players().values() for p in parameters]
        with trainable(moved, objective.parameters()):  # a wrapper synchronises what requires a gradient now
            self.wrapped = fabric.setup_module(objective)
        self.wrapped.mark_forward_method("terms")
        self.plain, self.schedulers = optimizers, schedulers
        self.optimizers: dict[str, Any] = {k: fabric.setup_optimizers(o) for k, o in optimizers.items()}
        self.steps = 0

    def take_up(self, checkpoint: Checkpoint, data: Data, seed: int, epochs: int) -> None:
        """Says which training this is, as everything is at its start, and goes on from its checkpoint if there is one.

        What a method changes while it trains is its state.
        """
        state = checkpoint.load()
        how: dict[str, Any] = {"seed": seed, "batches": len(data), "precision": _precision(self.fabric)}
        how |= {"processes": self.fabric.world_size, **rounding(self.fabric.device)}
        self.identity = identity_of(self.bare, data, self.plain, self.schedulers, **how)
        if state is not None:
            self.load_state_dict(state, epochs)

    def share(self, x: Tensor, y: Tensor | None) -> Batch:
        """This process's part of a batch, on its device; every process refuses a batch that leaves one without."""
        if len(x) < self.fabric.world_size:
            raise ValueError(
                f"expected at least one image a process ({self.fabric.world_size}), got {len(x)} in a batch"
            )
        part = slice(self.fabric.global_rank, None, self.fabric.world_size)
        x = self.fabric.to_device(x[part])
        return x, None if y is None else self.fabric.to_device(y[part])

    @cached_property
    def asked(self) -> WeakSet[nn.Module]:
        """Modules that have asked in this training whether images are in range, see `asking_once`."""
        return WeakSet()

    def step(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        """One move of each player; what one process cannot go on from ends all of them."""
        whole = len(x)
        x, y = self.share(x, y)
        # Processes weigh alike in the mean gradient, and images shall: the last batch may leave some a smaller part.
        weight = len(x) * self.fabric.world_size / whole
        together = shared(self.fabric.global_rank, self.fabric.world_size, whole)
        with _training(self.bare), asking_once(self.asked), together:
            x_adv = self._together(lambda: self._perturbed(x, y))
            values: dict[str, float] = {}
            for player, parameters in self.bare.players().items():
                with trainable(parameters, self.bare.parameters()):
                    loss, numbers = self._together(lambda player=player: self._loss(player, x, x_adv, y))  # type: ignore[misc]
                    self._move(player, loss if weight == 1 else weight * loss)
                values |= numbers
        return values

    def _together(self, work: Callable[[], Any]) -> Any:
        """What the work gives, where it fails in no process."""
        done, error = None, None
        try:
            done = work()
        except Exception as raised:
            error = raised
        end_together(self.fabric, error)
        return done

    def _perturbed(self, x: Tensor, y: Tensor | None) -> Tensor:
        with self.fabric.autocast(), trainable((), self.bare.parameters()):
            return self.bare.perturb(x, y).detach()

    def _loss(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """The sum of a player's terms, and each of them; the device is waited for once."""
        with self.fabric.autocast():  # Fabric's own is that of `forward`, which a lone process goes past
            terms = self.wrapped.terms(player, x, x_adv, y)
        if not terms:
            raise ValueError(f"expected a loss term of {player!r}, got none: all its weights are 0")
        stacked = torch.stack(list(terms.values()))
        numbers = dict(zip((f"{player}/{k}" for k in terms), stacked.detach().tolist(), strict=True))
        _check_finite(numbers, self.steps)
        return stacked.sum(), numbers

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
            "origin": self.origin,
            "steps": self.steps,
            "objective": self.bare.trained_state(),
            "optimizers": {k: o.state_dict() for k, o in self.plain.items()},
            "schedulers": [_plain_state(s) for s in self.schedulers],
            "precision": self.fabric._precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], epochs: int) -> None:
        """Goes on from a state of at most so many epochs."""
        mine, theirs = differing(self.identity, state["identity"])
        if mine:
            raise ValueError(f"expected the checkpoint of a training with {mine}, got one with {theirs}")
        if self.origin != state["origin"] and not _equal(self.bare.trained_state(), state["objective"]):
            raise ValueError(
                "expected the checkpoint of a training that began with the weights that the method has now, got one "
                f"that began with {'others' if state['origin'] else 'new ones'}"
            )
        batches = self.identity["batches"]
        if state["steps"] > epochs * batches:
            raise ValueError(
                f"expected the checkpoint of at most {epochs} epochs, got one of {state['steps'] / batches:g}: ask for "
                "as many, or train under another name"
            )
        self.origin = state["origin"]
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            getattr(scheduler, "check_state", lambda _: None)(saved)  # what may refuse does so before anything changes
        with origins_kept(self.bare):
            self.bare.load_trained_state(state["objective"])
        for player, optimizer in self.plain.items():
            optimizer.load_state_dict(state["optimizers"][player])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            attributes = getattr(scheduler, "__dict__", {})
            getattr(scheduler, "load_state_dict", attributes.update)(saved)
        self.fabric._precision.load_state_dict(state["precision"])  # the scale of 16-mixed
        self.steps = state["steps"]


@contextmanager
def _training(objective: Objective) -> Iterator[None]:
    """Train mode for an objective, eval mode for its frozen parts, every mode put back on leaving."""
    with evaluating(objective):
        objective.train()
        for name in objective.frozen:
            objective.get_submodule(name).eval()
        yield


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v.cpu(), b[k].cpu()) for k, v in a.items())


def _precision(fabric: Fabric) -> str:
    return str(fabric._precision.precision)


def _plain_state(scheduler: Scheduler) -> dict[str, Any] | None:
    """What of a scheduler's state, or else of its attributes, a checkpoint may hold: plain values."""
    state: dict[str, Any] = getattr(scheduler, "state_dict", lambda: dict(getattr(scheduler, "__dict__", {})))()
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
