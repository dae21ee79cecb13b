"""Workers change nothing: the same report and the same bytes, whatever dies; what cannot be sent is refused by name."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, evaluate
from art_ext.evaluation.executors import Executor, Unit, given_executor
from art_ext.evaluation.executors.progress import PROGRESS, Progress
from art_ext.evaluation.executors.task import Task, images_file
from art_ext.evaluation.executors.unit import TRIES, Done
from art_ext.evaluation.executors.units import Queue, in_order
from art_ext.evaluation.executors.worker import Worker
from art_ext.evaluation.report import Refusal
from art_ext.evaluation.run import Runner
from art_ext.evaluation.run.store import EXAMPLES

from .conftest import Blur, Halves, Noise
from .executed import images

THREAT = Threat("Linf", 0.2)
ATTACKS = [Attack("native", "FGSM"), Attack("native", "PGD", {"steps": 3})]
OPTIONS: dict[str, Any] = {
    "threat": THREAT, "repeats": 2, "eot_samples": 2, "probe": None, "progress": False, "batch_size": 32,
    "knowledge": [Knowledge.BLIND, Knowledge.FULL],
}  # fmt: skip


def models() -> list[Defended]:
    network = Halves()
    return [Defended("bare", network), Defended("blur", network, Blur()), Defended("noise", network, Noise())]


def run(n: int = 80, folder: Path | None = None, **options: Any) -> Report:
    x, y = images(n)
    given = {"models": models(), "attacks": ATTACKS} | options
    return evaluate(given.pop("models"), given.pop("attacks"), x, y, folder=folder, **(OPTIONS | given))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def killed_after(folder: Path, units: int) -> Iterator[list[int]]:
    """Kills one worker of this process each time that so many more answers are in the folder."""
    ended, killed = threading.Event(), []

    def watch() -> None:
        due = units
        while not ended.is_set():
            if len(list(folder.glob("answers/*.safetensors"))) >= due:
                workers = children()
                if workers:
                    os.kill(workers[0], signal.SIGKILL)
                    killed.append(workers[0])
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def children() -> list[int]:
    """Processes that were spawned from here, but for what tracks their resources."""
    task = Path(f"/proc/{os.getpid()}/task")
    numbers = [int(c) for t in task.iterdir() for c in (t / "children").read_text().split()]
    return [n for n in numbers if "spawn_main" in Path(f"/proc/{n}/cmdline").read_text()]


def same(a: Path, b: Path) -> None:
    assert (a / EXAMPLES).read_bytes() == (b / EXAMPLES).read_bytes()
    assert Report.load(a / "report.json").findings() == Report.load(b / "report.json").findings()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one process."""
    folder: Path = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    run(folder=folder)
    return folder


def test_a_process_makes_the_same_bytes(alone: Path, tmp_path: Path) -> None:
    report = run(folder=tmp_path, executor=1)
    same(alone, tmp_path)
    counts = json.loads((tmp_path / PROGRESS).read_text())
    assert counts["done"] == counts["units"] == 18  # a blind attack and the undefended row are one unit
    assert (counts["deaths"], counts["redone"], counts["workers"]) == (0, 0, 0)
    assert "18 of 18 units were made by processes" in report.notes
    assert not any("read from the folder" in note for note in report.notes)
    assert not list(tmp_path.glob("images-*"))
    assert not children()
    assert run(folder=tmp_path, executor=2).notes[-1] == "read back, nothing was run"


@pytest.mark.slow
def test_two_processes_make_the_same_bytes_and_one_that_is_killed_costs_its_unit(alone: Path, tmp_path: Path) -> None:
    with killed_after(tmp_path, 3) as killed:
        run(folder=tmp_path, executor=2)
    same(alone, tmp_path)
    counts = json.loads((tmp_path / PROGRESS).read_text())
    assert killed
    assert counts["deaths"] == 1
    assert counts["redone"] <= 1
    assert counts["done"] == counts["units"] == 18
    assert not children()


