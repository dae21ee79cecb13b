"""What an evaluation has to run: one job for each attack on each model under each knowledge, and the probes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from art_ext.attacks import Averaged, Frozen, Leave
from art_ext.attacks.active import CONFIRMED_BY
from art_ext.attacks.until_broken import FEWEST_SAMPLES
from art_ext.evaluation.backends import Attack
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.inspect import ModelInfo, identity
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.tags import Tag
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.nn.checkpointing import Pieces
from art_ext.nn.precision import FLOAT32, RoughGradients
from art_ext.purifiers import Purifier

COMPARED = 2 * BLOCK
"""First images of a job that are crafted in float32, too, where the others are not."""


@dataclass(frozen=True)
class Job:
    """One attack on one model under one knowledge.

    Attributes:
        knowledge: what is differentiated.
        threat: norm and radius, which a probe may change.
        seed: of the attack.
        images: the first so many.
        eot_samples: passes that are averaged.
        average: what EOT averages.
        frozen: attacker and defence share one draw.
        relaxed: the gradient passes the purifier's final clamp.
        tags: what a probe is for; none for the attacks that were asked for.
        leave: when images leave the batch; None where all stay to the end.
        crafting: what its gradients are computed in.
        compiled: its passes are compiled where that pays.
    """

    model: Defended
    attack: Attack
    knowledge: Knowledge
    threat: Threat
    seed: int
    images: int
    eot_samples: int = 1
    average: str = "logits"
    frozen: bool = False
    relaxed: bool = False
    tags: frozenset[Tag] = frozenset()
    leave: Leave | None = None
    crafting: str = FLOAT32
    compiled: bool = False

    def target(self, seed: int, piece: int | None = None) -> nn.Module:
        """The module that is attacked, in eval mode.

        Args:
            seed: of the draw that attacker and defence share where the job is frozen.
            piece: the most images of one pass.
        """
        frozen = seed if self.frozen else None
        options: dict[str, Any] = {"average": self.average, "frozen": frozen, "relaxed": self.relaxed, "piece": piece}
        module = self.model.target(self.knowledge, self.eot_samples, **options)
        return (module if self.crafting == FLOAT32 else _rough(module)).eval()  # wrappers begin in train mode

    def stated(self) -> dict[str, Any]:
        """Every parameter, as JSON values."""
        eot = {"average": self.average} if self.eot_samples > 1 else {}
        # An attack that is bounded by an eps of its own has that one in the row.
        threat = {"norm": self.threat.norm, "eps": self.threat.eps}
        usual = self.attack.stated(self.threat)
        stops: dict[str, Any] = {} if self.leave is None else {"leave": "broken", "confirm": self.leave.confirm}
        if stops and "best" in usual:
            stops["best"] = True  # an image leaves by its score, and the best by that is what stays
        rough: dict[str, Any] = {} if self.crafting == FLOAT32 else {"crafting": self.crafting}
        rough |= {"compiled": True} if self.compiled else {}
        along = {"along": "adaptive gradients and the full one"} if self.knowledge is Knowledge.ADAPTIVE else {}
        return {**threat, **usual, "eot_samples": self.eot_samples, "seed": self.seed, **eot, **stops, **rough, **along}

    def key(self, source: str) -> str:
        """What tells its examples of a block from all others, given the identity of what is differentiated."""
        flags = [self.frozen, self.relaxed, bool(self.tags), self.attack.targeted]
        title = f"{self.attack.backend} {self.attack.name} {self.attack.label}"
        return json.dumps([source, title, self.stated(), *flags, *self._code], sort_keys=True)

    @cached_property
    def _code(self) -> list[str]:
        """Identities of what the attack holds beside plain values: a function of one's own, a network of features."""
        held = [self.attack.function, *(v for v in self.attack.parameters.values() if isinstance(v, nn.Module))]
        return [identity(part).sha256 for part in held if part is not None]

    def passes(self) -> float:
        """Roughly how many images it passes forward: what it costs."""
        return self.images * self.attack.cost(self.eot_samples)


