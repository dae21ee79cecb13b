"""Attacks on models under every knowledge asked for, each result checked, seeded, and kept per example."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import art_ext
from art_ext.attacks import Gradient, eot, logit_margin
from art_ext.evaluation import checks
from art_ext.evaluation.backends import BACKENDS, Attack, native
from art_ext.evaluation.report import CLEAN, Cell, Report, Verdict
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.images import check_images
from art_ext.nn.modes import evaluating, seeded, trainable
from art_ext.purifiers import Purifier

CHECKED = 64
"""Images that the cheap checks look at."""


@dataclass(frozen=True)
class Defended:
    """A model to evaluate: a classifier, with or without a purifier before it.

    Args:
        name: for the report.
        classifier: images (N, C, H, W) in [0, 1] to logits (N, K).
        purifier: None for the undefended classifier.
        surrogate: an independently trained classifier, for transfer attacks.
    """

    name: str
    classifier: nn.Module
    purifier: Purifier | None = None
    surrogate: nn.Module | None = None

    @cached_property
    def module(self) -> nn.Module:
        """The pipeline that is evaluated."""
        return self.classifier if self.purifier is None else nn.Sequential(self.purifier, self.classifier)

    def target(self, knowledge: Knowledge, draws: int = 1) -> nn.Module:
        """The module that an attacker of this knowledge differentiates.

        Raises:
            ValueError: the knowledge makes no sense here (bpda without a purifier, transfer without a surrogate).
        """
        if knowledge is Knowledge.TRANSFER and self.surrogate is not None:
            return self.surrogate
        if knowledge is Knowledge.BLIND or (knowledge is Knowledge.UNDEFENDED and self.purifier is None):
            return self.classifier
        if knowledge in (Knowledge.FULL, Knowledge.OWN):
            return _averaged(self.module, draws)
        if knowledge is Knowledge.BPDA and self.purifier is not None:
            return _averaged(Approximated(self.purifier, self.classifier), draws)
        raise ValueError(f"expected a model that {knowledge.value} attacks can be run on, got {self.name!r}")


class Approximated(nn.Module):
    """Purifier and classifier in value, the purifier's stand-in in gradient: the target of BPDA."""

    def __init__(self, purifier: Purifier, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.purifier.approximate(x))
        return logits


class MeanLogits(nn.Module):
    """Logits averaged over draws of a randomised model, all draws in one batch: EOT for any library.

    Args:
        module: images to logits.
        draws: passes to average.
    """

    def __init__(self, module: nn.Module, draws: int) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x.repeat(self.draws, 1, 1, 1))
        return logits.view(self.draws, len(x), -1).mean(0)


def _averaged(module: nn.Module, draws: int) -> nn.Module:
    return module if draws == 1 else MeanLogits(module, draws)