class Inside(Executor):
    """One worker, in this process, with its own copy of everything; then something happens."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.then = then

    def run(self, task: Task, waves: Any, progress: Progress, jobs: Any, runner: Runner) -> None:
        with images_file(task.folder, runner.x, runner.y) as file:
            worker = Worker(pickle.loads(pickle.dumps(replace(task, images=file))), 1)
        self.units = [unit for wave in waves for unit in wave]
        for unit in self.units:
            progress.done(worker.do(unit))
        worker.modes.close()
        self.then()


def test_without_a_folder_the_driver_makes_one_and_removes_it(alone: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    report = run(executor=Inside())
    assert report.findings() == Report.load(alone / "report.json").findings()
    assert list(tmp_path.iterdir()) == []


class Local(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = lambda x: x  # which pickle does not take

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("no work before it is refused")


def test_what_cannot_be_sent_is_refused_by_name_before_any_work() -> None:
    with pytest.raises(TypeError, match=r"expected model 'secret' as something that workers can be sent.*load="):
        run(models=[Defended("secret", Local())], executor=2)
    own = Attack("yours", "own", function=lambda module, x, y, threat: x)
    with pytest.raises(TypeError, match="expected attack 'yours own' as something"):
        run(attacks=[own], executor=2)


def load_others(device: torch.device) -> tuple[list[Defended], list[Attack]]:
    return [Defended("bare", Halves(10.0)), *models()[1:]], ATTACKS


def test_a_worker_of_another_model_is_refused_by_name() -> None:
    inside = Inside()
    inside.load = load_others
    with pytest.raises(ValueError, match=r"worker of the driver's evaluation, got one of other .*model bare"):
        run(executor=inside)


def test_units_come_longest_first_and_back_when_their_worker_dies(tmp_path: Path) -> None:
    units = [Unit((0,), 0, 1.0), Unit((1,), 0, 3.0), Unit((0,), 1, 1.0)]
    progress = Progress(units, tmp_path, bar=False)
    queue = Queue(in_order(units), progress)
    first = queue.take()
    assert first == units[1]
    queue.lost(None, "it had nothing")
    for _ in range(TRIES - 1):
        queue.lost(first, "exit code -9")
        assert queue.take() == first
    queue.lost(first, "exit code -9")
    assert progress.lost == [(first, "3 workers ended while they made block 0: exit code -9")]
    assert progress.redone == TRIES - 1
    other = queue.take()
    assert other == units[0]
    queue.done(Done(other, error="ValueError: no"))  # later blocks of that job need not be tried
    assert not queue
    assert progress.counts()["units"] == 2


def refuses(*given: Any, **options: Any) -> Tensor:
    raise AssertionError("the driver attacks")


def dies(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.slow
def test_an_attack_that_kills_every_worker_costs_its_row_alone() -> None:
    report = run(40, models=models()[:1], attacks=[ATTACKS[0], Attack("yours", "dies", function=dies)], executor=1)
    cell = report.cell("bare", "yours dies", "undefended")
    assert cell.refusal is Refusal.ERROR
    assert "3 workers ended while they made block" in cell.refused
    assert report.cell("bare", "native FGSM", "undefended").images == 40


def raises(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    raise RuntimeError("out of ideas")


def test_what_raises_in_a_worker_refuses_the_row_as_it_does_alone() -> None:
    attacks = [Attack("yours", "raises", function=raises), ATTACKS[0]]
    options: dict[str, Any] = {"models": models()[:1], "attacks": attacks}
    assert run(**options, executor=Inside()).findings() == run(**options).findings()


@pytest.mark.parametrize(
    "changes",
    [
        {"survivors_only": True, "knowledge": [Knowledge.FULL]},
        {"crafting": "bfloat16", "knowledge": [Knowledge.FULL]},
        pytest.param({"probe": Probe(40, 2, unit_tests=0), "attacks": ATTACKS[:1]}, marks=pytest.mark.slow),
        {"cross": True, "attacks": ATTACKS[:1]},
        {"shard": (1, 2), "attacks": ATTACKS[:1]},
    ],
    ids=["survivors", "bfloat16", "probes", "cross", "shard"],
)
def test_whatever_is_asked_for_workers_make_all_of_it(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the driver makes none of it: afterwards there is no attack that it could run."""
    monkeypatch.setattr("art_ext.evaluation.numerics.has_bfloat16", lambda device: True)
    alone = run(96, models=models()[1:], **changes)
    inside = Inside(lambda: monkeypatch.setattr(Attack, "__call__", refuses))
    report = run(96, tmp_path, models=models()[1:], executor=inside, **changes)
    assert report.findings() == alone.findings()
    assert len({unit[:2] for unit in inside.units}) == len(inside.units)


