"""Figures: as many axes, images and bars as there is to show, and bars as long as the report's accuracies."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from art_ext import plots
from art_ext.classifiers.drrdn import SmallDRRDN
from art_ext.defences import as_purifier
from art_ext.detectors import auc, roc
from art_ext.evaluation import Cell, Report, Tag
from art_ext.evaluation.statistics import Interval
from art_ext.plots import COLOURS, accuracy_bars, decompositions, image_grid, png, trade_off_curve
from art_ext.purifiers import CDVAE, DIR, RDP, AToP, Purifier

T, F = True, False
CELLS = (
    Cell("bare", "clean", "none", ((T, T, T, T),)),
    Cell("bare", "PGD", "undefended", ((F, F, F, T),)),
    Cell("RDP", "clean", "none", ((T, T, T, F),)),
    Cell("RDP", "PGD", "blind", ((T, T, F, F),)),
    Cell("RDP", "PGD", "full", ((T, F, F, F), (T, T, T, F))),
    Cell("RDP", "AutoAttack", "strange", ((F, F, F, F),)),
    Cell("unattacked", "clean", "none", ((T, T, T, T),)),
)


def report(*cells: Cell) -> Report:
    return Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})


def pictures(axes: list[Axes]) -> list[np.ndarray]:
    return [np.asarray(axis.get_images()[0].get_array()) for axis in axes]


def whiskers(axis: Axes) -> np.ndarray:
    """Both ends of every error bar, one row a bar."""
    (bars,) = (c for c in axis.containers if isinstance(c, ErrorbarContainer))
    return np.array([segment[:, 0] for segment in bars.lines[2][0].get_segments()])


def whiskers_up(axis: Axes) -> np.ndarray:
    """The same of bars that stand upright."""
    (bars,) = (c for c in axis.containers if isinstance(c, ErrorbarContainer))
    return np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])


def test_grid_shows_every_image_in_its_place() -> None:
    columns = {"clean": torch.rand(3, 1, 4, 5), "attacked": torch.rand(3, 1, 4, 5)}
    figure = image_grid(columns)
    assert len(figure.axes) == 6
    shown = pictures(figure.axes)
    for row in range(3):
        for column, images in enumerate(columns.values()):
            np.testing.assert_array_equal(shown[2 * row + column], images[row, 0].numpy())
    assert [axis.get_title() for axis in figure.axes] == ["clean", "attacked", "", "", "", ""]
    assert all(axis.get_images()[0].get_clim() == (0, 1) for axis in figure.axes)  # no contrast stretched
    assert all(len(axis.get_xticks()) == len(axis.get_yticks()) == 0 for axis in figure.axes)


def test_grid_of_colour_images() -> None:
    images = torch.rand(2, 3, 4, 5).requires_grad_()
    figure = image_grid({"only": images})
    assert len(figure.axes) == 2
    for picture, image in zip(pictures(figure.axes), images.detach(), strict=True):
        np.testing.assert_array_equal(picture, image.permute(1, 2, 0).numpy())


def test_grid_of_errors_by_hand() -> None:
    a, b = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    a[0, :, 1, 2] = torch.tensor([0.3, 0.0, 0.0])
    b[0, :, 1, 2] = torch.tensor([0.0, 0.6, 0.0])
    a[1] = 0.2
    figure = image_grid({"a": a, "b": b}, errors=[("a", "b"), ("b", "b")])
    assert len(figure.axes) == 2 * 4 + 1  # and the colour bar
    assert [axis.get_title() for axis in figure.axes[:4]] == ["a", "b", "|a - b|", "|b - b|"]
    maps = pictures([figure.axes[i] for i in (2, 3, 6, 7)])
    # (0.3 + 0.6 + 0) / 3 at one pixel; 0.2 everywhere; b - b is nothing.
    assert maps[0][1, 2] == pytest.approx(0.3)
    assert np.count_nonzero(maps[0]) == 1
    np.testing.assert_allclose(maps[2], 0.2, rtol=1e-6)
    assert np.count_nonzero(maps[1]) == np.count_nonzero(maps[3]) == 0
    for i in (2, 3, 6, 7):  # one scale, that of the largest
        assert figure.axes[i].get_images()[0].get_clim() == pytest.approx((0, 0.3))
    assert figure.axes[-1].get_ylabel() == "absolute error"


def test_grid_of_equal_columns_is_drawn_too() -> None:
    x = torch.rand(1, 1, 4, 5)
    assert png(image_grid({"a": x, "b": x}, errors=[("a", "b")])).startswith(b"\x89PNG")


def test_grid_refuses() -> None:
    x = torch.rand(2, 1, 4, 5)
    with pytest.raises(ValueError, match=r"expected columns of one shape, got \[\]"):
        image_grid({})
    with pytest.raises(ValueError, match=r"one shape, got \[\(1, 1, 4, 5\), \(2, 1, 4, 5\)\]"):
        image_grid({"a": x, "b": x[:1]})
    with pytest.raises(ValueError, match="divide by 255"):
        image_grid({"a": x, "b": 255 * torch.ones_like(x)})


def test_bars_are_as_long_as_the_accuracies() -> None:
    found = report(*CELLS)
    figure = accuracy_bars(found)
    # The models that were attacked, in order; a bar for each attack, the first one on top (barh counts upwards).
    assert [axis.get_title() for axis in figure.axes] == ["bare", "RDP"]
    bare, rdp = figure.axes
    assert [p.get_width() for p in bare.patches] == [25]  # 1 of 4
    # 0 of 4; (1 + 3) of 8; 2 of 4
    assert [p.get_width() for p in rdp.patches] == [0, 50, 50]
    labels = ["AutoAttack, strange", "PGD, full", "PGD, blind"]
    assert [label.get_text() for label in rdp.get_yticklabels()] == labels
    assert sum(isinstance(c, BarContainer) for c in rdp.containers) == 1
    for axis, cells in ((bare, found.attacked("bare")), (rdp, found.attacked("RDP")[::-1])):
        intervals = [cell.accuracy for cell in cells]
        assert [p.get_width() for p in axis.patches] == pytest.approx([100 * i.mean for i in intervals])
        np.testing.assert_allclose(whiskers(axis), [[100 * i.low, 100 * i.high] for i in intervals], atol=1e-9)
        assert axis.get_xlim() == (0, 100)
    # 2 of 4 with two right and two wrong ones added: t with 7 degrees of freedom is 2.364624, its error sqrt(2 / 7 / 8)
    half = 100 * 2.364624 * (2 / 7 / 8) ** 0.5
    np.testing.assert_allclose(whiskers(rdp)[2], [50 - half, 50 + half], atol=1e-3)
    colours = ["#555e6c", COLOURS["full"], COLOURS["blind"]]  # grey where the knowledge has no colour
    assert [to_hex(p.get_facecolor()) for p in rdp.patches] == colours


def test_bars_of_a_sequence_are_what_is_left() -> None:
    cells = (
        Cell("m", "clean", "none", ((T, T, T, T),) * 2),
        Cell("m", "PGD", "full", ((T, T, T, F), (T, F, T, F))),
        Cell("m", "APGD", "full", ((T, T, F, F), (T, T, T, F)), skipped=(3,)),
    )
    (axis,) = accuracy_bars(report(*cells)).axes
    # The mean of PGD is 5 of 8; of four images one is right in both repeats of both (the mean of APGD would be 5 of 8).
    assert [p.get_width() for p in axis.patches] == [25, 62.5]


def test_the_dashed_line_is_the_models_own_clean_accuracy() -> None:
    figure = accuracy_bars(report(*CELLS))
    lines = [[line.get_xdata() for line in axis.lines if line.get_linestyle() == "--"] for axis in figure.axes]
    assert lines == [[[100, 100]], [[75, 75]]]


def test_bars_of_a_report_without_attacks() -> None:
    for cells in ((), CELLS[-1:]):
        with pytest.raises(ValueError, match="expected a report with attacks, got none"):
            accuracy_bars(report(*cells))


def test_png() -> None:
    figure = Figure(figsize=(2, 1))
    for dpi, size in ((110, (220, 110)), (50, (100, 50))):
        data = png(figure, dpi)
        assert data.startswith(b"\x89PNG")
        assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == size
    assert png(accuracy_bars(report(*CELLS))).startswith(b"\x89PNG")
    assert png(image_grid({"a": torch.rand(1, 3, 4, 5)}, errors=[])).startswith(b"\x89PNG")


def probe(model: str, tags: set[Tag], right: int, **parameters: float) -> Cell:
    stated = {"eps": 0.1, "steps": 20, "eot_samples": 1} | parameters
    flags = (tuple(i < right for i in range(4)),)
    return Cell(model, "PGD", "full", flags, parameters=stated, tags=frozenset(tags))


def test_curves_go_through_the_accuracies() -> None:
    clean = Cell("m", "clean", "none", ((True, True, True, False),))
    sweep = (
        probe("m", {Tag.BASE, Tag.EPS, Tag.STEPS, Tag.EOT_SAMPLES}, 2),
        probe("m", {Tag.EPS}, 1, eps=0.2),
        probe("m", {Tag.STEPS}, 3, steps=5),
        probe("m", {Tag.FGSM}, 4, eps=0.05),
    )
    found = Report({"norm": "Linf", "eps": 0.1}, (clean,), (), (), {}, sweep)
    eps, steps = plots.curves(found).axes  # a single number of EOT samples is no curve
    assert eps.containers[0].lines[0].get_xydata().tolist() == [[0, 75], [0.1, 50], [0.2, 25]]
    assert steps.containers[0].lines[0].get_xydata().tolist() == [[5, 75], [20, 50]]
    assert eps.get_legend().get_texts()[0].get_text() == "m"
    averaged = (probe("m", {Tag.EOT_SAMPLES}, 1, eot_samples=4), probe("m", {Tag.EOT_SAMPLES}, 2, eot_samples=1))
    random = Report({"norm": "Linf", "eps": 0.1}, (clean,), (), (), {}, averaged)
    (drawn,) = plots.curves(random).axes
    assert drawn.containers[0].lines[0].get_xydata().tolist() == [[1, 50], [4, 25]]
    assert random.curve("m", "draws") == random.curve("m", "eot_samples")  # the old word
    with pytest.raises(ValueError, match="sweeps"):
        plots.curves(Report({"norm": "Linf", "eps": 0.1}, (clean,), (), (), {}, sweep[:1][1:]))


def test_curves_over_repeats_go_through_the_worst_cases() -> None:
    four = ((T, T, T, F), (T, T, F, F), (T, F, F, F), (T, F, F, F))
    cells = (
        Cell("fixed", "clean", "none", ((T, T, T, T),)),
        Cell("m", "clean", "none", ((T, T, T, T), (T, T, T, F), (T, T, T, F), (T, T, F, F))),
        Cell("fixed", "PGD", "undefended", ((F, T, F, T),)),
        Cell("m", "PGD", "full", tuple(row[:3] for row in four)),
    )
    (axis,) = plots.repeat_curves(report(*cells)).axes
    worst, clean = axis.containers[0].lines[0], next(line for line in axis.lines if line.get_linestyle() == "--")
    # Right in 4, 2 and 1 of four repeats; in two of two: 1, 1 / 6, 0; in three or four: 1, 0, 0.
    expected = [[1, 700 / 12], [2, 700 / 18], [3, 100 / 3], [4, 100 / 3]]
    np.testing.assert_allclose(worst.get_xydata(), expected)
    # The same three images: 4, 4 and 3 of four; the third in two of two with 1 / 2, in three of three with 1 / 4.
    np.testing.assert_allclose(clean.get_xydata(), [[1, 1100 / 12], [2, 250 / 3], [3, 75], [4, 200 / 3]])
    intervals = [i for _, i in report(*cells).repeat_curve("m")]
    np.testing.assert_allclose(whiskers_up(axis), [[100 * i.low, 100 * i.high] for i in intervals], atol=1e-9)
    assert [t.get_text() for t in axis.figure.legends[0].get_texts()] == ["clean images", "m"]
    assert "Worst case over repeats; dashed, clean images" in plots.figures(report(*cells))
    assert list(plots.figures(report(*cells[:1], cells[2]))) == ["Accuracy of every attack"]
    with pytest.raises(ValueError, match="expected a report with a randomised model that was attacked, got none"):
        plots.repeat_curves(report(*cells[:3]))


def test_names_are_drawn_as_they_are() -> None:
    names = ("$\\frac{$", "_a\n\x1b[2Jb")  # no formula, no line of its own, and no name that a legend leaves out
    clean = tuple(Cell(m, "clean", "none", ((T, T),)) for m in names)
    attacked = tuple(Cell(m, f"{names[0]} PGD", "full", ((T, F),)) for m in names)
    crossed = Cell(names[1], f"{names[0]} PGD from {names[0]}", "transfer", ((F, F),), source=names[0])
    sweep = tuple(probe(m, {Tag.EPS}, 1, eps=0.2) for m in names)
    found = Report({"norm": "Linf", "eps": 0.1}, (*clean, *attacked, crossed), (), (), {}, sweep)
    assert len(plots.figures(found)) == 3
    legend = [t.get_text() for t in plots.curves(found).axes[0].get_legend().get_texts()]
    assert legend == [r"\$\frac{\$", r" _a\n\x1b[2Jb"]


def test_the_heatmap_has_the_attacked_model_in_its_row() -> None:
    def cell(model: str, attack: str, knowledge: str, right: int, source: str = "") -> Cell:
        return Cell(model, attack, knowledge, (tuple(i < right for i in range(4)),), source=source)

    cells = (
        cell("a", "clean", "none", 4),
        cell("b", "clean", "none", 4),
        cell("a", "PGD", "undefended", 0),
        cell("b", "PGD", "full", 1),
        cell("b", "PGD from a", "transfer", 3, "a"),
        cell("a", "PGD from b", "transfer", 2, "b"),
    )
    found = Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {})
    axis = plots.transfer_heatmap(found, "PGD").axes[0]
    assert np.asarray(axis.get_images()[0].get_array()).tolist() == [[0, 75], [50, 25]]
    assert sorted(t.get_text() for t in axis.texts) == ["0", "25", "50", "75"]
    assert list(plots.figures(found)) == ["Accuracy of every attack", "Examples of PGD on other models"]


def test_decompositions_show_images_as_they_are_and_parts_around_zero() -> None:
    parts = {
        "x": torch.rand(2, 3, 4, 5), "G(x)": torch.rand(2, 3, 4, 5) * 2 - 0.5, "R(x)": torch.rand(2, 3, 4, 5) - 0.5,
        "R(x')": torch.full((2, 3, 4, 5), -0.75), "delta": torch.full((2, 3, 4, 5), 0.01),
    }  # fmt: skip
    figure = decompositions(parts)
    assert len(figure.axes) == 10
    shown = pictures(figure.axes)
    np.testing.assert_allclose(shown[6], parts["G(x)"][1].clamp(0, 1).permute(1, 2, 0))
    np.testing.assert_allclose(shown[7], parts["R(x)"][1].mean(0), rtol=1e-6)
    limits = [axis.get_images()[0].get_clim() for axis in figure.axes[2:5]]
    assert limits == [pytest.approx((-0.75, 0.75))] * 2 + [pytest.approx((-0.01, 0.01))]
    assert [axis.get_title() for axis in figure.axes[:5]] == [
        "x", "G(x)", "R(x), +-0.75", "R(x'), +-0.75", "delta, +-0.01",
    ]  # fmt: skip
    png(figure)
    png(decompositions({"x": torch.rand(1, 1, 4, 5), "R(x)": torch.zeros(1, 1, 4, 5)}))  # nothing to scale by
    with pytest.raises(ValueError, match="one shape"):
        decompositions({"x": torch.rand(1, 1, 4, 5), "R(x)": torch.rand(2, 1, 4, 5)})


def test_trade_off_curve_has_a_line_for_each_accuracy() -> None:
    rows = [{"gamma": 0.1, "classification": 0.5, "reconstruction": 0.9}, {"gamma": 1.0, "classification": 0.8,
             "reconstruction": 0.7}]  # fmt: skip
    (axis,) = trade_off_curve(rows).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}
    assert lines == {
        "classification": [[0.1, 50.0], [1.0, 80.0]], "reconstruction": [[0.1, 90.0], [1.0, 70.0]],
    }  # fmt: skip
    with pytest.raises(ValueError, match="at least one gamma"):
        trade_off_curve([])


def test_curves_of_detectors() -> None:
    clean, adversarial = [1.0, 2.0, 3.0], [2.0, 4.0]
    figure = plots.roc_curves({"one": roc(clean, adversarial), "other": roc(adversarial, clean)}, 0.1)
    (axis,) = figure.axes
    one, other, chance, rate = axis.lines
    # Above 4, 3, 2, 1 and minus infinity: shares of the clean images, then of the adversarial ones.
    np.testing.assert_allclose(one.get_xydata(), [[0, 0], [0, 0.5], [1 / 3, 0.5], [2 / 3, 1], [1, 1]])
    assert one.get_label() == f"one (AUC {100 * auc(clean, adversarial):.1f} %)" == "one (AUC 75.0 %)"
    assert other.get_label() == "other (AUC 25.0 %)"
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert rate.get_xdata() == [0.1, 0.1]
    with pytest.raises(ValueError, match="at least one ROC curve"):
        plots.roc_curves({})


def test_the_map_puts_each_representation_in_its_place() -> None:
    y = np.array([3, 0, 12])
    natural = {"z_s": np.arange(6.0).reshape(3, 2), "z": np.arange(9.0).reshape(3, 3) + 10}
    adversarial = {k: v + 100 for k, v in natural.items()}
    figure = plots.representation_map(natural, adversarial, y, embed=lambda z: -z[:, :2])
    panels = np.array(figure.axes).reshape(3, 2)
    for column, title in enumerate(natural):
        images, both, adversaries = (
            [np.asarray(c.get_offsets()) for c in axis.collections] for axis in panels[:, column]
        )
        expected = [-natural[title][:, :2], -adversarial[title][:, :2]]
        for found, points in ((images, expected[:1]), (both, expected), (adversaries, expected[1:])):
            np.testing.assert_array_equal(found, points)
    assert [axis.get_title() for axis in panels[0]] == ["z_s", "z"]
    assert [axis.get_ylabel() for axis in panels[:, 0]] == ["natural", "both", "adversarial"]
    coloured = panels[0, 0].collections[0]
    assert np.asarray(coloured.get_array()).tolist() == [3, 0, 12]
    assert coloured.get_clim() == (0, 12)


def test_a_collapsed_representation_is_a_point() -> None:
    z = np.ones((4, 3), dtype=np.float32)
    figure = plots.representation_map({"z": z}, {"z": z}, np.arange(4))
    points = [np.asarray(c.get_offsets()) for axis in figure.axes for c in axis.collections]
    assert len(points) == 4
    assert not any(p.any() for p in points)


def test_the_map_by_t_sne_keeps_groups_apart() -> None:
    groups = np.repeat([[0.0] * 5, [50.0] * 5], 6, axis=0)
    noise = np.random.default_rng(0).normal(size=(2, 12, 5))
    figure = plots.representation_map({"z": groups + noise[0]}, {"z": groups + noise[1]}, np.arange(12) // 6)
    points = np.asarray(figure.axes[0].collections[0].get_offsets())
    centres = points[:6].mean(0), points[6:].mean(0)
    spread = max(np.linalg.norm(points[i] - centres[i // 6]) for i in range(12))
    assert np.linalg.norm(centres[0] - centres[1]) > spread
    assert png(figure).startswith(b"\x89PNG")


def test_the_map_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = np.zeros((3, 2)), np.zeros(3, np.int64)
    for natural, adversarial in (
        ({}, {}),
        ({"z": z}, {"z_s": z}),
        ({"z": z}, {"z": z[:2]}),
        ({"z": z[:2]}, {"z": z[:2]}),
    ):
        with pytest.raises(ValueError, match="expected the same titles and shapes"):
            plots.representation_map(natural, adversarial, y)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        plots.representation_map({"z": z[:1]}, {"z": z[:1]}, y[:1])
    with pytest.raises(ValueError, match="got 'PCA'"):
        plots.representation_map({"z": z}, {"z": z}, y, embed="PCA")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn"):
        plots.representation_map({"z": z}, {"z": z}, y, embed="UMAP")


def test_eps_curves_put_reports_on_one_axis() -> None:
    half, none = Interval(0.5, 0.4, 0.6, 4), Interval(0.0, 0.0, 0.2, 4)
    figure = plots.eps_curves({"a_": [(0.0, half), (0.1, none)], "b": [(0.1, half), (0.3, none)]}, "L2")
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "0.1", "0.3"]
    first, second = (c.lines[0].get_xydata() for c in axis.containers)
    np.testing.assert_allclose(first, [[-0.03, 50], [0.97, 0]])
    np.testing.assert_allclose(second, [[1.03, 50], [2.03, 0]])
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["a_, n=4", "b, n=4"]
    assert axis.get_xlabel() == "eps (L2)"
    with pytest.raises(ValueError, match="at least one point"):
        plots.eps_curves({})


@pytest.mark.parametrize(
    ("method", "between"),
    [
        (RDP(**RDP.small), ["R(x'), both\nlatents", "R(x') without\nP's latent", "purified"]),
        (DIR(**DIR.small), ["mask 1", "restored\nunder mask 1", "mask 2", "restored\nunder mask 2", "purified"]),
        (CDVAE(**CDVAE.small), ["R(x') = x' - G(x')", "purified = G(x')"]),
        (AToP(**AToP.small), ["RT1", "RT2", "RT3, mask 1 of 4", "purified"]),
        (as_purifier(lambda x: x / 2), ["purified"]),
    ],
    ids=["rdp", "dir", "cdvae", "atop", "own"],
)
def test_a_method_is_explained_step_by_step(method: Purifier, between: list[str]) -> None:
    x = torch.rand(2, 3, 8, 12)
    x_adv = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    figure = plots.explain(method.train(), x, x_adv)
    assert method.training
    titles = ["clean", "attacked", *between, "|attacked - clean|", "|purified - clean|"]
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert [axis.get_title() for axis in panels[: len(titles)]] == titles
    assert len(panels) == 2 * len(titles)
    shown = pictures(panels[len(titles) :])  # of the second image
    np.testing.assert_allclose(shown[1], x_adv[1].permute(1, 2, 0))
    np.testing.assert_allclose(shown[-2], (x_adv - x)[1].abs().mean(0), rtol=1e-5)
    if not method.stochastic:
        with torch.no_grad():
            expected = (method.eval()(x_adv) - x)[1].abs().mean(0)
        np.testing.assert_allclose(shown[-1], expected, atol=1e-6)
    png(figure)


def test_a_drrdn_is_explained_by_what_moves() -> None:
    network = SmallDRRDN(1, 3, 4, hidden=5, critic_width=4)
    x = torch.rand(2, 1, 28, 28)
    figure = plots.explain(network, x, x.flip(3))
    bars = [c for axis in figure.axes for c in axis.containers if len(c) == 2]
    parts = [network.eval().represent(v) for v in (x, x.flip(3))]
    for row, (z_s, z_i) in enumerate(bars):
        for bar, name in ((z_s, "z_s"), (z_i, "z_i")):
            before, after = (getattr(p, name)[row].detach() for p in parts)
            assert bar.get_width() == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    assert len(bars) == 2


def test_what_cannot_be_explained_is_refused() -> None:
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(TypeError, match="expected a purifier or a DRRDN, got Identity"):
        plots.explain(torch.nn.Identity(), x, x)
    with pytest.raises(ValueError, match=r"attacked images of shape \(2, 1, 8, 8\), got \(1, 1, 8, 8\)"):
        plots.explain(torch.nn.Identity(), x, x[:1])
