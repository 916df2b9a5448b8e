"""What a trained network leaves for those who have nothing of this program: safetensors and ONNX."""

from .trainer import ExportingTrainer, Format

__all__ = ["ExportingTrainer", "Format"]
