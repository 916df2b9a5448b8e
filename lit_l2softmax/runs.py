"""One folder a run, ``<runs>/<config>/<date>-<id>/``: made once, never overwritten, readable without this program.

- ``config.yaml``: everything that fit was told, sufficient to repeat it
- ``report.html``: the page on which all of it is read
- ``metrics.csv``: one row a record: step, train/*, val/*, test/*
- ``checkpoints/``: best.ckpt by the monitored metric, where there is one, and last.ckpt; with
  ``--checkpoint.save_top_k`` above 1 the best ones by their steps
- ``export/``: model.safetensors and model.onnx, where ``export`` has made them
- ``plots/``: the confusion matrix and the worst mistakes of the test, as pictures and files, and predictions made later
- ``wandb/``: the W&B run, unless that is switched off
- ``result.json``: flat keys: the tested figures, the data they were measured on, seed, steps, seconds, versions
"""

import csv
import json
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from . import safe_weights
from .class_parallel_head import whole_shapes
from .durable_checkpoints import check
from .errors import RunError
from .whole_files import write_whole

CONFIG_FILE = "config.yaml"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.csv"
CONFIG_KEY = "lit_l2softmax_config"  # where a checkpoint keeps the configuration of its run


def new_name() -> str:
    """``<date>-<id>``: sorts by time, and two runs of one second differ."""
    return f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def create(folder: Path) -> None:
    """Makes the folder of a new run.

    Raises:
        RunError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunError(
            f"the run folder {folder} cannot be made ({error.strerror}); name another place with --runs"
        ) from error


def config_name(files: Sequence[Any] | None) -> str:
    """What the runs of these configurations are called; None is none."""
    named = [Path(str(file)).absolute() for file in files or [] if file is not None]
    if not named:
        return "unnamed"
    # A run's own config.yaml repeats that run, so it keeps the run's name.
    names = [file.parents[1].name if is_run_name(file.parent.name) else file.stem for file in named]
    return "+".join(names)


def is_run_name(name: str) -> bool:
    """Whether ``name`` is one that ``new_name`` gives."""
    return re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", name) is not None


def discard(folder: Path) -> None:
    """Removes the folder of a run that failed before its first step, and its parents as far as they are empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def judged_checkpoint(run: Path) -> Path:
    """The checkpoint a run is judged by: the one its result names, else its best one, else its last.

    Raises:
        RunError: where ``run`` is no run folder or holds no checkpoint.
    """
    if not (run / CONFIG_FILE).is_file():
        raise RunError(f"{run} is not a run folder: it has no {CONFIG_FILE}")
    names: list[str]
    try:
        names = [json.loads((run / RESULT_FILE).read_text())["checkpoint"]]
        (run / names[0]).stat()
    except (OSError, ValueError, KeyError, TypeError):  # a run that was interrupted has no result
        names = ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    for name in names:
        if (run / name).is_file():
            return run / name
    raise RunError(f"{run} holds no checkpoint: its training ended before the first one was written")


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU, of which every byte is as it was saved; nothing in it is ever executed.

    Raises:
        RunError: where the file is no readable checkpoint of this project.
    """
    if checkpoint.suffix == safe_weights.SUFFIX:
        weights, words = safe_weights.read(checkpoint)
        content: dict[str, Any] = {"state_dict": weights}
        if CONFIG_KEY in words:
            held_out = json.loads(words["held_out"])
            content[CONFIG_KEY] = {"config": words[CONFIG_KEY], "data_source": None, "held_out": held_out}
        return _with_config(content, checkpoint)
    check(checkpoint)
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged archive or a forbidden pickle: torch has half a dozen types for it
        reason = str(error).partition("\n")[0]
        raise RunError(f"{checkpoint} is damaged or not a checkpoint of weights alone: {reason}") from error
    return _with_config(content, checkpoint)


def _with_config(content: Any, checkpoint: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or CONFIG_KEY not in content:
        raise RunError(f"{checkpoint} was not written by `lit_l2softmax fit`: it carries no configuration")
    return content


def check_weights(module: nn.Module, checkpoint: Path) -> dict[str, Any]:
    """The weights of a checkpoint, which are known to fit ``module``.

    Raises:
        RunError: naming the first tensor that one of the two lacks or has in another shape.
    """
    saved: dict[str, Any] = read_checkpoint(checkpoint)["state_dict"]
    wanted = whole_shapes(module)
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    for name in {**wanted, **shapes}:
        in_file, in_module = (of.get(name, "absent") for of in (shapes, wanted))
        if in_file != in_module:
            raise RunError(
                f"the weights of {checkpoint} do not fit the configured network: "
                f"{name} is {in_file} in the file and {in_module} in the network"
            )
    return saved


def raw_weights(checkpoint: Path) -> dict[str, Any] | None:
    """The weights that a checkpoint's weights are the moving average of; None where they are no average.

    Raises:
        RunError: as ``read_checkpoint``.
    """
    return read_checkpoint(checkpoint).get("current_model_state")


def load_weights(module: nn.Module, checkpoint: Path) -> None:
    """Copies a checkpoint's weights into ``module``; nothing is copied where they do not fit.

    Raises:
        RunError: as ``check_weights``.
    """
    module.load_state_dict(check_weights(module, checkpoint))


def check_held_out(checkpoint: Path, held_out: list[int] | None) -> None:
    """Looks whether data hold the classes out that a checkpoint's training did; None of data that hold none out.

    Raises:
        RunError: where they do not, or as ``read_checkpoint``.
    """
    before = read_checkpoint(checkpoint)[CONFIG_KEY].get("held_out")
    if before is not None and held_out is not None and before != held_out:
        of = (", ".join(map(str, classes)) for classes in (before, held_out))
        raise RunError(
            "{} was trained without classes {}, these data hold {} out, and a test on what was trained flatters: "
            "leave --data.held_out and --seed_everything as they were".format(checkpoint, *of)
        )


def rebuilding_config(checkpoint: Path) -> str:
    """The part of a checkpoint's configuration, as YAML, that rebuilds its module and its data.

    Raises:
        RunError: where the file is no readable checkpoint of this project.
    """
    saved = read_checkpoint(checkpoint)[CONFIG_KEY]
    config = yaml.safe_load(saved["config"])
    if saved["data_source"] is not None:
        # What was trained on one data set is not scored on its stand-in because a download failed since.
        config["data"]["init_args"]["source"] = saved["data_source"]
    rebuilt = {key: config[key] for key in ("seed_everything", "model", "data")}
    dumped: str = yaml.safe_dump({**rebuilt, "trainer": {"precision": config["trainer"]["precision"]}})
    return dumped


def shareable_config(checkpoint: Path) -> tuple[str, str | None]:
    """What ``rebuilding_config`` is without the places of one's own machine, and the source of the data.

    Raises:
        RunError: where the file is no readable checkpoint of this project.
    """
    config = yaml.safe_load(rebuilding_config(checkpoint))
    if "root" in config["data"]["init_args"]:
        config["data"]["init_args"]["root"] = None
    source: str | None = read_checkpoint(checkpoint)[CONFIG_KEY]["data_source"]
    return yaml.safe_dump(config), source


def export_folder(checkpoint: Path) -> Path:
    """Where exported files go: into its run's folder, or beside a checkpoint that stands alone."""
    return _beside(checkpoint, "export")


