"""What a machine, a file or a user's model does wrong ends in one line and an exit code; a bug keeps its traceback."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from safetensors import SafetensorError
from torch import Tensor, nn

from art_ext.cli import fitting
from art_ext.cli.classifiers import load_classifier
from art_ext.cli.errors import FAILED, INTERRUPTED, TERMINATED, USAGE, explained
from art_ext.cli.users import Users
from art_ext.training import loop as training_loop

LATE = """
import sys
import torch
from torch import nn


class Late(nn.Module):
    '''Takes three images, and raises at more.'''

    def __init__(self, error=None) -> None:
        super().__init__()
        self.flat, self.line, self.error = nn.Flatten(), nn.LazyLinear(4), error
        self(torch.zeros(1, 1, 6, 8))

    def forward(self, x):
        if len(x) > 3 and self.error is not None:
            raise self.error
        return self.line(self.flat(x))


def runtime():
    return Late(RuntimeError("too many\\nimages"))


def value():
    return Late(ValueError("expected three"))


def key():
    return Late(KeyError("cache"))


def leaves():
    return Late(SystemExit(0))


def memory():
    return Late(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))


def deep():
    '''The error comes from a layer of torch, none of this file's code runs then.'''
    class Narrow(nn.Sequential):
        pass

    def cut(module, inputs):
        return (inputs[0][:, :-1],) if len(inputs[0]) > 3 else None

    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    network[1].register_forward_pre_hook(cut)
    return network


