"""Runs jobs: examples block by block, kept as they come, and the answers of the model on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from art_ext.evaluation.blocks import blocks, rows_of
from art_ext.evaluation.inspect import Gradient, Identity, ModelInfo, fingerprint
from art_ext.evaluation.numerics import halving, peak_memory, reset_peak_memory
from art_ext.evaluation.report.data import CLEAN, NO_ANSWER, Cell, Refusal
from art_ext.evaluation.run import craft
from art_ext.evaluation.run.answers import Answers, answering
from art_ext.evaluation.run.blockwise import Blocks
from art_ext.evaluation.run.collect import Collected, refused
from art_ext.evaluation.run.crafting import Crafting, Left
from art_ext.evaluation.run.records import Record, Records
from art_ext.evaluation.run.store import ANSWERS, Facts, Piece, Store
from art_ext.evaluation.schedule import Job
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Cheated, Knowledge
from art_ext.nn.hashing import sha256
from art_ext.nn.precision import FLOAT32

WATCHED = 64
"""Images that adversarial iterates are looked for around, and whose final answers are asked for twice."""


class Runner:
    """Images, labels, and a shard of their blocks. Every block has its own seed, so shards and resumed runs agree.

    Args:
        x: all images (N, C, H, W).
        y: all labels (N,).
        settings: of the evaluation.
        shard: (i, n) takes the blocks i, i + n, i + 2n, ...
        store: where examples are kept.
        found: facts about each model, by name.
        identities: of each model's parts, by name of the model and of the part.
    """

    def __init__(
        self, x: Tensor, y: Tensor, settings: Settings, shard: tuple[int, int], store: Store,
        found: Mapping[str, ModelInfo], identities: Mapping[str, Mapping[str, Identity]],
    ) -> None:  # fmt: skip
        self.x, self.y, self.settings, self.shard, self.store = x, y, settings, shard, store
        self.found, self.identities = found, identities
        self.answers = Answers(settings, found)
        self.peak = 0
        self.paid: dict[int, Job] = {}  # by the hash of a key
        self.broken: dict[tuple[str, Knowledge], dict[int, bool]] = {}
        self.records = Records(x, y, store, settings.seed, identities)
        self.lost: dict[int, str] = {}  # by the id of a job: why no worker could make its blocks
        self.todo: dict[tuple[int, int], Tensor] = {}  # by the id of a job and the number of a block
        self.crafting = Crafting(self._left, lambda error: error is store.failed)

    def clean(self, model: Defended) -> Cell:
        """The answers to the clean images."""
        collected = Collected()
        for number, rows in blocks(len(self.x), self.shard):
            collected.add(rows, self.answers.given(model, model.module, self.x[rows], number))
        return collected.into(Cell(model.name, CLEAN, "none", ()), self.y, self.answers.repeats(model), self._sharded)

    def run(self, job: Job, advance: Callable[[float], object] = lambda _: None) -> Cell:
        """The cell of a job; `advance` is called with the share of the job that each block is.

        Whatever an attack or a model raises refuses this row by name, and leaves the others alone.
        """
        info, parts = self.found[job.model.name], list(blocks(job.images, self.shard))
        if id(job) in self.lost:
            advance(1.0)
            return replace(self.empty(job), refused=self.lost[id(job)], refusal=Refusal.ERROR)
        if self.lacks_gradient(job):
            advance(1.0)
            return replace(self.empty(job), refused=f"no gradient: {info.gradient_error}", refusal=Refusal.NO_GRADIENT)
        collected = Collected()
        self._measure_memory()
        for at, (number, rows) in enumerate(parts):
            try:
                self._block(job, number, rows, collected)
            except Exception as error:
                if error is self.store.failed:  # a full disk, say: the next call goes on from here
                    raise
                advance(1.0 - at / len(parts))
                return refused(self.empty(job), error)
            advance(1.0 / len(parts))
        if not parts:
            advance(1.0)  # all of it is other shards'
        return collected.into(self.empty(job), self.y, self.answers.repeats(job.model, job), self._sharded)

    def lacks_gradient(self, job: Job) -> bool:
        """Whether a job needs a gradient that its model does not have: its row is refused without a try."""
        return self.found[job.model.name].gradient is Gradient.MISSING and _needs_gradient(job)

    def on_another(self, job: Job, other: Defended) -> Cell:
        """The answers of another model on the examples of a job that has been run."""
        cell, collected = self.empty(job), Collected()
        cell = replace(
            cell, model=other.name, attack=f"{cell.attack} from {job.model.name}", source=job.model.name,
            knowledge=Knowledge.TRANSFER.value,
        )  # fmt: skip
        made = self.crafting.known_of(job).job
        for number, rows in blocks(job.images, self.shard):
            piece, _ = self._examples(made, number, rows)
            try:
                collected.add(rows, self.answers.given(other, other.module, piece.x_adv, number))
            except Exception as error:
                return refused(cell, error)
        return collected.into(cell, self.y, self.answers.repeats(other), self._sharded)

    def kept(self, job: Job) -> Blocks:
        """All examples of a job that has been run, those of this shard, block by block."""
        made, parts = self.crafting.known_of(job).job, list(blocks(job.images, self.shard))
        count = sum(rows.stop - rows.start for _, rows in parts)
        examples = (self._examples(made, number, rows)[0].x_adv for number, rows in parts)
        return Blocks((count, *self.x.shape[1:]), examples)

    def make(self, job: Job, number: int) -> int:
        """Makes and keeps a block of a job and the answers to it, as `run` does; gives how many images it breaks.

        Raises:
            Exception: whatever an attack, a model or a disk raises.
        """
        rows, collected = rows_of(number, job.images), Collected()
        self._block(job, number, rows, collected)
        return int((collected.answers[0] != self.y[rows].cpu()).any(0).sum())

    def is_there(self, job: Job, number: int) -> bool:
        """Whether the folder holds a block of a job and the answers to it, where that can be decided beforehand."""
        if self.in_turn(job) or job.crafting != FLOAT32:
            return False
        rows = rows_of(number, job.images)
        key = self.records.piece_key(job, self.source(job), number, rows)
        answers = self.records.key(job, self.answers.repeats(job.model, job), number, key)
        files = [self.store.file(key), self.store.file(answers, ANSWERS)]
        return all(file is not None and file.exists() for file in files)

    def changed_since(self, clean: Cell, model: Defended) -> int:
        """How many clean images a deterministic model now answers otherwise than it did at first.

        With another class; where no class has changed, with other logits in the first block; all of them where it
        raises instead.
        """
        first = self.found[model.name].fingerprint
        try:
            again = self.clean(model)
            now = fingerprint(model, self.x)
        except Exception:
            return clean.images
        changed = sum(a != b for a, b in zip(clean.predicted[0], again.predicted[0], strict=True))
        return changed or (0 if first is None else first.changed(now))

    def empty(self, job: Job) -> Cell:
        """The cell of a job without answers."""
        bound, stated = job.attack.bound, self.crafting.known_of(job).stated()
        steps, losses = job.attack.effort
        return Cell(
            job.model.name, job.attack.titled(job.eot_samples), job.knowledge.value, (), job.attack.backend,
            stated, threat="" if bound is None else f"{job.attack.name} {bound[0]} {bound[1]:g}",
            black_box=job.attack.black_box, tags=job.tags, steps=steps, losses=losses,
        )  # fmt: skip

    def _measure_memory(self) -> None:
        """Takes down what the last job held at most, and begins anew."""
        self.peak = max(self.peak, peak_memory(self.x.device))
        reset_peak_memory(self.x.device)

    @property
    def _sharded(self) -> bool:
        return self.shard[1] > 1

    def _block(self, job: Job, number: int, rows: slice, collected: Collected) -> None:
        crafted = self.crafting.of(job)
        job = crafted.job
        piece, done = self._examples(job, number, rows)
        answers, seen = self._recorded(job, number, rows, piece, done)
        facts = {**piece.facts, **seen}
        facts |= self._moves(job, piece, answers, rows)
        compared = crafted.facts.get(number, {})
        facts |= {**compared, "seconds": facts["seconds"] + compared.get("seconds", 0.0)}
        collected.add(rows, answers, facts, ~done)
        self._note(job, rows, answers)

    def _recorded(self, job: Job, number: int, rows: slice, piece: Piece, done: Tensor) -> Record:
        """What the model answers to a block, from the folder where that is kept."""
        repeats, made_of = self.answers.repeats(job.model, job), sha256([piece.x_adv])
        examples = self.records.piece_key(job, self.source(job), number, rows, done)
        key = self.records.key(job, repeats, number, examples)
        kept = self.records.get(key, (repeats, len(done)), made_of)
        if kept is not None:
            return kept
        module = answering(job, number)
        answers = self.answers.given(job.model, module, piece.x_adv, number, repeats)
        answers[:, ~done] = NO_ANSWER  # broken before
        watched = rows.start < WATCHED and not self.found[job.model.name].random and not job.tags
        record = Record(answers, {"varied": self.answers.varied(job.model, module, piece.x_adv)} if watched else {})
        self.records.put(key, record, made_of, job, self.empty(job), number, rows)
        return record

    def _left(self, job: Job, number: int, rows: slice) -> Left:
        """Which images of a whole block are right under a job, by one answer; of a sequence too, all of them."""
        piece, _ = self._examples(job, number, rows, whole=True)
        answers = self.answers.given(job.model, answering(job, number), piece.x_adv, number, 1)
        return Left(answers[0] == self.y[rows], piece.facts)

    def _moves(self, job: Job, piece: Piece, answers: Tensor, rows: slice) -> Facts:
        """Of the images that are still right, those around which no other point of the ball was seen to pass."""
        moved = piece.facts.get("moved")
        if moved is None or job.attack.bound is not None:
            return {}
        still = answers[0] == self.y[rows]
        seen = torch.tensor([v == "1" for v in moved], device=still.device)
        return {"still": int(still.sum()), "unmoved": int((still & ~seen).sum())}

    def _examples(self, job: Job, number: int, rows: slice, whole: bool = False) -> tuple[Piece, Tensor]:
        """Examples of a block with what was observed, and which images were attacked at all."""
        x, y = self.x[rows], self.y[rows]
        every = torch.ones(len(x), dtype=torch.bool, device=x.device)
        # As it was at the job's first time: by now more may be broken, by the job itself.
        left = ~self._known_broken(job, rows) if self.in_turn(job) else every
        todo = self.todo.setdefault((id(job), number), left) if self.in_turn(job) and not whole else every
        # Neither a last block nor what a sequence has left is taken for one of more images.
        key = self.records.piece_key(job, self.source(job), number, rows, todo)
        piece = self.store.get(key, lambda x_adv: _fits(job, x[todo], x_adv))
        if piece is None:
            piece = self._made(job, number, x[todo], y[todo], rows.start < WATCHED)
            self.store.put(key, piece)
        facts = dict(piece.facts)
        if self.paid.setdefault(hash(key), job) is not job:
            facts["seconds"] = 0.0  # another cell's examples
        x_adv = x.clone()
        x_adv[todo] = piece.x_adv.to(x)
        for name, other in (("goal", y.tolist()), ("moved", ["1"] * len(x))):
            if name in facts and not bool(todo.all()):
                found = iter(facts[name])
                facts[name] = [next(found) if t else o for t, o in zip(todo.tolist(), other, strict=True)]
        return Piece(x_adv, facts), todo

    def _made(self, job: Job, number: int, x: Tensor, y: Tensor, early: bool) -> Piece:
        # Iterates belong to a moment: of a randomised model, a probe or a bound of its own they say nothing.
        random = self.found[job.model.name].random
        adaptive = job.knowledge is Knowledge.ADAPTIVE
        watch = early and not (random or adaptive or job.tags or job.attack.bound or job.crafting != FLOAT32)
        repeats = self.answers.repeats(job.model, job)
        most = self.answers.piece(job.model, x)
        return halving(most, lambda size: craft.examples(job, number, x, y, size, repeats, watch))

    def source(self, job: Job) -> str:
        """The identity of what is differentiated: attackers of one network without a defence are one attacker."""
        who, name = self.identities[job.model.name], job.model.name
        if job.knowledge is Knowledge.TRANSFER:
            used, mode = [who["surrogate"]], "classifier"
        elif job.model.purifier is None or job.knowledge is Knowledge.BLIND:
            used, mode = [who["classifier"]], "classifier"
        else:
            used, mode = [who["purifier"], who["classifier"]], job.knowledge.value
        if self.in_turn(job):  # what is left to attack is the model's own
            mode = f"{job.knowledge.value} of {name}"
        owner = name if any(part.opaque for part in used) else ""
        return " ".join([mode, *(part.sha256 for part in used), owner])

    def in_turn(self, job: Job) -> bool:
        """Whether a job attacks only what earlier ones left of a block."""
        return self.settings.survivors_only and not job.tags

    def _known_broken(self, job: Job, rows: slice) -> Tensor:
        known = self.broken.get((job.model.name, job.knowledge), {})
        flags = [known.get(i, False) for i in range(rows.start, rows.stop)]
        return torch.tensor(flags, dtype=torch.bool, device=self.x.device)

    def _note(self, job: Job, rows: slice, answers: Tensor) -> None:
        """Remembers what is broken in every repeat: a sequence need not attack it again."""
        if not self.in_turn(job) or job.attack.bound:
            return
        known = self.broken.setdefault((job.model.name, job.knowledge), {})
        wrong = ~(answers == self.y[rows]).any(0)
        for i, flag in enumerate(wrong.tolist()):
            known[rows.start + i] = known.get(rows.start + i, False) or flag


def _needs_gradient(job: Job) -> bool:
    exact = job.knowledge in (Knowledge.FULL, Knowledge.ADAPTIVE, Knowledge.UNDEFENDED)
    return exact and not job.attack.black_box


def _fits(job: Job, x: Tensor, x_adv: Tensor) -> bool:
    """Whether kept examples may be those of the images: of their shape, in the box, in the ball."""
    try:
        job.threat.refuse_cheats(x.cpu(), x_adv.cpu(), "a kept piece", ball=job.attack.bound is None)
    except Cheated:
        return False
    return True
