"""fit, validate, test and predict: LightningCLI with one folder a run and one line an error."""

import errno
import logging
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import lightning
import torch
import yaml
from jsonargparse import ArgumentError
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from . import (
    __version__,
    arguments,
    launching,
    losses,  # noqa: F401 - a class that is imported can be named without its module
    plots,
    resuming,
    runs,
    safe_weights,
)
from .callbacks import (
    ConfiguredOptimizer,
    DieOfSigterm,
    LastCheckpoint,
    PlainProgress,
    RunConfig,
    StepRandomness,
    StopOnNonFinite,
    StopSignals,
    TerminalProgress,
    TrainingMonitor,
)
from .class_parallel_strategy import ClassParallelStrategy
from .data.pictures import Ink
from .durable_checkpoints import DurableCheckpointIO
from .errors import ConfigError, NonFiniteError, RunError
from .exporting import ExportingTrainer
from .loggers import RunCSVLogger, RunWandbLogger
from .messages import nearest_or_all, one_line
from .program import LIGHTNING, PROGRAM
from .reports import run_page
from .wandb_options import WandbOptions


class LitCLI(LightningCLI):
    """The project's LightningCLI; see the module docstring."""

    def __init__(self, words: launching.Words, cluster: launching.Cluster | None) -> None:
        self._started = time.perf_counter()
        self._run_name, self._cluster = words.run_name, cluster
        self._adding_subcommand = ""
        self.run_folder: Path | None = None
        self._resumed = False
        self._claim: int | None = None
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=ExportingTrainer,
            save_config_callback=None,  # RunConfig writes it, before the paths of this run are filled in
            seed_everything_default=0,
            parser_kwargs={
                "prog": PROGRAM,
                "exit_on_error": False,
                "allow_abbrev": False,
                **{name: {"exit_on_error": False} for name in LIGHTNING},
            },
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=list(words.arguments),
            load_from_checkpoint_support=False,  # a checkpoint carries the whole configuration instead
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands and ours, with the arguments that are no options."""
        return LightningCLI.subcommands() | {"export": {"model", "datamodule"}}

    # ---- options

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        self._adding_subcommand = subcommand
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that Lightning does not have."""
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)
        if self._adding_subcommand == "fit":
            parser.add_argument("--runs", type=str, default="runs", help="Folder that receives one folder a run.")
            # `arguments` turns it into --config and --ckpt_path and leaves the folder here.
            parser.add_argument(
                "--resume",
                type=str | None,
                help="Run folder to go on in, or auto: the newest run of the configuration, if it is not over.",
            )
            parser.add_class_arguments(WandbOptions, "wandb")
            parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
            parser.set_defaults(
                {
                    "checkpoint.monitor": "val/accuracy",
                    "checkpoint.mode": "max",
                    "checkpoint.enable_version_counter": False,
                }
            )
        else:
            # `arguments` turns it into --config and --ckpt_path before this parser sees it; it is here for --help.
            parser.add_argument("--run", type=str, help="Run folder: brings its configuration and its checkpoint.")
        if self._adding_subcommand == "predict":
            parser.add_argument("--images", type=str, nargs="+", help="Pictures of your own, one object or digit each.")
            parser.add_argument("--ink", type=Ink, default="auto", help="Whether your digits are dark or light.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the given arguments and no others."""
        given = cast(list[str], args)
        try:
            self.config = parser.parse_args(given)
        except ArgumentError as error:
            options = [name.removeprefix("--") for name in self._parser(given[0])._option_string_actions]
            raise ConfigError(one_line(error, options)) from error

    def _parse_ckpt_path(self) -> None:
        """Leaves the command line alone: Lightning lets a checkpoint's hyper-parameters overrule it."""

    # ---- the parts of a run

    def before_instantiate_classes(self) -> None:
        """Decides where the run's files will go; nothing is made yet."""
        options = self.config[self.subcommand]
        told = options.clone()
        resumed = told.get("resume")
        if resumed is not None:
            if told.ckpt_path is None:
                raise ConfigError("--resume is for the command line: a configuration cannot have it")
            at_first = runs.read_config(Path(resumed))
            told.resume, told.ckpt_path = None, at_first.get("ckpt_path")
        self._config_as_told = self._parser(self.subcommand).dump(told, skip_none=False)
        if resumed is not None:
            _check_same(yaml.safe_load(self._config_as_told), at_first)
        if self.subcommand != "fit":
            return
        _check_fit(options)
        if not options.trainer.fast_dev_run:
            self.run_folder = Path(options.runs) / runs.config_name(options.config) / self._run_name
            if options.resume is not None:
                self.run_folder = Path(options.resume)
            checkpoint = options.checkpoint
            checkpoint.dirpath = str(self.run_folder / "checkpoints")
            checkpoint.filename = "best" if checkpoint.save_top_k == 1 else "{step}"
            checkpoint.save_last = None  # LastCheckpoint's business
            if checkpoint.monitor is None:
                checkpoint.save_top_k = 0  # without a metric there is no best, only the last

    def instantiate_classes(self) -> None:
        """Builds the module, the data and the trainer; what they refuse is the configuration's fault."""
        try:
            super().instantiate_classes()
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ConfigError(one_line(error)) from error
        if self.trainer.world_size > 1:
            self._check_processes()
        self._check_together()

    def _check_processes(self) -> None:
        """Refuses what several processes cannot do, or not rightly."""
        if self.subcommand in ("predict", "export"):
            raise ConfigError(f"{self.subcommand} is one process's work: --trainer.devices=1")
        if self.trainer.num_nodes > 1 and self._cluster is None:
            raise ConfigError("processes on several machines are started by torchrun or SLURM, not by this command")
        strategy = self.trainer.strategy
        if not isinstance(strategy, DDPStrategy) or strategy._start_method != "popen":
            named = self.config[self.subcommand].trainer.strategy
            raise ConfigError(f"several processes train by --trainer.strategy=ddp, not by {named}")
        head = getattr(self.model, "head", None)
        if getattr(head, "spreads_classes", False) and not isinstance(strategy, ClassParallelStrategy):
            raise ConfigError(
                f"{type(head).__name__} spreads classes over processes: --trainer.strategy=class_parallel"
            )
        if getattr(head, "of_whole_batches", False):
            raise ConfigError(
                f"{type(head).__name__} constrains whole batches, which several processes would share: "
                "--trainer.devices=1"
            )

    def _check_together(self) -> None:
        """Refuses parts that do not fit each other, before anything is made."""
        classes, wanted = (getattr(part, "num_classes", None) for part in (self.datamodule, self.model))
        if None not in (classes, wanted) and classes != wanted:
            owner, option = ("head", "model.head") if hasattr(self.model, "head") else ("regression", "model")
            raise ConfigError(
                f"the data have {classes} classes, the {owner} has {wanted}: --{option}.num_classes={classes}"
            )
        if self.subcommand != "fit":
            return
        if getattr(self.datamodule, "validation_name", "val") == "test":
            schedule = self.config.fit.get("lr_scheduler")
            watchers = [*_callbacks(self.trainer), getattr(schedule, "init_args", None)]
            if any(getattr(watcher, "monitor", None) is not None for watcher in watchers):
                raise ConfigError(
                    "no image is kept from training, and nothing is selected, stopped or scheduled by test images: "
                    "--checkpoint.monitor=null and no other monitor, or --data.validation=5000"
                )
        if (monitor := self.config.fit.checkpoint.monitor) is None:
            return
        better: dict[str, str] | None = getattr(self.model, "validation_metrics", None)
        if better is not None:
            mode = self.config.fit.checkpoint.mode
            if monitor not in better:
                raise ConfigError(f"checkpoint.monitor: {monitor!r} is not validated{nearest_or_all(monitor, better)}")
            if mode != better[monitor]:
                raise ConfigError(
                    f"checkpoint.mode: {mode} of {monitor} is its worst; --checkpoint.mode={better[monitor]}"
                )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer whose record is the run folder; only fit has one."""
        options = self.config[self.subcommand].trainer
        if self._cluster is not None:
            if options.devices not in ("auto", 1, self._cluster.devices, str(self._cluster.devices)):
                raise ConfigError(
                    f"{self._cluster.devices} processes were started on each machine, "
                    f"trainer.devices is {options.devices}: leave it out"
                )
            kwargs |= self._cluster._asdict()
        on_terminal = sys.stdout.isatty()
        for name in ("enable_progress_bar", "enable_model_summary"):
            kwargs[name] = on_terminal if options[name] is None else options[name]
        callbacks: list[Callback] = [TerminalProgress() if kwargs["enable_progress_bar"] else PlainProgress()]
        callbacks.append(DieOfSigterm())
        if self.run_folder is None:
            kwargs["logger"] = False
        else:
            kwargs["default_root_dir"] = str(self.run_folder)
            seed = self.config[self.subcommand].seed_everything
            callbacks += [StepRandomness(seed), ConfiguredOptimizer(), TrainingMonitor(), StopOnNonFinite()]
            last = self.run_folder / "checkpoints" / "last.ckpt"
            self._stop_signals = StopSignals(last)
            callbacks += [LastCheckpoint(last), self._stop_signals]
            callbacks.append(RunConfig(self.run_folder / runs.CONFIG_FILE, runs.CONFIG_KEY, self._config_as_told))
            if options.logger in (None, True):
                kwargs["logger"] = self._loggers(self.run_folder)
        self.trainer_defaults = {"callbacks": callbacks}  # added to those of the configuration, never replaced by them
        trainer = super().instantiate_trainer(**kwargs)
        named = self._get(self.config_init, "trainer").get("plugins")
        if not any(isinstance(plugin, CheckpointIO) for plugin in (named if isinstance(named, list) else [named])):
            trainer.strategy.checkpoint_io = DurableCheckpointIO()
        return trainer

    def _loggers(self, folder: Path) -> list[Logger]:
        options: WandbOptions = self.config_init.fit.wandb
        mode = options.resolved_mode()
        loggers: list[Logger] = [RunCSVLogger(folder)]
        if mode != "disabled":
            loggers.append(RunWandbLogger(folder, options, mode, yaml.safe_load(self._config_as_told)))
        return loggers

    @staticmethod
    def configure_optimizers(
        lightning_module: LightningModule, optimizer: Optimizer, lr_scheduler: LRScheduler | None = None
    ) -> Any:
        """As Lightning's, which steps every schedule once an epoch, but for those that say they count steps."""
        if getattr(lr_scheduler, "interval", "epoch") == "step":
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}
        return LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)

    def _run_subcommand(self, subcommand: str) -> None:
        status = 1
        try:
            super()._run_subcommand(subcommand)
            status = 0
        except MisconfigurationException as error:
            raise ConfigError(one_line(error)) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            place = error.filename or self.run_folder or "a file"
            raise RunError(
                f"{place} cannot be written: {error.strerror}; what was there before is there still"
            ) from error
        finally:
            self._finish_loggers(status)
            if self._claim is not None:
                os.close(self._claim)

    def _finish_loggers(self, status: int) -> None:
        for logger in self.trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.finish()
            if isinstance(logger, RunWandbLogger):
                logger.finish(status)

    # ---- fit

    def before_fit(self) -> None:
        """Claims the run folder, so that a place that cannot be written is known before anything is downloaded."""
        if self.config.fit.ckpt_path is not None:
            checkpoint = Path(self.config.fit.ckpt_path)
            if checkpoint.suffix == safe_weights.SUFFIX:
                raise ConfigError(f"{checkpoint} holds weights alone; a training goes on from a .ckpt of its run")
            runs.check_weights(self.model, checkpoint)
            runs.check_held_out(checkpoint, getattr(self.datamodule, "held_out", None))
            averaging = getattr(self.model, "ema_decay", None) is not None or any(
                isinstance(callback, WeightAveraging) for callback in _callbacks(self.trainer)
            )
            if not averaging and runs.raw_weights(checkpoint) is not None:
                raise ConfigError(
                    f"{checkpoint} holds averaged weights, which training would go on from; give --model.ema_decay"
                )
        if self.run_folder is None:
            return
        self._resumed = self.config.fit.resume is not None
        if not self._writes:
            if self._resumed:
                told = runs.read_checkpoint(Path(self.config.fit.ckpt_path))[runs.CONFIG_KEY]
                if told["data_source"] is not None:
                    self.datamodule.source = told["data_source"]
            return
        if not self._resumed:
            runs.create(self.run_folder)
        self._claim = resuming.claim(self.run_folder)
        if self._resumed:
            source = resuming.go_on(self.run_folder, Path(self.config.fit.ckpt_path))
            if source is not None:
                self.datamodule.source = source  # not on a stand-in because a download failed since

    def fit(self, **options: Any) -> None:
        """Trains; a run that fails before its first step leaves no folder."""
        try:
            self.trainer.fit(**{**options, "weights_only": True})
        except BaseException as error:
            if self.run_folder is not None:
                self._finish_loggers(1)
                if self._writes and self.trainer.global_step == 0 and not self._resumed:
                    runs.discard(self.run_folder)
                elif self._writes and isinstance(error, SystemExit):
                    self._say_where(self.run_folder)
                if isinstance(error, SystemExit):  # Lightning's word for a signal
                    raise SystemExit(self._signal_status) from error
                if isinstance(error, NonFiniteError):
                    raise NonFiniteError(f"{error}; {self._left(self.run_folder)}") from error
            wrong = isinstance(error, (RuntimeError, ValueError)) and not launching.is_of_a_peer(error)
            if wrong and self.trainer.global_step == 0:
                # Parts that do not fit each other, each of which is right: shapes, a loss that is no number, dtypes.
                raise ConfigError(
                    f"the first step failed: {one_line(error)}; LIT_L2SOFTMAX_TRACEBACK=1 shows where"
                ) from error
            raise
        if self.run_folder is not None and not (self.run_folder / "checkpoints" / "last.ckpt").is_file():
            self._finish_loggers(1)
            if self._writes:
                runs.discard(self.run_folder)
            raise ConfigError("no step was trained: the options, or a checkpoint that has all its steps, leave none")

    @property
    def _writes(self) -> bool:
        """Whether this process is the one that owns the run folder."""
        return launching.rank() == 0

    @property
    def _signal_status(self) -> int:
        """What a shell expects of a program that a signal has ended."""
        return 128 + (self._stop_signals.asked or signal.SIGINT)

    def _say_where(self, run: Path) -> None:
        """Says where a training ended that was asked to."""
        saved = (run / "checkpoints").is_dir()
        kept = "" if saved else ", before the first checkpoint"
        how = f"; `fit --resume {run}` goes on" if saved else ""
        print(f"stopped after {self.trainer.global_step:,} steps{kept}; {run}{how}", file=sys.stderr)

    @staticmethod
    def _left(run: Path) -> str:
        """What is left of a training that came to an inf or a NaN."""
        last = run / "checkpoints" / "last.ckpt"
        if not last.is_file():
            return "the training had no checkpoint yet"
        steps: int = runs.read_checkpoint(last)["global_step"]
        return f"{last} is of step {steps:,}, before it: `fit --resume {run} --optimizer.lr LOWER` goes on from there"

    def after_fit(self) -> None:
        """Tests the checkpoint the run is judged by, prints one line and leaves ``result.json``."""
        if self.run_folder is None:
            print("fast_dev_run: a batch of each split went through; nothing was saved")
            return
        if self._stop_signals.asked is not None:  # in its last step
            if self._writes:
                self._say_where(self.run_folder)
            raise SystemExit(self._signal_status)
        checkpoint: ModelCheckpoint = self.config_init.fit.checkpoint
        selected = {}
        judged = self.run_folder / "checkpoints" / "last.ckpt"
        if checkpoint.monitor is not None and checkpoint.best_model_score is not None:
            judged = judged.with_name(Path(checkpoint.best_model_path).name)
            selected = {checkpoint.monitor: float(checkpoint.best_model_score)}
        steps = self.trainer.global_step
        # Lightning's loggers count by this, and a run that is resumed for its test alone would be one step behind.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = steps
        scores = self._scores(self.trainer.test, judged, model=self.model, datamodule=self.datamodule)
        if not self._writes:
            return
        result = {
            **selected,
            **scores,
            "data/source": getattr(self.datamodule, "resolved_source", _title(self.datamodule)),
            "data/title": _title(self.datamodule),
            "checkpoint": str(judged.relative_to(self.run_folder)),
            "selected_by": next(iter(selected), None),
            "seed": self.config.fit.seed_everything,
            "steps": steps,
            "seconds": round(time.perf_counter() - self._started, 1),
            "device": self.trainer.strategy.root_device.type,
            "processes": self.trainer.world_size,
            "versions": f"lit_l2softmax {__version__}, torch {torch.__version__}, lightning {lightning.__version__}, "
            f"Python {platform.python_version()}",
        }
        chosen = f"best by {checkpoint.monitor}" if selected else "last; nothing was selected"
        print(f"{_line(scores, self.datamodule)} ({chosen}; {steps:,} steps, {result['seconds']:.0f} s)")
        runs.write_result(self.run_folder, result)
        try:
            run_page.write(self.run_folder)
        except Exception as error:  # whatever it is, the training is over and its result is kept
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            print(f"warning: report.html could not be written ({reason})", file=sys.stderr)
        print(self.run_folder)

    # ---- validate, test, predict: Lightning's own, on weights that are known to fit, with the figures in one line

    def validate(self, ckpt_path: str, **options: Any) -> None:
        """Scores the validation split."""
        print(_line(self._scores(self.trainer.validate, Path(ckpt_path), **options), self.datamodule))

    def test(self, ckpt_path: str, **options: Any) -> None:
        """Scores the test split."""
        print(_line(self._scores(self.trainer.test, Path(ckpt_path), **options), self.datamodule))

    def _scores(self, scored: Callable[..., Any], checkpoint: Path, **options: Any) -> dict[str, float]:
        """The figures of a checkpoint's weights; where those are averages, also those of the weights they average."""
        self._load(checkpoint)
        scores: list[dict[str, float]] = scored(**{**options, "verbose": False})
        if not scores:
            raise ConfigError("no batch was scored: the options leave none")
        if (weights := runs.raw_weights(checkpoint)) is None:
            return scores[0]
        self.model.load_state_dict(weights)
        loggers, self.trainer.loggers = self.trainer.loggers, []  # the record has these figures under another name
        try:
            (raw,) = scored(**{**options, "verbose": False})
        finally:
            self.trainer.loggers = loggers
        count = f"/{_row(self.datamodule)}s"
        raw = {f"{name}_raw": value for name, value in raw.items() if not name.endswith(count)}
        for logger in loggers:
            logger.log_metrics(raw, self.trainer.global_step)
        return scores[0] | raw

    def _load(self, checkpoint: Path) -> None:
        runs.check_held_out(checkpoint, getattr(self.datamodule, "held_out", None))
        runs.load_weights(self.model, checkpoint)

    def predict(self, ckpt_path: str, **options: Any) -> None:
        """Prints the class and the probability of each row, or what a regression says; draws images with them."""
        checkpoint = Path(ckpt_path)
        self._load(checkpoint)
        own: list[str] | None = self.config.predict.images
        if own:
            if not hasattr(self.datamodule, "own_images"):
                raise ConfigError(f"{_title(self.datamodule)} takes no pictures of one's own: leave --images out")
            inputs = self.datamodule.own_images([Path(path) for path in own], self.config.predict.ink)
            names = own
            options |= {"datamodule": None, "dataloaders": DataLoader([inputs], batch_size=None)}  # type: ignore[arg-type]  # one batch
        batches = cast(list[dict[str, Tensor]], self.trainer.predict(**{**options, "return_predictions": True}))
        if not batches:
            raise ConfigError("nothing was predicted: the options leave nothing")
        numbers = batches[0]["prediction"].is_floating_point()
        predictions = torch.cat([batch["prediction"] for batch in batches]).tolist()
        # A classifier is more or less sure; a regression says a number, which need not be that of a class.
        figure = "probability" if "probability" in batches[0] else "output"
        values = torch.cat([batch[figure] for batch in batches]).reshape(len(predictions), -1).amax(1).tolist()
        if not own:
            inputs = torch.cat([inputs for inputs, _ in self.datamodule.predict_dataloader()])
            names = [f"test {_row(self.datamodule)} {number}" for number in range(len(inputs))]
        classes = getattr(self.datamodule, "class_names", None)
        predictions = [classes[number] if classes else number for number in predictions]
        for name, prediction, value in zip(names, predictions, values, strict=True):
            print(f"{name}: {value:.4f}" if numbers else f"{name}: {prediction}  ({figure} {value:.4f})")
        if _row(self.datamodule) != "image":
            return
        picture = runs.plots_folder(checkpoint) / f"predictions-{runs.new_name()}.png"
        captions = [
            f"{_short(Path(name).name)}\n{prediction}  ({figure[0]} = {value:.3f})"
            for name, prediction, value in zip(names, predictions, values, strict=True)
        ]
        plots.save_grid(picture, inputs, captions, f"predictions of {checkpoint.name}, the images as it sees them")
        print(picture)


