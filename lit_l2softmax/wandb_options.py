"""Where runs and dashboards go in Weights & Biases, and whether they go there at all."""

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

Mode = Literal["online", "offline", "disabled"]


@dataclass
class WandbOptions:
    """Where a run goes in W&B.

    Args:
        mode: ``"auto"`` is ``$WANDB_MODE`` where that is set, else online where a key is found, else offline. An
            offline run lies in the run folder; ``wandb sync`` sends it later.
        project: W&B project.
        entity: W&B user or team; the key's own when None.
        group: name that runs of one comparison share.
        tags: of the run.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "lit_l2softmax"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)

    def resolved_mode(self) -> Mode:
        """The mode of this run; never asks a question and never opens a connection.

        Raises:
            ValueError: where W&B is asked for and not installed, or ``$WANDB_MODE`` is no mode.
        """
        if find_spec("wandb") is None:
            if self.mode in ("online", "offline"):
                raise ValueError(f"--wandb.mode={self.mode} needs the package wandb, which is not installed")
            return "disabled"
        # The crash reporter would look its server up, offline too.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        asked = os.environ.get("WANDB_MODE", "auto") if self.mode == "auto" else self.mode
        if asked == "auto":
            return "online" if has_key() else "offline"
        if asked in ("online", "offline", "disabled"):
            return asked  # type: ignore[return-value]  # narrowed by the line above
        raise ValueError(f"$WANDB_MODE must be online, offline or disabled, got {asked!r}")


def has_key() -> bool:
    """Whether W&B finds a key, without a question and without a connection."""
    import wandb  # half a second

    return wandb.login(prompt=False, verify=False)
