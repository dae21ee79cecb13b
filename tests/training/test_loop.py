"""The training loop: who moves, what is left as it was, what a kill costs (nothing)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from toys import Game, data, game, images, train, train_evenly

from art_ext.attacks import L2, Linf, Norm
from art_ext.training import Batches, Checkpoint, Objective, fit

HERE = Path(__file__).parent


class Line(Objective):
    """loss = mean((w * x - y)^2) for a single weight."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"w": [self.w]}

    def optimizer(self, player: str, parameters: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        return {"square": (self.w * x_adv.mean((1, 2, 3)) - y).square().mean()}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_two_steps_by_hand() -> None:
    line = Line()
    batches = Batches(torch.ones(2, 1, 1, 1), torch.tensor([1.0, 3.0]), batch_size=2)
    steps = fit(line, batches, epochs=2)
    # w = 0: loss (1 + 9) / 2 = 5, gradient 2 * mean(0 - y) = -4, w = 0.4
    assert next(steps).terms == {"w/square": pytest.approx(5)}
    assert float(line.w.detach()) == pytest.approx(0.4)
    # w = 0.4: loss (0.36 + 6.76) / 2 = 3.56, gradient 2 * mean(0.4 - 1, 0.4 - 3) = -3.2, w = 0.72
    step = next(steps)
    assert (step.number, step.epoch, step.terms) == (2, 1, {"w/square": pytest.approx(3.56)})
    assert float(line.w.detach()) == pytest.approx(0.72)
    with pytest.raises(StopIteration):
        next(steps)


def test_adam_by_hand() -> None:
    line = Line(2.0)
    optimizer = {"w": torch.optim.Adam([line.w], lr=0.5)}
    steps = fit(line, Batches(torch.ones(1, 1, 2, 2), torch.ones(1), batch_size=1), epochs=2, optimizers=optimizer)
    # w = 2: gradient 2 * (2 - 1) = 2, so m = 0.2, v = 0.004, unbiased 2 and 4: w = 2 - 0.5 * 2 / 2
    next(steps)
    assert float(line.w.detach()) == pytest.approx(1.5, abs=1e-6)
    # w = 1.5: gradient 1, so m = 0.9 * 0.2 + 0.1 = 0.28, v = 0.999 * 0.004 + 0.001 = 0.004996,
    # unbiased 0.28 / 0.19 = 1.473684 and 0.004996 / 0.001999 = 2.499250: w = 1.5 - 0.5 * 1.473684 / 1.580902
    next(steps)
    assert float(line.w.detach()) == pytest.approx(1.033911, abs=1e-5)


def test_players_move_in_turn_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = game()
    seen = []
    honest = Game.terms

    def watching(self: Game, player: str, *args: object) -> dict[str, Tensor]:
        moving = {k for k, p in self.named_parameters() if p.requires_grad}
        seen.append((player, {k.split(".")[0] for k in moving}, [p.clone() for p in self.generator.parameters()]))
        return honest(self, player, *args)

    monkeypatch.setattr(Game, "terms", watching)
    before = [p.clone() for p in objective.generator.parameters()]
    next(fit(objective, data(), epochs=1))
    assert [(player, moving) for player, moving, _ in seen] == [("generator", {"generator"}), ("critic", {"critic"})]
    assert all(torch.equal(a, b) for a, b in zip(seen[0][2], before, strict=True))
    after = list(objective.generator.parameters())  # the critic's move left the generator where its own had put it
    assert all(torch.equal(a, b) for a, b in zip(seen[1][2], after, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.ndim == 4)


def test_everything_but_the_players_is_as_it_was_at_every_yield() -> None:
    objective = game()
    objective.yardstick.train()
    objective.generator[1].eval()
    objective.critic.requires_grad_(False)
    modes = [m.training for m in objective.modules()]
    flags = [p.requires_grad for p in objective.parameters()]
    frozen = {k: v.clone() for k, v in objective.yardstick.state_dict().items()}
    for _ in fit(objective, data(), epochs=2):
        assert [m.training for m in objective.modules()] == modes
        assert [p.requires_grad for p in objective.parameters()] == flags
        assert all(p.grad is None for p in objective.parameters())
        assert all(torch.equal(v, frozen[k]) for k, v in objective.yardstick.state_dict().items())
    assert set(objective.modes) == {(True, False)}  # while training: players in train mode, frozen parts in eval mode


def test_the_callers_randomness_and_the_loops_do_not_touch() -> None:
    plain, disturbed = game(), game()
    torch.manual_seed(0)
    train(plain, None)
    undisturbed = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), undisturbed)
    steps = fit(
        disturbed,
        data(),
        epochs=4,
        seed=5,
        optimizers=(o := {k: torch.optim.Adam(p, 0.05) for k, p in disturbed.players().items()}),
        schedulers=[torch.optim.lr_scheduler.StepLR(v, 1, 0.7) for v in o.values()],
    )
    for step in steps:
        torch.manual_seed(step.number)
        disturbed.eval()
    assert same(plain, disturbed)


