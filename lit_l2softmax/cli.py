"""fit, validate, test and predict: LightningCLI with one folder a run and one line an error."""

import argparse
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning
import torch
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from . import __version__, plots, runs
from .__main__ import LIGHTNING, PROGRAM
from .callbacks import ConfiguredOptimizer, FinalCheckpoint, PlainProgress, RunConfig
from .data.pictures import Ink, read_digit
from .errors import ConfigError, DataError, RunError
from .loggers import RunCSVLogger, RunWandbLogger, WandbOptions
from .messages import one_line
from .shipped import config_file


class LitCLI(LightningCLI):
    """The project's LightningCLI; see the module docstring."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._started = time.perf_counter()
        self._adding_subcommand = ""
        self.run_folder: Path | None = None
        super().__init__(
            LightningModule,
            LightningDataModule,
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
            args=list(arguments),
            load_from_checkpoint_support=False,  # a checkpoint carries the whole configuration instead
        )

    # ---- options

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        self._adding_subcommand = subcommand
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options that Lightning does not have."""
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)
        if self._adding_subcommand == "fit":
            parser.add_argument("--runs", type=str, default="runs", help="Folder that receives one folder a run.")
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
            # `run` turns it into --config and --ckpt_path before this parser sees it; it is here for --help.
            parser.add_argument("--run", type=str, help="Run folder: brings its configuration and its checkpoint.")
        if self._adding_subcommand == "predict":
            parser.add_argument("--images", type=str, nargs="+", help="Pictures of your own, one digit each.")
            parser.add_argument("--ink", type=Ink, default="auto", help="Whether your digits are dark or light.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the given arguments and no others."""
        arguments = cast(list[str], args)
        try:
            self.config = parser.parse_args(arguments)
        except ArgumentError as error:
            options = [name.removeprefix("--") for name in self._parser(arguments[0])._option_string_actions]
            raise ConfigError(one_line(error, options)) from error

    def _parse_ckpt_path(self) -> None:
        """Leaves the command line alone: Lightning lets a checkpoint's hyper-parameters overrule it."""

    # ---- the parts of a run

    def before_instantiate_classes(self) -> None:
        """Decides where the run's files will go; nothing is made yet."""
        options = self.config[self.subcommand]
        self._config_as_told = self._parser(self.subcommand).dump(options, skip_none=False)
        if self.subcommand == "fit" and not options.trainer.fast_dev_run:
            self.run_folder = Path(options.runs) / _config_name(options.config) / runs.new_name()
            options.checkpoint.dirpath = str(self.run_folder / "checkpoints")
            options.checkpoint.filename = "best"
            options.checkpoint.save_last = True
            if options.checkpoint.monitor is None:
                options.checkpoint.save_top_k = 0  # without a metric there is no best, only the last

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer whose record is the run folder; only fit has one."""
        options = self.config[self.subcommand].trainer
        on_terminal = sys.stdout.isatty()
        for name in ("enable_progress_bar", "enable_model_summary"):
            kwargs[name] = on_terminal if options[name] is None else options[name]
        callbacks: list[Callback] = [] if kwargs["enable_progress_bar"] else [PlainProgress()]
        if self.run_folder is None:
            kwargs["logger"] = False
        else:
            kwargs["default_root_dir"] = str(self.run_folder)
            callbacks.append(ConfiguredOptimizer())
            callbacks.append(FinalCheckpoint(self.run_folder / "checkpoints" / "last.ckpt"))
            callbacks.append(RunConfig(self.run_folder / runs.CONFIG_FILE, runs.CONFIG_KEY, self._config_as_told))
            if options.logger in (None, True):
                kwargs["logger"] = self._loggers(self.run_folder)
        self.trainer_defaults = {"callbacks": callbacks}  # added to those of the configuration, never replaced by them
        return super().instantiate_trainer(**kwargs)

    def _loggers(self, folder: Path) -> list[Logger]:
        options: WandbOptions = self.config_init.fit.wandb
        mode = options.resolved_mode()
        loggers: list[Logger] = [RunCSVLogger(folder)]
        if mode != "disabled":
            loggers.append(RunWandbLogger(folder, options, mode, yaml.safe_load(self._config_as_told)))
        return loggers

    def instantiate_classes(self) -> None:
        """Builds the module, the data and the trainer; what they refuse is the configuration's fault."""
        try:
            super().instantiate_classes()
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ConfigError(one_line(error)) from error

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        finally:
            for logger in self.trainer.loggers:
                if isinstance(logger, RunWandbLogger):
                    logger.finish()

    # ---- fit

    def before_fit(self) -> None:
        """Claims the run folder, so that a place that cannot be written is known before anything is downloaded."""
        if self.run_folder is not None:
            runs.create(self.run_folder)

    def fit(self, **options: Any) -> None:
        """Trains; a run that fails before it has left anything leaves no folder either."""
        try:
            self.trainer.fit(**options)
        except BaseException:
            if self.run_folder is not None:
                runs.discard_if_empty(self.run_folder)
            raise

    def after_fit(self) -> None:
        """Tests the checkpoint the run is judged by, prints one line and leaves ``result.json``."""
        if self.run_folder is None:
            print("fast_dev_run: a batch of each split went through; nothing was saved")
            return
        judged = runs.judged_checkpoint(self.run_folder)
        monitor = cast(ModelCheckpoint, self.trainer.checkpoint_callback).monitor if judged.stem == "best" else None
        steps = self.trainer.global_step
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        runs.load_weights(self.model, judged)
        (tested,) = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        title = _title(self.datamodule)
        result = {
            **metrics,
            **tested,
            "data/source": getattr(self.datamodule, "resolved_source", title),
            "data/test_size": len(cast(Any, self.trainer.test_dataloaders).dataset),
            "checkpoint": str(judged.relative_to(self.run_folder)),
            "selected_by": monitor,
            "seed": self.config.fit.seed_everything,
            "steps": steps,
            "seconds": round(time.perf_counter() - self._started, 1),
            "device": self.trainer.strategy.root_device.type,
            "versions": f"lit_l2softmax {__version__}, torch {torch.__version__}, lightning {lightning.__version__}, "
            f"Python {platform.python_version()}",
        }
        runs.write_result(self.run_folder, result)
        chosen = f"best by {monitor}" if monitor else "last; nothing was selected"
        print(
            f"{_figures(tested)}  on {result['data/test_size']:,} images of {title} "
            f"({chosen}; {steps:,} steps, {result['seconds']:.0f} s)\n{self.run_folder}"
        )

    # ---- validate, test, predict: Lightning's own, on weights that are known to fit, with the figures in one line

    def validate(self, ckpt_path: str, **options: Any) -> None:
        """Scores the validation split."""
        runs.load_weights(self.model, Path(ckpt_path))
        self._print_scores(self.trainer.validate(**{**options, "verbose": False}))

    def test(self, ckpt_path: str, **options: Any) -> None:
        """Scores the test split."""
        runs.load_weights(self.model, Path(ckpt_path))
        self._print_scores(self.trainer.test(**{**options, "verbose": False}))

    def _print_scores(self, scores: Sequence[Mapping[str, float]]) -> None:
        print(f"{_figures(scores[0])}  on {_title(self.datamodule)}")

    def predict(self, ckpt_path: str, **options: Any) -> None:
        """Prints the class and the probability of each image, and draws the images with them."""
        checkpoint = Path(ckpt_path)
        runs.load_weights(self.model, checkpoint)
        own: list[str] | None = self.config.predict.images
        if own:
            box = getattr(self.datamodule, "digit_box", 20)
            images = torch.stack([read_digit(Path(path), ink=self.config.predict.ink, box=box) for path in own])
            names = own
            options |= {"datamodule": None, "dataloaders": DataLoader([images], batch_size=None)}  # type: ignore[arg-type]  # one batch
        batches = cast(list[dict[str, Tensor]], self.trainer.predict(**options))
        predictions = torch.cat([batch["prediction"] for batch in batches]).tolist()
        probabilities = torch.cat([batch["probability"] for batch in batches]).amax(1).tolist()
        if not own:
            images = torch.cat([images for images, _ in self.datamodule.predict_dataloader()])
            names = [f"test image {number}" for number in range(len(images))]
        for name, prediction, probability in zip(names, predictions, probabilities, strict=True):
            print(f"{name}: {prediction}  (probability {probability:.4f})")
        picture = runs.plots_folder(checkpoint) / f"predictions-{runs.new_name()}.png"
        captions = [
            f"{Path(name).name}\n{prediction}  (p = {probability:.3f})"
            for name, prediction, probability in zip(names, predictions, probabilities, strict=True)
        ]
        plots.save_grid(picture, images, captions, f"predictions of {checkpoint.name}, the images as it sees them")
        print(picture)


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()))


