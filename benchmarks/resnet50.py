"""ResNet-50 [He et al. 2016, arXiv:1512.03385, Table 1] with random weights: for its cost alone."""

from __future__ import annotations

from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; four times the width comes out."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(inputs, width, 1), _convolution(width, width, 3, stride)
        self.third, self.relu = _convolution(width, 4 * width, 1), nn.ReLU()
        same = inputs == 4 * width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, 4 * width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.second(self.relu(self.first(x))))
        out: Tensor = self.relu(self.third(inner) + self.shortcut(x))
        return out


def resnet50(classes: int = 1000) -> nn.Sequential:
    """Images (N, 3, H, W) to logits (N, K)."""
    layers: list[nn.Module] = [_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(count):
            layers.append(Bottleneck(inputs, width, stride if k == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
