"""What a step of a training keeps is counted before it is begun."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.cli import memory
from art_ext.cli.memory import activations, check_memory, free


def test_what_is_kept_is_counted_once_and_without_the_weights() -> None:
    """A convolution keeps its input, ReLU its output, which is the input of the next, and the last none."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).requires_grad_(False).eval()
    x = torch.rand(1, 1, 6, 8)
    assert activations(network, x) == 4 * (6 * 8 + 4 * 6 * 8)
    assert activations(network, x.repeat(3, 1, 1, 1)) == 3 * activations(network, x)
    assert not network.training
    assert activations(network.train(), x) == 4 * (6 * 8 + 4 * 6 * 8)
    assert network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_a_step_too_large_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    network, x = nn.Conv2d(1, 4, 3), torch.rand(1, 1, 32, 32)  # keeps 4 KiB an image
    monkeypatch.setattr(memory, "free", lambda: 2**30)
    check_memory(network, x, 2**16, "rdp")
    assert not capsys.readouterr().err
    check_memory(network, x, 2**17, "rdp")
    told = "warning: one pass of 131072 images keeps 0.5 GiB, a step up to 4 times that, and 1.0 GiB are free: if the"
    assert capsys.readouterr().err.startswith(told)
    monkeypatch.setattr(memory, "free", lambda: None)
    check_memory(network, x, 2**19, "rdp")
    assert not capsys.readouterr().err


def test_the_memory_of_this_machine() -> None:
    found = free()
    assert found is None or 2**20 < found < 2**50
