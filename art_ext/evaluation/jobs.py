"""What an evaluation has to run: one job for each attack on each model under each knowledge, and the probes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from art_ext.evaluation.backends import Attack, native
from art_ext.evaluation.models import Defended
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.purifiers import Purifier

NO_OWN = Purifier.own_attacks


@dataclass(frozen=True)
class Probe:
    """How much is spent on the sweeps behind the checks and curves: native PGD on the full pipeline.

    Args:
        images: the first so many.
        steps: of PGD; doubled and quartered by the sweep.
        seeds: repetitions with other seeds; three give a spread.
        unit_tests: images for the unit test of the attack (`binarisation_test`); none leaves it out.

    Raises:
        ValueError: images or steps below 1, no seed, or a negative number of unit tests.
    """

    images: int = 64
    steps: int = 20
    seeds: int = 1
    unit_tests: int = 0

    def __post_init__(self) -> None:
        if min(self.images, self.steps, self.seeds) < 1 or self.unit_tests < 0:
            raise ValueError(f"expected images, steps and seeds >= 1 and unit_tests >= 0, got {self}")


@dataclass(frozen=True)
class Settings:
    """The keywords of `evaluate`, as they are documented there."""

    knowledge: tuple[Knowledge, ...]
    draws: int
    average: str
    redraws: int
    seed: int
    batch_size: int
    survivors_only: bool
    cross: bool
    probe: Probe | None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        probe = None if self.probe is None else vars(self.probe)
        return {**vars(self), "knowledge": [k.value for k in self.knowledge], "probe": probe}


@dataclass(frozen=True)
class Job:
    """One attack on one model; `attack` is None for clean images.

    Attributes:
        knowledge: what is differentiated.
        threat: norm and radius, which a probe may change.
        draws: of EOT.
        seed: of the attack.
        images: the first so many.
        average: what EOT averages.
        at_once: the most images of one pass.
        frozen: attacker and defence share one draw.
        relaxed: the gradient passes the purifier's final clamp.
        probe: what the job is for, empty for the attacks that were asked for.
    """

    model: Defended
    attack: Attack | None
    knowledge: Knowledge | None
    threat: Threat
    seed: int
    images: int
    draws: int = 1
    average: str = "logits"
    at_once: int | None = None
    frozen: bool = False
    relaxed: bool = False
    probe: str = ""

    def target(self) -> nn.Module:
        """The module that is attacked, in eval mode."""
        assert self.knowledge is not None
        frozen = self.seed if self.frozen else None
        # Draws whose gradients are averaged can be run piece by piece; the graph of mean logits holds them all anyway.
        at_once = self.at_once if self.average == "gradients" else None
        options: dict[str, Any] = {"average": self.average, "frozen": frozen, "relaxed": self.relaxed}
        options["at_once"] = at_once
        return self.model.target(self.knowledge, self.draws, **options).eval()  # wrappers are made in train mode

    def stated(self) -> dict[str, Any]:
        """Every parameter, as JSON values."""
        if self.attack is None:
            return {}
        usual = {k: plain(v) for k, v in self.attack.stated(self.threat).items()}
        eot = {"average": self.average} if self.draws > 1 else {}
        # An attack that is bounded by an eps of its own has that one in the row.
        threat = {"norm": self.threat.norm, "eps": self.threat.eps}
        return {**threat, **usual, "draws": self.draws, "seed": self.seed, **eot}

    def key(self, source: str) -> str:
        """What tells its examples of an image from all others, given a name of the network that is attacked."""
        assert self.attack is not None
        assert self.knowledge is not None
        flags = [self.knowledge.value, self.frozen, self.relaxed, bool(self.probe), self.attack.targeted]
        title = f"{self.attack.backend} {self.attack.name} {self.attack.label}"
        return json.dumps([source, title, self.stated(), *flags], sort_keys=True)

    def passes(self) -> int:
        """Roughly how many images it passes forward, for a progress bar that knows what is left."""
        if self.attack is None:
            return self.images
        p = self.attack.parameters
        usual = {"standard": 1500, "plus": 6000, "rand": 200, "custom": 300, "FGSM": 1, "Square": 500}
        steps = int(p.get("steps", p.get("max_iter", p.get("n_queries", usual.get(self.attack.name, 40)))))
        return 3 * self.images * max(1, steps) * self.draws * int(p.get("restarts", p.get("nb_random_init", 1)))


def plain(value: Any) -> Any:
    """A parameter as JSON can hold it; what it cannot is named by its type."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else type(value).__name__


