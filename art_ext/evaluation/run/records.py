"""What a model answers to the examples of a block, kept beside them: nobody need ask again, and a driver need not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from art_ext.evaluation.inspect import Identity
from art_ext.evaluation.report.data import Cell
from art_ext.evaluation.run.store import ANSWERS, Facts, Piece, Store
from art_ext.evaluation.schedule import Job
from art_ext.nn.hashing import sha256


class Record(NamedTuple):
    """Classes (repeats, N) that a model gives to a block, and what was observed beside them."""

    answers: Tensor
    seen: Facts


class Records:
    """The names of pieces and of the answers to them, and these answers where there is a folder.

    Args:
        x: all images (N, C, H, W).
        y: all labels (N,).
        store: where they are kept.
        seed: of the answers.
        identities: of each model's parts, by name of the model and of the part.
    """

    def __init__(
        self, x: Tensor, y: Tensor, store: Store, seed: int, identities: Mapping[str, Mapping[str, Identity]]
    ) -> None:
        self.x, self.y, self.store, self.seed, self.identities = x, y, store, seed, identities
        self.hashes: dict[int, str] = {}  # of whole blocks, by where they end

    def piece_key(self, job: Job, source: str, number: int, rows: slice, todo: Tensor | None = None) -> str:
        """What tells the examples of a block from all others.

        Args:
            job: that makes them.
            source: identity of what is differentiated.
            number: of the block.
            rows: of the block.
            todo: which of its images are attacked (N,); all of them unless given.
        """
        if todo is not None and not bool(todo.all()):
            return f"{job.key(source)} {number} {sha256([self.x[rows][todo], self.y[rows][todo]])}"
        if rows.stop not in self.hashes:
            self.hashes[rows.stop] = sha256([self.x[rows], self.y[rows]])
        return f"{job.key(source)} {number} {self.hashes[rows.stop]}"

    def key(self, job: Job, repeats: int, number: int, piece: str) -> str:
        """What tells the answers to a piece from all others."""
        who = self.identities[job.model.name]
        parts = [who["purifier"].sha256, who["classifier"].sha256, job.model.name, job.frozen, self.seed]
        return f"answers {parts} {repeats} {number} {piece}"

    def get(self, key: str, shape: tuple[int, int], made_of: str) -> Record | None:
        """The answers (repeats, N) to examples of this hash; None where they are not there."""
        if self.store.folder is None:
            return None
        kept = self.store.get(key, lambda answers: tuple(answers.shape) == shape, ANSWERS)
        if kept is None or kept.facts["x_adv"] != made_of:
            return None
        return Record(kept.x_adv.to(self.y), {k: v for k, v in kept.facts.items() if k == "varied"})

    def put(self, key: str, record: Record, made_of: str, job: Job, cell: Cell, number: int, rows: slice) -> None:
        """Keeps the answers to a block, with its facts for a partial report."""
        if self.store.folder is None:
            return
        right = "".join("01"[v] for v in (record.answers == self.y[rows]).all(0).tolist())
        said = {"model": cell.model, "attack": cell.attack, "knowledge": cell.knowledge, "probe": bool(job.tags)}
        said |= {"block": number, "right": right, "x_adv": made_of, "limit": job.attack.images}
        self.store.put(key, Piece(record.answers, {**said, **record.seen}), ANSWERS)
