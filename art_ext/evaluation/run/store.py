"""Where an evaluation keeps its examples: pieces that several processes may write, each whole or absent after a kill.

A folder holds `evaluation.json` (what is evaluated), `pieces/` (one file a block, named by what it was made of),
`answers/` (what a model answers to a piece), `report.json` and `x_adv.safetensors`. No file is changed once it is there
but for being written anew, whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from art_ext.evaluation.run.blockwise import Blocks, save_blocks
from art_ext.evaluation.run.manifest import PLAN, differing
from art_ext.files import remove_stale, replacing
from art_ext.nn.hashing import sha256

REPORT, EXAMPLES, PIECES, ANSWERS = "report.json", "x_adv.safetensors", "pieces", "answers"
Facts = dict[str, Any]


class Piece(NamedTuple):
    """Examples of a block (N, C, H, W), on the CPU, and what was observed when they were made.

    Of a record of answers, classes (repeats, N) stand in their place.
    """

    x_adv: Tensor
    facts: Facts


class Store:
    """Examples in memory, and in a folder where there is one.

    Args:
        folder: made if it is not there; None keeps nothing beyond the run.

    Attributes:
        damaged: names of pieces that were made anew, because the file was not what had been written.
        reused: pieces that the folder held before, and that were read from it.
        failed: what kept the folder from being written; it says nothing of an attack or a model.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.memory: dict[str, Piece] = {}  # without a folder alone
        self.damaged: list[str] = []
        self.before: set[str] = set()  # names of pieces that were there, and not read yet
        self.reused = 0
        self.failed: Exception | None = None

    def known(self) -> dict[str, Any] | None:
        """The manifest of the folder's evaluation; None for a new one.

        Raises:
            ValueError: the folder holds a report of unknown origin, or an unreadable `evaluation.json`.
        """
        if self.folder is None:
            return None
        file = self.folder / PLAN
        if not file.exists():
            if any((self.folder / name).exists() for name in (REPORT, EXAMPLES)):
                raise ValueError(f"expected an empty folder or the same evaluation, got other files in {self.folder}")
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"expected {file} as this package writes it, got a damaged file: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"expected {file} as this package writes it, got a damaged file: no object")
        return found

    def claim(self, manifest: Mapping[str, Any], hashes: Callable[[int], Mapping[str, str]]) -> None:
        """Writes the manifest of the folder's evaluation, after all checks: a refused call writes nothing.

        Args:
            manifest: what is evaluated, as JSON values; one of more images of the same evaluation goes on there.
            hashes: of the first so many images and their labels, named as in the manifest.

        Raises:
            ValueError: the folder holds another evaluation; names what differs.
        """
        there = self.known()
        if self.folder is None:
            return
        if there is not None:
            try:
                others = differing(there, manifest, hashes)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                said = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"expected {self.folder / PLAN} as this package writes it, got a damaged file: {said}"
                ) from error
            if others:
                raise ValueError(
                    f"expected an empty folder or the same evaluation, got one of other {', '.join(others)} in "
                    f"{self.folder}"
                )
        remove_stale(self.folder)
        self.before = {file.name for file in (self.folder / PIECES).glob("*.safetensors")}
        with replacing(self.folder / PLAN) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")

    def get(self, key: str, fits: Callable[[Tensor], bool], room: str = PIECES) -> Piece | None:
        """A piece by what it was made of; None if it has not been made, or what is there is damaged.

        Args:
            key: everything that it depends on.
            fits: whether examples can be those of the block: shape, ball, box.
            room: of the folder, `PIECES` or `ANSWERS`.
        """
        if key in self.memory:
            return self.memory[key]
        file = self.file(key, room)
        if file is None or not file.exists():
            return None
        piece = read_piece(file)
        if piece is None or not fits(piece.x_adv):
            self.damaged.append(file.name)
            return None
        if file.name in self.before:
            self.before.remove(file.name)
            self.reused += 1
        return piece

    def put(self, key: str, piece: Piece, room: str = PIECES) -> None:
        """Keeps a piece: in the folder, or where there is none in memory, on the CPU."""
        piece = Piece(piece.x_adv.detach().cpu().contiguous(), piece.facts)
        file = self.file(key, room)
        if file is None:
            self.memory[key] = piece
            return
        said = json.dumps(piece.facts, sort_keys=True)
        try:
            with replacing(file) as temporary:
                save_file({"x_adv": piece.x_adv}, temporary, {"facts": said, "sha256": _digest(piece.x_adv, said)})
        except Exception as error:
            self.failed = error
            raise

    def finish(self, report: str, examples: Mapping[str, Blocks]) -> None:
        """Writes the report and all examples by title, a block at a time; the pieces stay, for more images."""
        if self.folder is None:
            return
        with replacing(self.folder / EXAMPLES) as temporary:
            save_blocks(examples, temporary)
        with replacing(self.folder / REPORT) as temporary:
            temporary.write_text(report, "utf-8")

    def finished(self) -> str | None:
        """The text of the folder's report, None if there is none, or if its examples are not there any more.

        Raises:
            ValueError: it is no text.
        """
        file = None if self.folder is None else self.folder / REPORT
        if file is None or not file.exists():
            return None
        if not _opens(file.with_name(EXAMPLES)):
            self.damaged.append(EXAMPLES)
            return None
        try:
            return file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"expected a whole report in {self.folder}, got a damaged one: {error}") from error

    def file(self, key: str, room: str = PIECES) -> Path | None:
        """Where a piece is kept, whether it is there or not; None without a folder."""
        if self.folder is None:
            return None
        return self.folder / room / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def _digest(x_adv: Tensor, facts: str) -> str:
    return hashlib.sha256(f"{sha256([x_adv])} {tuple(x_adv.shape)} {facts}".encode()).hexdigest()


def _opens(file: Path) -> bool:
    """Whether a file of tensors has the length that its head says."""
    try:
        with safe_open(file, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def read_piece(file: Path) -> Piece | None:
    """The piece of a file, None where it is not what was written."""
    try:
        with safe_open(file, "pt") as opened:
            said, x_adv = opened.metadata() or {}, opened.get_tensor("x_adv").clone()  # no longer the file's
        facts = said["facts"]
        return Piece(x_adv, json.loads(facts)) if said["sha256"] == _digest(x_adv, facts) else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
