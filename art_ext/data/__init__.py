"""The data set that ships with the package, and loaders for what users have."""

from art_ext.data.arrays import Images, from_arrays, from_npz
from art_ext.data.augment import shift_and_flip
from art_ext.data.cifar import CIFAR10_CLASSES, CIFAR10_FOLDER, cifar10
from art_ext.data.datasets import from_hugging_face, from_torchvision
from art_ext.data.fashion import FASHION_MNIST_CLASSES, fashion_mnist
from art_ext.data.folder import image_folder
from art_ext.data.order import balanced_order, order_sha256

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_FOLDER",
    "FASHION_MNIST_CLASSES",
    "Images",
    "balanced_order",
    "cifar10",
    "fashion_mnist",
    "from_arrays",
    "from_hugging_face",
    "from_npz",
    "from_torchvision",
    "image_folder",
    "order_sha256",
    "shift_and_flip",
]
