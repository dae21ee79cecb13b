"""Workers as processes of this machine: spawned, one device each, threads divided, restarted when they die."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from art_ext.evaluation.executors.base import Executor
from art_ext.evaluation.executors.progress import Progress
from art_ext.evaluation.executors.task import Sent
from art_ext.evaluation.executors.unit import TRIES, Load, Unit
from art_ext.evaluation.executors.units import Queue
from art_ext.evaluation.run import Runner
from art_ext.evaluation.schedule import Job
from art_ext.plain import number

HERE, READY, REFUSED, FAILED, DONE = "here", "ready", "refused", "failed", "done"
"""What a worker says: it is there and wants its task; has it; is no fit worker; cannot write; has done a unit."""
GUARD = "A script that calls evaluate needs `if __name__ == '__main__':` before the call: workers import it"
DEVICES = "CUDA_VISIBLE_DEVICES"


class Processes(Executor):
    """So many processes of this machine; with GPUs, process k sees GPU k alone, in turn.

    Args:
        workers: how many.
        load: makes models and attacks in each worker; pickled from here unless given.
        threads: of torch in each; the driver's divided by the workers unless given.
    """

    def __init__(self, workers: int, load: Load | None = None, threads: int | None = None) -> None:
        self.workers = int(number(workers, "workers", at_least=1, whole=True))
        self.load, self.threads = load, threads

    def run(
        self, task: Sent, waves: Sequence[Sequence[Unit]], progress: Progress, jobs: Sequence[Job],
        runner: Runner | None,
    ) -> None:  # fmt: skip
        if not waves:
            return
        threads = self.threads or max(1, torch.get_num_threads() // self.workers)
        count = min(self.workers, max(map(len, waves)))
        with ExitStack() as stack:
            payload = pickle.dumps(stack.enter_context(task.on_disk(runner)))
            pool = stack.enter_context(_pool(payload, count, threads, task.device == "cuda", progress))
            for units in waves:
                queue = Queue(units, progress)
                while queue:
                    pool.hand_out(queue)
                    pool.wait(queue)


class _Process:
    """A process, the pipe to it, and what it is doing."""

    def __init__(self, index: int, threads: int, on_gpu: bool) -> None:
        context = get_context("spawn")
        self.index, self.ready = index, False
        self.unit: Unit | None = None
        self.pipe, theirs = context.Pipe()
        visible = os.environ.get(DEVICES)
        devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        device = devices[index % len(devices)] if on_gpu else None
        self.process = context.Process(target=_main, args=(theirs, threads, device), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        self.pipe.close()
        if self.unit is None:
            self.process.join(5)  # it ends by itself, and cleans up
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Pool:
    """All processes of a run."""

    def __init__(self, payload: bytes, threads: int, on_gpu: bool, progress: Progress) -> None:
        self.payload, self.arguments = payload, (threads, on_gpu)
        self.progress, self.early = progress, 0
        self.members: list[_Process] = []

    def start(self, index: int) -> None:
        self.members.append(_Process(index, *self.arguments))

    def hand_out(self, queue: Queue) -> None:
        for member in self.members:
            if member.ready and member.unit is None:
                member.unit = queue.take()
                if member.unit is not None:
                    self._tell(member)

    @staticmethod
    def _tell(member: _Process) -> None:
        with suppress(OSError):  # it has died: `wait` finds that out
            member.pipe.send(member.unit)

    def wait(self, queue: Queue) -> None:
        """Takes what workers say, and starts a new one for each that has died."""
        said = connection.wait([m.pipe for m in self.members], timeout=1.0)
        for member in [m for m in self.members if m.pipe in said]:
            try:
                word, what = member.pipe.recv()
            except (EOFError, OSError):
                self._replace(member, queue)
                continue
            if word == REFUSED:
                raise ValueError(what)
            if word == FAILED:
                raise OSError(what)
            if word == HERE:  # before that it could not read, and the driver would wait for it
                with suppress(OSError):
                    member.pipe.send_bytes(self.payload)
            elif word == READY:
                member.ready, self.early = True, 0
                self.progress.alive += 1
            else:
                member.unit = None
                queue.done(what)
        self.progress.write()

    def _replace(self, member: _Process, queue: Queue) -> None:
        member.end()
        self.members.remove(member)
        reason = f"exit code {member.process.exitcode}"
        self.progress.deaths += 1
        self.progress.alive -= member.ready
        self.early += not member.ready
        if self.early >= TRIES:
            raise RuntimeError(f"expected workers that start, got {TRIES} in a row that did not: {reason}. {GUARD}")
        queue.lost(member.unit, reason)
        self.start(member.index)


@contextmanager
def _pool(payload: bytes, count: int, threads: int, on_gpu: bool, progress: Progress) -> Iterator[_Pool]:
    pool = _Pool(payload, threads, on_gpu, progress)
    try:
        for index in range(count):
            pool.start(index)
        yield pool
    finally:
        for member in pool.members:
            member.end()


def _main(pipe: Connection[Any, Any], threads: int, device: str | None) -> None:
    """The life of a worker: it ends with its driver, whose end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    if device is not None:
        os.environ[DEVICES] = device
    try:
        pipe.send((HERE, ""))
        payload = pipe.recv_bytes()
        try:
            worker = pickle.loads(payload).worker(threads)
        except Exception as error:  # a class that is not to be found here, a file that is gone
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            pipe.send((REFUSED, f"{kind}{error}"))
            return
        del payload
        pipe.send((READY, ""))
        while True:
            unit = pipe.recv()
            try:
                done = worker.do(unit)
            except Exception as error:
                pipe.send((FAILED, f"{type(error).__name__}: {error}"))
                return
            pipe.send((DONE, done))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
