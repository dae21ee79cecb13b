"""Pictures of images: side by side, with maps of errors, and what a purifier takes out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from art_ext.images import check_images
from art_ext.plots.drawing import bare


def image_grid(columns: Mapping[str, Tensor], errors: Sequence[tuple[str, str]] = ()) -> Figure:
    """Images side by side, one row an image, and maps of the absolute difference of two columns.

    Args:
        columns: images (N, C, H, W) in [0, 1] by title, the same N for all, 1 or 3 channels.
        errors: pairs of titles; each adds a column of absolute differences, averaged over channels, with one colour
            scale for all.

    Raises:
        ValueError: columns of different shapes, or none.
    """
    shapes = {tuple(images.shape) for images in columns.values()}
    if len(shapes) != 1:
        raise ValueError(f"expected columns of one shape, got {sorted(shapes)}")
    for images in columns.values():
        check_images(images)
    maps = {f"|{a} - {b}|": (columns[a] - columns[b]).abs().mean(1) for a, b in errors}
    top = max((float(m.max()) for m in maps.values()), default=1.0)
    rows, total = next(iter(shapes))[0], len(columns) + len(maps)
    figure = Figure(figsize=(1.6 * total, 1.6 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, total, squeeze=False)
    for row in range(rows):
        for axis, (title, images) in zip(axes[row], columns.items(), strict=False):
            picture = images[row].detach().cpu().permute(1, 2, 0).numpy()
            axis.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            bare(axis, title if row == 0 else "")
        for axis, (title, errors_of) in zip(axes[row][len(columns) :], maps.items(), strict=True):
            shown = axis.imshow(errors_of[row].detach().cpu().numpy(), cmap="magma", vmin=0, vmax=top)
            bare(axis, title if row == 0 else "")
    if maps:
        figure.colorbar(shown, ax=axes[:, -1].tolist(), shrink=0.6, label="absolute error")
    return figure


def decompositions(parts: Mapping[str, Tensor]) -> Figure:
    """Images beside what a purifier takes out of them, one row an image [Yang et al. 2021, Fig. 2].

    Parts that are images in [0, 1] up to a clamp are shown as such; those called R or delta are signed, averaged over
    channels, and share one colour scale around 0 for all R and one for all delta.

    Args:
        parts: (N, C, H, W) by title, 1 or 3 channels, as `art_ext.purifiers.cdvae.decompose` names them.

    Raises:
        ValueError: parts of different shapes, or none.
    """
    shapes = {tuple(images.shape) for images in parts.values()}
    if len(shapes) != 1:
        raise ValueError(f"expected parts of one shape, got {sorted(shapes)}")
    kinds = {title: next((k for k in ("R", "delta") if title.startswith(k)), "") for title in parts}
    scale = {
        kind: max(float(parts[t].mean(1).abs().max()) for t, k in kinds.items() if k == kind) or 1.0
        for kind in set(kinds.values()) - {""}
    }
    rows, columns = next(iter(shapes))[0], len(parts)
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for column, (title, images) in enumerate(parts.items()):
        kind = kinds[title]
        for row, image in enumerate(images.detach().cpu()):
            axis = axes[row][column]
            if kind:
                axis.imshow(image.mean(0).numpy(), cmap="RdBu_r", vmin=-scale[kind], vmax=scale[kind])
            else:
                picture = image.clamp(0, 1).permute(1, 2, 0).numpy()
                axis.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            bare(axis, "" if row else f"{title}, +-{scale[kind]:.2g}" if kind else title)
    return figure
