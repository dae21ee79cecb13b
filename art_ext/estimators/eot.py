"""An ART classifier that averages over samples of a randomised defence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.utils import check_and_transform_label_format
from numpy.typing import NDArray
from torch import Tensor, nn

from art_ext.attacks.randomness import Averaged
from art_ext.attacks.renamed import renamed
from art_ext.estimators.sliced import SlicedClassifier
from art_ext.nn.copies import copies_of
from art_ext.nn.modes import trainable


class EOTClassifier(SlicedClassifier):
    """A classifier with a randomised defence as an adaptive attacker sees it: expectation over transformation.

    | Paper link: https://arxiv.org/abs/1802.00420

    | The preprocessing of the wrapped classifier becomes part of the model, so every pass draws anew, and `predict`,
        `class_gradient`, `compute_loss`, `loss_gradient` and `get_activations` are means over `eot_samples` passes. Any
        ART attack can be given this estimator. Attacks that build a classifier of their own around `estimator.model`
        (AutoAttack, and AutoProjectedGradientDescent with a `loss_type`) differentiate their loss at the mean logits,
        whatever `average` says.

    | An attack counts its success on mean logits. Classify what it returns with the wrapped classifier.

    | The model and its weights are shared with the wrapped classifier, not copied. No gradient of a weight is ever
        computed, and training is refused.
    """

    estimator_params = [*PyTorchClassifier.estimator_params, "eot_samples", "average", "at_once"]

    @renamed(draws="eot_samples")
    def __init__(
        self,
        classifier: PyTorchClassifier,
        eot_samples: int = 20,
        average: str = "gradients",
        at_once: int | None = None,
    ) -> None:
        """Wrap a classifier.

        :param classifier: An ART classifier of images, whose preprocessing, if any, is PyTorch's.
        :param eot_samples: Passes to average; `draws` before 0.2.
        :param average: `gradients`: `compute_loss` is the mean of the samples' losses, and `loss_gradient` its
                        gradient. `logits`: both are those of the mean logits.
        :param at_once: The most images of one pass; all samples in one batch unless given, and never less than the
                        images of a call.
        """
        if not isinstance(classifier, PyTorchClassifier):
            raise TypeError(f"expected an ART PyTorchClassifier, got {type(classifier).__name__}")
        if len(classifier.input_shape) != 3:
            raise ValueError(f"expected a classifier of images with 3 axes, got input_shape {classifier.input_shape}")
        operations = [p for p in classifier.preprocessing_operations if p.apply_predict]
        _check_operations(operations)
        self.eot_samples, self.average, self.at_once = eot_samples, average, at_once
        super().__init__(
            model=Averaged(_Pipeline(operations, classifier.model), eot_samples, average, at_once),
            loss=classifier.loss,
            input_shape=classifier.input_shape,
            nb_classes=classifier.nb_classes,
            channels_first=classifier.channels_first,
            clip_values=classifier.clip_values,
            postprocessing_defences=classifier.postprocessing_defences,
            device_type=classifier.device_type,
        )
        for name in ("_reduce_labels", "_int_labels", "_probability_labels"):  # ART lets these be set by hand
            setattr(self, name, getattr(classifier, name))
        self._layer_names = list(classifier.layer_names or [])

    @property
    def draws(self) -> int:
        """The name of `eot_samples` before 0.2."""
        return self.eot_samples

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters by name.

        :param kwargs: Names out of `estimator_params`; `draws` is `eot_samples`.
        """
        if "draws" in kwargs:
            warnings.warn("draws of EOTClassifier is called eot_samples now", DeprecationWarning, stacklevel=2)
            kwargs["eot_samples"] = kwargs.pop("draws")
        super().set_params(**kwargs)

    def get_activations(
        self,
        x: NDArray[Any] | Tensor,
        layer: int | str | None = None,
        batch_size: int = 128,
        framework: bool = False,
    ) -> NDArray[Any] | Tensor:
        """Output of a layer of the wrapped classifier's network, averaged over the samples.

        :param x: Images in the classifier's range and layout.
        :param layer: Its name, or its number among `layer_names`, which are the wrapped classifier's.
        :param batch_size: Images at once.
        :param framework: Whether to give a tensor, differentiable where x is one.
        :return: The output, with the first dimension of x.
        """
        if not isinstance(layer, int | str):
            raise TypeError(f"expected layer as a name or a number, got {layer!r}")
        if layer not in (self._layer_names if isinstance(layer, str) else range(len(self._layer_names))):
            raise ValueError(f"expected layer to be one of {self._layer_names} or its number, got {layer!r}")
        name = layer if isinstance(layer, str) else self._layer_names[layer]
        part = self.model.module.model.get_submodule(name)
        self._set_mode(False)
        with torch.set_grad_enabled(framework and torch.is_grad_enabled()):
            images = x.to(self._device) if isinstance(x, Tensor) else self._on_device(x)
            inputs, _ = self._apply_preprocessing(images, y=None, fit=False, no_grad=False)
            found = torch.cat([self._mean_output(part, piece) for piece in inputs.split(batch_size)])
        return found if framework else found.cpu().numpy()

    def _mean_output(self, part: nn.Module, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for k, batch in copies_of(x, self.eot_samples, self.at_once):
            seen: list[Tensor] = []
            hook = part.register_forward_hook(lambda _module, _inputs, output, seen=seen: seen.append(output))
            try:
                self.model.module(batch)
            finally:
                hook.remove()
            summed = seen[-1].reshape(k, len(x), *seen[-1].shape[1:]).sum(0)
            total = summed if total is None else total + summed
        assert total is not None
        return total / self.eot_samples

    def __repr__(self) -> str:
        own = f"eot_samples={self.eot_samples}, average={self.average!r}, at_once={self.at_once}"
        return f"{super().__repr__()[:-1]}, {own})"

    def loss_gradient(
        self, x: NDArray[Any] | Tensor, y: NDArray[Any] | Tensor, training_mode: bool = False, **kwargs: Any
    ) -> NDArray[Any] | Tensor:
        """Gradient of the loss with respect to the images, averaged in the way of `average`.

        :param x: Images in the classifier's range and layout.
        :param y: Labels, one-hot of shape `(nb_samples, nb_classes)`.
        :param training_mode: `True` for model set to training mode; the purifier keeps its own.
        :param kwargs: Ignored; ART's signature has them.
        :return: Gradients, of the shape and kind (array or tensor) of x. A loss with `reduction="none"` gives each
                 image the gradient of its own loss.
        """
        self._set_mode(training_mode)
        images = self._on_device(x).requires_grad_()
        inputs, labels = self._apply_preprocessing(images, y=self._on_device(y), fit=False, no_grad=False)
        total = torch.zeros_like(images)
        for loss in self._losses(inputs, self.reduce_labels(labels)):
            total += torch.autograd.grad(loss.sum(), images, retain_graph=True)[0]
        return total.to(x.device) if isinstance(x, Tensor) else total.cpu().numpy()

    def compute_loss(
        self, x: NDArray[Any] | Tensor, y: NDArray[Any] | Tensor, reduction: str = "none", **kwargs: Any
    ) -> NDArray[Any] | Tensor:
        """The loss, averaged in the way of `average`.

        :param x: Images in the classifier's range and layout.
        :param y: Labels, one-hot or indices.
        :param reduction: `none`, `mean` or `sum`.
        :param kwargs: Ignored; ART's signature has them.
        :return: Losses, one an image or one in all; a tensor, differentiable, where x is one.
        """
        self._set_mode(False)
        y = check_and_transform_label_format(y, self.nb_classes)
        is_tensor = isinstance(x, Tensor)
        with torch.set_grad_enabled(is_tensor and torch.is_grad_enabled()):
            images = x.to(self._device) if isinstance(x, Tensor) else self._on_device(x)
            inputs, labels = self._apply_preprocessing(images, y=self._on_device(y), fit=False, no_grad=False)
            before = self._loss.reduction
            self._loss.reduction = reduction
            try:
                loss = torch.stack(list(self._losses(inputs, self.reduce_labels(labels)))).sum(0)
            finally:
                self._loss.reduction = before
        return loss if is_tensor else loss.cpu().numpy()

    def fit(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: train the wrapped classifier.

        :param args: Ignored.
        :param kwargs: Ignored.
        """
        _refuse("fit")

    def fit_generator(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: train the wrapped classifier.

        :param args: Ignored.
        :param kwargs: Ignored.
        """
        _refuse("fit_generator")

    def reset(self) -> NoReturn:
        """Refused: ART re-initialises every layer that it finds inside the model."""
        _refuse("reset")

    def clone_for_refitting(self) -> NoReturn:
        """Refused, as `reset`."""
        _refuse("clone_for_refitting")

    def _losses(self, x: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """Parts that add up to the loss; each belongs to one pass of at most `at_once` images."""
        if self.average == "logits":
            yield self._loss(self._model(x)[-1], labels)
            return
        for k, batch in copies_of(x, self.eot_samples, self.at_once):
            logits = self.model.module(batch).view(k, len(x), -1)
            # One sample at a time: so it is right for any loss and any reduction.
            yield torch.stack([self._loss(z, labels) for z in logits]).sum(0) / self.eot_samples

    def _on_device(self, values: NDArray[Any] | Tensor) -> Tensor:
        copied = values.detach().clone() if isinstance(values, Tensor) else torch.tensor(values)
        return copied.to(self._device)

    def _set_mode(self, training: bool) -> None:
        """As ART does: a recurrent model trains always, because cuDNN has no other way to differentiate it."""
        self._model.train(training or self.is_rnn)
        if self.is_rnn and not training:
            self.set_batchnorm(train=False)
            self.set_dropout(train=False)

    def _check_params(self) -> None:
        super()._check_params()
        if self.preprocessing_defences:
            raise ValueError("expected the preprocessing defences on the wrapped classifier, got some on EOTClassifier")
        self._model._model = Averaged(self.model.module, self.eot_samples, self.average, self.at_once)


class _Pipeline(nn.Module):
    """Preprocessing and network in one; what is preprocessing keeps its own mode, device and place.

    Only the network is a submodule, so nothing that walks through the model (train, reset, state_dict) meets a
    purifier. ART's attacks call `backward`; with no weight in the graph they leave nothing in a `.grad`.
    """

    def __init__(self, operations: list[PreprocessorPyTorch], model: nn.Module) -> None:
        super().__init__()
        self.operations, self.model = operations, model

    def forward(self, x: Tensor) -> Tensor:
        for operation in self.operations:
            x, _ = operation.forward(x, None)
        with trainable((), self.model.parameters()):
            logits: Tensor = self.model(x)
        return logits


def _check_operations(operations: list[Preprocessor]) -> None:
    foreign = [type(p).__name__ for p in operations if not isinstance(p, PreprocessorPyTorch)]
    if foreign:
        raise ValueError(
            f"expected PyTorch preprocessing only, got {', '.join(foreign)}: wrap it as "
            "PurifierPreprocessor(as_purifier(...)), both from art_ext.defences"
        )


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(
        f"expected an estimator that can be trained, got {what} on an EOTClassifier: train the classifier that it wraps"
    )
