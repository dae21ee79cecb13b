"""Borrowing a network: what is changed for a while and put back exactly as it was."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, each submodule's own mode restored after."""
    # A frozen TorchScript module has no mode any more.
    modes = [(m, m.training) for module in modules for m in module.modules() if hasattr(m, "training")]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def untracked(*modules: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of batch normalisation unchanged inside, in train mode too; it normalises as ever.

    For one more pass of images that a step has already counted. A layer in eval mode is not concerned.
    """
    norms = [m for module in modules for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    flags = [(m, m.track_running_stats) for m in norms if m.training]
    try:
        for norm, _ in flags:
            norm.track_running_stats = False
        yield
    finally:
        for norm, flag in flags:
            norm.track_running_stats = flag


@contextmanager
def trainable(parameters: Iterable[nn.Parameter], among: Iterable[nn.Parameter]) -> Iterator[None]:
    """Only `parameters` require a gradient inside, none of the others `among`; the flags are restored after."""
    chosen = {id(p) for p in parameters}
    flags = [(p, p.requires_grad) for p in among]
    try:
        for p, _ in flags:
            p.requires_grad_(id(p) in chosen)
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Ambient torch randomness starts from `seed` inside and goes on as if nothing had happened after.

    Of the CPU, and of the CUDA devices where there are any; `torch.manual_seed` would take a millisecond each time to
    prepare for devices that are not there. A device that is first used inside starts from `seed` too, and goes on after
    as if it had first been used there, from the CPU's seed.
    """
    started = torch.cuda.is_initialized()
    there = started or torch.cuda.is_available()
    devices = list(range(torch.cuda.device_count())) if started else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(int(seed))
            if there:
                torch.cuda.manual_seed_all(int(seed))  # torch keeps it for a device that has not started
            yield
    finally:
        if there and not started:
            torch.cuda.manual_seed_all(torch.initial_seed())


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Ambient randomness of torch, numpy (ART draws from it) and Python from a seed; all go on undisturbed after."""
    state, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with seeded(seed):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(pythons)
