"""A whole training: stages in order, each with its checkpoint, its optimizers, its schedulers and its epochs."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger
from torch.optim import Optimizer
from tqdm import tqdm

from art_ext.images import check_images
from art_ext.plain import number, seed_of
from art_ext.training.batches import Batches
from art_ext.training.checkpoint import Checkpoint
from art_ext.training.logs import log_row
from art_ext.training.loop import Data, Step, fit, for_players
from art_ext.training.objective import Objective, Scheduler, check_labels
from art_ext.training.validation import Kept, Validation

log = logging.getLogger(__name__)
Row = dict[str, float]
"""Means of an epoch's loss terms by "player/term", its number as "epoch", and what the validation measured."""
Optimizers = Mapping[str, Optimizer]
"""By player."""
Given = Mapping[str, Any] | Callable[[Objective], Mapping[str, Any]]
"""Optimizers by player, or a function that makes them for an objective; a function in place of an optimizer makes it
of the player's parameters."""
Validate = Callable[[], float | Mapping[str, float]]
"""Run at the end of each epoch; a number is the accuracy, more of them have names."""


def nothing(*_: Any) -> None:
    """Nothing to do."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called during a training.

    Attributes:
        on_stage: the number of a stage, from 1, and its objective, before its first step.
        on_step: each step.
        on_epoch: the number of the stage, and the row of the epoch.
    """

    on_stage: Callable[[int, Objective], object] = nothing
    on_step: Callable[[Step], object] = nothing
    on_epoch: Callable[[int, Row], object] = nothing


def run(  # noqa: PLR0913  the keywords are the vocabulary of a training, and every one has a default
    stages: Sequence[Objective],
    data: Data,
    *,
    epochs: int | Sequence[int],
    seed: int = 0,
    optimizers: Given | Sequence[Given] | None = None,
    schedulers: Sequence[Scheduler] | None = None,
    checkpoint: Path | str | None = None,
    every: int | None = None,
    validate: Validate | Validation | None = None,
    stop: Callable[[], bool] = lambda: False,
    callbacks: Callbacks = Callbacks(),
    fabric: Fabric | None = None,
    logger: Logger | None = None,
    progress: bool = False,
) -> list[Row]:
    """Trains the stages of a method in order; what can be refused is refused before the first step.

    Args:
        stages: at least one.
        data: batches of images in [0, 1] and labels, the same for each stage.
        epochs: passes over the data, of every stage or of each.
        seed: of everything random in a step.
        optimizers: of each stage in order, or by the name of its objective; each is a mapping by player, or a function
            that makes it for the objective, and in place of an optimizer may stand a function of the player's
            parameters. The paper's unless given.
        schedulers: stepped at the end of each epoch of the stage whose optimizers they hold. One that holds none
            belongs to a training of one stage. The paper's (`Objective.schedulers`) unless given.
        checkpoint: a file; each stage keeps its state beside it, "name.1", "name.2" and so on.
        every: steps between two writes; an epoch unless given.
        validate: run at the end of each epoch; a `Validation` keeps the best of them, also where a stage fails.
        stop: asked before each epoch; no further one begins where it says so.
        callbacks: what is told, in every process.
        fabric: device, precision and processes, launched.
        logger: is given the row of each epoch by the first process.
        progress: the first process shows a bar with the terms and the time left, a line an epoch where there is no
            terminal.

    Returns:
        The rows of the epochs that this call ran, over all stages.

    Raises:
        TypeError: a scheduler that cannot be stepped, or wants a measurement; numbers, images or labels of other types.
        ValueError: no stages, fewer epochs than one, optimizers or schedulers of other stages, images out of range, no
            labels where a stage needs them, or a checkpoint that cannot be written or gone on with.
    """
    if not stages:
        raise ValueError("expected at least one stage to train, got none")
    passes, seed = _passes(epochs, len(stages)), seed_of(seed)
    chosen = _chosen(optimizers, stages)
    if schedulers is None:
        schedulers = [s for k, stage in enumerate(stages) for s in stage.schedulers(chosen[k], passes[k])]
    by_stage = by_optimizer(schedulers, chosen)
    if isinstance(data, Batches):
        if data.augment is None or data.x.is_floating_point():  # it may turn bytes into images in [0, 1]
            check_images(data.x)
        check_labels(stages, data.y is not None)
    states: list[Checkpoint] = []
    if checkpoint is not None:
        steps_between = len(data) if every is None else every
        states = [Checkpoint(f"{checkpoint}.{k + 1}", steps_between) for k in range(len(stages))]
        states[0].check_place()
        if not isinstance(validate, Validation):  # which may end a stage early
            _check_order(states, passes, len(data))
    history: list[Row] = []
    first = fabric is None or fabric.is_global_zero
    for place, (stage, n) in enumerate(zip(stages, passes, strict=True), start=1):
        state = states[place - 1] if states else None
        callbacks.on_stage(place, stage)
        with _kept(validate, stage, checkpoint, None if len(stages) == 1 else place, first) as kept:
            steps = fit(
                stage, data, epochs=n, seed=seed, optimizers=chosen[place - 1], checkpoint=state, fabric=fabric,
                schedulers=[*by_stage[place - 1], *kept], stop=_either(stop, kept),
            )  # fmt: skip
            title = f"{type(stage).__name__} {place}/{len(stages)}"
            measured = validate if not isinstance(validate, Validation) else lambda kept=kept: kept[0].row
            for row in _epochs(steps, len(data), n, title, callbacks, measured, progress and first):
                history.append(row)
                if logger is not None and first:
                    done = sum(passes[: place - 1]) + int(row["epoch"]) + 1
                    log_row(logger, row, place, done * len(data))
                callbacks.on_epoch(place, row)
    return history


