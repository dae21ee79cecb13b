"""Faults of the kinds that only a device shows, planted one by one: the fake device finds each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext import attacks
from art_ext.attacks.norms import Linf
from art_ext.detectors import Mahalanobis
from art_ext.purifiers.dir.network import MaskedAutoEncoder
from art_ext.purifiers.rdp.purifier import RDP
from art_ext.training import fit

from . import toys
from .fake import FakeCuda


@pytest.fixture
def mode() -> Iterator[FakeCuda]:
    with FakeCuda() as mode:
        yield mode


def purified(mode: FakeCuda, name: str, **options: object) -> None:
    purifier, x = toys.purifier(name, **options).to("cuda"), toys.images()[0].to("cuda")
    with mode.counting() as waits:
        purifier(x)
    assert sum(waits.values()) <= 1, waits


def tensor_on_the_default_device(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a purifier."""

    def purify(self: RDP, x: Tensor) -> Tensor:
        return self.clean((x + self.noise_std * torch.randn(x.shape)).clamp(0, 1))

    monkeypatch.setattr(RDP, "purify", purify)
    purified(mode, "rdp", noise_std=0.1)


def generator_of_the_cpu(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a tensor of the device."""

    def purify(self: RDP, x: Tensor) -> Tensor:
        noise = torch.empty_like(x).normal_(generator=torch.Generator().manual_seed(0))
        return self.clean(x + self.noise_std * noise)

    monkeypatch.setattr(RDP, "purify", purify)
    purified(mode, "rdp", noise_std=0.1)


def number_in_an_attack_step(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a gradient is zero, asked at each step."""

    def direction(self: Linf, gradient: Tensor, x: Tensor | None = None) -> Tensor:
        return gradient.sign() if gradient.abs().sum().item() else gradient

    monkeypatch.setattr(Linf, "direction", direction)
    model, (x, y) = toys.classifier().to("cuda"), (part.to("cuda") for part in toys.images())
    with mode.counting() as waits:
        attacks.pgd(attacks.ascent(attacks.cross_entropy(model, y)), x, norm=Linf(), eps=0.1, steps=3)
    assert not waits, waits


def boolean_index_of_a_mask(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DIR's network once had it."""

    def filled(self: MaskedAutoEncoder, tokens: Tensor, hidden: Tensor, count: int) -> Tensor:
        encoded = self.encoder(tokens[~hidden].view(len(tokens), -1, tokens.shape[2]))
        found = self.hidden_token.expand_as(tokens).clone()
        found[~hidden] = encoded.reshape(-1, tokens.shape[2])
        return found

    monkeypatch.setattr(MaskedAutoEncoder, "_filled", filled)
    purified(mode, "dir")


class Hidden(nn.Module):
    """A network in a list, where no `.to` finds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.networks = [network]

    def forward(self, x: Tensor) -> Tensor:
        return self.networks[0](x)


def network_left_on_the_cpu(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen one that a training asks."""
    objective: Any = toys.stages("rdp")[0]
    objective.features = Hidden(objective.features)
    list(fit(objective.to("cuda"), toys.batches(), epochs=1))


def statistic_left_on_the_cpu(mode: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a detector: an attribute where there was a buffer."""
    learn_layers = Mahalanobis.learn_layers

    def learned(self: Mahalanobis, *given: Any) -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in learn_layers(self, *given).items()}

    monkeypatch.setattr(Mahalanobis, "learn_layers", learned)
    x, y = (part.to("cuda") for part in toys.images(60))
    Mahalanobis(toys.classifier(), ["4"]).to("cuda").fit(x, y).scores(x[:4])


FAULTS: list[tuple[Callable[[FakeCuda, pytest.MonkeyPatch], None], type[Exception], str]] = [
    (tensor_on_the_default_device, RuntimeError, "same device"),
    (generator_of_the_cpu, RuntimeError, "device type for generator"),
    (number_in_an_attack_step, AssertionError, "item"),
    (boolean_index_of_a_mask, AssertionError, "boolean __getitem__"),
    (network_left_on_the_cpu, RuntimeError, "same device"),
    (statistic_left_on_the_cpu, RuntimeError, "same device"),
]


@pytest.mark.parametrize(("plant", "error", "said"), FAULTS, ids=[plant.__name__ for plant, *_ in FAULTS])
def test_a_planted_fault_is_found(
    mode: FakeCuda, monkeypatch: pytest.MonkeyPatch, plant: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        plant(mode, monkeypatch)


class Untouched:
    """In the place of monkeypatch: plants nothing."""

    def setattr(self, *given: object) -> None:
        pass


@pytest.mark.parametrize("plant", [FAULTS[i][0] for i in (2, 3, 5)], ids=lambda plant: plant.__name__)
def test_without_the_fault_nothing_is_found(mode: FakeCuda, plant: Any) -> None:
    plant(mode, Untouched())