def _beside(checkpoint: Path, name: str) -> Path:
    run = checkpoint.absolute().parents[1]
    return run / name if (run / CONFIG_FILE).is_file() else checkpoint.absolute().parent


def plots_folder(checkpoint: Path) -> Path:
    """Where pictures made with a checkpoint go: its run's plots, or beside a checkpoint that stands alone."""
    return _beside(checkpoint, "plots")


def write_result(run: Path, result: dict[str, Any]) -> None:
    """Writes ``result.json`` whole or not at all; what is not a number is null, for JSON has no word for it."""
    plain = {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in result.items()}
    write_whole(run / RESULT_FILE, json.dumps(plain, indent=2, allow_nan=False) + "\n")


def read_result(run: Path) -> dict[str, Any]:
    """``result.json`` of a run that is over.

    Raises:
        RunError: where there is none, or it is damaged.
    """
    absent = f"{run} has no {RESULT_FILE}: its training was interrupted, or it is no run folder"
    return _mapping(run / RESULT_FILE, json.loads, absent, "no figures")


def read_config(run: Path) -> dict[str, Any]:
    """``config.yaml`` of a run.

    Raises:
        RunError: where there is none, or it is damaged.
    """
    absent = f"{run} is not a run folder: it has no {CONFIG_FILE}"
    return _mapping(run / CONFIG_FILE, yaml.safe_load, absent, "no configuration")


def _mapping(file: Path, parse: Callable[[str], Any], absent: str, instead: str) -> dict[str, Any]:
    try:
        content = parse(file.read_text())
    except FileNotFoundError as error:
        raise RunError(absent) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # a text's and JSON's are ValueErrors
        raise RunError(f"{file} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RunError(f"{file} is damaged: it holds {instead}")
    return content


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The records of ``metrics.csv``, each with what was recorded and the step.

    Raises:
        RunError: where there is none, or it is damaged.
    """
    file = run / METRICS_FILE
    try:
        with file.open(newline="") as opened:
            records = [{name: float(cell) for name, cell in cells.items() if cell} for cells in csv.DictReader(opened)]
        if not all(isfinite(record.get("step", 0.0)) for record in records):
            raise ValueError("a step is not a number")
        return records
    except FileNotFoundError as error:
        raise RunError(f"{run} has no {METRICS_FILE}: its training was interrupted, or it is no run folder") from error
    except (OSError, csv.Error, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged: {' '.join(str(error).split())}") from error