def evaluate(
    models: Sequence[Defended],
    attacks: Sequence[Attack],
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    knowledge: Sequence[Knowledge] = (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL),
    redraws: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = True,
) -> Report:
    """Attacks every model with every attack under every knowledge.

    An undefended model is attacked once; a model without a surrogate is not attacked by transfer, and native attacks
    alone follow a method's own gradients. Attacks with
    `draws` above 1 (EOT) run on randomised models alone, and randomised models are attacked by them alone where any is
    given: a single draw of a randomised model says little. Modes, `requires_grad`, gradients and ambient random state
    are left as they were.

    Args:
        models: the first undefended one is the baseline of the checks.
        attacks: see `Attack`.
        x: images (N, C, H, W) in [0, 1].
        y: class indices (N,).
        threat: norm and radius.
        knowledge: of the attacker.
        redraws: passes over the final examples of a randomised model.
        seed: of attacks and redraws.
        batch_size: images attacked at once.
        progress: show a bar with the time left.

    Raises:
        TypeError: images or labels of the wrong type.
        ValueError: no images, images out of range, labels that do not fit, or an attack that cheated.
    """
    _check(models, attacks, x, y)
    bench = _Bench(x, y, threat, seed, batch_size)
    parts = [m for model in models for m in (model.module, model.surrogate) if m is not None]
    parameters = [p for part in parts for p in part.parameters()]
    with evaluating(*parts), trainable((), parameters), seeded(seed):
        random = {m.name: checks.randomised(m.module, x[:CHECKED], y[:CHECKED]) for m in models}
        draws = {m.name: redraws if random[m.name] else 1 for m in models}
        cells = [Cell(m.name, CLEAN, "none", bench.judge(m, x, draws[m.name])) for m in models]
        any_eot = any(a.draws > 1 for a in attacks)
        plan = [
            (m, a, k) for a in attacks for m in models for k in _suitable(m, a, knowledge, random[m.name] and any_eot)
        ]
        for model, attack, known in tqdm(plan, desc="attacks", disable=not progress):
            x_adv, seconds = bench.examples(model, attack, known)
            correct = bench.judge(model, x_adv, draws[model.name])
            stated = {**attack.parameters, "draws": attack.draws}
            cells.append(Cell(model.name, attack.title, known.value, correct, attack.backend, stated, seconds))
        report = Report(asdict(threat), tuple(cells), (), _not_tested(models, knowledge), _provenance(bench, attacks))
        # A tuple, not the generator itself: the checks too must run in eval mode and under the seed.
        verdicts = tuple(_verdicts(models, attacks, report, bench, random))
    return replace(report, checks=verdicts)


