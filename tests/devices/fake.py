"""A CUDA device that is not there: tensors computed on the CPU that say they lie on one, under CUDA's rules.

Inside `FakeCuda()`

- `device="cuda"`, `.to("cuda")`, `.cuda()` and `Module.to("cuda")` give tensors that say "cuda:0" or another; their
  values are real, so that attacks and trainings run, and what they give can be compared with the CPU's;
- an operation on tensors of two devices raises a RuntimeError, unless the one of the CPU is a single number; so does a
  generator of the CPU for a tensor of the device, and numpy for one (a TypeError);
- random numbers of the device come from its own generator, which `torch.manual_seed` and `torch.cuda` reach;
- every wait for the device is counted, by the line of the package that it is owed to.

It does not see what a kernel does (its rounding, its memory), nor what C++ makes inside one operation.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

COUNT = 2
"""Devices."""
RANDOM = frozenset(
    {
        "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "uniform_", "normal_",
        "normal", "exponential_", "bernoulli", "bernoulli_", "multinomial", "random_", "cauchy_", "log_normal_",
        "geometric_", "poisson", "binomial", "_standard_gamma", "_sample_dirichlet", "dropout", "dropout1d",
        "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu", "gumbel_softmax",
        "scaled_dot_product_attention",
    }
)  # fmt: skip
"""What draws from a generator."""
READ = frozenset(
    {
        "item", "__float__", "__bool__", "__int__", "__index__", "__complex__", "__contains__", "__format__",
        "__repr__", "tolist", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "equal",
        "allclose", "is_nonzero", "bincount", "inverse", "inv", "linalg_inv", "linalg_eigh", "eigh", "linalg_svd",
        "linalg_solve", "linalg_cholesky",
    }
)  # fmt: skip
"""What needs a value of the device on the host, the size of a result among them."""
FREE = frozenset(
    {
        "backward", "grad", "copy_", "set_", "register_hook", "requires_grad_", "result_type", "size", "dim", "__len__",
        "is_floating_point", "data_ptr", "_has_compatible_shallow_copy_type", "_index_put_impl_", "untyped_storage",
        "__deepcopy__", "__reduce_ex__", "expand_as", "view_as", "reshape_as",
    }
)  # fmt: skip
"""What may see two devices."""


class FakeCuda(TorchFunctionMode):
    """Two devices of this kind, "cuda:0" the current one.

    Attributes:
        waits: how often the host waited for a device, by "file:line operation".
        current: number of the current device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.current = 0
        self.assumed: int | None = None  # the device of what autograd makes during a backward pass
        self.generators = [torch.Generator().manual_seed(100 + i) for i in range(COUNT)]
        self.patches = ExitStack()

    def __enter__(self) -> FakeCuda:
        for owner, names in _stand_ins(self).items():
            for name, stand_in in names.items():
                self.patches.enter_context(mock.patch.object(owner, name, stand_in))
        # Checkpoints compare what was saved, outside of the mode, with what is recomputed, inside of it.
        known = torch.utils.checkpoint._allowed_determinism_checks_to_fns
        described = {"default": lambda x: {"shape": x.shape, "dtype": x.dtype}}
        self.patches.enter_context(mock.patch.dict(known, described))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.patches.close()

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """The waits of a block alone."""
        before, self.waits = self.waits, Counter()
        try:
            yield self.waits
        finally:
            self.waits, before = before + self.waits, before

    def device_of(self, x: Any) -> int | None:
        """Number of the device of a tensor; None for the CPU."""
        return x.__dict__.get("fake_device", self.assumed)

    def place(self, found: Any, device: int | None) -> Any:
        """Tensors in whatever was found lie on the device from now on."""

        def placed(x: Tensor) -> Tensor:
            if device is None:
                x.__dict__.pop("fake_device", None)
            else:
                x.__dict__["fake_device"] = device
            return x

        return tree_map_only(Tensor, placed, found)

    def index(self, device: Any) -> int | None:
        """Number of what a caller calls a device; None for the CPU."""
        if isinstance(device, int):
            return device
        device = torch.device(device if device is not None else "cuda")
        if device.type != "cuda":
            return None
        return self.current if device.index is None else int(device.index)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__"):
            return self._attribute(func, name, args)
        if name in ("to", "cpu", "cuda", "type_as") and isinstance(args[0], Tensor):
            return self._moved(func, name, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [d for d in map(self.device_of, tensors) if d is not None]
        device = there[0] if there else None
        if kwargs.get("device") is not None:
            device = self.index(kwargs["device"])
            kwargs["device"] = "meta" if str(kwargs["device"]) == "meta" else "cpu"
            if device is not None and name in ("tensor", "as_tensor", "new_tensor", "asarray"):
                self._wait("upload")
        elif there:
            self._check(name, args, tensors)
        if device is None:
            return func(*args, **kwargs)
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({name})")
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name == "new_tensor":
            self._wait("upload")
        found = self._run(func, args, kwargs, name, device)
        return found if name == "copy_" else self.place(found, device)

    def _attribute(self, func: Any, name: str, args: Any) -> Any:
        of, device = func.__self__, self.device_of(args[0])
        if name == "__set__":
            found = func(*args)
            if of is Tensor.data:
                self.place(args[0], self.device_of(args[1]))
            return found
        if of is Tensor.device:
            return func(*args) if device is None else torch.device("cuda", device)
        if of in (Tensor.is_cuda, Tensor.is_cpu):
            return (device is None) is (of is Tensor.is_cpu)
        found = func(*args)
        return self.place(found, device) if isinstance(found, Tensor) else found

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor:
        x, rest = args[0], list(args[1:])
        before = self.device_of(x)
        non_blocking = bool(kwargs.pop("non_blocking", False))
        if name == "cpu":
            device = None
        elif name == "cuda":
            device = self.index(rest.pop(0) if rest else kwargs.pop("device", None))
        else:
            like = kwargs.pop("other", rest[0] if rest else None)
            if isinstance(like, Tensor):
                device, rest = self.device_of(like), [like.dtype]
            elif isinstance(like, (str, torch.device, int)) and not isinstance(like, bool):
                device = self.index(rest.pop(0))
            else:
                wanted = kwargs.pop("device", None)
                device = before if wanted is None else self.index(wanted)
            rest = [part for part in rest if not isinstance(part, bool) and part is not None]
            kwargs = {k: v for k, v in kwargs.items() if v is not None}
        found = Tensor.to(x, *rest, **kwargs) if rest or kwargs else x
        if device == before:
            return self.place(found, before)
        if device is None or not (non_blocking or (x.dim() == 0 and before is None)):
            self._wait("cpu" if device is None else "upload")
        return self.place(found.clone() if found is x else found, device)

    def _check(self, name: str, args: Any, tensors: list[Tensor]) -> None:
        """CUDA's rules about two devices, and the waits."""
        if name in READ or (name == "where" and len(args) == 1):
            self._wait(name)
        if name == "repeat_interleave" and any(isinstance(a, Tensor) for a in args[1:]):
            self._wait(name)
        if name == "copy_" and self.device_of(args[0]) != self.device_of(args[1]) and args[1].dim():
            self._wait("cpu" if self.device_of(args[0]) is None else "upload")
        if name in ("__getitem__", "__setitem__"):
            return self._check_index(name, args)
        if name in FREE:
            return None
        devices = {d for d in map(self.device_of, tensors) if d is not None or len(tensors) == 1}
        if len(devices) > 1 or any(self.device_of(t) is None and t.dim() for t in tensors):
            named = ", ".join(sorted({"cpu" if d is None else f"cuda:{d}" for d in map(self.device_of, tensors)}))
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {named} ({name})")
        return None

    def _check_index(self, name: str, args: Any) -> None:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        for part in (part for part in index if isinstance(part, Tensor)):
            if self.device_of(args[0]) is None and self.device_of(part) is not None:
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if part.dtype == torch.bool:
                self._wait(f"boolean {name}")
            elif self.device_of(part) is None and part.dim():
                self._wait(f"upload of an index, {name}")
            elif part.dim() == 0 and self.device_of(part) is not None:
                self._wait(f"{name} at a number of the device")
        value = args[2] if name == "__setitem__" else None
        if isinstance(value, Tensor) and value.dim() and self.device_of(value) != self.device_of(args[0]):
            self._wait("upload" if self.device_of(value) is None else "cpu")

    def _run(self, func: Any, args: Any, kwargs: Any, name: str, device: int) -> Any:
        if name not in RANDOM:
            return func(*args, **kwargs)
        ambient = torch.default_generator.get_state()
        torch.default_generator.set_state(self.generators[device].get_state())
        try:
            return func(*args, **kwargs)
        finally:
            self.generators[device].set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(ambient)

    def _wait(self, operation: str) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None and "/art_ext/" not in frame.f_code.co_filename:
            frame = frame.f_back
        place = f"{frame.f_code.co_filename.rpartition('/art_ext/')[2]}:{frame.f_lineno}" if frame else "elsewhere"
        self.waits[f"{place} {operation}"] += 1


def _stand_ins(mode: FakeCuda) -> dict[Any, dict[str, Any]]:
    """What torch and Lightning say about CUDA inside, by module."""
    import lightning_fabric.accelerators.cuda as lightning

    def number(device: Any = None) -> int:
        found = mode.index(device)
        assert found is not None
        return found

    def seed(value: int) -> None:
        for generator in mode.generators:
            generator.manual_seed(int(value) ^ 0x5EED)

    def set_current(device: Any) -> None:
        mode.current = number(device)

    def set_state(state: Tensor, device: Any = None) -> None:
        mode.generators[number(device)].set_state(state)

    run_backward = torch.autograd._engine_run_backward

    def backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        """With the mode, which torch has put aside, for what is recomputed; what it makes lies where the outputs do."""
        before, mode.assumed = mode.assumed, mode.device_of(next(iter(outputs)))
        try:
            with _pushed(mode):
                return run_backward(outputs, *args, **kwargs)
        finally:
            mode.assumed = before

    cuda = {
        "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: COUNT,
        "current_device": lambda: mode.current, "set_device": set_current, "init": lambda: None,
        "_lazy_init": lambda: None, "get_device_name": lambda device=None: "a fake device",
        "get_device_capability": lambda device=None: (9, 0), "is_bf16_supported": lambda *_, **__: True,
        "manual_seed_all": seed, "manual_seed": seed, "synchronize": lambda device=None: mode._wait("synchronize"),
        "get_rng_state": lambda device=None: mode.generators[number(device)].get_state(), "set_rng_state": set_state,
        "max_memory_allocated": lambda device=None: 1, "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
    }  # fmt: skip
    fabric = {
        "num_cuda_devices": lambda: COUNT, "is_cuda_available": lambda: True,
        "_check_cuda_matmul_precision": lambda device: None, "_clear_cuda_memory": lambda: None,
    }  # fmt: skip
    return {
        torch.cuda: cuda,
        lightning: {name: value for name, value in fabric.items() if hasattr(lightning, name)},
        torch.autograd: {"_engine_run_backward": backward},
    }


@contextmanager
def _pushed(mode: FakeCuda) -> Iterator[None]:
    torch.overrides._push_mode(mode)
    try:
        yield
    finally:
        torch.overrides._pop_mode()
