"""One file per published network."""

from .cifar10_convnet import Cifar10ConvNet
from .mnist_convnet import MnistConvNet

__all__ = ["Cifar10ConvNet", "MnistConvNet"]