def main_jobs(
    models: Sequence[Defended], attacks: Sequence[Attack], threat: Threat, n: int, settings: Settings,
    randomised: Mapping[str, bool],
) -> list[Job]:  # fmt: skip
    """The attacks that were asked for: attack by attack, model by model, in the order of the knowledge."""
    jobs = []
    for attack in attacks:
        for model in models:
            random = randomised[model.name]
            if attack.on != "all" and (attack.on == "randomised") != random:
                continue
            for knowledge in _suitable(model, attack, settings.knowledge):
                draws = (attack.draws or settings.draws) if random and _draws_matter(knowledge) else 1
                images = min(attack.images or n, n)
                eot: dict[str, Any] = {"draws": draws, "average": settings.average, "at_once": settings.batch_size}
                jobs.append(Job(model, attack, knowledge, threat, settings.seed, images, **eot))
    return jobs


def _draws_matter(knowledge: Knowledge) -> bool:
    """Whether the attacker sees the defence, and with it its randomness."""
    return knowledge not in (Knowledge.TRANSFER, Knowledge.BLIND)


def _suitable(model: Defended, attack: Attack, knowledge: Sequence[Knowledge]) -> list[Knowledge]:
    if model.purifier is None:
        return [Knowledge.UNDEFENDED]
    follows = attack.backend == "native" and attack.name in native.FOLLOWERS and not attack.targeted
    able = {
        Knowledge.TRANSFER: model.surrogate is not None,
        Knowledge.OWN: follows and type(model.purifier).own_attacks is not NO_OWN,
        Knowledge.UNDEFENDED: False,
    }
    wanted = knowledge if attack.knowledge is None else attack.knowledge
    return [k for k in knowledge if k in wanted and able.get(k, True)]


def probe_jobs(
    models: Sequence[Defended], threat: Threat, shape: tuple[int, ...], n: int, settings: Settings,
    randomised: Mapping[str, bool],
) -> list[Job]:  # fmt: skip
    """PGD swept over budget, steps and draws, and the special attacks of the checks; on `probe.images` images."""
    jobs = []
    for model in models if settings.probe else ():
        knowledge = Knowledge.UNDEFENDED if model.purifier is None else Knowledge.FULL
        draws = settings.draws if randomised[model.name] else 1
        assert settings.probe is not None
        pgd, images = Attack("native", "PGD", {"steps": settings.probe.steps}), min(settings.probe.images, n)
        eot: dict[str, Any] = {"draws": draws, "average": settings.average, "at_once": settings.batch_size}
        tags = "base, eps, steps, draws, seed"
        base = Job(model, pgd, knowledge, threat, settings.seed, images, probe=tags, **eot)
        jobs += _sweep(base, settings.probe, shape, randomised[model.name])
    return jobs


def _sweep(base: Job, probe: Probe, shape: tuple[int, ...], random: bool) -> list[Job]:
    eps = base.threat.eps
    grey = base.threat.to_grey(shape)
    steps = {max(1, probe.steps // 4): "steps", 2 * probe.steps: "steps, more"}
    jobs = [
        base,
        replace(base, attack=Attack("native", "FGSM"), probe="fgsm"),
        *(replace(base, threat=replace(base.threat, eps=share * eps), probe="eps") for share in (0.25, 0.5, 2.0)),
        replace(base, threat=replace(base.threat, eps=grey), probe="eps, chance"),
        *(replace(base, attack=Attack("native", "PGD", {"steps": k}), probe=what) for k, what in steps.items()),
        replace(base, seed=base.seed + 1, probe="start, more, seed"),
        *(replace(base, seed=base.seed + k, probe="seed") for k in range(2, probe.seeds)),
    ]
    if random:
        fewer = {max(1, base.draws // 4): "draws", 2 * base.draws: "draws, more"}
        jobs += [replace(base, draws=k, probe=what) for k, what in fewer.items() if k != base.draws]
        jobs.append(replace(base, draws=1, frozen=True, probe="frozen"))
    if base.model.purifier is not None:
        jobs.append(replace(base, relaxed=True, probe="clamp"))
    return jobs