@contextmanager
def _kept(
    validate: Validate | Validation | None, stage: Objective, checkpoint: Path | str | None, number: int | None,
    writes: bool,
) -> Iterator[list[Kept]]:  # fmt: skip
    """What keeps the best epoch of a stage, none where that is not asked for; the stage ends with its weights."""
    if not isinstance(validate, Validation):
        yield []
        return
    name = "best" if number is None else f"{number}.best"
    kept = Kept(validate, stage, None if checkpoint is None else Path(f"{checkpoint}.{name}"), writes)
    try:
        yield [kept]
    finally:
        kept.restore()
        if kept.best_epoch >= 0:
            validate.best_epochs.append(kept.best_epoch)


def _either(stop: Callable[[], bool], kept: Sequence[Kept]) -> Callable[[], bool]:
    return lambda: stop() or any(one.exhausted() for one in kept)


def made_optimizers(stages: Sequence[Objective]) -> list[Optimizers]:
    """The optimizers that the paper gives the players of each stage."""
    return [for_players(stage) for stage in stages]


def _passes(epochs: Any, stages: int) -> list[int]:
    """Epochs of each stage."""
    several = list(epochs) if isinstance(epochs, Sequence) and not isinstance(epochs, str) else [epochs] * stages
    found = [number(n, "epochs", whole=True) for n in several]
    if len(found) != stages or any(n < 1 for n in found):
        raise ValueError(f"expected at least one epoch for each of {stages} stages, got {epochs}")
    return found


def _chosen(given: Given | Sequence[Given] | None, stages: Sequence[Objective]) -> list[Optimizers]:
    """The optimizers of each stage, checked."""
    if given is None:
        return made_optimizers(stages)
    if callable(given):
        given = [given] * len(stages)
    elif isinstance(given, Mapping):
        names = [type(stage).__name__ for stage in stages]
        if given.keys() == {*names}:
            given = [given[name] for name in names]
        elif len(stages) == 1:
            given = [given]
        else:
            raise ValueError(f"expected optimizers for {', '.join(names)}, got some for {', '.join(map(str, given))}")
    if len(given) != len(stages):
        raise ValueError(f"expected optimizers for each of {len(stages)} stages, got {len(given)}")
    found = [one(stage) if callable(one) else one for one, stage in zip(given, stages, strict=True)]
    return [for_players(stage, one) for one, stage in zip(found, stages, strict=True)]


