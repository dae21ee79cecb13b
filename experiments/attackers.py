"""What attackers know, the attacks that several papers' tables share, and what stands above these in a table."""

from __future__ import annotations

from art_ext.evaluation import Attack, Knowledge

BLIND, TRANSFER, BPDA = (Knowledge.BLIND,), (Knowledge.TRANSFER,), (Knowledge.BPDA,)
FULL, ADAPTIVE = (Knowledge.FULL,), (Knowledge.ADAPTIVE,)
AUTOATTACK = ("autoattack standard", "autoattack rand")
"""Titles of what `autoattack` gives."""


def autoattack(images: int | None = None) -> tuple[Attack, ...]:
    """AutoAttack by those who know everything: on what draws nothing, and on what draws."""
    kinds = {"standard": "deterministic", "rand": "randomised"}
    return tuple(Attack("autoattack", kind, images=images, on=on, knowledge=FULL) for kind, on in kinds.items())


def native(*names: str) -> dict[str, tuple[str, ...]]:
    """Columns of a table for native attacks of these names, whatever they are averaged over."""
    return {name: (f"native {name.partition(' + ')[0]}",) for name in names}
