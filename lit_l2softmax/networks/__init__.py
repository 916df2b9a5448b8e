"""One file per published network."""

from .mnist_convnet import MnistConvNet

__all__ = ["MnistConvNet"]
