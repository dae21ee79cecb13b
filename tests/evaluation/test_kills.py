"""Evaluations killed at a random moment, or made by two processes at once, give the report of an unbroken one."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from art_ext.classifiers import SmallCNN
from art_ext.evaluation import Attack, Defended, Probe, Report, Threat, evaluate
from art_ext.evaluation.run import craft
from art_ext.purifiers import RDP

from .kills import Outcome, pair, stopped, whole


def made(folder: Path) -> int:
    """Two models, one of them randomised, under attacks of three libraries."""
    torch.manual_seed(0)
    x, y = torch.rand(40, 1, 8, 8), torch.arange(40) % 4
    net, rdp = SmallCNN(1, 4, 4).eval(), RDP(1, 4, 2, "residual", noise_std=0.05).eval()
    attacks = [
        Attack("native", "PGD", {"steps": 6}), Attack("art", "PGD", {"steps": 4, "step_size": 0.1}),
        Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}, images=4, on="deterministic"),
    ]  # fmt: skip
    evaluate(
        [Defended("bare", net), Defended("rdp", net, rdp)], attacks, x, y, threat=Threat("Linf", 0.1), eot_samples=2,
        repeats=3, batch_size=8, probe=Probe(8, 3), folder=folder / "out", progress=False,
    )  # fmt: skip
    return 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, float]:
    """What an evaluation gives that nothing stops, and the seconds that it takes once everything was used."""
    folder = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    found = whole(folder, made)
    report = Report.load(folder / "out" / "report.json")
    assert report.cell("rdp", "art PGD-4 + EOT-2", "full").images == 40
    return found, time.monotonic() - began


def test_kill_9_at_random_moments_loses_nothing(unbroken: tuple[Outcome, float]) -> None:
    expected, seconds = unbroken
    chance = random.Random(os.urandom(8))
    done = [stopped(signal.SIGKILL, chance.uniform(0, 0.8 * seconds), made) for _ in range(2)]
    assert [found for found, _ in done] == [expected] * 2
    assert any(killed for _, killed in done)


def test_two_processes_in_one_folder_give_one_report(unbroken: tuple[Outcome, float]) -> None:
    assert pair(made) == unbroken[0]


def test_a_fault_is_found(unbroken: tuple[Outcome, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that depend on the process, not on the block."""
    monkeypatch.setattr(craft, "block_seed", lambda *_: os.getpid())
    assert stopped(signal.SIGKILL, unbroken[1] / 2, made)[0] != unbroken[0]
