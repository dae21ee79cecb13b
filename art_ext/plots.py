"""Pictures of images and reports, as matplotlib figures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from art_ext.detectors.metrics import Roc
from art_ext.evaluation.report import Report
from art_ext.evaluation.report.estimates import REPEATS, clean_of
from art_ext.evaluation.report.tables import AXES, left_of_row, one_line
from art_ext.evaluation.statistics import Interval
from art_ext.images import check_images

COLOURS = {
    "undefended": "#555e6c",
    "transfer": "#3b7dd8",
    "blind": "#2a9d6f",
    "bpda": "#d98324",
    "full": "#b3202c",
    "adaptive": "#6a3fa0",
}


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
            _bare(axis, title if row == 0 else "")
        for axis, (title, errors_of) in zip(axes[row][len(columns) :], maps.items(), strict=True):
            shown = axis.imshow(errors_of[row].detach().cpu().numpy(), cmap="magma", vmin=0, vmax=top)
            _bare(axis, title if row == 0 else "")
    if maps:
        figure.colorbar(shown, ax=axes[:, -1].tolist(), shrink=0.6, label="absolute error")
    return figure


def accuracy_bars(report: Report) -> Figure:
    """What every attack leaves of every model, with 95 % intervals, as `Report.table` has it; the dashed line is clean.

    Raises:
        ValueError: nothing was attacked.
    """
    models = [m for m in report.models() if report.attacked(m)]
    if not models:
        raise ValueError("expected a report with attacks, got none")
    most = max(len(report.attacked(m)) for m in models)
    figure = Figure(figsize=(3.4 * len(models) + 1.0, 1.2 + 0.32 * most), layout="constrained")
    axes = figure.subplots(1, len(models), sharex=True, squeeze=False)[0]
    for axis, model in zip(axes, models, strict=True):
        cells = report.attacked(model)[::-1]
        found = [left_of_row(report, c) for c in cells]
        means = np.array([100 * i.mean for i in found])
        spread = np.abs(np.array([[100 * i.low, 100 * i.high] for i in found]).T - means)
        colours = [COLOURS.get(c.knowledge, "#555e6c") for c in cells]
        axis.barh(range(len(cells)), means, xerr=spread, color=colours, capsize=2.5, height=0.7)
        axis.set_yticks(range(len(cells)), [_name(f"{c.attack}, {c.knowledge}") for c in cells], fontsize=7)
        axis.axvline(100 * report.clean(model).accuracy.mean, color="#1c2430", ls="--", lw=1)
        axis.set(xlim=(0, 100), xlabel="accuracy (%)", title=_name(model))
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def curves(report: Report) -> Figure:
    """Accuracy against eps, steps and EOT samples, as the report's probes found it, with 95 % intervals.

    Raises:
        ValueError: the report holds no sweeps.
    """
    axes_of = {axis: {m: report.curve(m, axis) for m in report.models()} for axis in AXES}
    shown = {axis: {m: c for m, c in found.items() if len(c) > 1} for axis, found in axes_of.items()}
    shown = {axis: found for axis, found in shown.items() if found}
    if not shown:
        raise ValueError("expected a report with sweeps (probe=Probe()), got none")
    figure = Figure(figsize=(4.2 * len(shown), 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    colours = dict(
        zip(report.models(), ["#555e6c", "#b3202c", "#3b7dd8", "#2a9d6f", "#6a3fa0", "#d98324"], strict=False)
    )
    names = {"eps": f"eps ({report.threat['norm']})", "steps": "steps of PGD", "eot_samples": "EOT samples"}
    for panel, (axis, found) in zip(panels, shown.items(), strict=True):
        for model, points in found.items():
            _with_intervals(panel, points, label=_name(model), color=colours.get(model))
        panel.set(xlabel=names[axis], ylim=(-3, 103))
        if axis != "eps":
            _powers(panel, sorted({v for points in found.values() for v, _ in points}))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy (%)")
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def repeat_curves(report: Report) -> Figure:
    """Worst case of the randomised models over the number of repeats, with 95 % intervals.

    Dashed, for clean ones of the same images.

    Raises:
        ValueError: no randomised model was attacked.
    """
    found = {m: report.repeat_curve(m) for m in report.models() if report.attacked(m)}
    found = {m: points for m, points in found.items() if len(points) > 1}
    if not found:
        raise ValueError("expected a report with a randomised model that was attacked, got none")
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, (model, points) in enumerate(found.items()):
        shown = [(r, left) for r, left in points if r in REPEATS or r == len(points)]
        _with_intervals(axis, shown, label=_name(model), color=f"C{i % 10}")
        clean = [(r, clean_of(report, model, left.n, r).mean) for r, left in shown]
        axis.plot([r for r, _ in clean], [100 * mean for _, mean in clean], color=f"C{i % 10}", ls="--", lw=1)
    axis.plot([], [], color="#1c2430", ls="--", lw=1, label="clean images")
    _powers(axis, [r for r in REPEATS if any(r <= len(points) for points in found.values())])
    axis.set(xlabel="R, answers to each image", ylabel="right in all of them (%)", ylim=(-3, 103))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return figure


def transfer_heatmap(report: Report, attack: str) -> Figure:
    """Accuracy of every model (columns) on the examples made against every other one (rows).

    Raises:
        ValueError: the report holds no such examples.
    """
    models, found = report.transfer_matrix(attack)
    values = np.array([[100 * found[a, b].mean if (a, b) in found else np.nan for b in models] for a in models])
    figure = Figure(figsize=(1.4 + 1.1 * len(models), 1.2 + 0.7 * len(models)), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(values, cmap="RdYlGn", vmin=0, vmax=100)
    for row, col in zip(*np.nonzero(~np.isnan(values)), strict=True):
        axis.text(col, row, f"{values[row, col]:.0f}", ha="center", va="center", fontsize=8)
    names = [_name(model) for model in models]
    axis.set_xticks(range(len(models)), names, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(models)), names, fontsize=8)
    axis.set(xlabel="evaluated", ylabel="attacked", title=f"{_name(attack)}: accuracy (%)")
    figure.colorbar(shown, ax=axis, shrink=0.7)
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
            _bare(axis, "" if row else f"{title}, +-{scale[kind]:.2g}" if kind else title)
    return figure


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


def figures(report: Report) -> dict[str, bytes]:
    """The pictures that a report's page usually shows, as PNG by caption; those that it has the cells for."""
    made: dict[str, bytes] = {}
    if any(report.attacked(m) for m in report.models()):
        made["Accuracy of every attack"] = png(accuracy_bars(report))
    if any(len(report.curve(m, axis)) > 1 for m in report.models() for axis in AXES):
        made["Accuracy against budget, steps and EOT samples"] = png(curves(report))
    if any(report.worst_case(m).repeats > 1 for m in report.models() if report.attacked(m)):
        made["Worst case over repeats; dashed, clean images"] = png(repeat_curves(report))
    crossed = dict.fromkeys(c.attack.removesuffix(f" from {c.source}") for c in report.cells if c.source)
    for attack in list(crossed)[:1]:
        made[f"Examples of {attack} on other models"] = png(transfer_heatmap(report, attack))
    return made


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _name(text: str) -> str:
    """A name as it is: matplotlib reads what stands between dollar signs, and leaves out what begins with "_"."""
    return one_line(text).replace("$", r"\$").replace("_", " _", 1 if text.startswith("_") else 0)


def _with_intervals(axis: Axes, points: Sequence[tuple[float, Interval]], **line: Any) -> None:
    """A line through the means, in per cent, with their intervals."""
    means, lows, highs = (np.array([100 * getattr(i, k) for _, i in points]) for k in ("mean", "low", "high"))
    spread = np.abs(np.stack([means - lows, highs - means]))
    axis.errorbar([v for v, _ in points], means, yerr=spread, marker="o", ms=3.5, lw=1.4, capsize=2, **line)


def _powers(axis: Axes, ticks: Sequence[float]) -> None:
    """Numbers that double, each at the same distance from the one before."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [f"{v:g}" for v in ticks])


def _bare(axis: Axes, title: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if title:
        axis.set_title(title, fontsize=8)
