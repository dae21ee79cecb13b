"""An ART classifier that predicts a batch at a time, so that it never copies all images."""

from __future__ import annotations

from functools import partial
from typing import Any

from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray

from art_ext.nn.copies import in_slices


class SlicedClassifier(PyTorchClassifier):
    """ART's `PyTorchClassifier`, whose `predict` holds one batch beside the images and the predictions."""

    def predict(
        self, x: NDArray[Any], batch_size: int = 128, training_mode: bool = False, **kwargs: Any
    ) -> NDArray[Any]:  # fmt: skip
        """Predictions, a batch at a time: ART prepares, and copies, all images that it is given.

        :param x: Images in the classifier's range and layout.
        :param batch_size: Images at once.
        :param training_mode: `True` for model set to training mode.
        :param kwargs: Ignored; ART's signature has them.
        :return: Predictions of shape `(nb_samples, nb_classes)`.
        """
        whole = partial(super().predict, batch_size=batch_size, training_mode=training_mode, **kwargs)
        return in_slices(whole, x, batch_size)
