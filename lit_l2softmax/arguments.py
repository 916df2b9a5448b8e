"""What is done to a command line before Lightning's parser sees it: configurations by name, checkpoints by run."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from . import resuming, runs
from .errors import ConfigError, RunError
from .shipped import WHERE_ALL_ARE, config_file, names

FIT_ONLY = ("runs", "checkpoint", "wandb")  # options that a configuration has and other commands do not


def resolved(arguments: list[str]) -> list[str]:
    """The arguments of fit, validate, test or predict with every ``--config`` a file and ``--run`` a checkpoint.

    For the last three, the configuration of the trained network comes first, so that every other option beats it.

    Raises:
        ConfigError: on a configuration that does not exist, or none at all.
        RunError: where no checkpoint is named or the named one cannot be used.
    """
    command, *others = arguments
    if {"-h", "--help"} & set(others):
        return arguments
    if command == "fit":
        if not any(
            argument.startswith(("--config", "-c", "--model", "--print_config", "--resume")) for argument in others
        ):
            stems = [Path(name).name for name in names()]
            bare = [argument for argument in others if Path(argument).name.removesuffix(".yaml") in stems]
            hint = f"did you mean --config {bare[0]}?" if bare else WHERE_ALL_ARE
            raise ConfigError(f"fit needs a configuration, --config NAME; {hint}")
        return [command, *_resumed(_with_configs(others, config_file))]
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--run", type=Path)
    finder.add_argument("--ckpt_path", type=Path)
    try:
        named, others = finder.parse_known_args(others)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    if named.run is None and named.ckpt_path is None:
        folders = [argument for argument in others if Path(argument).is_dir()]
        hint = f"; did you mean --run {folders[0]}?" if folders else ""
        raise RunError(f"{command} needs a trained network: --run RUN_FOLDER or --ckpt_path FILE{hint}")
    if named.run is not None and named.ckpt_path is not None:
        raise RunError("--run and --ckpt_path name two checkpoints; give one of them")
    checkpoint = named.ckpt_path or runs.judged_checkpoint(named.run)
    return [
        command,
        f"--config={runs.rebuilding_config(checkpoint)}",
        f"--ckpt_path={checkpoint}",
        *_with_configs(others, _without_fit),
    ]


def _resumed(arguments: list[str]) -> list[str]:
    """The arguments of fit, ``--resume`` with the run's own configuration and the checkpoint it goes on from."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--resume")
    finder.add_argument("--runs")
    finder.add_argument("-c", "--config", action="append")
    try:
        named, others = finder.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    if named.resume is None:
        return arguments
    if any(argument.startswith("--ckpt_path") for argument in others):
        raise ConfigError("--resume and --ckpt_path name two checkpoints; give one of them")
    run: Path | None = Path(named.resume)
    if named.resume == "auto":
        if named.config is None:
            raise ConfigError("--resume auto goes on with the newest run of a configuration: give its --config too")
        folder = Path(named.runs or "runs") / runs.config_name(named.config)
        run = resuming.unfinished(folder)
        if run is None:
            print(f"nothing to resume in {folder}: a new run begins", flush=True)
            place = [] if named.runs is None else [f"--runs={named.runs}"]
            return [*(f"--config={name}" for name in named.config), *place, *others]
    elif named.config is not None:
        raise ConfigError("--resume RUN goes on with that run's own configuration: leave --config out")
    assert run is not None
    checkpoint, refused = resuming.newest_checkpoint(run)
    for line in refused:
        print(f"warning: {line}; {checkpoint.name} is taken instead", file=sys.stderr)
    print(f"resuming {run} from {checkpoint.name}", flush=True)
    return [f"--config={run / runs.CONFIG_FILE}", *others, f"--ckpt_path={checkpoint}", f"--resume={run}"]


def _with_configs(arguments: list[str], resolve: Callable[[str], str]) -> list[str]:
    rewritten: list[str] = []
    follows = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if follows:
            rewritten.append(resolve(argument))
        elif option in ("-c", "--config") and equals:
            rewritten.append(f"{option}={resolve(value)}")
        else:
            rewritten.append(argument)
        follows = not follows and argument in ("-c", "--config")
    return rewritten


def _without_fit(name: str) -> str:
    """The content of a configuration, less what only fit understands."""
    try:
        content = yaml.safe_load(Path(config_file(name)).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the configuration {name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration {name} holds no options")
    data = content.get("data")
    if isinstance(data, dict) and isinstance(data.get("init_args"), dict) and data["init_args"].get("source") == "auto":
        del data["init_args"]["source"]  # what the network was trained on is known, and scored on
    dumped: str = yaml.safe_dump({key: value for key, value in content.items() if key not in FIT_ONLY})
    return dumped
