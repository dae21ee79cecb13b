"""A batch that several processes share: random draws, means and pairs are those of the whole batch.

Image i of the whole batch belongs to process i modulo their number. Everything here leaves a lone process as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SIZED = (torch.rand, torch.randn, torch.randint)
LIKE = (torch.rand_like, torch.randn_like)
FILLING = (Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_)


@dataclass(frozen=True)
class Share:
    """A process's part of a batch.

    Attributes:
        rank: its number.
        processes: how many there are.
        whole: images of the whole batch.
    """

    rank: int
    processes: int
    whole: int

    @property
    def own(self) -> int:
        """Images of this process."""
        return len(range(self.rank, self.whole, self.processes))

    def groups(self, count: int) -> int:
        """How many batches, one after the other, so many rows are; 0 where they are none."""
        return count // self.own if self.own and count % self.own == 0 else 0

    def rows(self, groups: int, device: torch.device) -> Tensor:
        """Where this process's rows are among those of so many whole batches."""
        first = torch.arange(self.rank, self.whole, self.processes, device=device)
        return (first + self.whole * torch.arange(groups, device=device)[:, None]).flatten()


_current: list[Share] = []  # a plain list: the backward pass may run in threads of its own


@contextmanager
def shared(rank: int, processes: int, whole: int) -> Iterator[None]:
    """Inside, this process has its part of a batch of so many images.

    Draws whose first dimension is the images', once or several times over, are the rows of a draw for the whole batch;
    all others are alike in all processes, which have one seed. Batch normalisation in train mode takes the statistics
    of the whole batch.
    """
    if processes == 1:
        yield
        return
    _current.append(Share(rank, processes, whole))
    try:
        with _WholeBatch():
            yield
    finally:
        _current.pop()


def gathered(rows: Tensor) -> Tensor:
    """The rows (N, ...) of all processes in the order of the whole batch; gradients go back to where they are from.

    Rows of several batches, one after the other, stay so.
    """
    if not _current:
        return rows
    share = _current[-1]
    groups = share.groups(len(rows))
    if not groups:
        raise ValueError(f"expected rows of batches of {share.own} images, got {len(rows)}")
    flags = rows.dtype is torch.bool  # no backend adds them
    rows = rows.int() if flags else rows
    whole = rows.new_zeros(groups * share.whole, *rows.shape[1:])
    found = _summed(whole.index_copy(0, share.rows(groups, rows.device), rows))
    return found.bool() if flags else found


def own(rows: Tensor) -> Tensor:
    """This process's rows of those of the whole batch."""
    if not _current:
        return rows
    share = _current[-1]
    return rows[share.rows(len(rows) // share.whole, rows.device)]


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient is that of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone().contiguous()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradient))


def _summed(value: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(value))


class _WholeBatch(TorchFunctionMode):
    """Draws, dropout and batch normalisation for the whole batch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in SIZED:
            return _sized(func, list(args), kwargs)
        if func in LIKE:
            return _part(args[0], lambda x: func(x, *args[1:], **kwargs))
        if func in FILLING:
            return args[0].copy_(_part(args[0], lambda x: func(x, *args[1:], **kwargs)))
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _part(like: Tensor, draw: Any) -> Tensor:
    """This process's rows of what is drawn for as many whole batches as a tensor has rows for."""
    share = _current[-1]
    groups = share.groups(len(like)) if like.ndim else 0
    if not groups:
        return cast(Tensor, draw(like.detach().clone()))
    kept = torch.preserve_format
    if like.ndim == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
        kept = torch.channels_last  # values are drawn in the order of the memory
    plain = like.new_empty(groups * share.whole, *like.shape[1:])
    whole = plain if kept is torch.preserve_format else plain.contiguous(memory_format=kept)
    found: Tensor = draw(whole)
    return found[share.rows(groups, found.device)]


def _sized(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """`torch.rand` and its like, whose size is an argument of its own, the last one, or all of them."""
    if "size" in kwargs:
        before, size = args, kwargs.pop("size")
    elif func is torch.randint or (args and isinstance(args[0], Sequence)):
        before, size = args[:-1], args[-1]
    else:
        before, size = [], args
    share = _current[-1]
    groups = share.groups(size[0]) if len(size) else 0
    if not groups:
        return cast(Tensor, func(*before, tuple(size), **kwargs))
    whole = func(*before, (groups * share.whole, *size[1:]), **kwargs)
    return cast(Tensor, whole[share.rows(groups, whole.device)])


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0:
        return F.dropout(input, p, training, inplace)
    mask = _part(input, lambda x: F.dropout(torch.ones_like(x), p))
    return input.mul_(mask) if inplace else input * mask


def _batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input if input.dtype is torch.float64 else input.float()
    over = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    sums = _summed(torch.cat([x.sum(over), x.new_full((1,), x.numel() / x.shape[1])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = x - mean.view(shape)
    variance = _summed(centred.square().sum(over)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var), momentum)
    found = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        found = found * weight.view(shape)
    if bias is not None:
        found = found + bias.view(shape)
    return found.to(input.dtype)
