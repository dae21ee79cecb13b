"""Runs jobs: examples batch by batch, kept as they come, and the answers of the model on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Best, eot, margin
from art_ext.evaluation.backends import native
from art_ext.evaluation.jobs import Job, Settings
from art_ext.evaluation.models import Defended
from art_ext.evaluation.report import CLEAN, Cell
from art_ext.evaluation.store import Facts, Store
from art_ext.evaluation.threat import Cheated, Knowledge
from art_ext.evaluation.watch import Watch
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import seeded

WATCHED = 64
"""Images that adversarial iterates are looked for around."""


class Bench:
    """Images, labels and a shard of their batches. Every batch has its own seed, so shards and resumed runs agree.

    Args:
        models: for the names of the networks that they share.
        x: all images (N, C, H, W).
        y: all labels (N,).
        settings: of the evaluation.
        shard: (i, n) takes the batches i, i + n, i + 2n, ...
        store: where examples are kept.
        random: whether each model is randomised, by name.
    """

    def __init__(
        self, models: Sequence[Defended], x: Tensor, y: Tensor, settings: Settings, shard: tuple[int, int],
        store: Store, random: Mapping[str, bool],
    ) -> None:  # fmt: skip
        self.x, self.y, self.settings, self.shard, self.store = x, y, settings, shard, store
        self.random = random
        self.paid: dict[tuple[str, int], Job] = {}
        self.networks: dict[int, str] = {}
        for model in models:  # a network that several models hold is attacked once
            self.networks.setdefault(id(model.classifier), f"the classifier of {model.name}")
            self.networks.setdefault(id(model.surrogate), f"the surrogate of {model.name}")
        self.left: dict[tuple[str, Knowledge | None], dict[int, bool]] = {}
        self.todo: dict[tuple[int, int], Tensor] = {}  # by the id of a job and the number of a batch

    def run(self, job: Job, advance: Callable[[float], Any] = lambda _: None) -> Cell:
        """The cell of a job; `advance` is told the share that each batch makes of it."""
        cell = self.empty(job)
        correct: list[Tensor] = []
        hits: list[Tensor] = []
        skipped: list[int] = []
        indices: list[int] = []
        totals: Facts = {"seconds": 0.0}
        batches = list(self._batches(job.images))
        own = sum(rows.stop - rows.start for _, rows in batches)
        if not own:
            advance(1.0)  # all of it is other shards'
        for number, rows in batches:
            try:
                x_adv, facts, done = self._examples(job, number, rows)
            except Cheated as error:
                return replace(cell, refused=str(error))
            answers = self._answers(job, number, x_adv)
            right = answers == self.y[rows]
            right[:, ~done] = False  # skipped: broken before
            correct.append(right)
            if "goal" in facts:
                hits.append(answers == torch.tensor(facts["goal"], dtype=torch.int64, device=answers.device))
            skipped += [len(indices) + i for i in torch.nonzero(~done).flatten().tolist()]
            indices += list(range(rows.start, rows.stop))
            for k in facts.keys() - {"goal"}:
                totals[k] = totals.get(k, 0) + facts[k]
            self._note(job, rows, right)
            advance(len(x_adv) / own)
        seconds = round(float(totals.pop("seconds")), 3)
        whole = indices == list(range(len(indices))) and self.shard[1] == 1
        return replace(
            cell, correct=_rows(correct, self._redraws(job)), hits=_rows(hits, self._redraws(job)) if hits else (),
            skipped=tuple(skipped), indices=() if whole else tuple(indices), seconds=seconds, observed=totals,
        )  # fmt: skip

    def on_another(self, job: Job, other: Defended) -> Cell:
        """The answers of another model on the examples of a job that has been run."""
        assert job.attack is not None
        cell = self.empty(job)
        correct, indices = [], []
        judged = replace(job, model=other)
        for number, rows in self._batches(job.images):
            x_adv, _, _ = self._examples(job, number, rows)
            correct.append(self._answers(judged, number, x_adv) == self.y[rows])
            indices += list(range(rows.start, rows.stop))
        return replace(
            cell, model=other.name, attack=f"{cell.attack} from {job.model.name}", source=job.model.name,
            knowledge=Knowledge.TRANSFER.value, correct=_rows(correct, self._redraws(judged)),
            indices=() if self.shard[1] == 1 else tuple(indices),
        )  # fmt: skip

    def kept(self, job: Job) -> Tensor:
        """All examples of a job that has been run, those of this shard."""
        pieces = [self._examples(job, number, rows)[0] for number, rows in self._batches(job.images)]
        return torch.cat(pieces) if pieces else self.x[:0]

    def empty(self, job: Job) -> Cell:
        """The cell of a job without answers."""
        if job.attack is None or job.knowledge is None:
            return Cell(job.model.name, CLEAN, "none", ())
        bound = job.attack.bound
        return Cell(
            job.model.name, job.attack.titled(job.draws), job.knowledge.value, (), job.attack.backend, job.stated(),
            threat="" if bound is None else f"{job.attack.name} {bound[0]} {bound[1]:g}",
            black_box=job.attack.black_box, probe=job.probe,
        )  # fmt: skip

    def _batches(self, images: int) -> Iterator[tuple[int, slice]]:
        size, (shard, shards) = self.settings.batch_size, self.shard
        for number, start in enumerate(range(0, images, size)):
            if number % shards == shard:
                yield number, slice(start, min(start + size, images))

    def _examples(self, job: Job, number: int, rows: slice) -> tuple[Tensor, Facts, Tensor]:
        """Examples of a batch, what was observed, and which images were attacked at all."""
        x, y = self.x[rows], self.y[rows]
        every = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if job.attack is None:
            return x, {}, every
        # As it was at the job's first time: by now more may be broken, by the job itself.
        todo = self.todo.setdefault((id(job), number), every if not self._sequential(job) else ~self._broken(job, rows))
        target = job.target()
        # Neither a last batch nor what a sequence has left is taken for one of more images.
        key = f"{self._key(job, target)} {sha256([x[todo], y[todo]])}"
        found = self.store.get(key, number, x)
        if found is None:
            found = self._made(job, target, number, x[todo], y[todo])
            self.store.put(key, number, *found)
        facts = dict(found[1])
        if self.paid.setdefault((key, number), job) is not job:
            facts["seconds"] = 0.0  # another cell's examples
        x_adv = x.clone()
        x_adv[todo] = found[0]
        if "goal" in facts:
            goal = y.clone()
            goal[todo] = torch.tensor(facts["goal"], dtype=torch.int64, device=y.device)
            facts["goal"] = goal.tolist()
        return x_adv, facts, todo

    def _key(self, job: Job, target: nn.Module) -> str:
        shared = None if self._sequential(job) else self.networks.get(id(target))
        source = shared or f"{job.model.name} through {job.knowledge.value if job.knowledge else ''}"
        if shared is not None:  # blind and undefended attackers of one network are the same attacker
            job = replace(job, knowledge=Knowledge.BLIND)
        return job.key(source)

    def _made(self, job: Job, target: nn.Module, number: int, x: Tensor, y: Tensor) -> tuple[Tensor, Facts]:
        attack, threat = job.attack, job.threat
        assert attack is not None
        network = target if job.knowledge is Knowledge.TRANSFER else job.model.classifier
        own = job.knowledge is Knowledge.OWN
        watching = number == 0 and not (self.random[job.model.name] or own or job.probe or attack.bound)
        near = x[: WATCHED if watching else 0]
        watch = Watch(target, network, job.model.purifier, near, y[: len(near)], threat)
        facts: Facts = {}
        start = time.perf_counter()
        with all_seeded(job.seed + number), watch:
            if not len(x):
                x_adv = x
            elif own:
                x_adv = self._own(job, target, x, y)
            else:
                x_adv = attack(target, x, y, threat)
        facts["seconds"] = time.perf_counter() - start
        facts |= watch.counts
        if watching:
            with torch.no_grad():
                wrong = target(x_adv[: len(near)]).argmax(1) != y[: len(near)] if len(near) else watch.broken
            facts |= {"watched": len(near), "silent": int((watch.broken & ~wrong).sum())}
        if attack.targeted:
            with all_seeded(job.seed + number):
                goal = attack.goal(target, x, y)
            assert goal is not None
            facts["goal"] = goal.tolist()
        return x_adv, facts

    def _own(self, job: Job, target: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """PGD along each gradient of the method's `own_attacks`; of several candidates the one of largest margin.

        A single one is what it is. Several are rated at the mean logits of as many draws as the answers have.
        """
        attack, purifier = job.attack, job.model.purifier
        assert attack is not None
        assert purifier is not None
        candidates = []
        for name, gradient in purifier.own_attacks(job.model.classifier, x, y).items():
            averaged = eot(gradient, job.draws)
            x_adv = native.follow(averaged, attack.name, target, x, y, job.threat, attack.parameters)
            job.threat.refuse_cheats(x, x_adv, f"{attack.title} along {name}")
            candidates.append(x_adv)
        if len(candidates) < 2:
            return candidates[0] if candidates else x
        best = Best(margin(Averaged(job.model.module, self._redraws(job)), y), candidates[0])
        for x_adv in candidates[1:]:
            best.offer(x_adv)
        return best.x

    def _answers(self, job: Job, number: int, x: Tensor) -> Tensor:
        """Classes that the model gives in each redraw, (redraws, N)."""
        module = job.target() if job.frozen else job.model.module
        rows = []
        for draw in range(self._redraws(job)):
            with torch.no_grad(), seeded(self.settings.seed + 1_000_003 * (draw + 1) + number):
                rows.append(module(x).argmax(1) if len(x) else self.y[:0])
        return torch.stack(rows)

    def _redraws(self, job: Job) -> int:
        return self.settings.redraws if self.random[job.model.name] and not job.frozen else 1

    def _sequential(self, job: Job) -> bool:
        return self.settings.survivors_only and not job.probe

    def _broken(self, job: Job, rows: slice) -> Tensor:
        known = self.left.get((job.model.name, job.knowledge), {})
        flags = [known.get(i, False) for i in range(rows.start, rows.stop)]
        return torch.tensor(flags, dtype=torch.bool, device=self.x.device)

    def _note(self, job: Job, rows: slice, right: Tensor) -> None:
        """Remembers what is broken in every redraw: a sequence need not attack it again."""
        if not self._sequential(job) or job.attack is None or job.attack.bound:
            return
        known = self.left.setdefault((job.model.name, job.knowledge), {})
        for i, wrong in enumerate((~right.any(0)).tolist()):
            known[rows.start + i] = known.get(rows.start + i, False) or wrong


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """torch's and numpy's ambient randomness from a seed; both go on undisturbed after. ART draws from numpy's."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with seeded(seed):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _rows(parts: Sequence[Tensor], redraws: int) -> tuple[tuple[bool, ...], ...]:
    """Redraws x images from the batches' (redraws, n); empty rows for a shard that holds none of the images."""
    if not parts:
        return ((),) * redraws
    return tuple(map(tuple, torch.cat(list(parts), 1).tolist()))