class _Bench:
    """Images under a threat; makes examples once for cells that attack the same target."""

    def __init__(self, x: Tensor, y: Tensor, threat: Threat, seed: int, batch_size: int) -> None:
        self.x, self.y, self.threat, self.seed, self.batch_size = x, y, threat, seed, batch_size
        self.made: dict[Any, Tensor] = {}

    def examples(self, model: Defended, attack: Attack, knowledge: Knowledge) -> tuple[Tensor, float]:
        """Adversarial examples and the seconds they took; 0 where they were made before."""
        target = model.target(knowledge, attack.draws).eval()  # wrappers are made in train mode
        shared = target is model.classifier or target is model.surrogate  # other models may attack the same network
        key = (id(target) if shared else (model.name, knowledge), attack.title)
        if key in self.made:
            return self.made[key], 0.0
        run = attack if knowledge is not Knowledge.OWN else partial(self._own, model, attack)
        start, n = time.perf_counter(), attack.images or len(self.x)
        pieces = []
        for number, (x, y) in enumerate(zip(self._cut(self.x[:n]), self._cut(self.y[:n]), strict=True)):
            with _all_seeded(self.seed + number):
                pieces.append(run(target, x, y, self.threat))
        self.made[key] = torch.cat(pieces)
        return self.made[key], time.perf_counter() - start

    def _own(self, model: Defended, attack: Attack, target: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """PGD along each gradient of the method's `own_attacks`; of each image the candidate of largest margin."""
        best, found = x, torch.full((len(x),), -torch.inf, device=x.device)
        for name, gradient in _own_attacks(model, x, y).items():
            averaged = eot(gradient, attack.draws)
            x_adv = native.follow(averaged, attack.name, target, x, y, threat, attack.parameters)
            threat.refuse_cheats(x, x_adv, f"{attack.title} along {name}")
            with torch.no_grad():
                margin = logit_margin(target(x_adv), y)
            best = torch.where((margin > found).view(-1, 1, 1, 1), x_adv, best)
            found = torch.maximum(found, margin)
        return best

    def judge(self, model: Defended, x: Tensor, redraws: int) -> tuple[tuple[bool, ...], ...]:
        """Redraws x images: is the model's answer correct?"""
        rows = []
        for draw in range(redraws):
            with torch.no_grad(), seeded(self.seed + 1_000_003 * (draw + 1)):
                right = [
                    model.module(a).argmax(1) == b
                    for a, b in zip(self._cut(x), self._cut(self.y[: len(x)]), strict=True)
                ]
            rows.append(tuple(torch.cat(right).tolist()))
        return tuple(rows)

    def _cut(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split(self.batch_size)


def _suitable(model: Defended, attack: Attack, knowledge: Sequence[Knowledge], with_eot: bool) -> list[Knowledge]:
    if model.purifier is None:
        return [Knowledge.UNDEFENDED]
    if (attack.draws > 1) != with_eot:
        return []
    able = {
        Knowledge.TRANSFER: model.surrogate is not None,
        Knowledge.OWN: attack.backend == "native" and type(model.purifier).own_attacks is not Purifier.own_attacks,
    }
    return [k for k in knowledge if able.get(k, True)]


def _own_attacks(model: Defended, x: Tensor, y: Tensor) -> dict[str, Gradient]:
    return {} if model.purifier is None else model.purifier.own_attacks(model.classifier, x, y)


def _verdicts(
    models: Sequence[Defended], attacks: Sequence[Attack], report: Report, bench: _Bench, random: dict[str, bool]
) -> Iterator[Verdict]:
    x, y = bench.x[:CHECKED], bench.y[:CHECKED]
    bare = next((m.name for m in models if m.purifier is None), None)
    most = max((a.draws for a in attacks), default=1)
    for model in models:
        yield checks.gives_logits(model.name, model.module, x)
        yield checks.draws_suffice(model.name, random[model.name], most)
        reaches = checks.gradient_reaches(model.name, model.module, x, y, bench.threat)
        yield reaches
        if not random[model.name] and checks.NO_GRADIENT not in reaches.detail:
            yield checks.art_agrees(model.name, model.module, x, y)
        if model.purifier is None:
            if report.attacked(model.name):
                yield checks.undefended_breaks(report, model.name)
            continue
        yield checks.black_box_weaker(report, model.name)
        if bare is not None:
            yield checks.clean_cost(report, bare, model.name)


def _not_tested(models: Sequence[Defended], knowledge: Sequence[Knowledge]) -> tuple[str, ...]:
    asked = (*knowledge, Knowledge.UNDEFENDED)
    lines = [f"{k.value} attacks: not asked for" for k in Knowledge if k not in asked]
    if Knowledge.TRANSFER in knowledge:
        without = [m.name for m in models if m.purifier is not None and m.surrogate is None]
        lines += [f"transfer attacks on {name}: no surrogate" for name in without]
    lines.append("attacks outside the threat's norm, and spatial or colour attacks")
    lines.append("whether more steps, restarts or draws would lower the numbers further")
    return tuple(lines)


def _provenance(bench: _Bench, attacks: Sequence[Attack]) -> dict[str, Any]:
    versions = {"art-ext": art_ext.__version__, "torch": torch.__version__, "numpy": np.__version__}
    for backend in dict.fromkeys(a.backend for a in attacks):
        versions |= BACKENDS[backend].versions()
    return {
        "versions": versions,
        "python": platform.python_version(),
        "device": str(bench.x.device),
        "threads": torch.get_num_threads(),
        "seed": bench.seed,
        "batch_size": bench.batch_size,
        "images": len(bench.x),
        "shape": list(bench.x.shape[1:]),
        "sha256_of_images": hashlib.sha256(bench.x.cpu().contiguous().numpy().tobytes()).hexdigest(),
        "attacks": [asdict(a) for a in attacks],
    }


def _check(models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor) -> None:
    check_images(x)
    titles = [a.title for a in attacks]
    if len(set(titles)) != len(titles):
        raise ValueError(f"expected attacks of different titles, got {titles}")
    if not models or not len(x):
        raise ValueError(f"expected at least one model and one image, got {len(models)} and {len(x)}")
    names = [m.name for m in models]
    if len(set(names)) != len(names):
        raise ValueError(f"expected models of different names, got {names}")
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"expected labels as an int64 tensor, got {getattr(y, 'dtype', type(y).__name__)}")
    if y.shape != (len(x),) or int(y.min()) < 0:
        raise ValueError(f"expected {len(x)} class indices >= 0, got shape {tuple(y.shape)} and minimum {int(y.min())}")


@contextmanager
def _all_seeded(seed: int) -> Iterator[None]:
    """torch's and numpy's ambient randomness from a seed; both go on undisturbed after. ART draws from numpy's."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with seeded(seed):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
