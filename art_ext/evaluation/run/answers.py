"""What models answer to images: piece by piece, several times where a model is randomised."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from art_ext.evaluation.inspect import ModelInfo
from art_ext.evaluation.inspect.answers import MOVED
from art_ext.evaluation.numerics import halving
from art_ext.evaluation.schedule import Job
from art_ext.evaluation.seeding import block_seed
from art_ext.evaluation.settings import Settings
from art_ext.evaluation.targets import Defended
from art_ext.nn import predicted
from art_ext.nn.checkpointing import Pieces
from art_ext.nn.modes import all_seeded


class Answers:
    """The classes that models answer with, the number of their answers, and how many images pass at once.

    Args:
        settings: of the evaluation.
        found: facts about each model, by name; it may change while the evaluation goes on.
    """

    def __init__(self, settings: Settings, found: Mapping[str, ModelInfo]) -> None:
        self.settings, self.found = settings, found

    def repeats(self, model: Defended, job: Job | None = None) -> int:
        """How often a model answers: once unless it is randomised, or the draws of its job are frozen."""
        frozen = job is not None and job.frozen
        return self.settings.repeats if self.found[model.name].random and not frozen else 1

    def piece(self, model: Defended, x: Tensor) -> int:
        """The most images of one pass: the draws of a randomised model belong to the whole block."""
        return max(1, len(x) if self.found[model.name].random else min(self.settings.batch_size, len(x)))

    def given(self, model: Defended, module: nn.Module, x: Tensor, number: int, repeats: int | None = None) -> Tensor:
        """Classes that a model gives to a block in each repeat, (repeats, N); -1 where logits are not finite.

        Args:
            model: whose facts count.
            module: what answers.
            x: images (N, C, H, W) of the block.
            number: of the block: its draws are its own.
            repeats: number of answers; the model's own unless given.
        """
        times = self.repeats(model) if repeats is None else repeats
        nobody = torch.empty(0, dtype=torch.int64, device=x.device)

        def asked(piece: int) -> Tensor:
            found = []
            for repeat in range(times):
                with torch.no_grad(), all_seeded(block_seed(self.settings.seed, "answers", number, repeat)):
                    found.append(predicted(Pieces(module, piece)(x)) if len(x) else nobody)
            return torch.stack(found)

        return halving(self.piece(model, x), asked)

    def varied(self, model: Defended, module: nn.Module, x: Tensor) -> int:
        """Images whose normalised logits differ between two passes of a model that is taken for deterministic."""

        def asked(piece: int) -> Tensor:
            with torch.no_grad():
                return nn.functional.normalize(Pieces(module, piece)(x).nan_to_num(), dim=1)

        a, b = (halving(self.piece(model, x), asked) for _ in range(2))
        return int(((a - b).abs().amax(1) > MOVED).sum())


def answering(job: Job, number: int) -> nn.Module:
    """What answers to a block of a job: the model, or the one draw of it that is frozen."""
    return job.target(block_seed(job.seed, "frozen", number)) if job.frozen else job.model.module
