"""The libraries, by name."""

from __future__ import annotations

from art_ext.evaluation.backends import art, autoattack, native, torchattacks
from art_ext.evaluation.backends.entry import Backend

BACKENDS: dict[str, Backend] = {
    "native": native.BACKEND,
    "art": art.BACKEND,
    "torchattacks": torchattacks.BACKEND,
    "autoattack": autoattack.BACKEND,
}
