"""Makes the adversarial examples of one block, and watches the model meanwhile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.attacks import Averaged, Best, Gradient, ascent, cross_entropy, eot, margin
from art_ext.evaluation.backends import native
from art_ext.evaluation.numerics import clock
from art_ext.evaluation.run.crafting import confirmed
from art_ext.evaluation.run.store import Facts, Piece
from art_ext.evaluation.run.tracker import ModelTracker
from art_ext.evaluation.schedule import Job
from art_ext.evaluation.seeding import block_seed
from art_ext.evaluation.threat import Knowledge
from art_ext.nn import predicted
from art_ext.nn.checkpointing import Draws
from art_ext.nn.compiling import standing_in
from art_ext.nn.modes import all_seeded


def examples(job: Job, number: int, x: Tensor, y: Tensor, size: int, repeats: int, watch: bool) -> Piece:
    """Adversarial examples of a block, checked against the threat.

    Args:
        job: the attack and what it knows.
        number: of the block, which its randomness belongs to.
        x: images (N, C, H, W); none is a block whose images are all broken already.
        y: labels (N,).
        size: the most images of one pass.
        repeats: answers that candidates of adaptive attacks are chosen by.
        watch: look for adversarial iterates.

    Raises:
        Cheated: the attack left the threat.
        Exception: whatever the attack or the model raises.
    """
    seed = block_seed(job.seed, "attack", number)
    target = job.target(block_seed(job.seed, "frozen", number), None if size >= len(x) else size)
    network = job.model.surrogate_network if job.knowledge is Knowledge.TRANSFER else job.model.network
    assert network is not None
    tracker = ModelTracker(target, network, job.model.purifier, x, y, job.threat, watch)
    passes = job.model.compiled if job.compiled else ()
    before = sum(fast.images for _, _, fast in passes)
    start = clock(x.device)
    with all_seeded(seed), tracker, standing_in(passes):
        if not len(x):
            x_adv = x
        elif job.knowledge is Knowledge.ADAPTIVE:
            x_adv = _adaptive(job, target, x, y, repeats)
        else:
            x_adv = job.attack(target, x.clone(), y.clone(), job.threat, leave=confirmed(job))
    facts: Facts = {"seconds": clock(x.device) - start, **tracker.counts}
    if passes:
        facts["compiled"] = sum(fast.images for _, _, fast in passes) - before
    x_adv = x_adv.detach().to(x)
    if tracker.counts["forward"]:
        moved = tracker.moved | tracker.away(x, x_adv)
        facts["moved"] = "".join("01"[v] for v in moved.tolist())
        if watch:
            facts |= {"watched": len(x), "silent": _silent(tracker, target, x_adv, y)}
    if job.attack.targeted:
        with all_seeded(seed):
            goal = job.attack.goal(target, x, y)
        assert goal is not None
        facts["goal"] = goal.tolist()
    return Piece(x_adv, facts)


def _silent(tracker: ModelTracker, target: nn.Module, x_adv: Tensor, y: Tensor) -> int:
    """Images that had an adversarial iterate and were returned right."""
    if not len(x_adv):
        return 0
    with torch.no_grad():
        wrong = predicted(target(x_adv)) != y
    return int((tracker.broken & ~wrong).sum())


def _adaptive(job: Job, target: nn.Module, x: Tensor, y: Tensor, repeats: int) -> Tensor:
    """PGD along each gradient of the method's `adaptive_attacks` and along that of the whole pipeline.

    Who knows the inside also has the full gradient, so that this leaves no more than `full` but for chance. The
    candidate of largest margin stays, at the mean logits of as many passes as the answers have. A gradient that draws
    nothing, as one whose masks are known, is not averaged: its samples would be equal.
    """
    attack, purifier = job.attack, job.model.purifier
    assert purifier is not None
    given = purifier.adaptive_attacks(job.model.network, x, y)
    if not given:
        raise ValueError(f"expected adaptive attacks from {type(purifier).__name__}, got none")
    gradients = {name: _averaged(gradient, job.eot_samples, x) for name, gradient in given.items()}
    gradients["the whole pipeline"] = ascent(cross_entropy(target, y))  # which averages by itself
    rate, best = margin(target, y), None
    for name, gradient in gradients.items():
        x_adv = native.follow(gradient, attack.name, x, job.threat, attack.parameters, score=rate, rate=rate)
        job.threat.refuse_cheats(x, x_adv, f"{attack.title} along {name}")
        if best is None:
            best = Best(margin(Averaged(job.model.module, repeats, "logits", 1), y), x_adv)
        else:
            best.offer(x_adv)
    assert best is not None
    return best.x


def _averaged(gradient: Gradient, eot_samples: int, x: Tensor) -> Gradient:
    """The mean gradient over the samples; the gradient itself if it draws nothing and is the same twice near x.

    Either alone could be chance: two equal draws for the whole batch, or a generator of its own.
    """
    if eot_samples == 1:
        return gradient
    near = (x + 0.01 * torch.rand_like(x)).clamp(0, 1)  # at x itself a distance from x has no gradient
    draws, first = Draws.now(x.device), gradient(near)
    known = not draws.moved() and torch.equal(first, gradient(near))
    return gradient if known else eot(gradient, eot_samples, at_once=1)
