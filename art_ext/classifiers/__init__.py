"""Reference classifiers for 28x28 and 32x32 images in [0, 1]; they give logits and normalise inside."""

from art_ext.classifiers.cnn import SmallCNN
from art_ext.classifiers.drrdn import PreActDRRDN, SmallDRRDN, WideDRRDN
from art_ext.classifiers.objective import ClassifierObjective, TradesObjective, n_fgsm
from art_ext.classifiers.resnet import PreActResNet, ResNet18, WideResNet
from art_ext.classifiers.vgg import VGG

CLASSIFIERS = {
    c.__name__: c for c in (SmallCNN, ResNet18, PreActResNet, WideResNet, VGG, SmallDRRDN, WideDRRDN, PreActDRRDN)
}
"""By name, for presets and the command line."""

__all__ = [
    "CLASSIFIERS",
    "VGG",
    "ClassifierObjective",
    "PreActDRRDN",
    "PreActResNet",
    "ResNet18",
    "SmallCNN",
    "SmallDRRDN",
    "TradesObjective",
    "WideDRRDN",
    "WideResNet",
    "n_fgsm",
]
