"""What is seen inside a model while an attack runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import Defended, Knowledge, Threat
from art_ext.evaluation.run import ModelTracker
from art_ext.nn.checkpointing import Pieces
from art_ext.purifiers import Purifier

from .conftest import Blur, Noise, Problem

THREAT = Threat("Linf", 0.1)


def turned(x: Tensor, y: Tensor, by: float) -> Tensor:
    """Images moved towards the other class by `by` in every pixel."""
    sign = torch.where(y == 0, -1.0, 1.0).view(-1, 1, 1, 1)
    half = torch.cat([torch.ones(1, 1, 6, 4), -torch.ones(1, 1, 6, 4)], 3)
    return x + by * sign * half


def watched(problem: Problem, model: nn.Module, purifier: nn.Module | None = None) -> ModelTracker:
    return ModelTracker(model, problem.classifier, purifier, problem.x, problem.y, THREAT, watch=True)


def test_iterates_count_inside_the_ball_alone(problem: Problem) -> None:
    c = problem.classifier
    for by, expected in ((0.0, 0), (0.09, 12), (0.2, 0)):  # nothing, enough, outside
        with watched(problem, c) as tracker, torch.no_grad():
            c(turned(problem.x, problem.y, by))
        assert int(tracker.broken.sum()) == expected, by


def test_each_answer_belongs_to_the_image_that_entered_the_purifier(problem: Problem) -> None:
    blur, c = Blur(), problem.classifier
    mixed = turned(problem.x, problem.y, 0.09)
    mixed[:6] = problem.x[:6]
    with watched(problem, nn.Sequential(blur, c), blur) as tracker, torch.no_grad():
        purified = blur(mixed)  # all at once, as ART purifies before it predicts
        for piece in purified.split(5):
            c(piece)
    right = c(blur(mixed)).argmax(1) == problem.y
    assert tracker.broken.tolist() == (~right).tolist()
    assert tracker.broken[6:].all()
    assert tracker.counts == {"forward": 12, "backward": 0, "purifier_forward": 12, "purifier_backward": 0}


def test_what_the_purifier_makes_is_no_iterate(problem: Problem) -> None:
    class Turn(Blur):
        def purify(self, x: Tensor) -> Tensor:
            return turned(x, problem.y, 0.09)

    purifier = Turn()
    far = (problem.x + 0.3).clamp(0, 1)  # outside the ball; what leaves the purifier is wrong all the same
    with watched(problem, nn.Sequential(purifier, problem.classifier), purifier) as tracker, torch.no_grad():
        problem.classifier(purifier(far))
    assert not tracker.broken.any()


def test_backward_passes_are_counted_and_hooks_go(problem: Problem) -> None:
    blur, c = Blur(), problem.classifier
    with watched(problem, nn.Sequential(blur, c), blur) as tracker:
        x = problem.x[:5].clone().requires_grad_()
        torch.autograd.grad(c(blur(x)).sum(), x)
    assert tracker.counts == dict.fromkeys(("forward", "backward", "purifier_forward", "purifier_backward"), 5)
    c(blur(problem.x))
    assert tracker.counts["forward"] == 5


def test_passes_that_are_made_again_for_a_gradient_leave_no_row_behind(problem: Problem) -> None:
    """Where memory is short, activations are computed again; rows would be taken for those of other images."""
    last = nn.Linear(4, 4)  # the last thing that a gradient needs is what it takes
    last.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
    blur, network = Blur(), nn.Sequential(problem.classifier, last)
    whole = nn.Sequential(blur, network)
    with ModelTracker(whole, network, blur, problem.x, problem.y, THREAT, watch=True) as tracker:
        for _ in range(2):
            x = problem.x.clone().requires_grad_()
            torch.autograd.grad(nn.functional.cross_entropy(Pieces(whole, 5)(x), problem.y), x)
            assert not tracker.waiting
    assert tracker.counts == dict.fromkeys(("forward", "backward", "purifier_forward", "purifier_backward"), 24)
    assert not tracker.broken.any()


@pytest.mark.parametrize("piece", [None, 5])
def test_samples_and_steps_that_are_made_again_are_counted_once(problem: Problem, piece: int | None) -> None:
    class Steps(Noise):
        purify = Purifier.purify

        def steps(self, x: Tensor) -> list[Callable[[Tensor], Tensor]]:
            return [lambda v: v + 0.01 * torch.randn_like(v)] * 5

    model = Defended("steps", problem.classifier, Steps())
    target = model.target(Knowledge.FULL, 3, piece=piece)
    tracker = ModelTracker(target, model.network, model.purifier, problem.x, problem.y, THREAT, watch=True)
    with tracker:
        x = problem.x.clone().requires_grad_()
        torch.autograd.grad(nn.functional.cross_entropy(target(x), problem.y), x)
    assert tracker.counts == dict.fromkeys(("forward", "backward", "purifier_forward", "purifier_backward"), 36)
    assert not tracker.waiting


def test_a_frozen_model_is_cut_into_pieces(problem: Problem) -> None:
    model = Defended("noise", problem.classifier, Noise())
    whole, cut = (model.target(Knowledge.FULL, frozen=3, piece=piece) for piece in (None, 5))
    assert isinstance(cut, Pieces)  # so that a gradient keeps the activations of one piece
    gradients = []
    for target in (whole, cut):
        x = problem.x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(nn.functional.cross_entropy(target(x), problem.y), x)[0])
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(cut(problem.x), whole(problem.x))


def test_another_point_of_the_ball_is_a_move(problem: Problem) -> None:
    c = problem.classifier
    for by, expected in ((0.0, 0), (0.05, 12), (0.2, 0)):  # the image itself, inside, outside
        with ModelTracker(c, c, None, problem.x, problem.y, THREAT, watch=False) as tracker, torch.no_grad():
            c(turned(problem.x, problem.y, by))
        assert int(tracker.moved.sum()) == expected, by
        assert not tracker.broken.any()  # iterates were not asked for


def test_an_answer_that_is_not_finite_is_an_adversarial_iterate(problem: Problem) -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return problem.classifier(x) * torch.where(x.amax((1, 2, 3)) > 0.66, torch.nan, 1.0)[:, None]

    network = Nan()
    with ModelTracker(network, network, None, problem.x, problem.y, Threat("Linf", 0.5), watch=True) as tracker:
        network(problem.x[:1] + 0.3)
    assert bool(tracker.broken[0])
