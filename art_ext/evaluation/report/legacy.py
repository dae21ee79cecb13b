"""Words of reports and callers before schema 3, and facts that those reports kept in their provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from art_ext.evaluation.inspect.info import Found, ModelInfo
from art_ext.evaluation.threat import Knowledge

PARAMETERS = {"draws": "eot_samples"}
"""Old names of an attack's parameters."""


def knowledge_now(knowledge: str) -> str:
    """The value of `Knowledge` that was meant."""
    return Knowledge.ADAPTIVE.value if knowledge == "own" else knowledge


def parameters_now(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """An attack's parameters under today's names."""
    if not PARAMETERS.keys() & parameters.keys():
        return parameters
    return {PARAMETERS.get(k, k): v for k, v in parameters.items()}


def shard_from(provenance: Mapping[str, Any]) -> tuple[int, int]:
    """Which of how many shards the provenance of schema 1 and 2 says that a report is of."""
    index, shards = provenance.get("shard", (0, 1))
    return int(index), int(shards)


def inspected_from(provenance: Mapping[str, Any], models: Iterable[str]) -> tuple[ModelInfo, ...]:
    """What the provenance of schema 1 and 2 says about each model; nothing else is known of it."""
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
