"""The torch library that every operator is registered in, as ``torch.ops.lit_l2softmax``."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("lit_l2softmax", "FRAGMENT")


def register(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Registers an opaque operator for every device, and what torch.compile takes for it; returns it."""
    name = LIBRARY.define(schema)
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lit_l2softmax::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.lit_l2softmax, name).default
