"""Modules that keep which weights they were loaded with."""

from __future__ import annotations

from typing import Any

from torch import nn

from art_ext.nn.hashing import sha256


class Loaded(nn.Module):
    """A module whose training must go on from a checkpoint that began with the same weights.

    Attributes:
        origin: hash of the weights that it was loaded with or trained to; empty for new ones.
    """

    origin: str = ""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's; `origin` is the hash of what was loaded."""
        done = super().load_state_dict(*args, **kwargs)
        self.origin = sha256(self.state_dict().values())
        return done
