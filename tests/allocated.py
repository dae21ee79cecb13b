"""How much memory tensors take while code runs."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocated(TorchDispatchMode):
    """Counts bytes of the storages that operators make inside: `now`, and `most` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._count((args, kwargs), made=False)  # what came from outside is not counted, nor are views of it
        out = function(*args, **(kwargs or {}))
        self._count(out, made=True)
        return out

    def _count(self, values: Any, made: bool) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self.sizes:
                storage = value.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes() if made else 0
                self.now += self.sizes[storage._cdata]
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
