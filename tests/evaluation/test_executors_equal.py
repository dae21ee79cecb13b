"""One evaluation by every executor, with workers and drivers that are killed: the same bytes and the same report."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from art_ext.evaluation import Report
from art_ext.evaluation.executors.progress import PROGRESS
from art_ext.evaluation.run.store import EXAMPLES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TIMES = int(os.environ.get("ART_EXT_TIMES", "1"))
"""How often each is repeated; the full count is ten, with twenty killed workers and ten killed drivers."""
N = os.environ.get("ART_EXT_IMAGES", "200")


def command(folder: Path, name: str, *more: object) -> list[str]:
    words = ["-m", "tests.evaluation.executed", str(folder), name, N, *map(str, more)]
    if name != "torchrun":
        return [sys.executable, *words]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]


def started(folder: Path, name: str, *more: object) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(folder, name, *more), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def done(folder: Path, name: str, *more: object) -> Path:
    process = started(folder, name, *more)
    said, _ = process.communicate()
    assert process.returncode == 0, said[-3000:]
    return folder


def needed(name: str) -> None:
    for library in {"ray": ["ray"], "slurm": ["submitit"]}.get(name, []):
        pytest.importorskip(library)


def same(a: Path, b: Path) -> None:
    assert (a / EXAMPLES).read_bytes() == (b / EXAMPLES).read_bytes()
    assert Report.load(a / "report.json").findings() == Report.load(b / "report.json").findings()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one process."""
    return done(tmp_path_factory.mktemp("alone") / "out", "none")


@pytest.mark.parametrize("repeat", range(TIMES))
@pytest.mark.parametrize("name", ["processes", "torchrun", "ray", "slurm"])
def test_every_executor_makes_the_same_bytes(name: str, repeat: int, alone: Path, tmp_path: Path) -> None:
    needed(name)
    same(alone, done(tmp_path / "out", name))
    assert not [f for f in (tmp_path / "out").iterdir() if f.name.startswith(("slurm-", "images-"))]


def workers_of(process: subprocess.Popen[str], name: str) -> list[int]:
    """Processes of a session that are workers."""
    mark = {"processes": "spawn_main", "ray": "ray::_Actor"}[name]
    return [pid for pid, line in session(process) if mark in line]


def session(process: subprocess.Popen[str]) -> Iterator[tuple[int, str]]:
    """All processes below one, with their command lines."""
    children: dict[int, list[int]] = {}
    lines = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            lines[int(stat.parent.name)] = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    below = [process.pid]
    for pid in below:
        below += children.get(pid, [])
    return ((pid, lines.get(pid, "")) for pid in below[1:])


def wait_for(folder: Path, answers: int, process: subprocess.Popen[str]) -> bool:
    """Until so many answers are in the folder; whether that came before the end."""
    while process.poll() is None:
        if len(list(folder.glob("answers/*.safetensors"))) >= answers:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("moment", range(2 * TIMES))
@pytest.mark.parametrize("name", ["processes", "ray"])
def test_a_killed_worker_costs_what_it_had(name: str, moment: int, alone: Path, tmp_path: Path) -> None:
    needed(name)
    folder, draw = tmp_path / "out", random.Random(moment)
    process = started(folder, name)
    killed = 0
    if wait_for(folder, draw.randint(1, 60), process):
        time.sleep(draw.random() * 0.1)
        workers = workers_of(process, name)
        if workers:
            os.kill(draw.choice(workers), signal.SIGKILL)
            killed = 1
    said, _ = process.communicate()
    assert process.returncode == 0, said[-3000:]
    same(alone, folder)
    counts = json.loads((folder / PROGRESS).read_text())
    assert counts["deaths"] <= killed
    assert counts["redone"] <= killed
    assert counts["done"] == counts["units"]


@pytest.mark.parametrize("moment", range(TIMES))
def test_a_killed_driver_is_gone_on_from(moment: int, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = started(folder, "processes")
    wait_for(folder, random.Random(moment).randint(1, 60), process)
    workers = workers_of(process, "processes")
    process.kill()
    process.communicate()
    begun = len(list(folder.glob("pieces/*.safetensors")))
    same(alone, done(folder, "processes"))
    assert len(list(folder.glob("pieces/*.safetensors"))) >= begun
    assert not [
        w for w in workers if Path(f"/proc/{w}").exists() and "spawn_main" in Path(f"/proc/{w}/cmdline").read_text()
    ]


@pytest.mark.parametrize("batch_size", [16, 50])
def test_batches_change_nothing_but_rounding(batch_size: int, alone: Path, tmp_path: Path) -> None:
    """The share of images with another answer is at most 1 %; starts and draws are those of the block."""
    folder = done(tmp_path / "out", "processes", batch_size)
    whole, cut = (Report.load(f / "report.json") for f in (alone, folder))
    total = differing = 0
    for a, b in zip(whole.cells, cut.cells, strict=True):
        assert (a.model, a.attack, a.knowledge) == (b.model, b.attack, b.knowledge)
        pairs = list(zip(zip(*a.predicted, strict=True), zip(*b.predicted, strict=True), strict=True))
        total, differing = total + len(pairs), differing + sum(p != q for p, q in pairs)
    assert differing <= 0.01 * total
    examples = [load_file(f / EXAMPLES) for f in (alone, folder)]
    noise = [t for t in examples[0] if t.startswith("noise") and "full" in t]
    assert noise
    assert all(torch.equal(examples[0][t], examples[1][t]) for t in noise)  # a randomised model's block is one batch


def test_an_actor_that_is_added_takes_units(alone: Path, tmp_path: Path) -> None:
    """A cluster of one core begins; a second node joins while it runs. The module is run as the others run it, since
    its models' names are part of their identity."""
    pytest.importorskip("ray")
    code = """
import runpy, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
import ray
ray.init(cluster.address, log_to_driver=False)
folder = Path(sys.argv[1])
def join():
    while not list(folder.glob("answers/*.safetensors")):
        time.sleep(0.05)
    cluster.add_node(num_cpus=1)
threading.Thread(target=join, daemon=True).start()
sys.argv[2:2] = ["ray"]
runpy.run_module("tests.evaluation.executed", run_name="__main__", alter_sys=True)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words: list[Any] = [sys.executable, "-c", code, tmp_path / "out", N]
    finished = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    same(alone, tmp_path / "out")