def _callbacks(trainer: Trainer) -> list[Any]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # its connector's
    return callbacks


def _line(scores: Mapping[str, float], data: Any) -> str:
    """The scores, how many images they are of where the module says so, and of which data."""
    row = _row(data)
    figures = [f"{name} {scores[name]:.4f}" for name in sorted(scores) if not name.endswith(f"/{row}s")]
    rows = [int(value) for name, value in scores.items() if name.endswith(f"/{row}s")]
    counts = [f"{count:,} {row}{'' if count == 1 else 's'} of " for count in rows]
    return "  ".join([*figures, f"on {''.join(counts)}{_title(data)}"])


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:12]}...{name[-7:]}"


def _row(data: Any) -> str:
    """What a row of the data is called."""
    return str(getattr(data, "row_name", "image"))


def _title(data: Any) -> str:
    return str(getattr(data, "title", type(data).__name__))


def _check_same(told: Mapping[str, Any], at_first: Mapping[str, Any]) -> None:
    """Refuses to go on with something else than a run began with."""
    for name in ("seed_everything", "model", "data"):
        if told.get(name) != at_first.get(name):
            raise ConfigError(
                f"--resume goes on with the {name} of the run; to change it, begin a new one: --ckpt_path"
            )


def _check_fit(options: Any) -> None:
    """Refuses what would train nothing, or something else than it says."""
    if options.trainer.max_steps == 0 or options.trainer.max_epochs == 0:
        raise ConfigError("trainer.max_steps and trainer.max_epochs must leave at least one step")
    if options.trainer.overfit_batches:
        raise ConfigError(
            "trainer.overfit_batches would replace the order of the data; use --trainer.limit_train_batches"
        )
    if options.trainer.limit_test_batches == 0:
        raise ConfigError("trainer.limit_test_batches must leave something to test the network on")
    if options.trainer.val_check_interval == 0:
        raise ConfigError("trainer.val_check_interval must be positive; trainer.limit_val_batches=0 validates nothing")
    if not options.runs:
        raise ConfigError("--runs needs the name of a folder")
    if options.checkpoint.save_weights_only or options.checkpoint.save_last is False:
        raise ConfigError("checkpoint.save_weights_only and save_last=false would leave a run without its last state")
    for name in ("dirpath", "filename"):
        if options.checkpoint[name] is not None:
            raise ConfigError(f"checkpoint.{name} is the run folder's business; --runs names the folder of all runs")


def _seed(value: int | bool) -> int:
    if isinstance(value, bool) or not 0 <= value < 2**32:
        raise ValueError(f"seed_everything must be a number in [0, 2**32), got {value}")
    return value


def _quiet() -> None:
    """Keeps what a person should read and drops what they cannot act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # LightningCLI and this file speak to every jsonargparse 4; what changes in 5 is pyproject.toml's business.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        "does not have many workers",  # batches are indexed from memory: worker processes would slow them down
        "dirpath has changed",  # a run that begins from another's checkpoint has a folder of its own
        "exists and is not empty",  # that of a run that is resumed
        "smaller than the logging interval",  # records are kept every so many steps of the run, not of an epoch
        "LeafSpec",  # Lightning's own use of torch
        "torch.jit.script_method",  # torch's own, when it compiles
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)


def run(given: list[str]) -> int:
    """Runs fit, validate, test or predict; returns 0.

    Raises:
        ConfigError, DataError, RunError: on what the person at the keyboard can mend, in one line.
    """
    _quiet()
    cluster = launching.cluster()
    with launching.together():
        LitCLI(launching.told(lambda: launching.Words(arguments.resolved(given), runs.new_name())), cluster)
    return 0
