"""Writes files at once or not at all: after a kill there is the old one or the new one, never half of either."""

from __future__ import annotations

import glob
import os
import platform
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder that takes the place of `path` at once when the block ends well.

    Its name carries the machine, the process and when that began, so that processes never meet, and `remove_stale`
    knows whose it was.

    Raises:
        NotADirectoryError: a file stands where the folder has to be.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"expected a folder for {target.name}, got a file: {error.filename}") from error
    # Neither mkstemp's nor safetensors' files are readable to others; the target is as any new file is.
    temporary = target.with_name(f".{target.name}.{_owner(os.getpid())}.{uuid4().hex}.part")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path | str, name: str = "") -> None:
    """Removes the temporary files that processes of this machine left when they were killed.

    Args:
        folder: they lie below it.
        name: only those that were to take the place of this file in the folder itself; all of them unless given.
    """
    for file in Path(folder).glob(f".{glob.escape(name)}.*.part") if name else Path(folder).rglob("*.part"):
        machine, _, rest = file.name.rsplit(".", 3)[-3].partition("-") if file.name.count(".") > 3 else ("", "", "")
        process = rest.partition("-")[0]
        mine = machine == _machine() and process.isdigit()
        if mine and f"{machine}-{rest}" != _owner(int(process)):
            file.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _owner(process: int) -> str:
    """Machine, number and start of a process, in clock ticks since the machine began; "gone" for one that has ended."""
    try:
        start = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except OSError:
        start = "0" if process == os.getpid() or (not Path("/proc/self").exists() and _alive(process)) else "gone"
    return f"{_machine()}-{process}-{start}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
