"""Pictures of reports: accuracies of every attack, along budgets, over repeats, across models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from art_ext.evaluation.report import Report
from art_ext.evaluation.report.estimates import REPEATS, clean_of
from art_ext.evaluation.report.tables import AXES, left_of_row
from art_ext.evaluation.statistics import Interval
from art_ext.plots.drawing import named, png, powers, with_intervals

COLOURS = {
    "undefended": "#555e6c",
    "transfer": "#3b7dd8",
    "blind": "#2a9d6f",
    "bpda": "#d98324",
    "full": "#b3202c",
    "adaptive": "#6a3fa0",
}


def accuracy_bars(report: Report) -> Figure:
    """Accuracy of every model under every attack, with 95 % intervals, as `Report.table` has it; dashed, clean.

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
        axis.set_yticks(range(len(cells)), [named(f"{c.attack}, {c.knowledge}") for c in cells], fontsize=7)
        axis.axvline(100 * report.clean(model).accuracy.mean, color="#1c2430", ls="--", lw=1)
        axis.set(xlim=(0, 100), xlabel="accuracy (%)", title=named(model))
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
            with_intervals(panel, points, label=named(model), color=colours.get(model))
        panel.set(xlabel=names[axis], ylim=(-3, 103))
        if axis != "eps":
            powers(panel, sorted({v for points in found.values() for v, _ in points}))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy (%)")
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def eps_curves(found: Mapping[str, Sequence[tuple[float, Interval]]], norm: str = "Linf") -> Figure:
    """Accuracy against eps with 95 % intervals, one line a defence, of any number of reports on one axis.

    Args:
        found: points by name, as `Report.curve(model, "eps")` gives them; equal distances on the axis.
        norm: that eps is of, for the axis.

    Raises:
        ValueError: no points.
    """
    values = sorted({eps for points in found.values() for eps, _ in points})
    if not values:
        raise ValueError("expected at least one point of a curve, got none")
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis = figure.subplots()
    for i, (label, points) in enumerate(found.items()):
        shift = 0.06 * (i - (len(found) - 1) / 2)  # so that intervals do not hide each other
        placed = [(values.index(eps) + shift, interval) for eps, interval in points]
        sizes = sorted({interval.n for _, interval in points})
        with_intervals(axis, placed, label=f"{named(label)}, n={'-'.join(map(str, sizes))}", color=f"C{i % 10}")
    axis.set_xticks(range(len(values)), [f"{eps:g}" for eps in values])
    axis.set(xlabel=f"eps ({norm})", ylabel="accuracy (%)", ylim=(-3, 103))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False)
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
        with_intervals(axis, shown, label=named(model), color=f"C{i % 10}")
        clean = [(r, clean_of(report, model, left.n, r).mean) for r, left in shown]
        axis.plot([r for r, _ in clean], [100 * mean for _, mean in clean], color=f"C{i % 10}", ls="--", lw=1)
    axis.plot([], [], color="#1c2430", ls="--", lw=1, label="clean images")
    powers(axis, [r for r in REPEATS if any(r <= len(points) for points in found.values())])
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
    names = [named(model) for model in models]
    axis.set_xticks(range(len(models)), names, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(models)), names, fontsize=8)
    axis.set(xlabel="evaluated", ylabel="attacked", title=f"{named(attack)}: accuracy (%)")
    figure.colorbar(shown, ax=axis, shrink=0.7)
    return figure


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
