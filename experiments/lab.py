"""Where an experiment runs: images, device and time, and networks that are trained once and kept by what they are."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import Tensor, nn

from art_ext import __version__
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.data import Images, shift_and_flip
from art_ext.evaluation import Defended
from art_ext.files import replacing
from art_ext.nn import seeded
from art_ext.plain import plain
from art_ext.plots import png
from art_ext.training import Batches, Callbacks, Checkpoint, Objective, Step, run
from art_ext.training.identity import identity_of, weights_of
from experiments import data as sets
from experiments.core import Experiment, Model, Part, Work
from experiments.networks import Network, Recipe

TRIAL_IMAGES, TRIAL_BATCH, TRIAL_STEPS = 8, 4, 2
"""Of a dry run: images to train on and to attack, images a step, steps of every attack."""


def write(path: Path, content: str | bytes) -> None:
    """Puts a file in its place, at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


class OutOfTime(Exception):
    """A run that has to go on another time."""


class Paced:
    """Batches, before each of which rates and training attack are set by how much of the training is done.

    Rates rise linearly to their peaks and fall to zero again [Wong et al. 2020, arXiv:2001.03994]; the attack's radius
    and step rise to theirs, because nothing is learned from the start at a large one.

    Args:
        data: the batches.
        epochs: of the training.
        objective: `eps` and `step_size` are set, where it has an eps.
        optimizers: their rates are the peaks.
        rise: share of the training in which the rates rise.
        warmup: share of the training in which the radius rises.
    """

    def __init__(
        self, data: Batches, epochs: int, objective: Objective, optimizers: Mapping[str, torch.optim.Optimizer],
        rise: float, warmup: float,
    ) -> None:  # fmt: skip
        self.data, self.epochs, self.objective = data, epochs, objective
        self.rise, self.warmup = rise, warmup
        self.peaks = [(optimizer, optimizer.param_groups[0]["lr"]) for optimizer in optimizers.values()]
        self.attack = {k: v for k in ("eps", "step_size") if (v := getattr(objective, k))}

    def __len__(self) -> int:
        return len(self.data)

    def identity(self) -> dict[str, Any]:
        """What decides the training: that of the batches, and the pace."""
        return self.data.identity() | {"rise": self.rise, "warmup": self.warmup, "paced over": self.epochs}

    def epoch(self, index: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The batches of an epoch, see `Batches.epoch`."""
        for number, batch in enumerate(self.data.epoch(index, start), start=index * len(self) + start):
            done = (number + 0.5) / (self.epochs * len(self))
            for optimizer, peak in self.peaks:  # resuming replaces the groups
                rising = done / self.rise if self.rise else 1.0
                down = (1 - done) / (1 - self.rise) if self.rise < 1 else 1.0
                optimizer.param_groups[0]["lr"] = peak * min(rising, down)
            for name, full in self.attack.items():
                setattr(self.objective, name, full * (min(1.0, done / self.warmup) if self.warmup else 1.0))
            yield batch


@dataclass
class Lab:
    """An experiment on its images and its device.

    Attributes:
        experiment: what is run.
        folder: of images that do not ship.
        runs: where networks and examples are kept.
        out: of results, for pictures.
        fabric: device, precision and processes, launched.
        seed: of networks and their training.
        dry: two batches, two attack steps, eight images, to see that everything works.
        closed: no network is trained any more, because other processes would have to take part.
        deadline: in seconds since the epoch, after which a training stops to go on another time.
    """

    experiment: Experiment
    folder: Path | None
    runs: Path
    out: Path
    fabric: Fabric
    seed: int = 0
    dry: bool = False
    deadline: float | None = None
    closed: bool = False
    made: dict[str, nn.Module] = field(default_factory=dict)
    trainings: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where networks and images are."""
        return self.fabric.device

    def images(self, split: str, count: int | None, first: int = 0) -> Images:
        """So many images of a split from a number on, on the device, also in a dry run."""
        found = sets.load(self.experiment.data, self.folder, split, count, first)
        return Images(found.x.to(self.device), found.y.to(self.device))

    def train(self, count: int | None = None) -> Images:
        """The first so many training images, in a dry run a few, not on the device."""
        return sets.load(self.experiment.data, self.folder, "train", TRIAL_IMAGES if self.dry else count)

    def test(self, count: int | None, first: int = 0) -> Images:
        """So many test images from a number on, on the device; in a dry run a few of the first ones."""
        return self.images("test", *((TRIAL_IMAGES, 0) if self.dry else (count, first)))

    @property
    def eps(self) -> float:
        """Radius in Linf of the data set."""
        return sets.SETS[self.experiment.data].eps

    def steps(self, count: int) -> int:
        """So many steps of an attack, in a dry run two."""
        return TRIAL_STEPS if self.dry else count

    def attacked(self, model: nn.Module, images: Images, steps: int, share: float = 0.25) -> Tensor:
        """PGD in Linf, in steps of that share of eps, the same whatever was drawn before."""
        with seeded(0):
            return attacked(model, images.x, images.y, self.eps, self.steps(steps), share)

    def picture(self, name: str, figure: Figure) -> None:
        """Puts a picture beside the results."""
        write(self.out / f"{self.experiment.file(name, self.seed)}.png", png(figure))

    def __call__(self, name: str) -> Any:
        """A network of the experiment by name, trained, frozen, in eval mode, or a module inside it: `name/part`."""
        name, _, inside = name.partition("/")
        if name not in self.made:
            declared = self.experiment.networks[name]
            with seeded(self.seed):
                network = declared.make(self).to(self.device)
            if declared.objective is not None and not self._kept(declared, network):
                if self.closed:
                    raise RuntimeError(f"expected {name!r} to be among what a part says that it needs, got it later")
                with seeded(self.seed):
                    objective = declared.objective(network, self)
                self._train(name, objective.to(self.device), declared.recipe)
            self.made[name] = network.eval().requires_grad_(False)
        return self.made[name].get_submodule(inside)

    def prepare(self, parts: Sequence[str]) -> dict[str, list[Defended]]:
        """The models of these parts, by part, once all networks are there that these and other works need."""
        chosen = {k: self.experiment.parts[k] for k in parts}
        models = {k: [self.defended(m) for m in p.models] for k, p in chosen.items() if isinstance(p, Part)}
        needs = tuple(n for p in chosen.values() if isinstance(p, Work) for n in p.needs)
        for name in self.experiment.networks:
            if name.startswith(needs):
                self(name)
        return models

    def defended(self, name: str) -> Defended:
        """A model of the experiment by name."""
        said: Model = self.experiment.models[name]
        parts = {k: getattr(said, k) for k in ("classifier", "purifier", "surrogate")}
        found = {k: self(v) if isinstance(v, str) else v and v(self).to(self.device) for k, v in parts.items()}
        return Defended(name, **found, robust=said.robust)

    def stated(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options and versions for a result's JSON."""
        versions = {"art-ext": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
        return {"options": plain(dict(options)) | {"seed": self.seed}, "versions": versions}

    def _kept(self, declared: Network, network: nn.Module) -> bool:
        """Whether there was a file of weights of the same training; they are loaded then."""
        if self.dry or self.seed or declared.kept is None or not declared.kept.is_file():
            return False
        with safe_open(declared.kept, "pt") as file:
            if json.loads((file.metadata() or {}).get("training", "null")) != plain(declared.facts):
                return False
            where: Any = getattr(network, "purifier", network)
            where.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118  no mapping
        return True

    def _train(self, name: str, objective: Objective, recipe: Recipe) -> None:
        """Trains an objective from its checkpoint on, which is named by what decides the result.

        Raises:
            OutOfTime: the deadline has passed; what was done is kept.
        """
        if self.dry:
            recipe = replace(recipe, epochs=1, batch=TRIAL_BATCH)
            for attack in ("steps", "radius_steps"):
                if getattr(objective, attack, 0):
                    setattr(objective, attack, min(TRIAL_STEPS, getattr(objective, attack)))
        images, shift = self.train(recipe.images), sets.SETS[self.experiment.data].shift
        augment = shift_and_flip(shift) if shift else None
        batches = Batches(images.x, images.y, batch_size=recipe.batch, seed=self.seed, augment=augment)
        optimizers = recipe.optimizers(objective)
        schedulers = [recipe.schedule(o, recipe.epochs) for o in optimizers.values()] if recipe.schedule else []
        schedulers += recipe.more(objective)
        passed = Paced(batches, recipe.epochs, objective, optimizers, *recipe.pace) if recipe.pace else batches
        how = {"seed": self.seed, "precision": str(self.fabric._precision.precision), "epochs": recipe.epochs}
        how |= {"processes": self.fabric.world_size, "start": weights_of(objective)}
        found = plain(identity_of(objective, passed, optimizers, schedulers, **how))
        key = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]
        path = self.runs / "networks" / f"{re.sub('[^A-Za-z0-9]+', '_', name)}_{key}"
        every, total, last = max(1, len(batches) // 4), recipe.epochs * len(batches), [0]

        def note(step: Step) -> None:
            last[0] = step.number
            written = self.fabric.world_size == 1 and step.number % every == 0
            if written and self.late and step.number < total:
                raise OutOfTime(f"{name}: {step.number} of {total} steps; run again to go on")

        start = time.monotonic()
        rows = run(
            [objective], passed, epochs=recipe.epochs, seed=self.seed, optimizers=[optimizers], schedulers=schedulers,
            checkpoint=path, every=every, stop=lambda: self.late, callbacks=Callbacks(on_step=note),
            fabric=self.fabric, progress=True,
        )  # fmt: skip
        if last[0] < total and ((state := Checkpoint(f"{path}.1").load()) is None or state["steps"] < total):
            raise OutOfTime(f"{name}: stopped before its last epoch; run again to go on")
        objective.eval()
        if rows and self.fabric.is_global_zero:
            told = {"name": name, "epochs": recipe.epochs, "seconds": round(time.monotonic() - start), "rows": rows}
            write(Path(f"{path}.json"), json.dumps(told))
        self.trainings[name] = {"training": key, "epochs": recipe.epochs, "images": len(images.x)}

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() > self.deadline


def attacked(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, share: float = 0.25) -> Tensor:
    """PGD in Linf, in steps of that share of eps, 64 images at a time; randomness is the ambient one."""
    pieces = zip(x.split(64), y.split(64), strict=True)
    options: dict[str, Any] = {"norm": Linf(), "eps": eps, "steps": steps, "step_size": share * eps}
    return torch.cat([pgd(ascent(cross_entropy(model, b)), a, **options) for a, b in pieces])


def answers(model: nn.Module, x: Tensor, y: Tensor) -> list[bool]:
    """Whether each image (N, C, H, W) is classified as y (N,)."""
    with torch.no_grad():
        right = [model(a).argmax(1) == b for a, b in zip(x.split(250), y.split(250), strict=True)]
    found: list[bool] = torch.cat(right).tolist()
    return found