@dataclass(frozen=True)
class Schedule:
    """The attacks that were asked for, and the probes behind the checks."""

    jobs: tuple[Job, ...]
    probes: tuple[Job, ...]

    def passes(self) -> float:
        """Roughly how many images pass forward in all."""
        return sum(job.passes() for job in (*self.jobs, *self.probes))


def schedule(
    models: Sequence[Defended], attacks: Sequence[Attack], threat: Threat, shape: tuple[int, ...], n: int,
    settings: Settings, found: Mapping[str, ModelInfo],
) -> Schedule:  # fmt: skip
    """Everything to run, attack by attack, model by model, in the order of the knowledge.

    Args:
        models: to attack.
        attacks: that were asked for.
        threat: norm and radius.
        shape: of an image, (C, H, W).
        n: images.
        settings: of the evaluation.
        found: what was found of each model, by name.

    Raises:
        ValueError: an attack on a randomised model that looks at too few samples before an image rests.
    """
    jobs = []
    for attack in attacks:
        for model in models:
            random = found[model.name].random
            if attack.on != "all" and (attack.on == "randomised") != random:
                continue
            for knowledge in _suitable(model, attack, settings.knowledge):
                samples = attack.eot_samples or settings.eot_samples
                if not (random and knowledge.sees_defence):
                    samples = 1
                elif attack.parameters.get("check_every") is not None and samples < FEWEST_SAMPLES:
                    raise ValueError(
                        f"expected at least {FEWEST_SAMPLES} EOT samples for check_every on the randomised "
                        f"{model.name}, got {samples}: an image that is right now and then would be taken for broken"
                    )
                images = min(attack.images or n, n)
                jobs.append(Job(model, attack, knowledge, threat, settings.seed, images, samples, settings.average))
    jobs = [replace(job, leave=_leave(job, jobs, settings, found)) for job in jobs]
    probes = [job for model in models for job in _probes(model, threat, shape, n, settings, found[model.name].random)]
    probes = [replace(job, leave=_leave(job, (), settings, found)) for job in probes]
    jobs, probes = (
        [replace(j, crafting=_crafting(j, settings, found), compiled=settings.compile) for j in some]
        for some in (jobs, probes)
    )
    return Schedule(tuple(jobs), tuple(probes))


def _suitable(model: Defended, attack: Attack, knowledge: Sequence[Knowledge]) -> list[Knowledge]:
    if model.purifier is None:
        return [Knowledge.UNDEFENDED]
    able = {
        Knowledge.TRANSFER: model.surrogate is not None,
        Knowledge.ADAPTIVE: attack.follows_gradients and _is_adaptive(model.purifier),
        Knowledge.UNDEFENDED: False,
    }
    wanted = knowledge if attack.knowledge is None else attack.knowledge
    return [k for k in knowledge if k in wanted and able.get(k, True)]


def _is_adaptive(purifier: Purifier) -> bool:
    return type(purifier).adaptive_attacks is not Purifier.adaptive_attacks


def _leave(
    job: Job, jobs: Sequence[Job], settings: Settings, found: Mapping[str, ModelInfo]
) -> Leave | None:  # fmt: skip
    """When images leave the job's batches.

    None does where the attacker does not see what is evaluated, or where the examples have another use: a blind attack
    may share those on a bare network, and with `cross` other models get them. AutoAttack knows nothing else, and is
    told how to tell that an image of a randomised model is broken.
    """
    sees = job.knowledge in (Knowledge.UNDEFENDED, Knowledge.FULL, Knowledge.BPDA)
    if job.frozen or not (job.attack.leaves and sees):
        return None
    random = found[job.model.name].random
    blind = any(j.knowledge is Knowledge.BLIND and j.attack is job.attack for j in jobs)
    shared = settings.cross or (job.knowledge is Knowledge.UNDEFENDED and blind)
    if (settings.all_steps or shared) and not (job.attack.only_leaves and random):
        return None
    return Leave(max(CONFIRMED_BY, job.eot_samples) if random else 0)


