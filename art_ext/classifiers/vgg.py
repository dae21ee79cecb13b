"""A VGG-style network for small images, whose inner layers serve as the feature extractor of RDP."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class VGG(nn.Module):
    """VGG-16's first three stages at any width, for images of 16 pixels or more [Simonyan & Zisserman 2015].

    Convolutions are numbered as in VGG-16: `relu1_1` ... `relu3_3`; these names are layers for
    `art_ext.nn.FeatureExtractor`. `relu3_3` is what NRP calls F with VGG-16: (N, 4 * width, H / 4, W / 4).
    Differs from VGG-16: batch normalisation, no fourth and fifth stage, one fully connected layer.

    Args:
        channels: image channels.
        classes: logits.
        width: channels of the first stage, doubled at each further one (64 in VGG-16).
    """

    stages: ClassVar[tuple[int, ...]] = (2, 2, 3)

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inputs = channels
        for stage, count in enumerate(self.stages, start=1):
            outputs = width * 2 ** (stage - 1)
            for i in range(1, count + 1):
                self.features.add_module(f"conv{stage}_{i}", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
                self.features.add_module(f"norm{stage}_{i}", nn.BatchNorm2d(outputs))
                self.features.add_module(f"relu{stage}_{i}", nn.ReLU())
                inputs = outputs
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * inputs, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
