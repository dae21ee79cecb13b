"""Where an evaluation keeps its examples: a kill loses at most one batch, and more images cost only themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from art_ext.training import replacing

REPORT, EXAMPLES, PLAN = "report.json", "x_adv.safetensors", "evaluation.json"
Facts = dict[str, Any]


class Store:
    """Examples in memory, and in a folder where there is one: a file a batch, each written at once or not at all.

    Args:
        folder: made if it is not there; None keeps nothing beyond the run.
        plan: what is evaluated, as JSON values; an interrupted evaluation goes on only under the same plan, or one of
            more images: of the evaluation, whose first ones are the same, or of an attack.
        hashes: of the plan's first so many images and their labels, named as in the plan.

    Raises:
        ValueError: the folder holds another evaluation.
    """

    def __init__(
        self, folder: Path | str | None, plan: Mapping[str, Any], hashes: Callable[[int], Mapping[str, str]]
    ) -> None:  # fmt: skip
        self.folder, self.plan = None if folder is None else Path(folder), json.loads(json.dumps(plan))
        self.memory: dict[tuple[str, int], tuple[Tensor, Facts]] = {}
        self.titled: dict[str, Tensor] = {}
        if self.folder is None:
            return
        known = self.folder / PLAN
        if not known.exists() and any((self.folder / name).exists() for name in (REPORT, EXAMPLES)):
            raise ValueError(f"expected an empty folder or the same evaluation, got other files in {self.folder}")
        if known.exists():
            there = json.loads(known.read_text("utf-8"))
            differing = _differing(there, self.plan, hashes)
            if differing:
                raise ValueError(
                    f"expected an empty folder or the same evaluation, got one of other {', '.join(differing)} in "
                    f"{self.folder}"
                )
        for left in self.folder.rglob("*.part"):  # of a kill within a write
            left.unlink()
        with replacing(known) as temporary:
            temporary.write_text(json.dumps(plan, indent=1, sort_keys=True), "utf-8")

    def get(self, key: str, number: int, like: Tensor) -> tuple[Tensor, Facts] | None:
        """Examples of a batch on the device of `like` and what was observed when they were made; None if not made."""
        if (key, number) in self.memory:
            return self.memory[key, number]
        file = self._file(key, number)
        if file is None or not file.exists():
            return None
        with safe_open(file, "pt") as opened:
            facts: Facts = json.loads(opened.metadata()["facts"])
            found = opened.get_tensor("x_adv").to(like.device), facts
        self.memory[key, number] = found
        return found

    def put(self, key: str, number: int, x_adv: Tensor, facts: Facts) -> None:
        """Keeps the examples of a batch."""
        self.memory[key, number] = (x_adv, facts)
        file = self._file(key, number)
        if file is not None:
            with replacing(file) as temporary:
                save_file({"x_adv": x_adv.cpu().contiguous()}, temporary, metadata={"facts": json.dumps(facts)})

    def finish(self, report: str) -> None:
        """Writes the report and all examples (`titled`); the pieces stay, for more images."""
        if self.folder is None:
            return
        with replacing(self.folder / EXAMPLES) as temporary:
            save_file({k: v.cpu().contiguous().clone() for k, v in self.titled.items()}, temporary)
        with replacing(self.folder / REPORT) as temporary:
            temporary.write_text(report, "utf-8")

    def finished(self) -> str | None:
        """The report of an evaluation that had ended, as JSON; None if it was one of fewer images."""
        done = None if self.folder is None else self.folder / REPORT
        if done is None or not done.exists():
            return None
        text = done.read_text("utf-8")
        whole = json.loads(text)["provenance"]
        return text if all(whole.get(k) == v for k, v in self.plan.items()) else None

    def _file(self, key: str, number: int) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        return self.folder / "pieces" / f"{name}-{number:05d}.safetensors"


def _differing(
    there: Mapping[str, Any], plan: Mapping[str, Any], hashes: Callable[[int], Mapping[str, str]]
) -> list[str]:  # fmt: skip
    """Where a plan is another one than that of the folder, and not of more images."""
    new = dict(plan)
    if there.get("images", 0) < plan["images"]:  # what counts is what its first images are
        new |= {**hashes(there["images"]), "images": there["images"]}
    if len(there.get("attacks", ())) == len(plan["attacks"]):
        pairs = zip(there["attacks"], plan["attacks"], strict=True)
        new["attacks"] = [{**b, "images": a["images"]} if _grown(a["images"], b["images"]) else b for a, b in pairs]
    return sorted(k for k in {*there, *new} if there.get(k) != new.get(k))


def _grown(old: int | None, new: int | None) -> bool:
    """Whether the images of an attack, None for all, are no fewer than they were."""
    return new is None or (old is not None and new >= old)
