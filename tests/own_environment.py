"""An environment that knows nothing of whose machine it is."""

import os

DATA_VARIABLE = "LIT_L2SOFTMAX_DATA"


def enter(patch, folder, wandb_mode):
    """Leaves no data, no key and no settings to be found, and has all caches below ``folder``."""
    patch.delenv(DATA_VARIABLE, raising=False)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        patch.delenv(name)
    for name in ("CACHE", "DATA", "CONFIG"):
        patch.setenv(f"WANDB_{name}_DIR", str(folder / "wandb" / name.lower()))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("HOME", str(folder))  # where a person's W&B key may lie
    patch.setenv("WANDB_MODE", wandb_mode)
