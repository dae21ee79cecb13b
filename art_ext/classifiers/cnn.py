"""The small convolutional network of the MNIST experiments in the adversarial training literature."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Two pairs of 3x3 convolutions with max-pooling, three fully connected layers [Zhang et al. 2019, TRADES].

    Differs from the paper: padded convolutions, batch normalisation, and a global 3x3 pooling before the fully
    connected layers, so that any image of 12 pixels or more fits.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first pair, twice as many in the second.
        hidden: units of the fully connected layers.
        dropout: probability before the last fully connected layer.
    """

    def __init__(
        self, channels: int = 1, classes: int = 10, width: int = 32, *, hidden: int = 200, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv(channels, width), *_conv(width, width), nn.MaxPool2d(2),
            *_conv(width, 2 * width), *_conv(2 * width, 2 * width), nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(18 * width, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