def _crafting(job: Job, settings: Settings, found: Mapping[str, ModelInfo]) -> str:
    """What the gradients of a job are computed in: bfloat16 where that was asked for and may pay.

    It may not with so few images that all are crafted in float32, too. Only attacks that broken images can leave ask
    for an answer in float32 before they do; without that, restarts would end at what float32 denies. Adaptive attacks
    follow gradients that the method computes itself; a network of another format than float32 has its own.
    """
    able = job.attack.leaves and job.knowledge is not Knowledge.ADAPTIVE and job.images > COMPARED
    able &= job.leave is not None or job.attack.parameters.get("restarts", 1) == 1
    return settings.crafting if able and found[job.model.name].dtype == FLOAT32 else FLOAT32


def _rough(module: nn.Module) -> nn.Module:
    """A target whose gradients are rough, under the EOT samples, pieces and shared draw that `Job.target` put there."""
    if isinstance(module, Averaged | Pieces | Frozen):
        module.module = _rough(module.module)
        return module
    return RoughGradients(module)


def _probes(
    model: Defended, threat: Threat, shape: tuple[int, ...], n: int, settings: Settings, random: bool
) -> list[Job]:
    """PGD swept over budget, steps and EOT samples, and the special attacks of the checks."""
    probe = settings.probe
    if probe is None:
        return []
    knowledge = Knowledge.UNDEFENDED if model.purifier is None else Knowledge.FULL
    samples, images = settings.eot_samples if random else 1, min(probe.images, n)
    tags = frozenset({Tag.BASE, Tag.EPS, Tag.STEPS, Tag.EOT_SAMPLES, Tag.SEED})
    base = Job(model, _pgd(probe.steps), knowledge, threat, settings.seed, images, samples, settings.average, tags=tags)

    def other(*why: Tag, **changes: Any) -> Job:
        return replace(base, tags=frozenset(why), **changes)

    def at(eps: float) -> Threat:
        return Threat(threat.norm, eps)

    jobs = [
        base,
        other(Tag.FGSM, attack=Attack("native", "FGSM")),
        *(other(Tag.APGD, attack=attack) for attack in _stronger(probe.steps)),
        *(other(Tag.EPS, threat=at(share * threat.eps)) for share in (0.25, 0.5, 2.0)),
        other(Tag.EPS, Tag.CHANCE, threat=at(threat.to_grey(shape))),
        other(Tag.STEPS, attack=_pgd(max(1, probe.steps // 4))),
        other(Tag.STEPS, Tag.MORE, attack=_pgd(2 * probe.steps)),
        other(Tag.START, Tag.MORE, Tag.SEED, seed=base.seed + 1),
        *(other(Tag.SEED, seed=base.seed + k) for k in range(2, probe.seeds)),
    ]
    if random:
        fewer = max(1, samples // 4)
        jobs += [other(Tag.EOT_SAMPLES, eot_samples=fewer)] if fewer != samples else []
        jobs += [
            other(Tag.EOT_SAMPLES, Tag.MORE, eot_samples=2 * samples),
            other(Tag.FROZEN, eot_samples=1, frozen=True),
        ]
    if model.purifier is not None:
        jobs.append(other(Tag.CLAMP, relaxed=True))
    return jobs


def _stronger(steps: int) -> list[Attack]:
    """Attacks of another kind with two losses, of twice the steps."""
    return [Attack("native", "APGD", {"steps": 2 * steps, "loss": loss}) for loss in ("cross_entropy", "margin")]


def _pgd(steps: int) -> Attack:
    return Attack("native", "PGD", {"steps": steps})
