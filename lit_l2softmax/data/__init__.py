"""One LightningDataModule per data set."""

from .mnist import MNISTData

__all__ = ["MNISTData"]
