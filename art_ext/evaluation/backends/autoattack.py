"""AutoAttack [Croce & Hein 2020, arXiv:2003.01690], through `autoattack` or `pyautoattack`, whichever is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from art_ext.evaluation.threat import Threat

NAMES = ("standard", "rand", "plus", "custom")


def versions() -> dict[str, str]:
    """Name and version of the library in use.

    Raises:
        ImportError: neither is installed.
    """
    name = _library().__name__.split(".")[0]
    return {name: version(name)}


def run(name: str, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, parameters: Mapping[str, Any]) -> Tensor:
    """AutoAttack's version `name`.

    Parameters: `batch_size`, `seed`, `attacks` for the version "custom", and `order`: the version's own attacks in
    another order. Each attack sees what the earlier ones left, so the order changes the time, not what is tried.

    Raises:
        ImportError: neither library is installed.
        ValueError: `order` does not hold exactly the attacks of the version.
    """
    library, options = _library(), {"seed": 0, "batch_size": 256, **parameters}
    batch_size, order = options.pop("batch_size"), options.pop("order", None)
    upstream = library.__name__.startswith("autoattack")
    if upstream and "attacks" in options:
        options["attacks_to_run"] = options.pop("attacks")
    if upstream:
        options["verbose"] = False
    attack = library.AutoAttack(
        module, norm=threat.norm, eps=threat.eps, version=name, device=str(x.device), **options
    )  # fmt: skip
    if order is not None:
        if sorted(order) != sorted(attack.attacks_to_run):
            raise ValueError(f"expected an order of {attack.attacks_to_run}, got {order}")
        attack.attacks_to_run = list(order)
    with _keeping_trace():
        if upstream:
            x_adv = attack.run_standard_evaluation(x, y, bs=batch_size)
        else:
            x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=batch_size)
    return x_adv.to(x.device)


@contextmanager
def _keeping_trace() -> Iterator[None]:
    """AutoAttack's flag for dynamic models calls `sys.settrace(None)`, which kills debuggers and coverage."""
    trace = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(trace)


def _library() -> Any:
    try:
        import autoattack as library
    except ImportError:
        try:
            import pyautoattack as library
        except ImportError as error:
            raise ImportError("AutoAttack is not installed: pip install pyautoattack") from error
    return library
