"""What the tutorials compute before anything is trained: one file a system, one function a demonstration."""

from . import convolution, optimisation, recognition

__all__ = ["convolution", "optimisation", "recognition"]
