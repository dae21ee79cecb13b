"""Words of reports and callers before schema 3, and facts that those reports kept in their provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from art_ext.evaluation.inspect.info import Found, ModelInfo
from art_ext.evaluation.threat import Knowledge

PARAMETERS = {"draws": "eot_samples"}
"""Old names of an attack's parameters."""
LOSSES = {"ce": "cross_entropy"}
"""Names of losses in a library's words, and in ours."""


def knowledge_now(knowledge: str) -> str:
    """The value of `Knowledge` that was meant."""
    return Knowledge.ADAPTIVE.value if knowledge == "own" else knowledge


class Parameters(dict[str, Any]):
    """An attack's parameters under today's names; names from before 0.2 are read, too."""

    def __missing__(self, key: str) -> Any:
        now = PARAMETERS.get(key, key)
        if now not in self:
            raise KeyError(key)
        return self[now]

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default."""
        return super().get(PARAMETERS.get(key, key), default)


def parameters_now(parameters: Mapping[str, Any]) -> Parameters:
    """An attack's parameters under today's names."""
    return Parameters({PARAMETERS.get(k, k): v for k, v in parameters.items()})


def effort_from(backend: str, parameters: Mapping[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """Gradient steps and losses of an attack whose report lacks them, as far as its parameters give them."""
    if backend == "yours":
        return None, ()
    whole = backend == "autoattack" and "attacks" not in parameters
    if whole or {"targets", "queries"} <= parameters.keys():  # AutoAttack, the official one and the native one
        return int(parameters.get("steps", 100)), ("cross_entropy", "dlr")
    steps = parameters.get("steps", parameters.get("max_iter"))
    if steps is None:
        return None, ()
    loss = str(parameters.get("loss", "cross_entropy"))
    return int(steps), (LOSSES.get(loss, loss),)


def shard_from(provenance: Mapping[str, Any]) -> tuple[int, int]:
    """Which of how many shards a report is, by the provenance of schema 1 and 2."""
    index, shards = provenance.get("shard", (0, 1))
    return int(index), int(shards)


def inspected_from(provenance: Mapping[str, Any], models: Iterable[str]) -> tuple[ModelInfo, ...]:
    """Facts about each model from the provenance of schema 1 and 2."""
    random = provenance.get("randomised", {})
    hashes = provenance.get("sha256_of_models", {})
    return tuple(
        ModelInfo(
            name,
            classes=int(provenance.get("classes", 0)),
            defended=name in provenance.get("defended", ()),
            robust=name in provenance.get("robust", ()),
            sha256=hashes.get(name, ""),
            randomised=Found.CLEAN if random.get(name) else Found.NOWHERE,
        )
        for name in dict.fromkeys(models)
    )
