"""Schedulers for tests."""

from __future__ import annotations

from typing import Any


class Apart:
    """A scheduler that is no part of what a training is, and has no state, such as one that simulates a kill."""

    def identity(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
