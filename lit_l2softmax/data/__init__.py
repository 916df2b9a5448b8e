"""One LightningDataModule per data set."""

from .cifar10 import CIFAR10Data
from .held_out_digits import HeldOutDigitsData
from .mnist import MNISTData
from .points import PointsData
from .synthetic_faces import SyntheticFacesData

__all__ = ["CIFAR10Data", "HeldOutDigitsData", "MNISTData", "PointsData", "SyntheticFacesData"]
