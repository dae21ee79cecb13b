"""Figures show the report's numbers and the images' differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_ext import plots
from art_ext.evaluation import Cell, Report


def test_bars_are_the_reports_accuracies() -> None:
    cells = (
        Cell("bare", "clean", "none", ((True, True, True, False),)),
        Cell("m", "clean", "none", ((True, True, False, False),)),
        Cell("bare", "PGD", "undefended", ((False, False, False, True),)),
        Cell("m", "PGD", "blind", ((True, False, True, True),)),
        Cell("m", "PGD", "full", ((False, False, False, False),)),
    )
    figure = plots.accuracy_bars(Report({"norm": "Linf", "eps": 0.1}, cells, (), (), {}))
    widths = [[bar.get_width() for bar in axis.patches] for axis in figure.axes]
    assert widths == [[25], [0, 75]]
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["PGD, full", "PGD, blind"]
    clean = [axis.lines[-1].get_xdata()[0] for axis in figure.axes]
    assert clean == [75, 50]
    assert plots.png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_images_and_differences(channels: int) -> None:
    a, b = torch.rand(2, 2, channels, 4, 5)
    figure = plots.image_grid({"a": a, "b": b}, errors=[("b", "a")])
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert [image.shape[:2] for image in shown] == [(4, 5)] * 6
    expected = (b - a).abs().mean(1)
    assert np.allclose(shown[2], expected[0])
    assert np.allclose(shown[5], expected[1])
    assert plots.png(figure).startswith(b"\x89PNG")


def test_grid_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one shape"):
        plots.image_grid({"a": torch.rand(2, 1, 4, 5), "b": torch.rand(1, 1, 4, 5)})
    with pytest.raises(ValueError, match="divide by 255"):
        plots.image_grid({"a": torch.rand(2, 1, 4, 5) * 255})