def _title(data: Any) -> str:
    return str(getattr(data, "title", type(data).__name__))


def _seed(value: int | bool) -> int:
    if isinstance(value, bool):
        raise ValueError("seed_everything must be a number: the order of the training data is a function of it")
    return value


def _config_name(files: list[Any] | None) -> str:
    named = [Path(str(file)) for file in files or [] if file is not None]
    if not named:
        return "unnamed"
    # A run's own config.yaml repeats that run, so it keeps the run's name.
    return named[0].absolute().parents[1].name if named[0].name == runs.CONFIG_FILE else named[0].stem


def _with_config_files(arguments: list[str]) -> list[str]:
    """Arguments in which every ``--config`` is a file."""
    resolved = []
    follows = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if follows:
            resolved.append(config_file(argument))
        elif option in ("-c", "--config") and equals:
            resolved.append(f"{option}={config_file(value)}")
        else:
            resolved.append(argument)
        follows = not follows and argument in ("-c", "--config")
    return resolved


def _with_checkpoint(arguments: list[str]) -> list[str]:
    """Arguments of validate, test or predict with ``--run`` and ``--ckpt_path`` resolved.

    The configuration of the trained network comes first, so that every other option of the command line beats it.

    Raises:
        RunError: where no checkpoint is named or the named one cannot be used.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--run", type=Path)
    finder.add_argument("--ckpt_path", type=Path)
    named, others = finder.parse_known_args(arguments[1:])
    if named.run is None and named.ckpt_path is None:
        raise RunError(f"{arguments[0]} needs a trained network: --run RUN_FOLDER or --ckpt_path FILE")
    checkpoint = named.ckpt_path or runs.judged_checkpoint(named.run)
    return [
        arguments[0],
        f"--config={runs.rebuilding_config(checkpoint)}",
        f"--ckpt_path={checkpoint}",
        *others,
    ]


def _quiet() -> None:
    """Keeps what a person should read and drops what they cannot act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # LightningCLI and this file speak to every jsonargparse 4; what changes in 5 is pyproject.toml's business.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Batches are indexed from memory: worker processes would slow them down.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # A resumed run has a folder of its own.
    warnings.filterwarnings("ignore", message=".*dirpath has changed.*")
    # Records are kept every so many steps of the run, not of an epoch.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Lightning's own use of torch.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)


def run(arguments: list[str]) -> int:
    """Runs fit, validate, test or predict; returns 0, or 2 after one line on standard error."""
    _quiet()
    try:
        arguments = _with_config_files(arguments)
        if arguments[0] != "fit" and not {"-h", "--help"} & set(arguments):
            arguments = _with_checkpoint(arguments)
        LitCLI(arguments)
    except (ConfigError, DataError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