class Back(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > 3:
            raise RuntimeError("no way back")
        return gradient


class Backward(Late):
    def forward(self, x):
        return super().forward(Back.apply(x))


def backward():
    return Backward()


def exits():
    sys.exit(0)


def cleans(x):
    assert x.shape[-1] == 8, "eight columns"
    return x
"""


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("late") / "late.py"
    file.write_text(LATE)
    return lambda name: f"{file}:{name}"


def ended(result: Any) -> str:
    """Its only line on standard error."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return str(lines[0])


LATE_ERRORS = [
    ("runtime", "RuntimeError in the classifier: too many images (--debug shows where)"),
    ("value", "ValueError in the classifier: expected three"),
    ("key", "KeyError in the classifier: 'cache'"),
    ("leaves", "SystemExit in the classifier: 0"),
    ("deep", "RuntimeError in the classifier: mat1 and mat2"),
    ("memory", "CUDA out of memory. Tried to allocate 2.00 GiB: out of memory, lower --batch-size"),
]


@pytest.mark.parametrize(("name", "message"), [*LATE_ERRORS, ("backward", "RuntimeError in the classifier: no way")])
def test_a_model_that_raises_in_the_middle_of_a_training(
    call: Any, files: Any, late: Any, tmp_path: Path, name: str, message: str
) -> None:
    shape = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--epochs", 1)
    arguments = ("--data", files.npz, "--classifier", late(name), "--out", tmp_path / "rdp", *shape)
    assert ended(call("train", "rdp", *arguments, code=FAILED)).startswith(f"error: {message}")


@pytest.mark.parametrize(("name", "message"), LATE_ERRORS[:-1])
def test_a_model_that_raises_in_the_middle_of_an_evaluation(
    call: Any, files: Any, late: Any, tmp_path: Path, name: str, message: str
) -> None:
    arguments = ("--data", files.npz, "--classifier", late(name), "--attack", "native:FGSM", "--out", tmp_path / "out")
    assert ended(call("evaluate", *arguments, code=FAILED)).startswith(f"error: {message}")


def test_an_evaluation_goes_on_in_smaller_pieces_where_memory_runs_out(
    call: Any, files: Any, late: Any, tmp_path: Path
) -> None:
    arguments = ("--data", files.npz, "--classifier", late("memory"), "--attack", "native:FGSM")
    call("evaluate", *arguments, "--out", tmp_path / "out")


def test_debug_shows_where_a_model_raised(files: Any, late: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from art_ext.cli import app

    arguments = ["--data", files.npz, "--classifier", late("runtime"), "--out", tmp_path / "rdp", "--steps", 1]
    result = CliRunner().invoke(app, [*map(str, ["train", "rdp", *arguments, "--debug"])])
    assert isinstance(result.exception, RuntimeError)


def test_a_factory_that_ends_the_process_is_refused(refused: Any, files: Any, late: Any, tmp_path: Path) -> None:
    arguments = ("--data", files.npz, "--classifier", late("exits"), "--out", tmp_path / "out")
    assert "exits() to build a model, got SystemExit: 0" in refused("evaluate", *arguments)
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    arguments = ("--data", files.npz, "--classifier", f"{tmp_path / 'leaves.py'}:make", "--out", tmp_path / "out")
    assert "to be importable, got SystemExit: 0" in refused("evaluate", *arguments)


def test_images_that_a_users_purifier_does_not_take_are_listed(
    call: Any, files: Any, late: Any, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    for name, width in (("a.png", 8), ("b.png", 7)):
        Image.fromarray(np.zeros((6, width), np.uint8)).save(tmp_path / "in" / name)
    result = call("purify", "--purifier", late("cleans"), tmp_path / "in", tmp_path / "out", code=FAILED)
    assert "1 images purified" in result.stdout
    assert "error: b.png: AssertionError: eight columns" in result.stderr


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "AcceleratorError"])
def test_a_gpu_that_fails_is_no_fault_of_an_image(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """After an illegal access every further image would fail, too."""

    def broken(self: Any, x: Tensor) -> Tensor:
        raise type(kind, (RuntimeError,), {})("CUDA error: an illegal memory access")

    monkeypatch.setattr(type(files.purifier), "forward", broken)
    result = call("purify", "--purifier", files.rdp, files.folder, tmp_path / "out", code=FAILED)
    assert ended(result).startswith("error: CUDA error: an illegal memory access")
    assert "purified" not in result.stdout


@pytest.mark.parametrize("place", ["look", "load", "features"])
def test_memory_that_runs_out_is_not_taken_for_a_wrong_model(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def out(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    target = {
        "look": "art_ext.cli.trying.check_classifier",
        "load": "torch.jit.load",
        "features": "torch.autograd.grad",
    }
    if place == "look":
        spec = tmp_path / "net.py"
        spec.write_text("import torch\ndef make():\n    raise torch.OutOfMemoryError('CUDA out of memory')\n")
        name: object = f"{spec}:make"
    else:
        name = files.spec("layered") if place == "features" else tmp_path / "net.pt"
        (tmp_path / "net.pt").touch()
        monkeypatch.setattr(target[place], out)
    result = call("train", "rdp", "--data", files.npz, "--classifier", name, "--out", tmp_path / "rdp", code=FAILED)
    assert ended(result) == "error: CUDA out of memory: out of memory, lower --batch-size"


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "report.json"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda e: type(e).__name__)
def test_a_full_disk(call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The folder keeps no half file."""

    def full(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out.npz"
    result = call("purify", "--purifier", files.rdp, files.npz, out, code=FAILED)
    assert ended(result).endswith(": make room, then run the same command again")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_ends_a_training_that_goes_on_later(
    call: Any, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("Ctrl-C is ignored in a process in the background")
    before = signal.getsignal(number)
    honest = training_loop._Run.step

    def struck(self: Any, *batch: Any) -> dict[str, float]:
        os.kill(os.getpid(), number)
        return honest(self, *batch)

    monkeypatch.setattr(training_loop._Run, "step", struck)
    shape = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--epochs", 1)
    command = ("train", "rdp", "--data", files.npz, "--classifier", files.spec("make"), "--out", tmp_path, *shape)
    assert ended(call(*command, code=code)) == "error: interrupted: the same command goes on from here"
    assert not list(tmp_path.rglob("*.part"))
    assert signal.getsignal(number) is before
    monkeypatch.setattr(training_loop._Run, "step", honest)
    call(*command)


def test_a_signal_that_an_import_turned_into_an_error_of_its_own() -> None:
    def imported() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed to import") from error

    with pytest.raises(typer.Exit) as caught, explained(False):
        imported()
    assert caught.value.exit_code == TERMINATED


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with explained(False):
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_reader_that_has_gone_ends_it_in_silence(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr("art_ext.cli.display.table", gone)
    assert call("list", "purifiers", code=FAILED).output == ""


@pytest.mark.parametrize("text", ["", "{", "[1]", "\ufeff", "[" * 5000, "nul\x00"])
@pytest.mark.parametrize("name", ["config.json", "training.json"])
def test_a_purifiers_folder_whose_json_is_damaged(
    refused: Any, files: Any, tmp_path: Path, name: str, text: str
) -> None:
    files.purifier.save_pretrained(tmp_path / "rdp")
    (tmp_path / "rdp" / name).write_text(text, "utf-8")
    line = refused("purify", "--purifier", tmp_path / "rdp", files.npz, tmp_path / "out.npz")
    assert f"{tmp_path / 'rdp' / name}" in line


def test_a_trainings_folder_that_is_damaged(refused: Any, call: Any, files: Any, tmp_path: Path) -> None:
    shape = ("--width", 2, "--blocks", 2, "--block", "residual", "--fold", 2, "--steps", 1, "--epochs", 1)
    out = tmp_path / "rdp"
    command = ("train", "rdp", "--data", files.npz, "--classifier", files.spec("make"), "--out", out, *shape)
    call(*command)
    file = out / f"{fitting.STATE}.1"
    state = file.read_bytes()
    for damaged in (b"", state[:100], b"no checkpoint", state[:500] + b"?" + state[501:]):
        file.write_bytes(damaged)
        assert f"expected the checkpoint of a training, got {file}, which is damaged" in refused(*command)
    (out / "training.json").write_text("[]")
    assert f"expected a JSON object in {out / 'training.json'}, got list" in refused(*command)


@pytest.mark.parametrize("where", ["x", "y", "directory"])
def test_a_damaged_npz_is_named(refused: Any, files: Any, tmp_path: Path, where: str) -> None:
    bad = tmp_path / "bad.npz"
    content = bytearray(files.npz.read_bytes())
    content[{"x": 300, "y": content.index(b"y.npy") + 200, "directory": content.rindex(b"PK\x01\x02")}[where]] ^= 255
    bad.write_bytes(content)
    command = ("--classifier", files.spec("make"), "--data", bad, "--out", tmp_path / "out")
    assert f"expected an npz that can be read, got {bad}" in refused("evaluate", *command)
    line = refused("purify", "--purifier", files.rdp, bad, tmp_path / "out.npz")
    assert f"expected an npz that can be read, got {bad}" in line
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"]


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), explained(False):
        1 / 0  # noqa: B018
    with pytest.raises(RuntimeError, match="a bug"), explained(False):
        raise RuntimeError("a bug")
    with pytest.raises(ValueError, match="asked for"), explained(True):
        raise ValueError("asked for")


def test_an_error_outside_a_users_model_is_not_laid_at_its_door() -> None:
    network = nn.Linear(2, 2)

    def ours(users: Users) -> None:
        users.add("the classifier", network, "net.py:make")
        network(torch.zeros(1, 2))
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"), explained(False) as users:
        ours(users)


def test_a_trace_of_another_language_is_not_printed(call: Any, files: Any, tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(47, 4))).save(tmp_path / "net.pt")
    assert load_classifier(str(tmp_path / "net.pt"), device=torch.device("cpu"))
    arguments = ("--data", files.npz, "--classifier", tmp_path / "net.pt", "--out", tmp_path / "out")
    line = ended(call("evaluate", *arguments, code=USAGE))
    assert line.startswith(
        "error: expected --classifier to take images of shape (1, 1, 6, 8), it raised RuntimeError: Runtime"
    )
    assert line.endswith("(1x48 and 47x4)")
