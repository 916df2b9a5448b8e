"""One file per published network."""

from .cifar10_convnet import Cifar10ConvNet
from .digit_recogniser import DigitRecogniser
from .dots_network import DotsNetwork
from .lenet import LeNet
from .linear_unit import LinearUnit
from .mnist_convnet import MnistConvNet

__all__ = ["Cifar10ConvNet", "DigitRecogniser", "DotsNetwork", "LeNet", "LinearUnit", "MnistConvNet"]
