"""Reports before schema 3 kept facts about their models in the provenance: read here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from art_ext.evaluation.inspect.info import Found, ModelInfo


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
