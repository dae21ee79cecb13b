"""Whether a user's classifier or purifier takes the images and gives what it should."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from art_ext.cli.errors import machine_failed
from art_ext.cli.terminal import warn
from art_ext.images import Normalize
from art_ext.purifiers import Purifier


def check_classifier(network: nn.Module, x: Tensor, y: Tensor | None, who: str, *, finite: bool = True) -> int:
    """The number of classes of a network that gives logits for these images, whose labels are among them.

    Args:
        network: in eval mode.
        x: images (N, C, H, W); the first three are tried, alone and together.
        y: labels (N,), or None.
        who: for the message.
        finite: refuse rows of logits that are not finite; else they are said on standard error.

    Raises:
        ValueError: it does not take the images, gives no logits, or has too few classes.
    """
    means = [m.mean.numel() for m in network.modules() if isinstance(m, Normalize)]
    if any(n not in (1, x.shape[1]) for n in means):
        raise ValueError(f"expected {who} to normalise {x.shape[1]} channel(s), got {means[0]} means")
    for n in (1, 3):
        logits = _tried(network, x[:n], who)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x[:n]):
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"expected {who} to give logits ({len(x[:n])}, K), got {found}")
    wrong = int((~logits.isfinite().all(1)).sum())
    if wrong and finite:
        raise ValueError(f"expected {who} to give finite logits, got NaN or Inf for {wrong} of {len(logits)} images")
    if wrong:
        warn(f"{who} gives NaN or Inf for {wrong} of the first {len(logits)} images: such answers count as wrong")
    if y is not None and int(y.max()) >= logits.shape[1]:
        raise ValueError(
            f"expected labels below {logits.shape[1]}, the classes of {who}, got {int(y.max())} in the data"
        )
    return int(logits.shape[1])


def check_purifier(purifier: Purifier, x: Tensor) -> None:
    """Refuses a purifier that does not take these images (N, C, H, W).

    Raises:
        ValueError: wrong channels or sizes, or it gives something else than images.
    """
    if purifier.channels not in (None, x.shape[1]):
        raise ValueError(f"expected images with {purifier.channels} channel(s), what the purifier takes, "
                         f"got {x.shape[1]} in the data")  # fmt: skip
    purified = _tried(purifier, x[:2], "the purifier")
    if not isinstance(purified, Tensor):
        raise ValueError(f"expected the purifier to give images, got {type(purified).__name__}")
    if purified.shape != x[:2].shape:
        raise ValueError(f"expected the purifier to keep shape {tuple(x[:2].shape)}, got {tuple(purified.shape)}")


def _tried(network: nn.Module, x: Tensor, who: str) -> Any:
    try:
        with torch.no_grad():
            return network(x)
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        if machine_failed(error):
            raise
        raise ValueError(
            f"expected {who} to take images of shape {tuple(x.shape)}, it raised {type(error).__name__}: {error}"
        ) from error
