"""Normalised-softmax losses and local response normalisation for PyTorch, and five tutorials rebuilt on Lightning."""

__version__ = "0.1.0"
