"""Looks at one model once, before anything is scheduled."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from art_ext.evaluation.blocks import BLOCK
from art_ext.evaluation.inspect import answers, gradients
from art_ext.evaluation.inspect.identity import Fingerprint
from art_ext.evaluation.inspect.info import Gradient, ModelInfo
from art_ext.evaluation.numerics import OUT_OF_MEMORY, clock, device_name, halving
from art_ext.evaluation.targets import Defended, dtype_of
from art_ext.evaluation.threat import Threat
from art_ext.nn.checkpointing import Pieces
from art_ext.nn.identity import Identity, identity
from art_ext.nn.modes import all_seeded

LOOKED_AT = 64
"""Images that a model is inspected with."""


def identities(model: Defended) -> dict[str, Identity]:
    """What each part of a model is: the "classifier", the "purifier" (also of none) and the "surrogate"."""
    return {part: identity(getattr(model, part)) for part in ("classifier", "purifier", "surrogate")}


def inspect_model(model: Defended, whole: Identity, x: Tensor, y: Tensor, threat: Threat, piece: int) -> ModelInfo:
    """The facts about a model that decide what can be run on it and what its numbers mean.

    Args:
        model: in eval mode.
        whole: its identity, taken before any pass.
        x: images (N, C, H, W) in [0, 1]; the first `LOOKED_AT` are used.
        y: labels (N,).
        threat: norm and radius.
        piece: the most images of one pass; halved where memory does not suffice.

    Raises:
        TypeError: the model's answer is no floating-point tensor.
        ValueError: it is not (N, K).
    """
    x, y = x[:LOOKED_AT], y[:LOOKED_AT]
    written = answers.writes_input(model, x[:1])
    info = halving(piece, lambda size: _answering(model, whole, x, y, size))
    info = replace(info, writes_input=written)
    back = _backward(model, x, y, threat, piece)
    info = replace(
        info, gradient=back.kind, gradient_error=back.error, zero_gradients=back.zero, bad_gradients=back.bad
    )
    usable = back.kind in (Gradient.EXACT, Gradient.STAND_IN)
    try:
        found = halving(piece, lambda size: answers.randomised(Pieces(model.module, size), x, y, threat, usable))
        info = replace(info, randomised=found)
        company = halving(piece, lambda size: answers.in_company(model.module, x[:size], info.random))
        held = halving(piece, lambda size: gradients.held_pixels(model, x, threat, size))
        info = replace(info, batch=company, held_pixels=held)
        if not usable:
            return replace(info, slope_reason="there is no gradient")
        slopes, reason = halving(min(gradients.SLOPES, piece), lambda size: gradients.slopes(model, x, y, threat, size))
        compared = halving(piece, lambda size: gradients.art_gradient(model, x[:size], y[:size]))
    except Exception as error:  # on clean images it answered: this is what attackers will meet
        said = f"{type(error).__name__}: {error}"
        return replace(info, error=said, slope_reason=info.slope_reason or "the model raises")
    return replace(info, slopes=slopes, slope_reason=reason, art=compared)


def fingerprint(model: Defended, x: Tensor) -> Fingerprint:
    """What a model answers to the first block of x (N, C, H, W), under one seed and in one pass where memory allows."""

    def asked(piece: int) -> Fingerprint:
        with torch.no_grad(), all_seeded(0):
            return Fingerprint.of(Pieces(model.module, piece)(x[:BLOCK]))

    return halving(BLOCK, asked)


def _answering(model: Defended, whole: Identity, x: Tensor, y: Tensor, piece: int) -> ModelInfo:
    module = Pieces(model.module, piece)
    with torch.no_grad():
        logits = module(x)  # which warms up, too
        start = clock(x.device)
        module(x[:BLOCK])
        seconds = (clock(x.device) - start) / len(x[:BLOCK])
    parts: list[nn.Module] = [m for m in (model.purifier, model.classifier) if m is not None]
    return ModelInfo(
        model.name, logits.shape[1], model.purifier is not None, model.robust,
        " + ".join(type(m).__name__ for m in parts), whole.sha256, whole.opaque, fingerprint(model, x),
        str(dtype_of(model.classifier)).removeprefix("torch."), device_name(x.device), len(x),
        bad_rows=answers.bad_rows(logits), probabilities=answers.are_probabilities(logits), seconds_a_pass=seconds,
    )  # fmt: skip


def _backward(model: Defended, x: Tensor, y: Tensor, threat: Threat, piece: int) -> gradients.Backward:
    """Piece by piece without checkpointing, so that autograd is asked as an attack asks it."""

    def asked(size: int) -> list[gradients.Backward]:
        pieces = zip(x.split(size), y.split(size), strict=True)
        return [gradients.backward(model, model.module, a, b, threat) for a, b in pieces]

    try:
        found = halving(piece, asked)
    except OUT_OF_MEMORY as error:
        return gradients.Backward(Gradient.FAILED, error=f"{type(error).__name__} with one image: {error}")
    worst = next((f for f in found if f.error), found[0])
    return worst._replace(zero=sum(f.zero for f in found), bad=sum(f.bad for f in found))
