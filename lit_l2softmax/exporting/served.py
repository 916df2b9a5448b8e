"""A trained module as others use it: raw inputs in, what it says out."""

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_l2softmax.data.raw_inputs import RawInputs


class Served(nn.Module):
    """What ``predict_step`` says of a batch of raw inputs, whose preprocessing is a part of it.

    So nobody has to do it again, and differently.

    Args:
        module: whose ``predict_step`` returns tensors by name, of which its ``says`` has the meanings; evaluated, not
            trained.
        inputs: what it is given.
        dtype: that everything is computed in.
    """

    def __init__(self, module: LightningModule, inputs: RawInputs, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.module, self.inputs, self.dtype = module.to(dtype), inputs, dtype
        self.eval()

    @property
    def says(self) -> dict[str, str]:
        """What ``forward`` returns, in its order, by name, in words."""
        said: dict[str, str] = cast(Any, self.module).says
        return said

    @property
    def output_names(self) -> list[str]:
        """The names of what ``forward`` returns, in its order."""
        return list(self.says)

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Every tensor that ``predict_step`` returns of ``raw`` ``(N, *)``, in the order of their names."""
        said = self.module.predict_step(self.inputs.preprocess(raw, self.dtype), 0)
        return tuple(said[name] for name in self.output_names)

    def example(self, rows: int, generator: torch.Generator) -> Tensor:
        """Random raw inputs ``(N, *)``: any byte, or normal numbers."""
        shape = rows, *self.inputs.shape
        if self.inputs.dtype == torch.uint8:
            return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return torch.randn(shape, dtype=self.inputs.dtype, generator=generator)
