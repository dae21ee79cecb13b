"""The driver's memory beyond the images does not grow with their number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, sys, tempfile
import torch
from torch import nn
from art_ext.evaluation import Attack, Defended, Knowledge, Threat, evaluate

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def run(n):
    x, y = torch.rand(n, 3, 32, 32), torch.arange(n) % 4
    before = resident()
    with tempfile.TemporaryDirectory() as folder:
        evaluate(
            [Defended("linear", network)], [Attack("native", "FGSM")], x, y, threat=Threat("Linf", 0.1), probe=None,
            progress=False, knowledge=[Knowledge.FULL], executor=1, folder=folder,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before - x.nbytes  # evaluate's own copy

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    run(64)  # imports
    print(run(int(sys.argv[1])) / 2**20)
"""
FIXED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
"""glibc raises these as it goes, and then keeps tens of MiB of what was freed."""
MORE = 16.0
"""MiB that 10,000 images may take beyond what 1,000 do: a tenth of the images."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="expected Linux, whose /proc says what a process holds")
def test_memory_of_the_driver_is_flat_in_the_number_of_images(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | FIXED | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = {}
    for images in (1000, 10_000):
        words = [sys.executable, str(program), str(images)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[images] = float(done.stdout)
    print(found)
    assert found[10_000] - found[1000] <= MORE, found
