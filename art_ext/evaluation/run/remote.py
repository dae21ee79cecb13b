"""A folder at an fsspec address, such as s3://bucket/name: worked in here, and kept there."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from art_ext.evaluation.run.manifest import PLAN

EVERY = 10.0
"""Seconds between two sendings of what is new."""
ADDRESS = "://"
OURS = (PLAN, "pieces/*.safetensors", "answers/*.safetensors", "*.safetensors", "progress.json", "report.json")
"""Files of an evaluation in the order in which they are sent; those of workers alone are not kept."""
SHORTENED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")
"""What a `Path` makes of an address."""


@contextmanager
def at_hand(folder: Path | str | None) -> Iterator[Path | str | None]:
    """The folder as one on a disk of this machine; what lies at an address is brought here, and what is new goes there.

    New files are sent every `EVERY` seconds and at the end, also where the evaluation fails: a kill costs what was made
    since. Two drivers at one address at a time do not see each other's pieces until they begin anew.

    Args:
        folder: a path, given back as it is, an address, or None.

    Raises:
        ImportError: the address needs a library that is not installed, such as s3fs.
        ValueError: an address as `Path`, or another evaluation began there meanwhile.
        OSError: the storage cannot be read, or not be written at the end; what was made stays here, and it says where.
    """
    if isinstance(folder, Path) and SHORTENED.match(folder.as_posix()):
        raise ValueError(f"expected an address as str, got Path({str(folder)!r})")
    if not isinstance(folder, str) or ADDRESS not in folder:
        yield folder
        return
    from fsspec.core import url_to_fs

    storage, root = url_to_fs(folder)
    made = Path(mkdtemp(prefix="art_ext_"))
    mirror = _Mirror(storage, root.rstrip("/"), made)
    try:
        mirror.fetch()
    except BaseException:
        rmtree(made)
        raise
    over = threading.Event()
    sender = threading.Thread(target=mirror.follow, args=(over,), daemon=True)
    sender.start()
    try:
        yield made
    finally:
        over.set()
        sender.join()
        try:
            mirror.send()
        except ValueError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise OSError(f"expected to write to {folder}, got {said}: what was made lies in {made}") from error
        rmtree(made)


class _Mirror:
    """A local folder and the same one in a storage."""

    def __init__(self, storage: Any, root: str, place: Path) -> None:
        self.storage, self.root, self.place = storage, root, place
        self.sent: dict[str, tuple[int, int]] = {}  # size and time of change, by name

    def fetch(self) -> None:
        """Brings every file of an evaluation that the storage holds."""
        self.storage.invalidate_cache()  # other machines may have written since this process last looked
        for path in sorted(self.storage.find(self.root)) if self.storage.exists(self.root) else []:
            name = path[len(self.root) :].lstrip("/") if path.startswith(self.root) else ""
            if any(Path(name).match(pattern) and name.count("/") == pattern.count("/") for pattern in OURS):
                file = self.place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                self.storage.get_file(path, str(file))
                self.sent[name] = _stamp(file)

    def send(self) -> None:
        """Sends what is new or has changed: first what is evaluated, last the report.

        Raises:
            ValueError: another evaluation has begun at the address since this one did.
        """
        self.storage.invalidate_cache()
        if PLAN not in self.sent and (self.place / PLAN).exists() and self.storage.exists(f"{self.root}/{PLAN}"):
            raise ValueError(f"expected to be alone at {self.root}, got another evaluation that began there meanwhile")
        for name in (str(file.relative_to(self.place)) for pattern in OURS for file in self.place.glob(pattern)):
            with suppress(FileNotFoundError):  # it was replaced at this moment, and comes the next time
                stamp = _stamp(self.place / name)
                if self.sent.get(name) != stamp and not Path(name).name.startswith("."):
                    self.storage.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)
                    self.storage.put_file(str(self.place / name), f"{self.root}/{name}")
                    self.sent[name] = stamp

    def follow(self, over: threading.Event) -> None:
        """Sends now and then, until it is over; what fails is sent the next time, and warned of once."""
        warned = False
        while not over.wait(EVERY):
            if not (self.place / PLAN).exists():
                continue
            try:
                self.send()
            except Exception as error:
                if not warned:
                    said = f"{type(error).__name__}: {error}"
                    warnings.warn(f"cannot write to {self.root} ({said}); it is tried again", stacklevel=2)
                warned = True


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
