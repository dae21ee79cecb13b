"""A two-player objective small enough to follow, and a script that trains it, for kills and for two processes."""

from __future__ import annotations

import sys
import time

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from art_ext.training import Batches, Checkpoint, Objective, fit


class Game(Objective):
    """A generator with dropout and batch normalisation, a critic, and a frozen yardstick."""

    frozen = ("yardstick",)

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(dropout), nn.Conv2d(2, 1, 3))
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(8, 1))
        self.yardstick = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3))
        self.modes: list[tuple[bool, bool]] = []

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": list(self.generator.parameters()), "critic": list(self.critic.parameters())}

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        return x + 0.1 * torch.rand_like(x)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        self.modes.append((self.generator.training, self.yardstick.training))
        made = self.generator(x_adv)
        if player == "critic":
            return {"gap": (self.critic(made) - self.critic(self.yardstick(x))).mean()}
        return {"distance": (made - self.yardstick(x)).abs().mean(), "fooling": -0.1 * self.critic(made).mean()}


class Even(Game):
    """Nothing random and nothing that mixes samples: shares of a batch give the mean gradient of the whole."""

    steps_done = 0

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 1, 3))

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        (gradient,) = torch.autograd.grad(self.generator(x := x.clone().requires_grad_()).square().sum(), x)
        return x.detach() + 0.1 * gradient.sign()


def even() -> Even:
    torch.manual_seed(12)
    return Even()


def game(dropout: float = 0.5) -> Game:
    torch.manual_seed(11)
    return Game(dropout)


def images() -> Tensor:
    return torch.rand(10, 1, 6, 8, generator=torch.Generator().manual_seed(1))


def data(augment: bool = True) -> Batches:
    def jitter(x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)

    return Batches(images(), batch_size=4, seed=2, augment=jitter if augment else None)


def train(objective: Game, path: str | None, epochs: int = 4, pause: float = 0.0) -> None:
    optimizers = {k: torch.optim.Adam(p, 0.05) for k, p in objective.players().items()}
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 1, 0.7) for o in optimizers.values()]
    checkpoint = None if path is None else Checkpoint(path, every=1)
    steps = fit(
        objective, data(), epochs=epochs, seed=5, optimizers=optimizers, schedulers=schedulers, checkpoint=checkpoint
    )  # fmt: skip
    for step in steps:
        if path is not None:
            print(step.number, flush=True)
        time.sleep(pause)


def train_evenly(fabric: Fabric | None = None, batch_size: int = 4, how: str = "") -> Even:
    objective = even()
    if how == "frozen":  # as purifiers come from a folder, or from a preprocessor
        objective.requires_grad_(False)
    if how == "nan" and fabric is not None and fabric.global_rank == 1:
        objective.perturb = lambda x, y: torch.full_like(x, torch.nan)  # type: ignore[method-assign]
    if how == "raises" and fabric is not None and fabric.global_rank == 1:
        objective.perturb = lambda x, y: x[1000]  # type: ignore[method-assign]
    optimizers = {k: torch.optim.SGD(p, 0.05) for k, p in objective.players().items()}
    batches = Batches(images(), batch_size=batch_size, seed=2)
    seen: list[int] = []

    def stop() -> bool:
        return how == "stop" and fabric is not None and fabric.global_rank == 1 and len(seen) >= 3

    for step in fit(objective, batches, epochs=3, optimizers=optimizers, fabric=fabric, stop=stop):
        seen.append(step.number)
    objective.steps_done = len(seen)
    return objective


def in_two_processes(path: str, batch_size: int, how: str = "") -> None:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true")
    fabric.launch()
    trained = train_evenly(fabric, batch_size, how)
    torch.save(trained.state_dict() | {"steps": trained.steps_done}, f"{path}.{fabric.global_rank}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        train(game(), sys.argv[1], pause=0.01)
    else:
        in_two_processes(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
