"""Pictures of detectors, of trade-offs and of representations in the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from art_ext.detectors.metrics import Roc


def trade_off_curve(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Accuracies against gamma, a line for each kind that the rows hold [Yang et al. 2021, Fig. 4].

    Args:
        rows: as `art_ext.purifiers.cdvae.trade_off` gives them, "gamma" positive.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("expected at least one gamma, got none")
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    axis = figure.subplots()
    for name in [k for k in rows[0] if k != "gamma"]:
        axis.plot([r["gamma"] for r in rows], [100 * r[name] for r in rows], marker="o", ms=3.5, lw=1.4, label=name)
    axis.set(xscale="log", xlabel="gamma", ylabel="accuracy (%)", ylim=(-3, 103))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False)
    return figure


def roc_curves(found: Mapping[str, Roc], false_positives: float = 0.05) -> Figure:
    """How many adversarial images detectors flag at each rate of false alarms; the diagonal is chance.

    Args:
        found: curves by name, see `art_ext.detectors.roc`.
        false_positives: rate that the dotted line marks.

    Raises:
        ValueError: no curves.
    """
    if not found:
        raise ValueError("expected at least one ROC curve, got none")
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, curve in found.items():
        area = np.diff(curve.false_positives) @ (curve.true_positives[1:] + curve.true_positives[:-1]) / 2
        axis.plot(curve.false_positives, curve.true_positives, lw=1.4, label=f"{name} (AUC {100 * area:.1f} %)")
    axis.plot([0, 1], [0, 1], color="#1c2430", ls="--", lw=0.8)
    axis.axvline(false_positives, color="#1c2430", ls=":", lw=0.8)
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="clean images flagged", ylabel="adversarial images flagged")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="lower right")
    return figure


Embed = Callable[[NDArray[Any]], NDArray[Any]]
"""(N, F) to (N, 2)."""


def representation_map(
    natural: Mapping[str, NDArray[Any]],
    adversarial: Mapping[str, NDArray[Any]],
    y: NDArray[Any],
    *,
    embed: str | Embed = "t-SNE",
    seed: int = 0,
) -> Figure:
    """Representations of images and of their adversaries in the plane, a column each, coloured by class.

    The rows are images (dots), both, and adversaries (crosses), as in Figure 2 of DRRDN [Yang et al., AAAI 2021]. Both
    kinds are embedded together, so that the rows of a column share their axes. A representation that is the same for
    all images is one point.

    Args:
        natural: representations (N, F) by title, F may differ; such as `DRRDNClassifier.representations` gives.
        adversarial: the same of the adversaries, in the same order.
        y: class indices (N,).
        embed: "t-SNE" (scikit-learn), "UMAP" where that is installed, or a function from (2 N, F) to (2 N, 2).
        seed: of t-SNE and UMAP.

    Raises:
        ValueError: titles or shapes that differ, fewer than 2 images, or an unknown embedding.
        ImportError: UMAP is wanted and not installed.
    """
    shapes = [{k: v.shape for k, v in group.items()} for group in (natural, adversarial)]
    if not shapes[0] or shapes[0] != shapes[1] or any(len(s) != 2 or s[0] != len(y) for s in shapes[0].values()):
        raise ValueError(f"expected the same titles and shapes ({len(y)}, F) twice, got {shapes[0]} and {shapes[1]}")
    if len(y) < 2:
        raise ValueError(f"expected at least 2 images, got {len(y)}")
    place = _embedding(embed, 2 * len(y), seed) if isinstance(embed, str) else embed
    figure = Figure(figsize=(3.2 * len(natural), 8.6), layout="constrained")
    panels = figure.subplots(3, len(natural), squeeze=False, sharex="col", sharey="col")
    for column, title in zip(panels.T, natural, strict=True):
        both = np.concatenate([natural[title], adversarial[title]])
        # A representation that has collapsed is a point, which no embedding takes.
        dots, crosses = np.split(place(both) if np.ptp(both, 0).any() else np.zeros((len(both), 2)), 2)
        for axis, shown in zip(column, ("n", "na", "a"), strict=True):
            for kind, points, marker in (("n", dots, "."), ("a", crosses, "x")):
                if kind in shown:
                    axis.scatter(
                        *points.T, c=y, cmap="tab10", vmin=0, vmax=max(9, y.max()), marker=marker, s=12, lw=0.7
                    )
            axis.set_xticks([])
            axis.set_yticks([])
        column[0].set_title(title)
    for axis, name in zip(panels[:, 0], ("natural", "both", "adversarial"), strict=True):
        axis.set_ylabel(name)
    return figure


def _embedding(name: str, points: int, seed: int) -> Embed:
    if name == "t-SNE":
        from sklearn.manifold import TSNE

        found: Embed = TSNE(perplexity=min(30, (points - 1) / 3), init="pca", random_state=seed).fit_transform
        return found
    if name != "UMAP":
        raise ValueError(f"expected embed to be t-SNE, UMAP or a function, got {name!r}")
    try:
        import umap
    except ImportError as error:
        raise ImportError("UMAP needs another package: pip install umap-learn") from error
    reduced: Embed = umap.UMAP(n_neighbors=min(15, points - 1), random_state=seed).fit_transform
    return reduced