@pytest.mark.parametrize(
    ("given", "error"), [(0, ValueError), ("spark", ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_other_executors_are_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        given_executor(given)


class Remote:
    """What stands for the class of actors; a call of a method gives what is awaited."""

    def __init__(self, made: Callable[..., Any], dies: Callable[[], bool] = lambda: False) -> None:
        self.made, self.dies = made, dies

    def options(self, **options: Any) -> Remote:
        return self

    def remote(self, *given: Any) -> Any:
        made = self.made(*given)
        methods = {name: partial(self._called, getattr(made, name)) for name in ("prepare", "do")}
        return SimpleNamespace(**{name: SimpleNamespace(remote=method) for name, method in methods.items()})

    def _called(self, method: Callable[..., Any], *given: Any) -> Any:
        return Awaited(lambda: method(*given), self.dies() if given else False)


class Awaited:
    """The answer to come of an actor, which may be that it died."""

    def __init__(self, call: Callable[[], Any], dead: bool) -> None:
        self.call, self.dead = call, dead


def cluster(died: list[int], at: int) -> Any:
    """Ray as far as the executor needs it, in this process; the call of this number kills its actor."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    def dies() -> bool:
        died.append(len(died))
        return died[-1] == at

    def get(awaited: Awaited) -> Any:
        if awaited.dead:
            raise RayError("the node is gone")
        try:
            return awaited.call()
        except Exception as error:
            raise RayTaskError(error) from error

    return SimpleNamespace(
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError), is_initialized=lambda: True,
        put=lambda value: value, get=get, wait=lambda refs, timeout: (refs[:1], refs[1:]), kill=lambda actor: None,
        remote=lambda made: Remote(made, dies), available_resources=lambda: {"CPU": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "named", "joined"), [(None, "", "local"), (None, "host:1", None), ("ray://host:1", "", "ray://host:1")]
)
def test_no_cluster_is_joined_that_nobody_named(
    address: str | None, named: str, joined: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray left to itself joins whatever cluster left its address on this machine, and waits for a dead one."""
    pytest.importorskip("ray")
    from art_ext.evaluation.executors import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr(Worker, "_prepare", lambda self, models, seed: None)
    executor, calls = ray.Ray(address, workers=1), []  # type: tuple[Any, list[Any]]
    executor.ray = cluster([], at=-1)
    executor.ray.is_initialized, executor.ray.shutdown = lambda: False, lambda: None
    executor.ray.init = lambda at, **options: calls.append(at)
    run(n=8, models=models()[:1], folder=tmp_path, executor=executor)
    assert calls == [joined]


@pytest.mark.parametrize("sees_folder", [True, False])
def test_actors_that_die_cost_what_they_had_wherever_they_write(
    sees_folder: bool, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a cluster that is played; tests of a real one are slow."""
    pytest.importorskip("ray")
    from art_ext.evaluation.executors import ray, task

    if not sees_folder:
        monkeypatch.setattr(task, "PLAN", "elsewhere.json")
    monkeypatch.setattr(Worker, "_prepare", lambda self, models, seed: None)  # modes of this process stay
    executor, died = ray.Ray(workers=1), []  # type: tuple[Any, list[int]]
    executor.ray = cluster(died, at=3)
    report = run(folder=tmp_path, executor=executor)
    same(alone, tmp_path)
    counts = json.loads((tmp_path / PROGRESS).read_text())
    assert (counts["deaths"], counts["redone"], counts["done"]) == (1, 1, 18)
    assert len(died) == 19
    assert "18 of 18 units were made by ray" in report.notes
