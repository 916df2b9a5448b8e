"""One file per published network."""

from .cifar10_convnet import Cifar10ConvNet
from .digit_recogniser import DigitRecogniser
from .dots_network import DotsNetwork
from .face_mlp import FaceMLP
from .lenet import LeNet
from .linear_unit import LinearUnit
from .mnist_convnet import MnistConvNet

__all__ = ["Cifar10ConvNet", "DigitRecogniser", "DotsNetwork", "FaceMLP", "LeNet", "LinearUnit", "MnistConvNet"]