def _check_order(states: Sequence[Checkpoint], passes: Sequence[int], batches: int) -> None:
    """Refuses more epochs of a stage behind which another one has been trained already.

    Raises:
        ValueError: names the file of the later stage.
    """
    if not any(Path(state.path).exists() for state in states[1:]):
        return
    held = [state.load() for state in states]
    for k, later in enumerate(held[1:], start=1):
        for i, earlier in enumerate(held[:k] if later is not None else []):
            done = 0 if earlier is None else earlier["steps"]
            if done < passes[i] * batches and (earlier is None or earlier["identity"]["batches"] == batches):
                raise ValueError(
                    f"expected stage {k + 1} to follow {passes[i]} epochs of stage {i + 1}, got the checkpoint "
                    f"{states[k].path} of one that followed {done / batches:g}: more epochs go on with a last stage "
                    "alone (epochs of each stage say so); train under another name, or remove that file"
                )


def by_optimizer(schedulers: Sequence[Scheduler], optimizers: Sequence[Optimizers]) -> list[list[Scheduler]]:
    """The schedulers of each stage: those that hold one of its optimizers.

    Raises:
        TypeError: one that cannot be stepped, or wants a measurement.
        ValueError: one that holds an optimizer of no stage, or none where there are several stages.
    """
    found: list[list[Scheduler]] = [[] for _ in optimizers]
    for scheduler in schedulers:
        if not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"expected a scheduler with a method step(), got {type(scheduler).__name__}")
        if _wants_more(scheduler):
            raise TypeError(
                f"expected a scheduler whose step() takes nothing, got {type(scheduler).__name__}, which wants a "
                "measurement: step it in a callback on_epoch instead"
            )
        held = getattr(scheduler, "optimizer", None)
        places = [i for i, some in enumerate(optimizers) if held is not None and any(o is held for o in some.values())]
        if held is None and len(optimizers) == 1:
            places = [0]
        if not places:
            what = "no optimizer" if held is None else "an optimizer of no stage"
            raise ValueError(
                f"expected schedulers of the optimizers that are used, one of those of {len(optimizers)} stages, got "
                f"{type(scheduler).__name__}, which holds {what}"
            )
        found[places[0]].append(scheduler)
    return found


def _wants_more(scheduler: Scheduler) -> bool:
    """Whether `step` has an argument without a default, as ReduceLROnPlateau's."""
    parameters = inspect.signature(scheduler.step).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in several for p in parameters)


def _epochs(
    steps: Iterator[Step], batches: int, epochs: int, title: str, callbacks: Callbacks, validate: Validate | None,
    progress: bool,
) -> Iterator[Row]:  # fmt: skip
    """The rows of one stage, while its bar moves."""
    sums: Row = {}
    seen = 0  # steps of the epoch that this call ran: it may have gone on in the middle of one
    terminal = sys.stderr.isatty()
    with tqdm(total=epochs * batches, desc=title, disable=not (progress and terminal)) as bar:
        for step in steps:
            bar.update(step.number - bar.n)
            callbacks.on_step(step)
            sums = {k: sums.get(k, 0.0) + v for k, v in step.terms.items()}
            seen += 1
            if step.number % batches:
                continue
            row = {k: v / seen for k, v in sums.items()} | {"epoch": float(step.epoch)}
            if validate is not None:
                found = validate()
                row |= found if isinstance(found, Mapping) else {"validation_accuracy": found}
            bar.set_postfix({k: f"{v:.4g}" for k, v in row.items() if k != "epoch"})
            if progress and not terminal:
                sys.stderr.write(f"{title}, {said(row, epochs)}\n")
            log.info("%s, epoch %d: %s", title, step.epoch, row)
            yield row
            sums, seen = {}, 0


def said(row: Row, epochs: int) -> str:
    """A row in words: the epoch, from 1, and the means of its terms."""
    terms = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
    return f"epoch {int(row['epoch']) + 1}/{epochs}: {terms}"
