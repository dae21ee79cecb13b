"""Flags of torch that decide how a device rounds: an evaluation has its own, and a training is another one by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import Attack, Defended, Threat, evaluate
from art_ext.training import Checkpoint, fit

from . import toys
from .fake import FakeCuda

Flags = tuple[bool, str]
ROUGH: Flags = (True, "high")
FULL: Flags = (False, "highest")


def flags() -> Flags:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


def set_flags(chosen: Flags) -> None:
    torch.backends.cudnn.allow_tf32 = chosen[0]
    torch.set_float32_matmul_precision(chosen[1])


@pytest.fixture(autouse=True)
def rough() -> Iterator[None]:
    """The caller's flags: TF32, as cuDNN has it by default."""
    before = flags()
    set_flags(ROUGH)
    yield
    set_flags(before)


class Seeing(nn.Module):
    """A classifier that notes the flags under which it is asked, and fails where it is told to."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.network, self.fails = toys.classifier(), fails
        self.seen: list[Flags] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(flags())
        if self.fails and len(self.seen) > 3:
            raise KeyboardInterrupt
        return self.network(x)


def evaluated(model: nn.Module) -> Any:
    x, y = toys.images()
    return evaluate(
        [Defended("m", model)], [Attack("native", "PGD", {"steps": 2}), Attack("art", "FGSM")], x, y, probe=None,
        threat=Threat("Linf", 0.05), progress=False,
    )  # fmt: skip


def test_an_evaluation_rounds_nothing_and_says_so() -> None:
    model = Seeing()
    where = evaluated(model).provenance["precision"]
    assert {*model.seen} == {FULL}
    assert flags() == ROUGH
    assert where["tf32"] is False
    assert where["deterministic_algorithms"] is False
    assert {"cudnn", "cudnn_benchmark"} <= where.keys()


def test_an_evaluation_that_is_stopped_puts_the_flags_back() -> None:
    model = Seeing(fails=True)
    with pytest.raises(KeyboardInterrupt):
        evaluated(model)
    assert {*model.seen} == {FULL}
    assert flags() == ROUGH


CHANGES: list[tuple[Callable[[], None], str]] = [
    (lambda: set_flags((False, "high")), r"TF32 in convolutions': False.*TF32 in convolutions': True"),
    (lambda: set_flags((True, "highest")), "precision of float32 products': 'highest'"),
    (lambda: torch.use_deterministic_algorithms(True), "deterministic algorithms': True"),
]


def trained(path: Path, epochs: int, device: str) -> None:
    objective = toys.stages("dir")[0].to(device)
    list(fit(objective, toys.batches(), epochs=epochs, checkpoint=Checkpoint(path)))


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=["tf32", "products", "deterministic"])
def test_a_training_on_a_gpu_does_not_go_on_under_other_flags(
    change: Callable[[], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    try:
        with FakeCuda():
            trained(path, 1, "cuda")
            trained(path, 2, "cuda")
            change()
            with pytest.raises(ValueError, match=said):
                trained(path, 3, "cuda")
    finally:
        torch.use_deterministic_algorithms(False)


def test_on_a_cpu_they_change_nothing(tmp_path: Path) -> None:
    trained(tmp_path / "state.pt", 1, "cpu")
    set_flags(FULL)
    trained(tmp_path / "state.pt", 2, "cpu")