def test_seeds_matter() -> None:
    runs = []
    for seed in (0, 0, 1):
        runs.append(game())
        for _ in fit(runs[-1], data(), epochs=1, seed=seed):
            pass
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_every_step_draws_its_own() -> None:
    drawn = []

    class Draws(Line):
        def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
            drawn.append(float(torch.rand(())))
            return x

    batches = Batches(torch.ones(3, 1, 2, 2), torch.ones(3), batch_size=1)
    for seed in (0, 1):
        list(fit(Draws(), batches, epochs=2, seed=seed))
    assert len(set(drawn)) == 12


def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    unbroken = game()
    train(unbroken, None)
    path = tmp_path / "state.pt"
    chance = random.Random(os.urandom(8))
    kill_at, later = chance.randint(1, 11), chance.uniform(0, 0.02)  # of 12 steps; within a step or a write as well
    process = subprocess.Popen(
        [sys.executable, str(HERE / "toys.py"), str(path)], stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= kill_at:
            break
    time.sleep(later)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    reached = torch.load(path, weights_only=True)["steps"]
    assert kill_at <= reached <= 12, f"killed {later} s after step {kill_at}"
    resumed = game()
    train(resumed, str(path))
    assert same(unbroken, resumed), f"killed {later} s after step {kill_at}, resumed from {reached}"
    assert torch.load(path, weights_only=True)["steps"] == 12


def test_a_finished_training_has_nothing_left_to_do(tmp_path: Path) -> None:
    train(game(), str(tmp_path / "state.pt"))
    again = game()
    train(again, str(tmp_path / "state.pt"))
    assert again.modes == []
    train(again, str(tmp_path / "state.pt"), epochs=5)
    assert len(again.modes) == 2 * 3  # one more epoch of three steps of two players


def test_nan_names_the_terms_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Breaks(Line):
        def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
            return super().terms(player, x, x_adv, y) | {"broken": 0 * self.w + (torch.nan if self.w > 0.5 else 1.0)}

    batches = Batches(torch.ones(2, 1, 1, 1), torch.tensor([1.0, 3.0]), batch_size=2)
    objective, checkpoint = Breaks(), Checkpoint(tmp_path / "state.pt", every=1)
    with pytest.raises(FloatingPointError, match=r"w/broken.*nan.*step 2.*w/square"):
        list(fit(objective, batches, epochs=5, checkpoint=checkpoint))
    state = checkpoint.load()
    assert state is not None
    assert state["steps"] == 2
    assert float(state["objective"]["w"]) == float(objective.w.detach()) == pytest.approx(0.72)


@pytest.mark.parametrize("other", ["seed", "data", "players", "schedulers"])
def test_anothers_checkpoint_is_refused_and_nothing_loaded(other: str, tmp_path: Path) -> None:
    path = Checkpoint(tmp_path / "state.pt")
    list(fit(game(), data(), epochs=1, checkpoint=path))
    objective = Line() if other == "players" else game()
    batches = Batches(images(), torch.zeros(10), batch_size=2 if other == "data" else 4, seed=2)
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    optimizers = {k: objective.optimizer(k, p) for k, p in objective.players().items()}
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 1) for o in optimizers.values()] if other == "schedulers" else []
    options = {"optimizers": optimizers, "schedulers": schedulers, "seed": int(other == "seed")}
    with pytest.raises(ValueError, match="expected the checkpoint of a training with"):
        list(fit(objective, batches, epochs=1, checkpoint=path, **options))
    assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items())


