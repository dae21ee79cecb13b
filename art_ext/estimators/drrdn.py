"""DRRDN as an ART classifier, and what it makes of images inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_ext.classifiers.drrdn import DRRDN
from art_ext.estimators.sliced import SlicedClassifier
from art_ext.nn.modes import evaluating
from art_ext.plain import check_device_type

INFERENCE = ("encoder", "d_s", "c_s")
"""Parts of the model that run at inference."""


class DRRDNClassifier(SlicedClassifier):
    """A DRRDN [Yang et al., AAAI 2021] wherever ART takes a classifier; train it with `DRRDNTrainer`.

    | Predictions, losses and gradients are those of c_s(d_s(g(x))), the class-specific branch, an ordinary network
        without randomness: AutoAttack's standard version is the right test of it. `model` is the whole DRRDN, so that
        what is saved, pickled or cloned can be trained further; the other parts do not run at inference.

    | `fit`, and ART's own trainers, train that branch alone with the loss and the optimiser given here. They leave the
        other parts behind: `representations` and `hybrid` then mix what was trained with what was not.

    | Please keep in mind the limitations of defences: alignment of representations on the training attack says nothing
        about other attacks.
    """

    def __init__(self, model: DRRDN, *args: Any, **kwargs: Any) -> None:
        """Wrap a DRRDN.

        :param model: Takes images in the range and the layout that this classifier has; a network for images in [0, 1]
                      and channels first needs `clip_values=(0, 1)` and `channels_first=True`.
        :param args: The further arguments of ART's `PyTorchClassifier`: loss, input_shape, nb_classes, optimizer, ...
        :param kwargs: The same by name.
        """
        if not isinstance(model, DRRDN):
            raise TypeError(f"expected a DRRDN, got {type(model).__name__}")
        check_device_type(kwargs.get("device_type", "gpu"))
        super().__init__(model, *args, **kwargs)

    @property
    def layer_names(self) -> list[str]:
        """The parts that run at inference, which `get_activations` takes."""
        return list(INFERENCE)

    def representations(self, x: NDArray[Any], batch_size: int = 128) -> dict[str, NDArray[np.float32]]:
        """What images become inside.

        :param x: Images in the classifier's range and layout.
        :param batch_size: Images at once.
        :return: `z` of shape `(nb_samples, features)`, and its parts of shape `(nb_samples, width)`: `z_s`,
                 class-specific, and `z_i`, class-irrelevant.
        """
        return self._inside(lambda batch: self.model.represent(batch)._asdict(), x, batch_size=batch_size)

    def hybrid(
        self, x: NDArray[Any], x_adv: NDArray[Any], batch_size: int = 128
    ) -> dict[str, NDArray[np.float32]]:  # fmt: skip
        """Representations rebuilt from parts of two kinds of images, as in the paper's Table 3.

        :param x: Images in the classifier's range and layout.
        :param x_adv: Adversaries of the same images, in the same order.
        :param batch_size: Images at once.
        :return: Four arrays of shape `(nb_samples, features)`: `z_s + z_i`, `z_s' + z_i`, `z_s + z_i'` and
                 `z_s' + z_i'`, where a prime stands for the adversaries.
        """
        if np.shape(x) != np.shape(x_adv):
            raise ValueError(f"expected adversaries of the shape of x, {np.shape(x)}, got {np.shape(x_adv)}")
        return self._inside(self.model.hybrids, x, x_adv, batch_size=batch_size)

    def get_activations(
        self, x: NDArray[Any], layer: int | str | None = None, batch_size: int = 128, framework: bool = False
    ) -> Any:
        """Output of a part that runs at inference: `encoder`, `d_s` or `c_s`.

        :param x: Images in the classifier's range and layout.
        :param layer: Its name, or its number among `layer_names`.
        :param batch_size: Images at once.
        :param framework: Whether to give a tensor.
        :return: The output, with the first dimension of x.
        """
        name = INFERENCE[layer] if isinstance(layer, int) and 0 <= layer < len(INFERENCE) else layer
        if name not in INFERENCE:
            raise ValueError(
                f"expected layer to be one of {', '.join(INFERENCE)}, which run at inference; got {layer!r}; "
                "`representations` gives the class-irrelevant part"
            )
        return super().get_activations(x, name, batch_size, framework)

    def _inside(
        self, function: Callable[..., Mapping[str, Tensor]], *arrays: NDArray[Any], batch_size: int
    ) -> dict[str, NDArray[np.float32]]:
        """What a function of the model gives, batch by batch, on images as the model sees them."""
        if batch_size < 1 or not len(arrays[0]):
            raise ValueError(f"expected images and batch_size >= 1, got {len(arrays[0])} and {batch_size}")
        seen = [self._apply_preprocessing(np.asarray(a, np.float32), y=None, fit=False)[0] for a in arrays]
        found = []
        with evaluating(self._model), torch.no_grad():
            for at in range(0, len(seen[0]), batch_size):
                batch = [torch.from_numpy(a[at : at + batch_size]).to(self._device) for a in seen]
                found.append({k: v.cpu().numpy() for k, v in function(*batch).items()})
        return {k: np.concatenate([piece[k] for piece in found]) for k in found[0]}
