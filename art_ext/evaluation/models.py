"""What is evaluated, and what an attacker of a given knowledge differentiates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from art_ext.attacks import Averaged, Frozen
from art_ext.evaluation.threat import Knowledge
from art_ext.purifiers import Purifier


@dataclass(frozen=True)
class Defended:
    """A model to evaluate: a classifier, with or without a purifier before it.

    Args:
        name: for the report.
        classifier: images (N, C, H, W) in [0, 1] to logits (N, K).
        purifier: None for the undefended classifier.
        surrogate: an independently trained classifier, for transfer attacks.
        robust: an adversarially trained classifier, which the defence is compared with; attacks need not break it.
        estimator: the ART classifier that it came from, if any.

    Raises:
        ValueError: a robust baseline with a purifier.
    """

    name: str
    classifier: nn.Module
    purifier: Purifier | None = None
    surrogate: nn.Module | None = None
    robust: bool = False
    estimator: Any = None

    def __post_init__(self) -> None:
        if self.robust and self.purifier is not None:
            raise ValueError(f"expected a robust baseline without a purifier, got {self.name!r} with one")

    @classmethod
    def from_art(cls, name: str, classifier: Any, surrogate: nn.Module | None = None) -> Defended:
        """An ART PyTorchClassifier with its preprocessing defences, as its user has it.

        Images are (N, C, H, W) in [0, 1] in the evaluation; the classifier's clip values, layout and standardisation
        are applied inside. Its preprocessing defences become the purifier: PyTorch ones with the gradients that ART
        sees, numpy ones under BPDA with the identity.

        Raises:
            TypeError: not an ART PyTorchClassifier.
            ValueError: it has no clip_values.
        """
        from art_ext.defences import PurifierPreprocessor, as_module, as_purifier

        module = as_module(classifier)
        defences = [d for d in classifier.preprocessing_defences or [] if d.apply_predict]
        view = {"clip_values": classifier.clip_values, "channels_first": classifier.channels_first}
        # A PurifierPreprocessor maps range and layout itself; its purifier takes (N, C, H, W) in [0, 1].
        purifiers = [
            as_purifier(d) if isinstance(d, PurifierPreprocessor) else as_purifier(d, **view) for d in defences
        ]
        purifier = None if not purifiers else purifiers[0] if len(purifiers) == 1 else as_purifier(purifiers)
        return cls(name, module, purifier, surrogate, estimator=classifier)

    @cached_property
    def module(self) -> nn.Module:
        """The pipeline that is evaluated."""
        return self.classifier if self.purifier is None else nn.Sequential(self.purifier, self.classifier)

    def parts(self) -> list[nn.Module]:
        """Every network of the model."""
        return [m for m in (self.module, self.surrogate) if m is not None]

    def target(
        self,
        knowledge: Knowledge,
        draws: int = 1,
        *,
        average: str = "logits",
        at_once: int | None = None,
        frozen: int | None = None,
        relaxed: bool = False,
    ) -> nn.Module:
        """The module that an attacker of this knowledge differentiates.

        Args:
            knowledge: what he knows.
            draws: of the randomness, averaged (EOT).
            average: "logits" or "gradients", for libraries that can choose.
            at_once: the most images of one pass over the draws, see `Averaged`.
            frozen: seed of the one draw that attacker and defence share.
            relaxed: let the gradient pass the purifier's final clamp.

        Raises:
            ValueError: the knowledge makes no sense here (bpda without a purifier, transfer without a surrogate).
        """
        module = self._seen(knowledge, relaxed)
        if frozen is not None:
            return Frozen(module, frozen)
        return module if draws == 1 else Averaged(module, draws, average, at_once)

    def _seen(self, knowledge: Knowledge, relaxed: bool) -> nn.Module:
        if knowledge is Knowledge.TRANSFER and self.surrogate is not None:
            return self.surrogate
        if knowledge is Knowledge.BLIND or (knowledge is Knowledge.UNDEFENDED and self.purifier is None):
            return self.classifier
        if knowledge in (Knowledge.FULL, Knowledge.OWN):
            if self.purifier is None or not relaxed:
                return self.module
            return nn.Sequential(StandIn(self.purifier, "relaxed"), self.classifier)
        if knowledge is Knowledge.BPDA and self.purifier is not None:
            return nn.Sequential(StandIn(self.purifier, "approximate"), self.classifier)
        raise ValueError(f"expected a model that {knowledge.value} attacks can be run on, got {self.name!r}")


class StandIn(nn.Module):
    """A purifier in value, another gradient: `approximate` is BPDA, `relaxed` passes the final clamp."""

    def __init__(self, purifier: Purifier, view: str) -> None:
        super().__init__()
        self.purifier, self.view = purifier, view

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = getattr(self.purifier, self.view)(x)
        return images
