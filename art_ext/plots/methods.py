"""A picture of how a method works: an image on its way through it, clean and attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from art_ext.classifiers.drrdn import DRRDN
from art_ext.images import check_images
from art_ext.nn.modes import evaluating
from art_ext.plots.drawing import bare
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier
from art_ext.purifiers.atop.transforms import GREY, TRANSFORMS, RandomTransform


class Column(NamedTuple):
    """Images (N, C, H, W) under a title: in [0, 1], or with `map` averaged over channels, in its colours.

    Attributes:
        title: of the column.
        images: what it shows.
        map: "" for images, "error" for sizes of differences, "signed" for values around 0.
    """

    title: str
    images: Tensor
    map: str = ""


def explain(method: nn.Module, x: Tensor, x_adv: Tensor) -> Figure:
    """How a method works on these images: a row an image, a column a step of it.

    Every purifier: the clean image, the attacked one, what it is purified to, and how far both are from the clean
    image. In between: what RDP's second branch rebuilds, with and without what the first one found; what DIR sees
    under each mask and restores from it; G and R of CD-VAE; what AToP's three transforms leave of the image. Of a
    DRRDN, which purifies no image, how far the attack moves z_s, which it classifies by, and z_i.

    Args:
        method: a purifier, or a DRRDN.
        x: clean images (N, C, H, W) in [0, 1], 1 or 3 channels, N small.
        x_adv: the same, attacked.

    Raises:
        TypeError: another module.
        ValueError: images of different shapes or outside [0, 1].
    """
    if x.shape != x_adv.shape:
        raise ValueError(f"expected attacked images of shape {tuple(x.shape)}, got {tuple(x_adv.shape)}")
    check_images(x)
    check_images(x_adv)
    with torch.no_grad(), evaluating(method):
        if isinstance(method, DRRDN):
            return _drrdn(method, x, x_adv)
        if not isinstance(method, Purifier):
            raise TypeError(f"expected a purifier or a DRRDN, got {type(method).__name__}: as_purifier makes one")
        between: list[Column] = next(
            (steps(method, x_adv) for kind, steps in STEPS.items() if isinstance(method, kind)), []
        )
        purified = (
            between.pop() if between and between[-1].title.startswith("purified") else Column("purified", method(x_adv))
        )
        return columns(
            [
                Column("clean", x), Column("attacked", x_adv), *between, purified,
                Column("|attacked - clean|", (x_adv - x).abs(), "error"),
                Column("|purified - clean|", (purified.images - x).abs(), "error"),
            ]
        )  # fmt: skip


def columns(shown: Sequence[Column], more: int = 0) -> Figure:
    """Columns side by side, one row an image; maps of one kind share a scale, which a bar beside the last one shows.

    Args:
        shown: at least one, of the same N.
        more: columns to leave free on the right.
    """
    rows, total = len(shown[0].images), len(shown) + more
    figure = Figure(figsize=(1.5 * total + 0.6, 1.45 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, total, squeeze=False)
    top = {k: max((float(c.images.mean(1).abs().max()) for c in shown if c.map == k), default=0.0) or 1.0
           for k in ("error", "signed")}  # fmt: skip
    for place, column in enumerate(shown):
        for axis, image in zip(axes[:, place], column.images.detach().cpu(), strict=True):
            if column.map:
                low, colours = (0.0, "magma") if column.map == "error" else (-top["signed"], "RdBu_r")
                drawn = axis.imshow(image.mean(0).numpy(), cmap=colours, vmin=low, vmax=top[column.map])
            else:
                picture = image.clamp(0, 1).permute(1, 2, 0).numpy()
                axis.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            bare(axis, column.title if axis is axes[0, place] else "")
        if column.map and all(c.map != column.map for c in shown[place + 1 :]):
            figure.colorbar(drawn, ax=axes[:, place].tolist(), shrink=0.6)
    return figure


def _rdp(purifier: RDP, x: Tensor) -> list[Column]:
    found = purifier.disentangle(x)
    return [
        Column("R(x'), both\nlatents", found.reconstructed),
        Column("R(x') without\nP's latent", found.without_natural),
        Column("purified", found.purified),
    ]


def _dir(purifier: DIR, x: Tensor) -> list[Column]:
    restored, hidden = purifier.restorations(x)
    patch = purifier.network.patch
    found = []
    for k, (image, mask) in enumerate(zip(restored, hidden, strict=True), start=1):
        grid = mask.reshape(len(x), 1, x.shape[2] // patch, x.shape[3] // patch).float()
        pixels = nn.functional.interpolate(grid, scale_factor=patch).bool()
        found += [Column(f"mask {k}", torch.where(pixels, GREY, x)), Column(f"restored\nunder mask {k}", image)]
    return [*found, Column("purified", restored.mean(0))] if purifier.draws == 1 else found


def _cdvae(purifier: CDVAE, x: Tensor) -> list[Column]:
    return [Column("R(x') = x' - G(x')", purifier.residual(x), "signed"), Column("purified = G(x')", purifier(x))]


def _atop(purifier: AToP, x: Tensor) -> list[Column]:
    mine, found = purifier.transform, []
    seen = purifier.resized(x)
    for kind in TRANSFORMS:
        share = mine.share if kind != "RT3" else 1 / max(2, round(1 / mine.share))
        transform = RandomTransform(kind, mine.grid, share, mine.noise)
        parts = transform(seen, transform.draw(seen))
        found.append(Column(f"{kind}, mask 1 of {len(parts)}" if len(parts) > 1 else kind, parts[0]))
    return found


STEPS: dict[type[Purifier], Callable[[Any, Tensor], list[Column]]] = {RDP: _rdp, DIR: _dir, CDVAE: _cdvae, AToP: _atop}
"""What is shown between the attacked image and the purified one, which comes last where a step has it already."""


def _drrdn(network: DRRDN, x: Tensor, x_adv: Tensor) -> Figure:
    before, after = network.represent(x), network.represent(x_adv)
    shown = [Column("clean", x), Column("attacked", x_adv), Column("|attacked - clean|", (x_adv - x).abs(), "error")]
    figure = columns(shown, more=2)
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    names = ("z_s", "z_i")
    for row in range(len(x)):
        moved, sizes = axes[5 * row + 3 : 5 * row + 5]
        parts = [(getattr(before, n)[row], getattr(after, n)[row]) for n in names]
        change = [float((b - a).norm() / a.norm().clamp_min(1e-12)) for a, b in parts]
        moved.barh(names, change, color=["#b3202c", "#3b7dd8"])
        chances = [network(v)[row].softmax(0).cpu() for v in (x, x_adv)]
        for share, colour, label, shift in zip(chances, ("#2a9d6f", "#b3202c"), ("clean", "attacked"), (-0.2, 0.2),
                                               strict=True):  # fmt: skip
            sizes.bar([k + shift for k in range(len(share))], share.tolist(), 0.4, color=colour, label=label)
        sizes.set_ylim(0, 1)
        sizes.set_xticks(range(0, len(share), max(1, len(share) // 5)))
        moved.tick_params(labelsize=7)
        sizes.tick_params(labelsize=6)
        if row == 0:
            moved.set_title("moved by the attack,\nshare of its length", fontsize=8)
            sizes.set_title("classes by c_s(z_s)", fontsize=8)
            sizes.legend(fontsize=6, frameon=False)
    return figure
