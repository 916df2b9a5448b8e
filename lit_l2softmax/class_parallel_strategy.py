"""Data and class parallel training in Lightning: ``--trainer.strategy class_parallel``."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.optim import Optimizer

from .class_parallel_head import (
    ClassParallelL2SoftmaxLoss,
    gradient_norm,
    keep_out_of_ddp,
    shard_names,
    shard_owners,
    spread_heads,
)
from .durable_checkpoints import check
from .errors import ConfigError, RunError
from .messages import one_line


class ClassParallelStrategy(DDPStrategy):
    """``DDPStrategy`` for modules with heads whose classes are spread over processes.

    What all processes have in common is DistributedDataParallel's. Shards of classes are left out of it, with their
    gradients, which the head averages over those that have the same shard. A checkpoint is one file, that of one
    process: the first process puts shards together, those of the optimiser's state too, and alone holds the whole; it
    is cut again for any number of processes, or loaded into one. To save one is for all processes to do together.

    Options are ``DDPStrategy``'s.

    Raises:
        ConfigError: where the processes cannot be laid out as a head says, and with several processes on what knows of
            no shards: averages of weights, penalties of a shard, and scaled gradients, which must be dropped in all
            processes or in none.
        RunError: on an optimiser whose state is of another shape than its weights, which cannot be put together.
    """

    def setup(self, trainer: Trainer) -> None:
        """Gives every process its classes, then does what ``DDPStrategy`` does."""
        assert self.model is not None
        self._refuse_what_knows_of_no_shards(trainer)
        for head in spread_heads(self.model).values():
            try:
                head.take_share()
            except ValueError as error:
                raise ConfigError(one_line(error)) from error
        keep_out_of_ddp(self.model)
        super().setup(trainer)
        # A method of the precision's, of which there are many classes, and none asks the strategy.
        vars(self.precision_plugin)["clip_grad_by_norm"] = self._clip_by_norm

    def _refuse_what_knows_of_no_shards(self, trainer: Trainer) -> None:
        names = shard_names(cast(nn.Module, self.model))
        if trainer.world_size == 1 or not names:
            return
        if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            raise ConfigError("no averages are kept of weights that are spread over processes: --model.ema_decay=null")
        if getattr(self.precision_plugin, "scaler", None) is not None:
            raise ConfigError(
                "gradients are scaled in each process on its own, and shards differ: --trainer.precision=bf16-mixed"
            )
        for name in getattr(getattr(self.model, "penalty", None), "weights", ()):
            if name in names:
                raise ConfigError(
                    f"penalty: {name} is spread over processes, none of which knows its norm; decay it with "
                    "--optimizer.weight_decay"
                )

    def _clip_by_norm(self, optimizer: Optimizer, clip_val: float) -> None:
        """Clips the gradients by their length over all processes' shards."""
        assert self.lightning_module is not None
        parameters = list(self.precision_plugin.main_params(optimizer))
        total = gradient_norm(self.lightning_module, parameters)
        nn.utils.clip_grads_with_norm_(parameters, clip_val, total)

    # ---- checkpoints

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's, all classes' in the first process; the others keep their shards."""
        state = super().lightning_module_state_dict()
        for name, head in self._shard_names.items():
            state[name] = head.take_share().whole(state[name])
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's, all classes' in the first process; the others keep what is of their shards."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        kept = dict(state["state"])
        for number, parameter, head in self._sharded(optimizer, state):
            if number in kept:
                kept[number] = {
                    name: head.take_share().whole(value) if _is_of(parameter, name, value) else value
                    for name, value in kept[number].items()
                }
        return {**state, "state": kept}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint, of which only what this process takes is ever read: its tensors lie in the file.

        Raises:
            RunError: where it cannot be read, or its bytes are not those that were saved.
        """
        place = Path(checkpoint_path)
        check(place)
        loaded: dict[str, Any] = torch.load(place, map_location="cpu", weights_only=weights_only, mmap=True)
        return loaded

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Gives every process the state of its classes' weights."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            heads = {number: head for number, _, head in self._sharded(optimizer, saved)}
            states.append(
                {
                    **saved,
                    "state": {
                        number: {name: _cut(value, heads.get(number)) for name, value in kept.items()}
                        for number, kept in saved["state"].items()
                    },
                }
            )
        super().load_optimizer_state_dict({"optimizer_states": states})

    @property
    def _shard_names(self) -> dict[str, ClassParallelL2SoftmaxLoss]:
        assert self.lightning_module is not None
        return shard_names(self.lightning_module)

    def _sharded(
        self, optimizer: Optimizer, state: Mapping[str, Any]
    ) -> Iterator[tuple[int, Tensor, ClassParallelL2SoftmaxLoss]]:
        """The parameters that are shards, each with its number in an optimiser's state and its head."""
        assert self.lightning_module is not None
        owners = shard_owners(self.lightning_module)
        numbers = chain.from_iterable(group["params"] for group in state["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        for number, parameter in zip(numbers, parameters, strict=True):
            if parameter in owners:
                yield number, parameter, owners[parameter]


def _is_of(parameter: Tensor, name: str, value: Any) -> bool:
    """Whether a value of an optimiser's state has a number for each of a shard's, or is none of the shard's.

    Raises:
        RunError: where it is neither.
    """
    if not isinstance(value, Tensor) or not value.ndim:
        return False
    if value.shape != parameter.shape:
        raise RunError(
            f"the optimiser's {name} of a weight {tuple(parameter.shape)} is {tuple(value.shape)}: of classes that are "
            "spread over processes only what is of a weight's shape can be saved (SGD's and Adam's are)"
        )
    return True


def _cut(value: Any, head: ClassParallelL2SoftmaxLoss | None) -> Any:
    """This process's part of a value of an optimiser's state, in memory of its own."""
    if not isinstance(value, Tensor):
        return value
    if head is not None and value.ndim and len(value) == head.num_classes:
        value = head.take_share().mine(value)
    return value.clone()


StrategyRegistry.register(
    "class_parallel", ClassParallelStrategy, description="DDP with the classes of heads spread over processes"
)
