"""Rows of peak memory: each figure is that of a process of its own, see `memory_cases`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

from benchmarks.performance.measure import Comparison, Contender
from benchmarks.performance.problems import Options

MIB = 2**20
SIZES = {
    "EOT samples": (1, 4, 16, 64),
    "purifier steps": (10, 100, 1000),
    "purify": (100, 2000, 20000),
    "predict": (100, 2000, 20000),
    "predict through ART": (100, 2000, 20000),
    "evaluate": (100, 2000, 20000),
}
"""Cases, each with the sizes that it is measured at."""
IMAGES = ("purify", "predict", "predict through ART", "evaluate")
"""Cases whose size is the number of images."""
IMAGES_OF = {"EOT samples": 32, "purifier steps": 4}
IMAGE = 28 * 28 * 4
"""Bytes of an image."""
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment in which glibc gives freed blocks back to the system: its heap of fragments, which is large where blocks
of several sizes come and go, is no part of what a program holds."""


def memory(options: Options) -> list[Comparison]:
    """MiB beyond what was held before; for cases of images also what the images take."""
    return [_comparison(case, sizes, options) for case, sizes in SIZES.items()]


def _comparison(case: str, sizes: tuple[int, ...], options: Options) -> Comparison:
    sizes = tuple(dict.fromkeys(size if case not in IMAGES else min(size, options.n(size)) for size in sizes))
    contenders = [_contender(f"{size:,}", case, size, options) for size in sizes]
    contenders.append(_contender(f"{sizes[-1]:,}, malloc as it is", case, sizes[-1], options, {}))
    if case in IMAGES:
        contenders.append(Contender("the images", lambda: lambda: sizes[-1] * IMAGE / MIB))
    malloc = "glibc told to give freed blocks back, but where said"
    settings = {"n": sizes[-1] if case in IMAGES else IMAGES_OF[case], "allocator": malloc}
    return Comparison(
        "memory", f"peak memory, {case}", contenders, f"{sizes[0]:,}", settings, measures=("mib",), rounds=1,
        warm_up=False, once=True,
    )  # fmt: skip


def _contender(
    name: str, case: str, size: int, options: Options, environment: Mapping[str, str] = GIVES_BACK
) -> Contender:  # fmt: skip
    return Contender(name, lambda: partial(peak, case, size, options, environment))


def peak(case: str, size: int, options: Options, environment: Mapping[str, str] = GIVES_BACK) -> float:
    """MiB that the case holds at most beyond what its process held before it.

    Raises:
        RuntimeError: the process failed, with its last line.
    """
    command = [sys.executable, "-m", "benchmarks.performance.memory_cases", case, str(size), str(options.device)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])
