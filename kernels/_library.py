"""The torch library that every operator is registered in, as ``torch.ops.lit_l2softmax``."""

import torch

LIBRARY = torch.library.Library("lit_l2softmax", "FRAGMENT")