@dataclass(frozen=True)
class Weights:
    fooling: float = 0.1


class Tuned(Game):
    """A game with settings, one of which it changes while it trains."""

    def __init__(self, eps: float = 0.1, fooling: float = 0.1, norm: Norm | None = None) -> None:
        super().__init__()
        self.eps, self.weights, self.seen, self.norm = eps, Weights(fooling), 0, norm or Linf()

    def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
        self.seen += 1
        return x


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"eps": 0.2}, r"with \{'eps': 0.2\}, got one with \{'eps': 0.1\}"),
        ({"eps": np.float64(0.2)}, r"with \{'eps': 0.2\}, got one with \{'eps': 0.1\}"),
        ({"eps": torch.tensor(0.25)}, r"with \{'eps': 0.25\}, got one with \{'eps': 0.1\}"),
        ({"fooling": 0.2}, "'weights.fooling': 0.2"),
        ({"norm": L2()}, "with {'norm': 'L2'}, got one with {'norm': 'Linf'}"),
        ({"rate": 0.1}, "\"generator's group 0's initial_lr\": 0.1"),
        ({"betas": (0.5, 0.999)}, "\"critic's group 0's betas\": \\[0.5, 0.999\\]"),
        ({"milestones": [2]}, "\"scheduler 0's milestones\": {'2': 1}"),
    ],
)
def test_a_training_with_other_settings_does_not_go_on(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    def run(
        eps: float = 0.1,
        fooling: float = 0.1,
        norm: Norm | None = None,
        rate: float = 0.05,
        betas: Any = (0.9, 0.999),
        milestones: Any = (1,),
    ) -> int:
        torch.manual_seed(5)  # of the frozen yardstick, whose weights count
        objective = Tuned(eps, fooling, norm)
        optimizers = {k: torch.optim.Adam(p, rate, betas) for k, p in objective.players().items()}
        schedulers = [torch.optim.lr_scheduler.MultiStepLR(o, milestones) for o in optimizers.values()]
        path, before = Checkpoint(tmp_path / "state.pt"), objective.state_dict()["generator.0.weight"].clone()
        try:
            steps = fit(
                objective, data(), epochs=epochs, optimizers=optimizers, schedulers=schedulers, checkpoint=path
            )  # fmt: skip
            return len(list(steps))
        except ValueError:
            assert torch.equal(objective.state_dict()["generator.0.weight"], before)
            raise

    epochs = 1
    assert run() == 3
    epochs = 2
    if told:
        with pytest.raises(ValueError, match=told):
            run(**change)
    assert run() == 3


def test_a_checkpoint_of_other_shapes_is_refused_and_nothing_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.pt")
    list(fit(game(), data(), epochs=1, checkpoint=checkpoint))
    wider = game()
    wider.generator[3] = nn.Conv2d(2, 1, 5)  # the last layers have the same names
    before = {k: v.clone() for k, v in wider.state_dict().items()}
    told = r"{'generator.3.kernel_size': \[5, 5\]}, got one with {'generator.3.kernel_size': \[3, 3\]}$"
    with pytest.raises(ValueError, match=told):
        next(fit(wider, data(), epochs=1, checkpoint=checkpoint))
    assert all(torch.equal(v, before[k]) for k, v in wider.state_dict().items())


@pytest.mark.parametrize("stop", [1, 3, 7])
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 3]),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    ],
    ids=["multistep", "lambda", "one-cycle"],
)
def test_any_scheduler_resumes(scheduler: object, stop: int, tmp_path: Path) -> None:
    def run(checkpoint: Checkpoint | None, steps: int | None = None) -> Game:
        objective = game()
        optimizers = {k: torch.optim.Adam(p, 0.05) for k, p in objective.players().items()}
        schedulers = [scheduler(o) for o in optimizers.values()]  # type: ignore[operator]
        for step in fit(
            objective, data(), epochs=4, optimizers=optimizers, schedulers=schedulers, checkpoint=checkpoint
        ):  # fmt: skip
            if step.number == steps:
                break
        return objective

    checkpoint = Checkpoint(tmp_path / "state.pt", every=1)
    run(checkpoint, stop)
    assert same(run(checkpoint), run(None))


