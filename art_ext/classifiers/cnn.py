"""The small convolutional network of the MNIST experiments in the adversarial training literature."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Two pairs of 3x3 convolutions with max-pooling, three fully connected layers [Zhang et al. 2019, TRADES].

    Differs from the paper: dropout after the second fully connected layer, not the first, and torch's initial weights;
    unless `original`, padded convolutions, batch normalisation, and a global 3x3 pooling before the fully connected
    layers too, so that any image of 12 pixels or more fits.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first pair, twice as many in the second (32 in the paper).
        hidden: units of the fully connected layers.
        dropout: probability before the last fully connected layer.
        original: the paper's convolutions, unpadded and bare, all of whose 4x4 outputs go on; for 28 pixels.

    Attributes:
        outputs: of `features`, 18 * width or, of the original ones, 32 * width.
    """

    def __init__(
        self, channels: int = 1, classes: int = 10, width: int = 32, *, hidden: int = 200, dropout: float = 0.3,
        original: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        conv, self.outputs = (_bare, 32 * width) if original else (_conv, 18 * width)
        self.features = nn.Sequential(
            *conv(channels, width), *conv(width, width), nn.MaxPool2d(2),
            *conv(width, 2 * width), *conv(2 * width, 2 * width), nn.MaxPool2d(2),
            *(() if original else (nn.AdaptiveAvgPool2d(3),)), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(self.outputs, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, H, W) in [0, 1].

        Raises:
            ValueError: the original layers and images of another size than 28.
        """
        features = self.features(x)
        if features.shape[1] != self.outputs:
            raise ValueError(f"expected images of 28x28 pixels for the original layers, got {tuple(x.shape[-2:])}")
        logits: Tensor = self.head(features)
        return logits


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def _bare(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3), nn.ReLU()
