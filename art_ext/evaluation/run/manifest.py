"""What a folder's evaluation is: everything that decides its result, and where another one differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import art_ext
from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.inspect import Fingerprint, Identity
from art_ext.evaluation.numerics import device_name
from art_ext.evaluation.seeding import SCHEME
from art_ext.evaluation.settings import Settings, stated
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Threat
from art_ext.nn.hashing import sha256
from art_ext.plain import differences

PLAN = "evaluation.json"
NOTED = ("machine",)
"""May differ when an evaluation goes on: it is noted, not refused."""


def image_hashes(x: Tensor, y: Tensor) -> dict[str, str]:
    """Hashes of images and labels."""
    return {"sha256_of_images": sha256([x]), "sha256_of_labels": sha256([y])}


def manifest(
    models: Sequence[Defended], attacks: Sequence[Any], x: Tensor, y: Tensor, settings: Settings, threat: Threat,
    shard: tuple[int, int], data: Mapping[str, Any], identities: Mapping[str, Mapping[str, Identity]],
    fingerprints: Mapping[str, Fingerprint],
) -> dict[str, Any]:  # fmt: skip
    """What is evaluated, as JSON values."""
    versions = {"art-ext": art_ext.__version__, "torch": torch.__version__, "numpy": np.__version__}
    for attack in attacks:
        versions |= attack.versions()
    found: dict[str, Any] = {
        "versions": versions,
        "images": len(x),
        "shape": list(x.shape[1:]),
        **image_hashes(x, y),
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "settings": settings.plain(),
        "attacks": [stated(a) for a in attacks],
        "data": dict(data),
        "shard": list(shard),
        "scheme": scheme(),
        "models": [m.name for m in models],
        "device": x.device.type,
        "machine": {"device": device_name(x.device), "threads": torch.get_num_threads()},
    }
    for model in models:
        parts = {part: who.sha256 for part, who in identities[model.name].items()}
        seen = fingerprints[model.name]
        found[f"model {model.name}"] = {**parts, "robust": model.robust}
        found[f"answers of {model.name}"] = {
            "predicted": list(seen.predicted),
            "logits": [list(r) for r in seen.logits],
        }
    return found


def scheme() -> dict[str, Any]:
    """How blocks and seeds are made."""
    return {"block": BLOCK, "seed": SCHEME}


def differing(
    there: Mapping[str, Any], new: Mapping[str, Any], hashes: Callable[[int], Mapping[str, str]]
) -> list[str]:  # fmt: skip
    """Where an evaluation is another one than that of the folder, and not one of more images.

    Args:
        there: manifest of the folder.
        new: manifest of the call.
        hashes: of the call's first so many images, named as in a manifest.
    """
    mine = dict(new)
    if there.get("images", 0) < new["images"]:  # what counts is what its first images are
        mine |= {**hashes(there["images"]), "images": there["images"]}
    if len(there.get("attacks", ())) == len(new["attacks"]):
        pairs = zip(there["attacks"], new["attacks"], strict=True)
        mine["attacks"] = [{**b, "images": a["images"]} if _grown(a["images"], b["images"]) else b for a, b in pairs]
    found = {k for k in {*there, *mine} if k not in NOTED and there.get(k) != mine.get(k)}
    found -= {k for k in found if k.startswith("answers of ") and _agree(there.get(k), mine.get(k))}
    return sorted(f"{k}{_apart(k, there.get(k), mine.get(k))}" for k in found)


def notes(there: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """What may differ and does."""
    if there is None:
        return []
    return [f"begun on {there[k]}, gone on with on {new[k]}" for k in NOTED if k in there and there[k] != new[k]]


def _agree(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    first, second = (Fingerprint(tuple(v["predicted"]), tuple(map(tuple, v["logits"]))) for v in (a, b))
    return first.agrees(second)


def _apart(key: str, a: Any, b: Any) -> str:
    """What differs of an entry, in parentheses: parts of a model, settings with both values; empty for lists."""
    if key.startswith("model "):
        text = "given in one of them only" if a is None or b is None else ", ".join(_parts(a, b))
    else:
        text = differences(a, b) if isinstance(a, Mapping) and isinstance(b, Mapping) else ""
    return f" ({text})" if text else ""


def _parts(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]


def _grown(old: int | None, new: int | None) -> bool:
    """Whether the images of an attack, None for all, are no fewer than they were."""
    return new is None or (old is not None and new >= old)


def call_digest(call: Mapping[str, Any]) -> str:
    """Hash of a call's settings: the same for all shards, without answers, which are compared with a tolerance."""
    asked = {k: v for k, v in call.items() if k not in (*NOTED, "shard") and not k.startswith("answers of ")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
