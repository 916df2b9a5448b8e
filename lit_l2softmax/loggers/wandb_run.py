"""Weights & Biases for every run: offline unless it is asked for or logged in, and never in training's way."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment as DummyExperiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn
from numpy.typing import NDArray

from lit_l2softmax.wandb_options import Mode, WandbOptions


class RunWandbLogger(WandbLogger):
    """A W&B run that lives in the run folder and whose end is not the training's.

    When W&B fails, for whatever reason, one warning says so and the rest of the run goes unrecorded there;
    ``metrics.csv`` has it.

    Args:
        run: the run folder; its name is the run's id, so that both are found by either.
        options: project, entity, group and tags.
        mode: see :meth:`WandbOptions.resolved_mode`.
        config: what the run was told.
    """

    def __init__(self, run: Path, options: WandbOptions, mode: Mode, config: Mapping[str, Any]) -> None:
        import wandb

        super().__init__(
            name=f"{run.parent.name}/{run.name}",
            version=run.name,
            save_dir=run,
            project=options.project,
            entity=options.entity,
            group=options.group,
            tags=options.tags,
            mode=mode,
            config=dict(config),
            settings=wandb.Settings(silent=True, init_timeout=10),
        )
        self._wandb_init.pop("anonymous")  # W&B warns of the word even when it says nothing
        self._failed = False

    def _guarded(self, call: Callable[[], Any]) -> Any:
        if self._failed:
            return None
        try:
            return call()
        except Exception as error:  # a dead service, a full disk, a lost connection: W&B has no common base for them
            self._failed = True
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            rank_zero_warn(f"W&B stopped recording ({reason}); training goes on, metrics.csv is complete")
            return None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run; a stand-in that ignores every call once W&B has failed."""
        parents = WandbLogger.experiment.fget  # type: ignore[attr-defined]  # a property, which Lightning's decorator hides
        return self._guarded(lambda: parents(self)) or DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Records metrics, if W&B still lives."""
        self._guarded(lambda: super(RunWandbLogger, self).log_metrics(metrics, step))

    @rank_zero_only
    def log_config(self, values: Mapping[str, Any]) -> None:
        """Adds what became known after the run was made to its configuration."""
        self._guarded(lambda: self.experiment.config.update(dict(values)))

    @rank_zero_only
    def log_histograms(self, histograms: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], step: int) -> None:
        """Records histograms, each as its counts and the edges of its bins."""
        import wandb

        def record() -> None:
            drawn: dict[str, Any] = {key: wandb.Histogram(np_histogram=it) for key, it in histograms.items()}
            super(RunWandbLogger, self).log_metrics(drawn, step)

        self._guarded(record)

    @rank_zero_only
    def log_pictures(self, key: str, pictures: list[Any], captions: list[str], step: int | None = None) -> None:
        """Records pictures (arrays of levels of 0 to 255, uint8, or file paths), each with its caption."""
        self._guarded(lambda: self.log_image(key, pictures, step, caption=captions))

    @rank_zero_only
    def log_confusion(self, key: str, truth: list[int], prediction: list[int], classes: list[str]) -> None:
        """Records a confusion matrix."""
        import wandb

        def record() -> None:
            plot = wandb.plot.confusion_matrix(y_true=truth, preds=prediction, class_names=classes, title=key)
            self.experiment.log({key: plot})

        self._guarded(record)

    @rank_zero_only
    def finish(self, status: int = 0) -> None:
        """Ends the run, so that the next one of this process is another; a status other than 0 says that it failed."""
        import wandb

        if self._experiment is not None:
            self._guarded(lambda: self.experiment.finish(exit_code=status))
            self._experiment = None
        if self._failed:
            # Or W&B would try once more when the process exits, and print where that fails, and take the process's next
            # run for a part of this one.
            with suppress(Exception):
                wandb.teardown()
            wandb.run = None
