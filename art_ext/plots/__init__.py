"""Pictures of images, methods and reports, as matplotlib figures."""

from art_ext.plots.drawing import png
from art_ext.plots.images import decompositions, image_grid
from art_ext.plots.methods import explain
from art_ext.plots.reports import COLOURS, accuracy_bars, curves, eps_curves, figures, repeat_curves, transfer_heatmap
from art_ext.plots.representations import Embed, representation_map, roc_curves, trade_off_curve

__all__ = [
    "COLOURS",
    "Embed",
    "accuracy_bars",
    "curves",
    "decompositions",
    "eps_curves",
    "explain",
    "figures",
    "image_grid",
    "png",
    "repeat_curves",
    "representation_map",
    "roc_curves",
    "trade_off_curve",
    "transfer_heatmap",
]
