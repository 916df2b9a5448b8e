"""One file per published network."""

from .cifar10_convnet import Cifar10ConvNet
from .digit_recogniser import DigitRecogniser
from .lenet import LeNet
from .mnist_convnet import MnistConvNet

__all__ = ["Cifar10ConvNet", "DigitRecogniser", "LeNet", "MnistConvNet"]
