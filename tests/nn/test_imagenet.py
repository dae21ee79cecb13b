"""RDP's own feature extractor, where a user has torchvision."""

from __future__ import annotations

import sys

import pytest

from art_ext.nn import imagenet_vgg16


def test_vgg_without_torchvision_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        imagenet_vgg16()