def test_schedulers_step_once_an_epoch() -> None:
    class Counts:
        steps = 0

        def step(self) -> None:
            self.steps += 1

    counts, at = Counts(), []
    for _ in fit(game(), data(), epochs=3, schedulers=[counts]):
        at.append(counts.steps)
    assert at == [0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        next(fit(game(), Batches(images()[:0], batch_size=4), epochs=1))
    with pytest.raises(ValueError, match=r"optimizers for \['generator', 'critic'\], got \['critic'\]"):
        next(fit(game(), data(), epochs=1, optimizers={"critic": torch.optim.SGD(game().critic.parameters(), 0.1)}))
    with pytest.raises(ValueError, match="every as a whole number of at least 1, got 0"):
        Checkpoint("state.pt", every=0)


def test_mixed_precision_trains() -> None:
    objective, seen = game(), []
    objective.generator[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    objective.yardstick[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    before = [p.clone() for p in objective.generator.parameters()]
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    for step in fit(objective, data(), epochs=1, fabric=fabric):
        assert all(abs(v) < 100 for v in step.terms.values())
    assert set(seen) == {torch.bfloat16}  # the losses too, not the adversaries alone
    changed = [not torch.equal(a, b) for a, b in zip(before, objective.generator.parameters(), strict=True)]
    assert any(changed)
    assert all(p.dtype == torch.float32 for p in objective.parameters())


def test_the_adversaries_are_made_in_the_fabrics_precision() -> None:
    seen = []

    class Sees(Line):
        def perturb(self, x: Tensor, y: Tensor | None) -> Tensor:
            seen.append((x.flatten(1) @ torch.ones(4, 4)).dtype)
            return x

    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    list(fit(Sees(), Batches(torch.ones(1, 1, 2, 2), torch.ones(1), batch_size=1), epochs=1, fabric=fabric))
    assert seen == [torch.bfloat16]


def two_processes(path: Path, batch_size: int, how: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "toys.py"), str(path), str(batch_size), how]
    return subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "how"), [(4, ""), (4, "frozen"), (5, "")])  # of 5, one process has 3 and one 2
def test_two_processes_end_where_one_does(batch_size: int, how: str, tmp_path: Path) -> None:
    done = two_processes(tmp_path / "state.pt", batch_size, how)
    assert done.returncode == 0, done.stderr
    expected = train_evenly(batch_size=batch_size).state_dict()
    first, second = (torch.load(tmp_path / f"state.pt.{rank}", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in expected)
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("nan", "process 1 of this training ended with FloatingPointError"),
        ("raises", "ended with IndexError: index 1000"),
    ],
)
def test_what_ends_one_process_ends_all_with_its_words(how: str, told: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = two_processes(tmp_path / "state.pt", 4, how)
    assert done.returncode != 0
    assert told in done.stderr
    assert time.monotonic() - began < 60  # not the minutes after which a group gives up


@pytest.mark.slow
def test_one_process_that_wants_to_stop_stops_all(tmp_path: Path) -> None:
    done = two_processes(tmp_path / "state.pt", 4, "stop")
    assert done.returncode == 0, done.stderr
    steps = [torch.load(tmp_path / f"state.pt.{rank}", weights_only=True)["steps"] for rank in (0, 1)]
    assert steps == [3, 3]


@pytest.mark.slow
def test_a_batch_with_fewer_images_than_processes_is_refused(tmp_path: Path) -> None:
    done = two_processes(tmp_path / "state.pt", 3)  # 10 images: 3, 3, 3 and 1
    assert done.returncode != 0
    assert "expected at least one image a process (2), got 1" in done.stderr
