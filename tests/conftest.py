"""What holds for every test: no windows, the same random numbers each time, no network."""

import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # before the first import of matplotlib, and for subprocesses
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core, before the first import of torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("COLUMNS", None)  # a worker's, and narrow

import numpy as np
import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  ART draws from the legacy generator
    random.seed(0)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.node.get_closest_marker("network"):
        yield
        return

    def guarded(name: str) -> Any:
        connect = getattr(socket.socket, name)

        def method(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
                raise OSError(f"expected no network in a test without the mark 'network', got {address!r}")
            return connect(self, address)

        return method

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # for subprocesses; this process read it at import:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
