"""Tiny images, classifiers and a purifier as a user has them: files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.purifiers import RDP

CODE = '''
import torch
from torch import nn


class Halves(nn.Module):
    """Left or right half brighter, and two logits that never win."""

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        low = torch.stack([left, right], 1).amin(1) - 0.5
        return self.scale * torch.stack([left, right, low, low - 0.1], 1)


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(96, 4))

    def forward(self, x):
        return self.head(self.features(x))


class Probabilities(Halves):
    def forward(self, x):
        return super().forward(x).softmax(1)


def make():
    return Halves()


def other():
    return Halves(10.0)


def layered():
    torch.manual_seed(0)
    return Layered()


def blur(x):
    return nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def number():
    return 3


def broken():
    raise RuntimeError("no weights here")


def picky():
    class Picky(Halves):
        def forward(self, x):
            assert x.shape[1] == 3, "three channels"
            return super().forward(x)

    return Picky()


network = Halves()
'''
CALL = Callable[..., Any]


class Files:
    """Paths of everything that a command takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code, self.npz, self.folder = root / "net.py", root / "test.npz", root / "photos"
        self.rdp = root / "rdp"
        self.code.write_text(CODE)
        generator = torch.Generator().manual_seed(0)
        x = 0.4 + 0.2 * torch.rand(12, 1, 6, 8, generator=generator)
        y = torch.arange(12) % 2
        x[y == 0, ..., :4] += 0.05
        x[y == 1, ..., 4:] += 0.05
        self.x = (x * 255).round().to(torch.uint8)
        self.y = y
        np.savez(self.npz, x=self.x.numpy(), y=y.numpy())
        for number, (image, label) in enumerate(zip(self.x, y.tolist(), strict=True)):
            path = self.folder / "ab"[label] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)
        torch.manual_seed(1)
        self.purifier = RDP(channels=1, width=2, blocks=2, block="residual").eval().requires_grad_(False)
        assert self.purifier(self.x / 255).std() > 0.02  # a black image would hide much
        self.purifier.save_pretrained(self.rdp)

    def spec(self, name: str) -> str:
        return f"{self.code}:{name}"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def call() -> CALL:
    """Runs art-ext in this process, and expects an exit code, any without a traceback for None."""

    def called(*arguments: object, code: int | None = 0) -> Any:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exit_code not in (0, 1, 2, 3, 4, 130, 143) or (
            result.exception and not isinstance(result.exception, SystemExit)
        ):
            raise AssertionError(result.output) from result.exception
        assert code in (None, result.exit_code), result.output
        return result

    return called


MANY = ("--attack", "--knowledge", "--set", "--require")


@pytest.fixture(scope="session")
def changed() -> CALL:
    """A command with the values of some options replaced, or added where it lacks them or they may be repeated."""

    def edited(command: tuple[Any, ...], *changes: Any) -> tuple[Any, ...]:
        words = list(command)
        for option, value in zip(changes[::2], changes[1::2], strict=True):
            if option in words and option not in MANY:
                words[words.index(option) + 1] = value
            else:
                words += [option, value]
        return tuple(words)

    return edited


@pytest.fixture(scope="session")
def refused(call: CALL) -> CALL:
    """The one line on standard error of a wrong call."""

    def line(*arguments: object) -> str:
        result = call(*arguments, code=2)
        assert result.stderr.startswith("error: expected ")
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.output
        return str(result.stderr)

    return line
